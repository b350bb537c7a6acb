"""Watches folders by inotify(7): one watch a folder of the selection, and of the folders that lead to it.

Owns the tree of watched folders. watchdog's InotifyFD below it owns the descriptor, the parsing and the calls; its
Observer above that keeps a path and a key for every watch, follows the whole tree whatever is excluded, and makes an
object and a queue entry of every event (figures in docs/continuous.md), so this is our own. Rules: a folder is
watched before it is listed for subfolders, and marked after; what the kernel dropped (IN_Q_OVERFLOW) or a mount hid
makes all watches anew and says `lost`; where the system's limit is reached the rest goes unwatched and `blind` says so.

A moved folder keeps its watch and would tell under its old name: its watches are dropped with IN_MOVED_FROM and made
anew with IN_MOVED_TO. What happened in it between the two is below a tree mark.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from agent.selection import Scope, Selection, Take
from agent.system.mounts import Mount, mounts
from agent.system.paths import joined
from agent.system.priority import lower_thread
from agent.watching import Notes
from agent.watching.mounts import is_remote, touching

log = logging.getLogger("pilulier.service")

_DIRECTORY: Final = InotifyConstants.IN_ISDIR
_APPEARED: Final = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO
_VANISHED: Final = InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVED_FROM
_UNMOUNT: Final = InotifyConstants.IN_UNMOUNT
MASK: Final = Mask(
    _APPEARED
    | _VANISHED
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_EXCL_UNLINK
)
READ_BYTES: Final = 1 << 18
GATHER_S: Final = 0.2
"""After events came, more are waited for: the kernel folds equal ones into one, and a burst is one wake-up."""
AGAIN_S: Final = 60.0
"""Between an overflow and new watches, where the last ones are younger."""
OVERFLOW: Final = "more happened at once than the system could tell"
QUEUE: Final = Path("/proc/sys/fs/inotify/max_queued_events")
_TOLD_OTHERWISE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM))
"""What went or may not be read: its parent's watch tells of it, and no listing would be possible."""
LIMIT: Final = Path("/proc/sys/fs/inotify/max_user_watches")


class _Folder:
    """A watched folder, and what watchdog calls with its events."""

    __slots__ = ("below", "name", "owner", "parent", "scope", "wd")

    def __init__(self, owner: _Watch, parent: _Folder | None, name: bytes, scope: Scope) -> None:
        self.owner = owner
        self.parent = parent
        self.name = name
        self.scope = scope
        self.below: dict[bytes, _Folder] | None = None
        self.wd = WatchDescriptor(-1)

    @property
    def path(self) -> bytes:
        names: list[bytes] = []
        at = self
        while at.parent is not None:
            names.append(at.name)
            at = at.parent
        return b"/" + b"/".join(reversed(names))

    def on_event(self, event: InotifyEvent) -> None:
        """Something happened in the folder."""
        self.owner.saw(self, event)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """The folder is gone, or was unmounted; its parent is told so as well."""

    def on_queue_overflow(self) -> None:
        """Never called: who reads the events deals with it once, not once a folder."""


