"""Who writes when: processes take turns at a repository, in a queue that a crash of any of them cannot block.

Two flocks. Whoever wants to write takes the queue first, then the place of the writer, then gives the queue back. The
writer looks between two pieces of work whether somebody stands in the queue, and gives way by closing; to come back it
has to queue like anyone else, behind whoever waits. Waiting is bounded and polls, since flock knows no time limit.
Knows neither packs nor catalog.
"""

from __future__ import annotations

import time
from typing import Final

from appliance.store.durable import LockFile
from appliance.store.errors import BusyRepositoryError
from appliance.store.layout import Layout

_POLL_S: Final = 0.005
_LOOK_S: Final = 0.05
"""Even who does not want to wait waits this long for the queue: `LockFile.free` occupies it for an instant."""


class WriterTurn:
    """The place of the one writer, from its making until `close` or the end of the process."""

    def __init__(self, layout: Layout, *, wait_s: float = 0.0) -> None:
        """BusyRepositoryError where another process keeps the place for longer than `wait_s`."""
        deadline = time.monotonic() + wait_s
        self._queue = LockFile(layout.queue)
        self._place: LockFile | None = None
        try:
            place = self._place = LockFile(layout.lock)
            if not (_locked(self._queue, max(deadline, time.monotonic() + _LOOK_S)) and _locked(place, deadline)):
                waited = f"after {wait_s:.0f} s" if wait_s else "now"
                raise BusyRepositoryError(
                    f"{layout.folder} is being written by another process {waited}: wait for its end and try again"
                )
        except BaseException:
            self.close()
            raise
        self._queue.unlock()

    def wanted(self) -> bool:
        """Whether somebody waits for this place: give way between two pieces of work. Costs microseconds."""
        return not self._queue.free()

    def close(self) -> None:
        """Let the next writer in."""
        if self._place is not None:
            self._place.close()
        self._queue.close()


class MaintenanceTurn:
    """The place of the one process that prunes, scrubs or rebuilds; it may be held for hours, beside the writers."""

    def __init__(self, layout: Layout, *, wait_s: float = _LOOK_S) -> None:
        """BusyRepositoryError where somebody maintains this repository for longer than `wait_s`."""
        self._lock = LockFile(layout.maintenance)
        if not _locked(self._lock, time.monotonic() + wait_s):
            self._lock.close()
            raise BusyRepositoryError(
                f"{layout.folder} is being pruned, scrubbed or rebuilt by another process: wait for its end"
            )

    def close(self) -> None:
        """Let the next one in."""
        self._lock.close()


def _locked(lock: LockFile, deadline: float) -> bool:
    while not lock.try_lock():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
