"""The open repositories of a running service: opened at first need, one writer each, closed when long unused."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from appliance.store.repository import Repository

IDLE_S: Final = 300.0


class Repositories:
    """Hands out repositories by machine id (hex). Each is used by one worker at a time; the table is locked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, tuple[Repository, float]] = {}
        self._lock = threading.Lock()

    def get(self, machine: str) -> Repository:
        """The machine's repository, opened for writing."""
        with self._lock:
            found = self._open.get(machine)
            repository = found[0] if found else Repository.open(self._folder / machine)
            self._open[machine] = (repository, time.monotonic())
            return repository

    def close_idle(self, busy: frozenset[str], now: float | None = None) -> None:
        """Close what nobody used for IDLE_S; `busy` machines have a worker or a connection."""
        limit = (time.monotonic() if now is None else now) - IDLE_S
        if not self._lock.acquire(blocking=False):
            return  # a worker is opening one, which may take long: the polling thread must not wait for it
        try:
            for machine, (repository, used) in list(self._open.items()):
                if used < limit and machine not in busy:
                    del self._open[machine]
                    repository.close()
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for repository, _ in self._open.values():
                repository.close()
            self._open.clear()