class InotifyWatcher:
    """A thread that keeps a `_Watch` going, and makes another one where that is needed."""

    def __init__(self, selection: Selection, home: Path, notes: Notes) -> None:
        self._selection = selection
        self._home = home
        self._notes = notes
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._watch: _Watch | None = None
        self._mounts = touching(mounts(), selection.include)
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)

    @property
    def folders(self) -> int:
        """How many are watched."""
        watch = self._watch
        return 0 if watch is None else watch.folders

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def look(self) -> None:
        """Whether other file systems are mounted than before."""
        now = touching(mounts(), self._selection.include)
        if now != self._mounts:
            self._mounts = now
            self._close()

    def stop(self) -> None:
        """End; waits for the thread, which may be in the middle of setting watches, for a moment only."""
        self._stopping.set()
        self._close()
        self._thread.join(5.0)

    def _close(self) -> None:
        with self._lock:
            if self._watch is not None:
                self._watch.close()

    def _run(self) -> None:
        lower_thread()
        reason = "the watch has just begun"
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                with self._lock:
                    watch = self._watch = _Watch(self._selection, self._home, self._notes)
            except OSError as error:
                self._notes.blind("instances", _no_instance(error))
                self._notes.lost(reason)
                self._stopping.wait()
                return
            try:
                for mount in self._mounts:
                    if is_remote(mount):
                        self._notes.blind("remote", _remote(mount))
                watch.begin()
                log.info("%d folders are watched", watch.folders)
                self._notes.lost(reason)
                reason = watch.follow(self._stopping)
                if reason == OVERFLOW:
                    self._notes.tell("overflow", _overflow())
                    if time.monotonic() - began < AGAIN_S:
                        self._notes.lost(reason)
                        self._stopping.wait(AGAIN_S)
            except Exception as error:  # the edge of a thread: without it nothing would ever be marked again
                log.exception("watching met an unexpected %s", type(error).__name__)
                reason = "the watch broke off"
                self._notes.blind("broken", "Watching for changes broke off; everything is looked at now and then.")
                self._stopping.wait(AGAIN_S)
            finally:
                watch.close()


