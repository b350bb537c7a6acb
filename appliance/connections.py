"""What the service knows of one live connection: its state, what it has in flight, its restore window.

No I/O here. Changed only by the polling thread and, for the fields named so, by the worker that currently serves
the machine (one at a time).
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from transport import messages as m
from transport.channel import Peer
from transport.names import InstallationId, SegmentId, SessionId
from transport.session import Session

CREDIT_BYTES: Final = 32 << 20
"""Bytes one agent may have unacknowledged: enough to write and fsync while more arrives."""
CREDIT_POOL_BYTES: Final = 160 << 20
"""Promised to all agents in a backup together; with many at once each gets less, never under CREDIT_FLOOR_BYTES."""
CREDIT_FLOOR_BYTES: Final = 3 << 20
SLACK_BYTES: Final = 2 << 20
"""What a connection may have waiting beside its credit: questions, which are small."""
WINDOW_BYTES: Final = 24 << 20
"""Bytes of a machine's restores that may be on their way."""
WINDOW_POOL_BYTES: Final = 96 << 20
"""Of all restores together."""
WINDOW_FLOOR_BYTES: Final = 2 << 20
"""Of each restore, whatever the others have under way: none ever waits for another one."""
RESTORE_S: Final = 15 * 60
"""One code on the command line opens one restore; the session is renewed as long as data flows."""
RESUME_S: Final = 180.0
"""How long a restore whose line broke may be taken up again: a router that restarts takes two minutes."""
HEARTBEAT_S: Final = 30
IDLE_S: Final = 3 * HEARTBEAT_S
CONNECTIONS_PER_MACHINE: Final = 8
"""A backup, a restore, a listing or two, and those that a broken line left behind."""
LOG_LINES: Final = 60
LOG_LINES_S: Final = 60.0
"""Lines of one machine kept in so many seconds: each costs an fsync of the database that all share."""
_WARNINGS: Final = 10
_WARNINGS_S: Final = 60.0


@dataclass(slots=True)
class Connection:
    """One agent's connection."""

    peer: Peer
    session: Session = field(default_factory=Session)
    heard: float = field(default_factory=time.monotonic)
    inflight_bytes: int = 0
    credit_bytes: int = 0
    overdrawn: bool = False
    """Its messages are dropped unread: it sent beyond its credit or broke the protocol."""
    put_failed: bool = False
    """A numbered message was refused; those behind it are dropped until BackupBegin."""
    hello: m.Hello | None = None
    installation: InstallationId | None = None
    """What Hello named, or a resync made."""
    backup: SessionId | None = None
    """The upload session that this connection begins or is in."""
    wire_bytes: int = 0
    """Bytes that arrived since the last commit (worker)."""
    restore_secret: bytes | None = None
    """Of the restore session that it holds (see `restoring`)."""
    taken_before: int = 0
    """Bytes that its peer's kernel had acknowledged when the restore was asked for."""
    delivered_bytes: int = 0
    confirmed_bytes: int = 0
    wanted: collections.deque[SegmentId] = field(default_factory=collections.deque)
    progress: m.Progress | None = None
    attends: bool = False
    """Its last word was one of an agent that waits between backups."""


def credit_for(promised_bytes: int) -> int:
    """Credit of one more backup, where so much is promised to others."""
    return max(CREDIT_FLOOR_BYTES, min(CREDIT_BYTES, (CREDIT_POOL_BYTES - promised_bytes) // 3))


class Allowance:
    """So many of something for each machine in a window of seconds. Any thread."""

    def __init__(self, count: int, window_s: float) -> None:
        self._count = count
        self._window_s = window_s
        self._lock = threading.Lock()
        self._since: dict[str, tuple[float, int]] = {}

    def take(self, machine: str) -> bool:
        """Whether the machine may have one more."""
        now = time.monotonic()
        with self._lock:
            since, used = self._since.get(machine, (now, 0))
            if now - since > self._window_s:
                since, used = now, 0
            self._since[machine] = (since, used + 1)
        return used < self._count


class Warnings:
    """Warnings that peers can provoke: so many a minute each, the others counted. Any thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._since: dict[str, tuple[float, int]] = {}

    def warn(self, who: str, text: str) -> None:
        """Log one line, unless `who` has had its share of this minute."""
        now = time.monotonic()
        with self._lock:
            since, count = self._since.get(who, (now, 0))
            dropped = 0
            if now - since > _WARNINGS_S:
                since, count, dropped = now, 0, max(0, count - _WARNINGS)
            self._since[who] = (since, count + 1)
        if dropped:
            self._log.warning("%s: %d more warnings were not logged", who, dropped)
        if count < _WARNINGS:
            self._log.warning("%s: %s", who, text[:1000])
        elif count == _WARNINGS:
            self._log.warning("%s: too many warnings, the next are only counted", who)
