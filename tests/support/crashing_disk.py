"""Disks that die, lie and refuse: put in the place of the one door to the disk, `appliance.store.durable.Disk`.

`CrashingDisk` stops at one operation, before it, in the middle of a write, or after it, and stays dead: what `finally`
would tidy up stays as a power cut leaves it. It watches what was fsynced, so it can say which folders a kill
(`killed`) and which a power cut (`power_cuts`) may leave behind. `FailingDisk` answers one operation with an error.
`unreadable` makes packs fail when they are read. Rules of the model:

- bytes count from the fsync of their file on, names from the fsync of their folder on; until then each may be there,
  not be there, or be there in part (sectors), in any order, whatever came later; a sector is the old or the new one, so
  durable bytes survive an append behind them in the same sector;
- the catalog's fsyncs are SQLite's: a commit is atomic, and durable when it returns, if the connection says
  synchronous=FULL or more; with less it is bytes like any others, durable when its file is fsynced through the door.

Knows nothing of records or repositories.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from appliance.store import packs
from appliance.store.durable import Buffer, Disk

_T = TypeVar("_T")
_SYNCHRONOUS_FULL: Final = 2
_SECTORS: Final = (512, 4096)
_SQLITE_CODES: Final = {
    errno.EIO: sqlite3.SQLITE_IOERR_FSYNC,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EMFILE: sqlite3.SQLITE_CANTOPEN,
}
"""What SQLite makes of an error of the system."""


class Crash(BaseException):
    """The machine stopped here. No Exception: nothing may tidy up what a crash would not."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that was asked of the disk. `size_bytes` is that of a write."""

    number: int
    name: str
    path: Path
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Where to stop: at operation `number` (from 1), "before", "after", or "within" once `kept_bytes` are written."""

    number: int
    moment: str
    kept_bytes: int = 0


def crash_points(operations: Sequence[Operation]) -> list[CrashPoint]:
    """Every place to stop at: before and after each operation, and within each write after 1, half, all but 1 byte."""
    points: list[CrashPoint] = []
    for operation in operations:
        points.append(CrashPoint(operation.number, "before"))
        kept = {1, operation.size_bytes // 2, operation.size_bytes - 1} if operation.size_bytes > 2 else set()
        points += [CrashPoint(operation.number, "within", size) for size in sorted(kept)]
        points.append(CrashPoint(operation.number, "after"))
    return points


class WatchedDisk(Disk):
    """The real disk, with a list of what was asked of it. Subclasses decide in `_perform` what comes of it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def _perform(self, operation: Operation, act: Callable[[], _T], within: Callable[[int], object] | None) -> _T:
        return act()

    def _note(
        self,
        name: str,
        path: Path,
        act: Callable[[], _T],
        size_bytes: int = 0,
        within: Callable[[int], object] | None = None,
    ) -> _T:
        operation = Operation(len(self.operations) + 1, name, path, size_bytes)
        self.operations.append(operation)
        return self._perform(operation, act, within)

    # What a subclass that keeps a model is told, once it happened

    def _was_made(self, path: Path) -> None: ...
    def _was_written(self, path: Path, data: bytes, offset: int) -> None: ...
    def _was_cut(self, path: Path, size: int) -> None: ...
    def _was_synced(self, path: Path) -> None: ...
    def _folder_was_made(self, path: Path) -> None: ...
    def _folder_was_synced(self, path: Path) -> None: ...
    def _was_renamed(self, old: Path, new: Path) -> None: ...
    def _was_removed(self, path: Path) -> None: ...
    def _was_committed(self, path: Path, *, durable: bool) -> None: ...

    # The door

    def open_new(self, path: Path) -> int:
        def act() -> int:
            descriptor = super(WatchedDisk, self).open_new(path)
            self._was_made(path)
            return descriptor

        return self._note("open_new", path, act)

    def open_existing(self, path: Path) -> int:
        return self._note("open_existing", path, lambda: super(WatchedDisk, self).open_existing(path))

    def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        path, data = _path_of(descriptor), b"".join(buffers)

        def put(size: int) -> int:
            written = super(WatchedDisk, self).write_at(descriptor, [data[:size]], offset)
            self._was_written(path, data[:written], offset)
            return written

        return self._note("write_at", path, lambda: put(len(data)), len(data), put)

    def truncate(self, descriptor: int, size: int) -> None:
        path = _path_of(descriptor)

        def act() -> None:
            super(WatchedDisk, self).truncate(descriptor, size)
            self._was_cut(path, size)

        self._note("truncate", path, act)

    def sync(self, descriptor: int) -> None:
        path = _path_of(descriptor)

        def act() -> None:
            super(WatchedDisk, self).sync(descriptor)
            if path.is_dir():
                self._folder_was_synced(path)
            else:
                self._was_synced(path)

        self._note("sync", path, act)

    def sync_folder(self, folder: Path) -> None:
        """Two operations, as in the real door: the folder is opened, then fsynced."""

        self._note("open_folder", folder, lambda: None)
        super().sync_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        def act() -> None:
            super(WatchedDisk, self).rename(old, new)
            self._was_renamed(old, new)

        self._note("rename", new, act)

    def remove(self, path: Path) -> None:
        def act() -> None:
            super(WatchedDisk, self).remove(path)
            self._was_removed(path)

        self._note("remove", path, act)

    def make_folder(self, path: Path) -> None:
        def act() -> None:
            super(WatchedDisk, self).make_folder(path)
            self._folder_was_made(path)

        self._note("make_folder", path, act)

    def remove_folder(self, path: Path) -> None:
        def act() -> None:
            super(WatchedDisk, self).remove_folder(path)
            self._was_removed(path)

        self._note("remove_folder", path, act)

    def commit_catalog(self, connection: sqlite3.Connection) -> None:
        path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        durable = connection.execute("PRAGMA synchronous").fetchone()[0] >= _SYNCHRONOUS_FULL

        def act() -> None:
            super(WatchedDisk, self).commit_catalog(connection)
            self._was_committed(path, durable=durable)

        self._note("commit_catalog", path, act)


