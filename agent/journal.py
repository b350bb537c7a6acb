"""Lines for the machine's log on the appliance, kept here until it has heard them.

What is said while no appliance can be reached is what people want to read there afterwards. Rule: counts and labels
only, never a name of a file or folder: `reason_of` says what of an error may leave the machine.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from agent.client import ApplianceFailed, ApplianceRefused, Client
from agent.settings import AgentHome
from transport import messages as m
from transport.errors import PilulierError

KEPT_LINES: Final = 200
_LIMIT: Final = 256 * 1024
_LATE_MS: Final = 120_000

_REASONS: Final = {
    "empty-source": "an included folder is missing or empty where the last snapshot had files (an unmounted disk?)",
    "other-disk": "a folder stands on another disk than before, without most of its files (an unmounted disk?)",
    "busy": "another backup or restore of this machine is running",
    "ledger": "the disk of the agent's home keeps its ledger from being written",
    "ledger-lost": "the ledger cannot be read any more",
    "interrupted": "the connection to the appliance broke and did not come back; what was sent is kept",
    "unreachable": "the appliance could not be reached",
    "refused": "it was refused: the contract is paused, or this machine may not back up",
    "empty-selection": "nothing is selected",
    "settings": "the agent's settings file is damaged",
    "selection": "the selection makes no sense",
    "hook": "a program that must run before each backup failed",
    "key-file": "a key file of the agent is missing or damaged",
    "integrity": "what the appliance sent did not stand up to its check",
    "protocol": "the appliance did not keep to the protocol",
}
"""What is said of our own errors, by code: their sentences name paths."""


class Line(msgspec.Struct, frozen=True):
    """One line that waits."""

    at_ms: int
    level: str
    module: str
    text: str


def reason_of(error: BaseException) -> str:
    """Why something failed, fit for the appliance: no path in it."""
    if isinstance(error, ApplianceFailed | ApplianceRefused):
        return str(error)  # its own words
    if isinstance(error, PilulierError):
        return _REASONS.get(error.code, f"{type(error).__name__} ({error.code}); its details stand on the machine")
    if isinstance(error, OSError) and error.errno:
        name = errno.errorcode.get(error.errno, str(error.errno))
        return f"the machine's system refused an operation: {os.strerror(error.errno)} ({name})"
    if isinstance(error, KeyboardInterrupt):
        return "it was stopped on the machine; what was sent is kept"
    return f"unexpected {type(error).__name__}; its details stand on the machine"


def keep(home: AgentHome, level: str, module: str, text: str, at_ms: int | None = None) -> None:
    """Let a line wait; the oldest of too many go. A disk that does not take it loses the line, no more."""
    line = Line(at_ms if at_ms is not None else int(time.time() * 1000), level, module, text[:450])
    with contextlib.suppress(OSError):
        lines = [*_waiting(home), line][-KEPT_LINES:]
        new = home.unsent.with_name(f"{home.unsent.name}.{os.getpid()}")
        new.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in lines))
        os.replace(new, home.unsent)


def _waiting(home: AgentHome) -> list[Line]:
    lines = []
    with contextlib.suppress(OSError), open(home.unsent, "rb") as file:
        for raw in file.read(_LIMIT).splitlines():
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                lines.append(msgspec.json.decode(raw, type=Line))
    return lines


def send(home: AgentHome, client: Client) -> int:
    """Say what waits, on a connection that is ready; the number of lines. UnreachableError keeps them waiting."""
    lines = _waiting(home)
    if not lines:
        return 0
    now_ms = int(time.time() * 1000)
    for line in lines:
        text = line.text
        if abs(now_ms - line.at_ms) > _LATE_MS:
            text += datetime.fromtimestamp(line.at_ms / 1000, UTC).strftime(" (at %Y-%m-%d %H:%M UTC)")
        client.say(m.LogLine(line.level[:10], line.module[:40], text[:500]))
    # A line is never answered; an answer to what was said after it tells that it arrived.
    client.ask_heartbeat()
    with contextlib.suppress(OSError):
        if _waiting(home)[: len(lines)] == lines:
            rest = _waiting(home)[len(lines) :]
            home.unsent.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in rest))
    return len(lines)


def tell(home: AgentHome, client: Client, level: str, module: str, text: str) -> None:
    """Keep a line and try to send it at once on a connection of its own; what cannot be sent waits."""
    keep(home, level, module, text)
    with contextlib.suppress(PilulierError):
        try:
            client.connect(5.0)
            send(home, client)
        finally:
            client.close()


