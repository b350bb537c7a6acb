"""How much the selection comes to: counted in the background, at a pace that no other program feels.

One count at a time, begun anew when the selection is another one; what was counted stays until asked for later than
`FRESH_S`. Names and statuses are read, contents never.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from agent.enrolling import load_keys
from agent.scanner import Scanner
from agent.selection import Selection
from agent.settings import AgentHome, Settings
from transport.errors import PilulierError
from transport.sealing import VaultKeys, vault_keys
from transport.tree import FileType

RATE: Final = 25_000
"""Entries a second at most."""
FRESH_S: Final = 600.0
_TURN: Final = 500


@dataclass(frozen=True, slots=True)
class Counted:
    """So far, or in all. `unreadable` folders are not counted."""

    files: int = 0
    bytes: int = 0
    folders: int = 0
    unreadable: int = 0
    done: bool = False


class Counter:
    """Counts the selection that it was asked for last. Any thread."""

    def __init__(self, home: AgentHome) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._selection: Selection | None = None
        self._counted = Counted()
        self._ended_at = 0.0
        self._stop = threading.Event()

    def ask(self, settings: Settings) -> Counted:
        """What is known of the selection now; begins to count where it is another one, or was counted long ago."""
        with self._lock:
            old = self._counted.done and time.monotonic() - self._ended_at > FRESH_S
            if settings.selection != self._selection or old:
                self._stop.set()
                self._stop = threading.Event()
                self._selection, self._counted = settings.selection, Counted()
                if not settings.selection.include:
                    self._counted, self._ended_at = Counted(done=True), time.monotonic()
                else:
                    begin = threading.Thread(
                        target=self._count, args=(settings, self._stop), name="sizing", daemon=True
                    )
                    begin.start()
            return self._counted

    def close(self) -> None:
        """Count no further."""
        self._stop.set()

    def _count(self, settings: Settings, stop: threading.Event) -> None:
        try:
            keys = vault_keys(load_keys(self._home).machine, settings.vault)
        except PilulierError:
            self._tell(Counted(done=True), stop)
            return
        counted, entries, began = Counted(), 0, time.monotonic()
        for found in _folders(settings.selection, keys, self._home):
            counted = replace(
                counted,
                files=counted.files + found.files,
                bytes=counted.bytes + found.bytes,
                folders=counted.folders + 1,
                unreadable=counted.unreadable + found.unreadable,
            )
            entries += 1 + found.files
            if entries >= _TURN:
                self._tell(counted, stop)
                ahead_s = entries / RATE - (time.monotonic() - began)
                entries, began = 0, time.monotonic()
                if ahead_s > 0:
                    stop.wait(ahead_s)
            if stop.is_set():
                return
        self._tell(replace(counted, done=True), stop)

    def _tell(self, counted: Counted, stop: threading.Event) -> None:
        with self._lock:
            if not stop.is_set():
                self._counted = counted
                if counted.done:
                    self._ended_at = time.monotonic()


def _folders(selection: Selection, keys: VaultKeys, home: AgentHome) -> Iterator[Counted]:
    """A count for each folder."""
    scanner = Scanner(selection, keys, home=os.fsencode(home.path), count_only=True)
    for listing in scanner.scan():
        files = [child.size for child in listing.children if child.type == FileType.FILE]
        yield Counted(len(files), sum(files), 1, int(bool(listing.error)))
