"""running.json: how far the run is that holds the home, for whoever shows it from another process.

Written by the run itself, once a second at most; believed only while a run holds the home's lock, so that one that was
killed leaves no bar that stands still for ever.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, Protocol

import msgspec

from agent.settings import AgentHome
from agent.state import read_state

EVERY_S: Final = 0.8


class Stand(Protocol):
    """What runs tell of themselves: `BackupProgress`, `RestoreProgress`."""

    @property
    def phase(self) -> str:
        """What goes on."""

    @property
    def files_done(self) -> int:
        """Files done with."""

    @property
    def files_total(self) -> int:
        """Files in all; 0 while unknown."""

    @property
    def bytes_done(self) -> int:
        """Bytes done with."""

    @property
    def bytes_total(self) -> int:
        """Bytes in all; 0 while unknown."""


class UnderWay(msgspec.Struct, frozen=True):
    """Where a run stands. Totals are 0 while unknown."""

    what: Literal["backup", "restore"]
    pid: int
    began_ms: int
    at_ms: int
    phase: str = "scanning"
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


@contextlib.contextmanager
def noted(
    home: AgentHome, what: Literal["backup", "restore"], other: Callable[[Stand], None] | None = None
) -> Iterator[Callable[[Stand], None]]:
    """A callback for a run's progress, which it passes on to `other` too. The caller holds the home's lock."""
    lock = threading.Lock()
    began_ms = int(time.time() * 1000)
    written = time.monotonic()

    def tell(stand: Stand) -> None:
        nonlocal written
        if other is not None:
            other(stand)
        now = time.monotonic()
        with lock:
            if now - written < EVERY_S:
                return
            written = now
            done = UnderWay(
                what=what,
                pid=os.getpid(),
                began_ms=began_ms,
                at_ms=int(time.time() * 1000),
                phase=stand.phase,
                files_done=stand.files_done,
                files_total=stand.files_total,
                bytes_done=stand.bytes_done,
                bytes_total=stand.bytes_total,
            )
            _write(home, done)

    _write(home, UnderWay(what, os.getpid(), began_ms, began_ms))
    try:
        yield tell
    finally:
        with contextlib.suppress(OSError):
            home.under_way.unlink()


def _write(home: AgentHome, stand: UnderWay) -> None:
    new = home.under_way.with_name(home.under_way.name + ".new")
    with contextlib.suppress(OSError):
        new.write_bytes(msgspec.json.encode(stand))
        os.replace(new, home.under_way)


def read_under_way(home: AgentHome) -> UnderWay | None:
    """Where the run stands that goes on now; None where none does."""
    if not read_state(home).running:
        return None
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(home.under_way.read_bytes(), type=UnderWay)
    return None
