"""stale.json: files of which no fresh copy could be made, and how old the last good one is.

A folder may look well backed up while a program holds its database open day after day: here stands since when. Owns the
list on this machine; paths never leave it. Rules: a file that is unchanged or was read well leaves the list; one that
stays on it keeps the time of its last good copy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from agent.settings import AgentHome

KEPT: Final = 5000
"""Files on the list; a machine with more has one trouble, not so many."""
_LIMIT_BYTES: Final = 32 << 20


class StaleFile(msgspec.Struct, frozen=True):
    """One file: when its last good copy was made (0: never), since when it is stale, and why."""

    path: bytes
    good_ms: int
    since_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class StaleFolder:
    """A folder that holds such files; `good_ms` is of the one whose last good copy is oldest, 0 for never."""

    path: bytes
    files: int
    good_ms: int
    since_ms: int
    reason: str


def load(home: AgentHome) -> list[StaleFile]:
    """The list as the last complete backup left it."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError), open(home.stale, "rb") as file:
        return msgspec.json.decode(file.read(_LIMIT_BYTES), type=list[StaleFile])
    return []


def after_run(
    before: Iterable[StaleFile], problems: Mapping[bytes, str], *, had: frozenset[bytes], last_good_ms: int, now_ms: int
) -> list[StaleFile]:
    """The list after a complete run that had these problems. Pure.

    `had`: paths of which there is an earlier version; it was good at the last complete run, unless it was stale then.
    """
    known = {one.path: one for one in before}
    found = []
    for path, reason in sorted(problems.items())[:KEPT]:
        earlier = known.get(path)
        if earlier is not None:
            found.append(msgspec.structs.replace(earlier, reason=reason))
        else:
            found.append(StaleFile(path, last_good_ms if path in had else 0, now_ms, reason))
    return found


def save(home: AgentHome, files: list[StaleFile]) -> None:
    """Replace the list; a disk that does not take it keeps the one before."""
    with contextlib.suppress(OSError):
        if not files:
            home.stale.unlink(missing_ok=True)
            return
        new = home.stale.with_name(f"{home.stale.name}.{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(files))
        os.replace(new, home.stale)


def folders(files: Iterable[StaleFile]) -> list[StaleFolder]:
    """The list by folder, the oldest last good copy first. Pure."""
    grouped: dict[bytes, list[StaleFile]] = {}
    for one in files:
        grouped.setdefault(os.path.dirname(one.path), []).append(one)
    result = []
    for path, inside in grouped.items():
        oldest = min(inside, key=lambda one: (one.good_ms, one.path))
        result.append(
            StaleFolder(path, len(inside), oldest.good_ms, min(one.since_ms for one in inside), oldest.reason)
        )
    return sorted(result, key=lambda one: (one.good_ms, one.path))


def stale_folders(home: AgentHome) -> list[StaleFolder]:
    """Folders of this machine that hold files without a fresh copy."""
    return folders(load(home))