class _Watch:
    """One inotify instance and its folders. `close` may come from any thread."""

    def __init__(self, selection: Selection, home: Path, notes: Notes) -> None:
        self._selection = selection
        self._notes = notes
        self._fd = InotifyFD()
        # A descriptor that was never read from is not closed by watchdog 7.1: let there be an event, and read it.
        first = _Folder(self, None, b"", selection.scope())
        self._fd.remove_callbacks([(self._fd.add_callback(b"/", MASK, first, CallbackId(0)), CallbackId(0))])
        self._fd.read_events()
        self._home: tuple[int, int] | None = None
        with contextlib.suppress(OSError):
            status = os.stat(home)
            self._home = (status.st_dev, status.st_ino)
        self._full = False
        self.folders = 0

    def close(self) -> None:
        """Let go of everything; whoever reads wakes up and ends."""
        self._fd.close()

    def begin(self) -> None:
        """Watch all that is selected, and what leads there."""
        self._watch(_Folder(self, None, b"", self._selection.scope()), b"/")

    def follow(self, stopping: threading.Event) -> str:
        """Note what happens until the watch is closed or has become useless; why that is."""
        fd = self._fd
        while True:
            events = fd.read_events(event_buffer_size=READ_BYTES)
            if not events:
                return "other file systems are mounted than before"
            for event in events:
                if event.is_queue_overflow:
                    return OVERFLOW  # what was dropped may have been new folders: they have no watch
                fd.handle_event(event)
            if stopping.wait(GATHER_S):
                return ""

    # the tree of folders

    def _watch(self, top: _Folder, path: bytes) -> None:
        """Watch a folder and all below it that is selected, or leads to what is; parents first."""
        stack = [(top, path)]
        while stack:
            folder, path = stack.pop()
            if not self._add(folder, path):
                continue
            scope = folder.scope
            for name in self._subfolders(path, scope):
                take = scope.take(name)
                if take is Take.SKIP:
                    continue
                child = _Folder(self, folder, name, scope.enter(name, take))
                if folder.below is None:
                    folder.below = {}
                folder.below[name] = child
                stack.append((child, joined(path, name)))

    def _add(self, folder: _Folder, path: bytes) -> bool:
        """Watch one folder; whether what is below it is worth a look."""
        if self._full:
            return False
        try:
            folder.wd = self._fd.add_callback(path, MASK, folder, CallbackId(id(folder)))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._full = True
                self._notes.blind("limit", _limit(self.folders))
            elif error.errno not in _TOLD_OTHERWISE:
                self._notes.blind("refused", _refused(error))
            # Otherwise it went while it was looked for, or became something else: its parent's watch tells.
            return False
        if folder.wd == -1:
            return False  # it may not be read: no listing will be possible either, and a change of that is told
        self.folders += 1
        return True

    def _subfolders(self, path: bytes, scope: Scope) -> Iterator[bytes]:
        try:
            if not scope.selected:
                for name in scope.named:
                    with contextlib.suppress(OSError):
                        status = os.lstat(joined(path, name))
                        if stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) != self._home:
                            yield name
                return
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) and not self._is_home(entry):
                        yield entry.name
        except OSError as error:
            if error.errno not in _TOLD_OTHERWISE:
                self._notes.blind("refused", _refused(error))

    def _is_home(self, entry: os.DirEntry[bytes]) -> bool:
        if self._home is None or entry.inode() != self._home[1]:
            return False
        status = entry.stat(follow_symlinks=False)
        return (status.st_dev, status.st_ino) == self._home

    def _forget(self, folder: _Folder, name: bytes) -> None:
        """A subfolder is not there any more under this name."""
        gone = folder.below.pop(name, None) if folder.below else None
        stack = [gone] if gone is not None else []
        while stack:
            at = stack.pop()
            if at.wd != -1:
                self._fd.remove_callbacks([(at.wd, CallbackId(id(at)))])
                self.folders -= 1
            stack += (at.below or {}).values()

    # events

    def saw(self, folder: _Folder, event: InotifyEvent) -> None:
        """One event of a watched folder."""
        mask, name, scope = event.mask, event.name, folder.scope
        if mask & _UNMOUNT:
            self._notes.lost("a file system was unmounted")
            return
        if not name:
            if scope.selected:
                self._notes.folder(folder.path)
            return
        take = scope.take(name)
        if take is Take.SKIP:
            if scope.selected and mask & (_APPEARED | _VANISHED):
                self._notes.beside(folder.path)
            return
        path = folder.path
        if mask & _DIRECTORY:
            known = folder.below is not None and name in folder.below and folder.below[name].wd != -1
            if mask & _VANISHED:
                self._forget(folder, name)
            elif mask & _APPEARED or not known:
                self._appeared(folder, path, name, take)
        self._notes.folder(path)

    def _appeared(self, folder: _Folder, path: bytes, name: bytes, take: Take) -> None:
        """A subfolder is there that was not: watched first, marked then, for files may stand in it already."""
        below = joined(path, name)
        try:
            status = os.lstat(below)
        except OSError:
            return
        if not stat.S_ISDIR(status.st_mode) or (status.st_dev, status.st_ino) == self._home:
            return
        self._forget(folder, name)
        child = _Folder(self, folder, name, folder.scope.enter(name, take))
        if folder.below is None:
            folder.below = {}
        folder.below[name] = child
        self._watch(child, below)
        self._notes.tree(below)


def _number(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return "unknown"


def _overflow() -> str:
    return (
        f"{OVERFLOW.capitalize()}: everything was looked at instead, and nothing is lost. Where this happens often, "
        f"raise fs.inotify.max_queued_events, which is {_number(QUEUE)}"
    )


def _limit(watched: int) -> str:
    return (
        f"Only {watched} folders can be watched: fs.inotify.max_user_watches is {_number(LIMIT)}. Raise it "
        f"(as root: sysctl fs.inotify.max_user_watches=1048576, and in /etc/sysctl.d to keep it) and start the service "
        "again; until then everything is looked at from time to time"
    )


def _refused(error: OSError) -> str:
    return (
        f"A folder could not be watched ({error.strerror}): until the service is started again everything is looked at "
        "from time to time"
    )


def _no_instance(error: OSError) -> str:
    return (
        f"Nothing can be watched ({error.strerror}). Where that is a limit, raise fs.inotify.max_user_instances (as "
        "root) and start the service again; until then everything is looked at from time to time"
    )


def _remote(mount: Mount) -> str:
    return (
        f"A selected folder is on a network disk ({mount.type.decode()}): what other machines change there is told "
        "by nobody, so everything is looked at from time to time. Better back it up where the disk is"
    )
