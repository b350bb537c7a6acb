"""The repository by turns: how maintenance works for hours beside a service that goes on writing.

One `Access` is one run of maintenance; a second one on the same repository is refused. Work that writes is cut into
portions of at most TURN_S: each is a `turn()`, or `pause()` stands between them. Who had to give way to somebody stays
away for as long as it was there before it queues again, so that a running backup keeps half of the time at least.
Knows nothing of what maintenance does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from appliance.store.durable import Disk
from appliance.store.layout import Layout
from appliance.store.repository import RESERVE_BYTES, Repository
from appliance.store.turns import MaintenanceTurn

TURN_S: Final = 0.5
"""How long a portion of work may last at most: so long may a running backup have to wait."""
WAIT_S: Final = 60.0
"""How long a turn is waited for: longer than the longest write of a backup."""


class Access:
    """A context manager. `repository` is valid within `turn()` only, and another object after each `pause()`."""

    def __init__(
        self,
        folder: Path,
        *,
        disk: Disk | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        wait_s: float = WAIT_S,
    ) -> None:
        self.layout = Layout(folder)
        self.disk = disk or Disk()
        self._reserve_bytes = reserve_bytes
        self._wait_s = wait_s
        self._maintenance: MaintenanceTurn | None = None
        self._open: Repository | None = None
        self._since = 0.0
        self._until = 0.0
        """No turn begins before."""

    def __enter__(self) -> Access:
        """BusyRepositoryError where another process maintains this repository."""
        self._maintenance = MaintenanceTurn(self.layout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        if self._maintenance is not None:
            self._maintenance.close()
            self._maintenance = None

    @property
    def repository(self) -> Repository:
        """The repository, open for writing."""
        assert self._open is not None, "outside of a turn"
        return self._open

    @contextmanager
    def turn(self) -> Iterator[Repository]:
        """Open for writing, once it is our turn; closed at the end. BusyRepositoryError after `wait_s`.

        A turn within a turn is the same turn. Ask for `repository` again after each `pause()`.
        """
        if self._open is not None:
            yield self._open
            return
        self._begin()
        try:
            yield self.repository
        finally:
            self._end()

    def pause(self) -> Repository:
        """Between two portions of work: gives way if somebody waits; the repository to go on with."""
        if self.repository.wanted():
            self._end()
            self._begin()
        return self.repository

    @contextmanager
    def reading(self) -> Iterator[Repository]:
        """Read-only, beside whoever writes: for long reading between turns, in short statements."""
        repository = Repository.open(self.layout.folder, read_only=True, disk=self.disk)
        try:
            yield repository
        finally:
            repository.close()

    def _begin(self) -> None:
        assert self._maintenance is not None, "Access is used as a context manager"
        time.sleep(max(0.0, self._until - time.monotonic()))
        self._open = Repository.open(
            self.layout.folder, disk=self.disk, reserve_bytes=self._reserve_bytes, wait_s=self._wait_s
        )
        self._since = time.monotonic()

    def _end(self) -> None:
        if self._open is not None:
            if self._open.wanted():
                now = time.monotonic()
                self._until = now + min(now - self._since, TURN_S)
            self._open.close()
            self._open = None
