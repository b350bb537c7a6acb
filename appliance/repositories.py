"""The open repositories of a running service: opened at first need, one writer each, closed when long unused.

And closed when another process wants to write: maintenance and this service take turns (`appliance.store.turns`), so a
machine in the middle of a backup opens its repository anew for each group while it is being pruned. Whoever carries
out work says `get` before and `done` after; between the two nothing is closed.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from appliance.store.repository import Repository

IDLE_S: Final = 300.0
OPEN_LIMIT: Final = 256
"""Open at once, but for those at work: each takes some three file handles, and thousands of agents that come back after
a restart say hello within a minute."""
WAIT_S: Final = 60.0
"""How long a worker waits for its turn: a turn of maintenance lasts half a second."""
LOOK_S: Final = 0.2
"""How often unused repositories are asked whether somebody wants them."""


class Repositories:
    """Hands out repositories by machine id (hex). Each is used by one worker at a time; the table is locked."""

    def __init__(self, folder: Path, *, wait_s: float = WAIT_S) -> None:
        self._folder = folder
        self._wait_s = wait_s
        self._open: dict[str, tuple[Repository, float]] = {}
        self._used: set[str] = set()
        """Machines with a worker between `get` and `done`."""
        self._lock = threading.Lock()
        self._looked = 0.0

    def get(self, machine: str) -> Repository:
        """The machine's repository, opened for writing; BusyRepositoryError where another process keeps it too long."""
        with self._lock:
            self._used.add(machine)
            found = self._open.get(machine)
        # Outside of the lock: opening may wait for another process, and concerns this machine only.
        repository = found[0] if found else Repository.open(self._folder / machine, wait_s=self._wait_s)
        with self._lock:
            self._open.pop(machine, None)  # so that the longest unused stands first
            self._open[machine] = (repository, time.monotonic())
        return repository

    def done(self, machine: str) -> None:
        """After a piece of work: give way if another process waits for this repository, and bound what is open."""
        with self._lock:
            self._used.discard(machine)
            self._close_wanted([machine])
            surplus = len(self._open) - OPEN_LIMIT
            if surplus > 0:
                unused = [machine for machine in self._open if machine not in self._used]
                for machine in unused[:surplus]:
                    self._close(machine)

    def give_way(self) -> None:
        """Close what another process waits for and no worker uses; cheap enough for each round of a polling thread."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        with self._lock:
            self._close_wanted(list(self._open))

    def _close_wanted(self, machines: list[str]) -> None:
        for machine in machines:
            found = self._open.get(machine)
            if found is not None and machine not in self._used and found[0].wanted():
                self._close(machine)

    def _close(self, machine: str) -> None:
        repository, _ = self._open.pop(machine)
        repository.close()

    def close_idle(self, busy: frozenset[str], now: float | None = None) -> None:
        """Close what nobody used for IDLE_S; `busy` machines have a worker or a connection."""
        limit = (time.monotonic() if now is None else now) - IDLE_S
        with self._lock:
            for machine, (_, used) in list(self._open.items()):
                if used < limit and machine not in busy | self._used:
                    self._close(machine)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for machine in list(self._open):
                self._close(machine)