def _path_of(descriptor: int) -> Path:
    """Where an open file or folder stands now, whatever it was called when it was opened."""
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


# What is durable, and what is not yet


@dataclass(slots=True)
class _File:
    """A file's bytes: those fsynced, and what was done since, in order: (offset, bytes), or a size to cut to."""

    durable: bytes
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)

    def current(self, steps: int | None = None) -> bytes:
        content = bytearray(self.durable)
        for step in self.pending if steps is None else self.pending[:steps]:
            if isinstance(step, int):
                content[step:] = bytes(max(0, step - len(content)))
            else:
                offset, data = step
                content += bytes(max(0, offset - len(content)))
                content[offset : offset + len(data)] = data
        return bytes(content)

    def settle(self) -> None:
        self.durable, self.pending = self.current(), []


@dataclass(slots=True)
class _Folder:
    """A folder's names: those that were fsynced, those there now, and what was done since: name → node, None = gone."""

    durable: dict[str, _Node] = field(default_factory=dict)
    current: dict[str, _Node] = field(default_factory=dict)
    pending: list[dict[str, _Node | None]] = field(default_factory=list)

    def change(self, names: dict[str, _Node | None]) -> None:
        self.pending.append(names)
        _apply(self.current, names)

    def settle(self) -> None:
        self.durable, self.pending = dict(self.current), []


_Node = _File | _Folder
_Content = dict[str, bytes | None]
"""A tree of files by relative path; None for a folder."""


def _apply(entries: dict[str, _Node], names: dict[str, _Node | None]) -> None:
    for name, node in names.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _scan(path: Path) -> _Node:
    """What stands on the disk now, all of it durable."""
    if path.is_dir():
        nodes = {child.name: _scan(child) for child in sorted(path.iterdir())}
        return _Folder(nodes, dict(nodes))
    return _File(path.read_bytes())


