"""Who watches the disk for continuous mode: one watcher for each kind of system, behind the same few verbs.

A watcher notes marks (`agent.marks`) with a `Notes` of the service's, from a thread of its own. Rules: what it may have
missed it says with `lost`, what it cannot watch with `blind`; it never reads a file, never waits for a backup, and a
folder is marked only once it is watched, so that whatever happens after the mark is served is marked again.
"""

from __future__ import annotations

import sys
from typing import Protocol

from agent.selection import Selection
from agent.settings import AgentHome

_SYSTEM: str = sys.platform


class Notes(Protocol):
    """Where a watcher writes. Any thread."""

    def folder(self, path: bytes) -> None:
        """Something happened to what stands in this folder, or to the folder itself."""

    def beside(self, path: bytes) -> None:
        """Something that is left out came or went in this folder: its time changed, which is worth no snapshot."""

    def tree(self, path: bytes) -> None:
        """This folder appeared: what is in it, and below, is not known."""

    def lost(self, reason: str) -> None:
        """Anything may have happened: only a look at everything can tell."""

    def tell(self, kind: str, sentence: str) -> None:
        """Something a person should know. The same kind is told once."""

    def blind(self, kind: str, sentence: str) -> None:
        """Not everything is watched, and `sentence` says what to do about it. The same kind is told once."""


class Watcher(Protocol):
    """One selection under watch."""

    def start(self) -> None:
        """Begin; `lost` is noted once everything is watched."""

    def look(self) -> None:
        """Whether something changed of which no event tells: what is mounted. Quick; called every few seconds."""

    def stop(self) -> None:
        """End."""


def watcher(selection: Selection, home: AgentHome, notes: Notes) -> Watcher:
    """The watcher of this system; it is not started."""
    if _SYSTEM == "linux":
        from agent.watching.inotify import InotifyWatcher

        return InotifyWatcher(selection, home.path, notes)
    from agent.watching.observer import ObserverWatcher

    return ObserverWatcher(selection, notes)
