"""Watches included paths by watchdog's own Observer: ReadDirectoryChangesW on Windows, FSEvents on macOS.

Those systems watch a whole tree at once, so that one watch for each included path is all there is. What is excluded is
told as well, and dropped here. Run by tests on Linux, where the Observer speaks to inotify; on Windows and macOS it was
not run. Neither system tells reliably that it dropped events: the full scan of each day is for that.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from agent.selection import Selection, Take, components, normalised_path
from agent.system import paths
from agent.watching import Notes

log = logging.getLogger("pilulier.service")

_TOLD: Final = frozenset({"created", "deleted", "modified", "moved", "closed"})
_APPEARS: Final = frozenset({"created", "moved"})


class ObserverWatcher(FileSystemEventHandler):
    """One Observer, and this as its handler."""

    def __init__(self, selection: Selection, notes: Notes) -> None:
        self._selection = selection
        self._notes = notes
        self._observer = Observer()

    def start(self) -> None:
        """Begin. A path that cannot be watched, since it is not there for instance, leaves it half blind."""
        for path in self._selection.include:
            try:
                self._observer.schedule(self, os.fsdecode(path), recursive=True)
            except OSError as error:
                self._notes.blind(
                    "path",
                    f"A selected path cannot be watched ({error.strerror}): make sure that it is there, and start the "
                    "service again; until then everything is looked at from time to time",
                )
        self._observer.start()
        log.info("%d paths are watched", len(self._selection.include))
        self._notes.lost("the watch has just begun")

    def look(self) -> None:
        """Nothing beside the events."""

    def stop(self) -> None:
        """End."""
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join(5.0)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """One event of watchdog's."""
        if event.event_type not in _TOLD:
            return
        appears = event.event_type in _APPEARS
        if event.dest_path:
            self._note(_bytes(event.src_path), appears=False)
            self._note(_bytes(event.dest_path), appears=appears and event.is_directory)
        else:
            self._note(_bytes(event.src_path), appears=appears and event.is_directory)

    def _note(self, path: bytes, *, appears: bool) -> None:
        path = normalised_path(path)
        names = components(path)
        scope = self._selection.scope()
        for name in names:
            take = scope.take(name)
            if take is Take.SKIP:
                return
            scope = scope.enter(name, take)
        if appears:
            self._notes.tree(path)
        above = b"/".join(names[:-1])
        self._notes.folder(above if paths.HERE.drives else b"/" + above)


def _bytes(path: bytes | str) -> bytes:
    return os.fsencode(path)
