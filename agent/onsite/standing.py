"""onsite.json: when each copy was written last, and which snapshot of the appliance each of its snapshots is.

For `onsite list`, the report to the appliance, and restores while no appliance can be asked. A cache: losing it loses
no file, and a copy that is here tells its own part again at the next run.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

import msgspec

from agent.settings import AgentHome

_PAIRS: Final = 2000
"""Pairs of numbers kept for each copy: more than 90 days of a dozen backups a day."""


class CopyStanding(msgspec.Struct, frozen=True):
    """What is known of one copy. Times in milliseconds since 1970, 0 for never."""

    written_ms: int = 0
    tried_ms: int = 0
    state: str = ""
    reason: str = ""
    snapshot: int = 0
    """The copy's own newest number."""
    free_bytes: int = -1
    """Of its medium when it was seen last; -1 where that is not known."""
    pairs: list[tuple[int, int]] = []
    """(number on the appliance, number in the copy), oldest first."""


class Standing(msgspec.Struct, frozen=True):
    """By the copy's id."""

    copies: dict[str, CopyStanding] = {}


def read_standing(home: AgentHome) -> Standing:
    """What is known; nothing where the file is missing or damaged."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(home.copies.read_bytes(), type=Standing)
    return Standing()


def write_standing(home: AgentHome, standing: Standing) -> None:
    """Write it whole or not at all. OSError."""
    new = home.copies.with_name(f"{home.copies.name}.{os.getpid()}")
    new.write_bytes(msgspec.json.encode(standing))
    os.replace(new, home.copies)


def with_pair(standing: CopyStanding, remote: int, own: int) -> CopyStanding:
    """With one more pair."""
    pairs = [pair for pair in standing.pairs if pair[1] != own]
    return msgspec.structs.replace(standing, pairs=[*pairs, (remote, own)][-_PAIRS:])