@dataclass(frozen=True, slots=True)
class Aftermath:
    """A folder as a crash may leave it. `kind` is "kill", or says what of a power cut's choices this one is."""

    kind: str
    content: _Content

    def lay_out(self, folder: Path) -> Path:
        """Write it below `folder`, which is emptied first."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in self.content.items():
            if data is None:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(data)
        return folder

    def fingerprint(self) -> bytes:
        """Equal for equal folders."""
        digest = hashlib.sha256()
        for name, data in sorted(self.content.items()):
            digest.update(f"{name}\0{-1 if data is None else len(data)}\0".encode() + (data or b""))
        return digest.digest()


class CrashingDisk(WatchedDisk):
    """Stops at `point`; None never stops, and only counts. `world` is the folder that holds the repository's folder."""

    def __init__(self, world: Path, point: CrashPoint | None = None) -> None:
        super().__init__()
        self._world = world
        self._point = point
        self._model = _scan(world)
        self._killed: Aftermath | None = None
        self.dead = False

    def _perform(self, operation: Operation, act: Callable[[], _T], within: Callable[[int], object] | None) -> _T:
        if self.dead:
            raise Crash
        point = self._point
        if point is None or point.number != operation.number:
            return act()
        if point.moment == "within":
            assert within is not None, operation
            within(point.kept_bytes)
        elif point.moment == "after":
            act()
        self._die()
        raise Crash

    def _die(self) -> None:
        self.dead = True
        content: _Content = {}
        for path in sorted(self._world.rglob("*")):
            content[path.relative_to(self._world).as_posix()] = None if path.is_dir() else path.read_bytes()
        self._killed = Aftermath("kill", content)

    def free_bytes(self, folder: Path) -> int:
        if self.dead:
            raise Crash
        return super().free_bytes(folder)

    # What is left

    def killed(self) -> Aftermath:
        """The folder as the end of the process leaves it: everything that was done, and the catalog's hot journal."""
        assert self._killed is not None, "nothing crashed"
        return self._killed

    def power_cuts(self, seed: int, torn: int = 3) -> list[Aftermath]:
        """Folders that a power cut may leave, no two alike: nothing unsynced, names or bytes only, all, and `torn`
        random ones."""
        luck = random.Random(seed)
        found: dict[bytes, Aftermath] = {}

        def add(kind: str, names: Callable[[_Folder], dict[str, _Node]], data: Callable[[_File], bytes]) -> None:
            content: _Content = {}
            assert isinstance(self._model, _Folder)
            _collect(self._model, "", content, names, data)
            cut = Aftermath(kind, content)
            found.setdefault(cut.fingerprint(), cut)

        add("nothing unsynced", lambda folder: folder.durable, lambda file: file.durable)
        add("names only", lambda folder: folder.current, lambda file: file.durable)
        add("bytes only", lambda folder: folder.durable, lambda file: file.current())
        add("everything", lambda folder: folder.current, lambda file: file.current())
        for _ in range(torn):
            add("torn", lambda folder: _some_names(folder, luck), lambda file: _some_bytes(file, luck))
        return list(found.values())

    # The model

    def _folder(self, path: Path) -> _Folder:
        node: _Node = self._model
        for name in path.relative_to(self._world).parts:
            assert isinstance(node, _Folder), path
            node = node.current[name]
        assert isinstance(node, _Folder), path
        return node

    def _file(self, path: Path) -> _File:
        node = self._folder(path.parent).current[path.name]
        assert isinstance(node, _File), path
        return node

    def _was_made(self, path: Path) -> None:
        self._folder(path.parent).change({path.name: _File(b"")})

    def _was_written(self, path: Path, data: bytes, offset: int) -> None:
        self._file(path).pending.append((offset, data))

    def _was_cut(self, path: Path, size: int) -> None:
        self._file(path).pending.append(size)

    def _was_synced(self, path: Path) -> None:
        self._file(path).settle()

    def _folder_was_made(self, path: Path) -> None:
        self._folder(path.parent).change({path.name: _Folder()})

    def _folder_was_synced(self, path: Path) -> None:
        self._folder(path).settle()

    def _was_renamed(self, old: Path, new: Path) -> None:
        node = self._folder(old.parent).current[old.name]
        if old.parent == new.parent:
            self._folder(old.parent).change({old.name: None, new.name: node})
        else:
            self._folder(new.parent).change({new.name: node})
            self._folder(old.parent).change({old.name: None})

    def _was_removed(self, path: Path) -> None:
        folder = self._folder(path.parent)
        if path.name in folder.current:
            folder.change({path.name: None})

    def _was_committed(self, path: Path, *, durable: bool) -> None:
        folder = self._folder(path.parent)
        if path.name not in folder.current:
            folder.change({path.name: _File(b"")})
        content = path.read_bytes()
        file = self._file(path)
        if durable:
            file.durable, file.pending = content, []
        else:
            file.pending += [0, (0, content)]
        # A journal that a crash before this one left hot was played back when the connection began.
        journal = folder.current.get(path.name + "-journal")
        if isinstance(journal, _File):
            journal.durable, journal.pending = b"", []


