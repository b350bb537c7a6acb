"""« Dossiers à restaurer »: what was ticked, how much it comes to, and what stands already where it was. One a process.

Measured in the background over a connection of its own, so that the tree can be looked at meanwhile; measured anew when
the list or the day changes. Bounded.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from typing import Final

from agent.settings import AgentHome
from agent.ui.lookout import Lookout
from transport.errors import PilulierError
from transport.tree import FileType

LIMIT: Final = 500
"""Paths in the list."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a restore of the list would take; `done` once it is all known. `error` is why it could not be measured."""

    files: int = 0
    size_bytes: int = 0
    standing: int = 0
    """Files that stand where they were, whatever is in them."""
    newer: int = 0
    """Of these, changed since the backup."""
    missing: tuple[bytes, ...] = ()
    """Of the list, not in this snapshot."""
    done: bool = False
    error: PilulierError | None = None


class Basket:
    """Any thread."""

    def __init__(self, home: AgentHome) -> None:
        self._lookout = Lookout(home)
        self._lock = threading.Lock()
        self._paths: frozenset[bytes] = frozenset()
        self._asked: tuple[int, frozenset[bytes]] | None = None
        self._measured = Measured()

    def paths(self) -> list[bytes]:
        """What was ticked, sorted."""
        return sorted(self._paths)

    def toggle(self, path: bytes) -> None:
        """Tick a path, or untick it; what lies below it goes along with it."""
        below = path if path.endswith(b"/") else path + b"/"
        with self._lock:
            if path in self._paths:
                self._paths -= {path}
                return
            kept = {one for one in self._paths if not one.startswith(below)}
            if len(kept) < LIMIT:
                self._paths = frozenset({*kept, path})

    def clear(self) -> None:
        """Nothing is to be restored."""
        with self._lock:
            self._paths = frozenset()

    def held(self, path: bytes) -> str:
        """`itself`, `above` where a folder that holds it is ticked, `below` where something in it is, else nothing."""
        paths = self._paths
        if path in paths:
            return "itself"
        at = path
        while at != b"/":
            at = os.path.dirname(at)
            if at in paths:
                return "above"
        below = path if path.endswith(b"/") else path + b"/"
        return "below" if any(one.startswith(below) for one in paths) else ""

    def measure(self, snapshot: int) -> Measured:
        """What is known now of the list at a snapshot; begins to measure where that is another question."""
        with self._lock:
            asked = (snapshot, self._paths)
            if asked != self._asked:
                self._asked = asked
                self._measured = Measured(done=not self._paths)
                if self._paths:
                    begin = threading.Thread(target=self._measure, args=asked, name="measuring", daemon=True)
                    begin.start()
            return self._measured

    def close(self) -> None:
        """Measure no more."""
        self._asked = None
        self._lookout.close()

    def _measure(self, snapshot: int, paths: frozenset[bytes]) -> None:
        try:
            selection = self._lookout.select(snapshot, sorted(paths))
        except PilulierError as error:
            self._tell(snapshot, paths, Measured(done=True, error=error))
            return
        measured = Measured(missing=tuple(selection.missing))
        files = size = standing = newer = 0
        for node in selection.nodes:
            if node.type != FileType.FILE:
                continue
            files += 1
            size += node.size
            try:
                status = os.lstat(node.path())
            except (OSError, ValueError):
                continue
            standing += 1
            newer += status.st_mtime_ns > node.mtime_ns
        self._tell(
            snapshot,
            paths,
            replace(measured, files=files, size_bytes=size, standing=standing, newer=newer, done=True),
        )

    def _tell(self, snapshot: int, paths: frozenset[bytes], measured: Measured) -> None:
        with self._lock:
            if self._asked == (snapshot, paths):
                self._measured = measured
