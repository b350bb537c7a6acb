"""Open folders of a restore's target: everything that happens within one folder goes through one of these.

Where the system has handles of folders, a folder once opened stays the same one whatever happens to its name, and no
step ever follows a link: that is `ByHandle`. Elsewhere (Windows) a folder is a path that is looked at again before each
act, and an act that finds another folder or a link there is refused: `ByPath`. A moment lies between the look and the
act, which a program of the same user on the same machine could use; the appliance and the names of a backup cannot.
Both are tested by the same tests.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Final, Protocol

from agent.system import descriptors

Identity = tuple[int, int]
"""(device, inode)"""
_NAMELESS: Final = os.O_RDWR | getattr(os, "O_TMPFILE", 0) | getattr(os, "O_CLOEXEC", 0)
_REPARSE_POINT: Final = 0x400
"""FILE_ATTRIBUTE_REPARSE_POINT: links, junctions, mounts, placeholders of clouds."""


class OpenFolder(Protocol):
    """A folder that was entered without following a link. OSError from everything."""

    identity: Identity

    def enter(self, name: bytes) -> OpenFolder:
        """A folder within."""

    def close(self) -> None:
        """Let go of it."""

    def copy(self) -> OpenFolder:
        """The same folder once more, to be closed by itself."""

    def make(self, name: bytes) -> None:
        """Make a folder within, for its owner alone; FileExistsError where the name is taken."""

    def look(self, name: bytes) -> os.stat_result | None:
        """What stands under a name, links not followed; None where nothing does."""

    def open(self, name: bytes, flags: int, mode: int = 0o600) -> int:
        """A handle of a file within, with flags of `descriptors`."""

    def create_nameless(self, mode: int) -> int | None:
        """A handle of a new file that has no name yet; None where the system has none such."""

    def name_it(self, handle: int, name: bytes) -> None:
        """Give it one; FileExistsError where it is taken."""

    def link(self, other: OpenFolder, other_name: bytes, name: bytes) -> None:
        """A second name for a file of a folder of the same kind; a link itself where it is one."""

    def rename(self, name: bytes, new: bytes) -> None:
        """Rename within the folder, over whatever has the new name."""

    def unlink(self, name: bytes) -> None:
        """Remove a file or link."""

    def make_symlink(self, name: bytes, target: bytes) -> None:
        """A symbolic link."""

    def read_symlink(self, name: bytes) -> bytes:
        """Where it leads."""

    def mark_symlink(self, name: bytes, mtime_ns: int, owner: tuple[int, int] | None) -> None:
        """Time and owner of a link itself, as far as the system keeps them."""

    def handle(self) -> int:
        """A handle of the folder for marks and times, to be closed by the caller."""


def open_root(path: bytes, *, by_handle: bool | None = None) -> OpenFolder:
    """The target itself: its own name may lead through links. OSError."""
    if os.open in os.supports_dir_fd if by_handle is None else by_handle:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        return ByHandle(os.open(path, flags))
    # Links on the way to the target are the user's own; from here on none is followed.
    return ByPath(os.path.realpath(path))


class ByHandle:
    """An open folder as a descriptor."""

    __slots__ = ("_at", "identity")

    def __init__(self, handle: int) -> None:
        self._at = handle
        status = os.fstat(handle)
        self.identity: Identity = (status.st_dev, status.st_ino)

    def enter(self, name: bytes) -> ByHandle:
        return ByHandle(os.open(name, descriptors.READ_FOLDER, dir_fd=self._at))

    def close(self) -> None:
        os.close(self._at)

    def copy(self) -> ByHandle:
        return ByHandle(os.dup(self._at))

    def make(self, name: bytes) -> None:
        os.mkdir(name, 0o700, dir_fd=self._at)

    def look(self, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._at, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, name: bytes, flags: int, mode: int = 0o600) -> int:
        return os.open(name, flags, mode, dir_fd=self._at)

    def create_nameless(self, mode: int) -> int | None:
        return os.open(b".", _NAMELESS, mode, dir_fd=self._at) if hasattr(os, "O_TMPFILE") else None

    def name_it(self, handle: int, name: bytes) -> None:
        os.link(descriptors.way_to(handle), name, dst_dir_fd=self._at)

    def link(self, other: OpenFolder, other_name: bytes, name: bytes) -> None:
        assert isinstance(other, ByHandle)
        os.link(other_name, name, src_dir_fd=other._at, dst_dir_fd=self._at, follow_symlinks=False)

    def rename(self, name: bytes, new: bytes) -> None:
        os.rename(name, new, src_dir_fd=self._at, dst_dir_fd=self._at)

    def unlink(self, name: bytes) -> None:
        os.unlink(name, dir_fd=self._at)

    def make_symlink(self, name: bytes, target: bytes) -> None:
        os.symlink(target, name, dir_fd=self._at)

    def read_symlink(self, name: bytes) -> bytes:
        return os.readlink(name, dir_fd=self._at)

    def mark_symlink(self, name: bytes, mtime_ns: int, owner: tuple[int, int] | None) -> None:
        if owner is not None:
            os.chown(name, *owner, dir_fd=self._at, follow_symlinks=False)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self._at, follow_symlinks=False)

    def handle(self) -> int:
        return os.dup(self._at)


class ByPath:
    """A folder as a path from a root without links; each act looks first whether it is still the same one."""

    __slots__ = ("_path", "identity")

    def __init__(self, path: bytes) -> None:
        self._path = path
        self.identity: Identity = self._now()

    def _now(self) -> Identity:
        status = os.lstat(self._path)
        marks = getattr(status, "st_file_attributes", 0)
        if not stat.S_ISDIR(status.st_mode) or marks & _REPARSE_POINT:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return status.st_dev, status.st_ino

    def _at(self, name: bytes) -> bytes:
        if self._now() != self.identity:
            raise OSError(errno.ESTALE, "a folder on the way was replaced by another during the restore")
        return os.path.join(self._path, name)

    def enter(self, name: bytes) -> ByPath:
        return ByPath(self._at(name))

    def close(self) -> None:
        pass

    def copy(self) -> ByPath:
        return self

    def make(self, name: bytes) -> None:
        os.mkdir(self._at(name), 0o700)

    def look(self, name: bytes) -> os.stat_result | None:
        try:
            return os.lstat(self._at(name))
        except FileNotFoundError:
            return None

    def open(self, name: bytes, flags: int, mode: int = 0o600) -> int:
        return os.open(self._at(name), flags, mode)

    def create_nameless(self, mode: int) -> int | None:
        return None

    def name_it(self, handle: int, name: bytes) -> None:
        raise NotImplementedError("there are no files without a name here")

    def link(self, other: OpenFolder, other_name: bytes, name: bytes) -> None:
        assert isinstance(other, ByPath)
        os.link(other._at(other_name), self._at(name))

    def rename(self, name: bytes, new: bytes) -> None:
        os.replace(self._at(name), self._at(new))

    def unlink(self, name: bytes) -> None:
        os.unlink(self._at(name))

    def make_symlink(self, name: bytes, target: bytes) -> None:
        os.symlink(target, self._at(name))

    def read_symlink(self, name: bytes) -> bytes:
        return os.readlink(self._at(name))

    def mark_symlink(self, name: bytes, mtime_ns: int, owner: tuple[int, int] | None) -> None:
        path = self._at(name)
        if owner is not None and sys.platform != "win32":
            os.chown(path, *owner, follow_symlinks=False)
        if os.utime in os.supports_follow_symlinks:
            os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def handle(self) -> int:
        path = self._at(b"")
        if sys.platform == "win32":
            from agent.system import windows

            return windows.open_folder(path)
        return os.open(path.rstrip(b"/"), descriptors.READ_FOLDER)


class Drives(ByPath):
    """The folder of all drives, in which nothing can stand but them."""

    __slots__ = ("_prefix",)

    def __init__(self, prefix: bytes = b"") -> None:
        self._prefix = prefix
        self.identity: Identity = (0, 0)

    def enter(self, name: bytes) -> ByPath:
        return ByPath(self._prefix + name + b"/")

    def _at(self, name: bytes) -> bytes:
        raise OSError(errno.EPERM, "only drives stand where paths begin")