def _collect(
    folder: _Folder,
    prefix: str,
    content: _Content,
    names: Callable[[_Folder], dict[str, _Node]],
    data: Callable[[_File], bytes],
) -> None:
    for name, node in sorted(names(folder).items()):
        if isinstance(node, _Folder):
            content[prefix + name] = None
            _collect(node, f"{prefix}{name}/", content, names, data)
        else:
            content[prefix + name] = data(node)


def _some_names(folder: _Folder, luck: random.Random) -> dict[str, _Node]:
    """Each change of names happened or did not, whatever came before and after it."""
    entries = dict(folder.durable)
    for names in folder.pending:
        if luck.random() < 0.5:
            _apply(entries, names)
    return entries


def _some_bytes(file: _File, luck: random.Random) -> bytes:
    """Some of what was written: a prefix, or sectors of the new and the old (zeros beyond it), and a length between."""
    if not file.pending:
        return file.durable
    if luck.random() < 0.3:
        steps = luck.randrange(len(file.pending) + 1)
        content = file.current(steps)
        kept = min(len(file.durable), len(content))
        return content[: luck.randint(kept, len(content))]
    old, new = file.durable, file.current()
    sector = luck.choice(_SECTORS)
    torn = bytearray(new)
    for at in range(0, len(new), sector):
        end = min(at + sector, len(new))
        if new[at:end] == old[at:end] or luck.random() < 0.5:
            continue
        before = old[at:end]
        torn[at:end] = before + bytes(end - at - len(before))
    if luck.random() < 0.5:
        low, high = sorted((len(old), len(new)))
        del torn[luck.randint(low, high) :]
    return bytes(torn)


class FailingDisk(WatchedDisk):
    """Answers operation `number` with the error `code`; 0 is a short write. `lasting` errors go on until `mend`.

    A lasting error is answered to every operation of the same kind: a disk that is full stays full.
    """

    def __init__(self, number: int = 0, code: int = 0, *, lasting: bool = False) -> None:
        super().__init__()
        self._number = number
        self._code = code
        self._lasting = lasting
        self._kind: str | None = None
        self.struck: Operation | None = None

    def mend(self) -> None:
        """The disk is well again."""
        self._kind, self._number = None, 0

    def _perform(self, operation: Operation, act: Callable[[], _T], within: Callable[[int], object] | None) -> _T:
        if operation.number != self._number and operation.name != self._kind:
            return act()
        self.struck = self.struck or operation
        if self._lasting:
            self._kind = operation.name
        if self._code == 0:
            assert within is not None
            return within(max(1, operation.size_bytes // 3))  # type: ignore[return-value]
        if operation.name == "write_at" and self._code == errno.ENOSPC and operation.number == self._number:
            assert within is not None
            return within(operation.size_bytes // 2)  # type: ignore[return-value]
        if operation.name == "commit_catalog":
            error = sqlite3.OperationalError(os.strerror(self._code))
            error.sqlite_errorcode = _SQLITE_CODES[self._code]
            raise error
        raise OSError(self._code, os.strerror(self._code))


class _BadBlocks(io.FileIO):
    """A file whose bytes from `start` to `end` cannot be read."""

    def __init__(self, path: Path, start: int, end: int) -> None:
        super().__init__(path, "rb")
        self._bad = range(start, end)

    def _try(self, size: int) -> None:
        at = self.tell()
        if self._bad.start < at + size and at < self._bad.stop and size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def read(self, size: int | None = -1, /) -> bytes:
        self._try(os.fstat(self.fileno()).st_size if size is None or size < 0 else size)
        return super().read(-1 if size is None else size)

    def readinto(self, buffer: Any, /) -> int:
        self._try(min(len(memoryview(buffer)), max(0, os.fstat(self.fileno()).st_size - self.tell())))
        return super().readinto(buffer)


@contextmanager
def unreadable(path: Path, start: int, end: int) -> Iterator[None]:
    """Reading bytes `start` to `end` of the pack at `path` says EIO."""

    def opened(wanted: Path, mode: str = "rb", buffering: int = 0) -> io.FileIO:
        assert (mode, buffering) == ("rb", 0)
        return _BadBlocks(wanted, start, end) if Path(wanted) == path else io.FileIO(wanted, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "open", opened, raising=False)
        yield
