"""Freezing one folder's disk: btrfs subvolumes, LVM volumes, ZFS file systems, each by its own program.

Each kind makes a copy of one moment that can be read somewhere, and takes it away again. Btrfs is tried by a test on a
disk in a file, and takes away what a killed run left. LVM and ZFS are written from their manual pages (lvcreate(8),
zfs-snapshot(8)) and were never run, for want of a kernel that has them; what a killed run left there stays.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.errors import DatabaseError, VolumeError
from agent.sources.dumps import Call, found
from agent.system import namespaces

_ASK_S: Final = 120.0
PREFIX: Final = ".pilulier-frozen-"
"""Of the names of all that is made here."""
_SUBVOLUME_INO: Final = 256
_SUBVOLUMES: Final = 50


@dataclass(frozen=True, slots=True)
class Mounted:
    """A file system as it is mounted: its folder, device or data set, and type."""

    target: str
    source: str
    fstype: str


@dataclass(frozen=True, slots=True)
class Frozen:
    """A copy of one moment: of the folder `over`, to be read at `at`, until `release` is called."""

    over: str
    at: str
    release: Callable[[], None]


class VolumeKind(Protocol):
    """One way to freeze."""

    name: str

    def fits(self, mounted: Mounted) -> bool:
        """Whether it may be able to freeze this file system."""
        ...

    def freeze(self, path: str, mounted: Mounted, stamp: str, number: int) -> Iterator[Frozen]:
        """Freeze what is below `path` on that file system; VolumeError or DatabaseError where that fails.

        `stamp` is the run's own, `number` counts what it freezes.
        """
        ...


def _run(program: str, package: str, *words: str) -> str:
    path = found(program, package, ["/usr/sbin", "/sbin"])
    return Call([path, *words]).run(_ASK_S, limit=1 << 20).decode("utf-8", "replace")


class Btrfs:
    """Snapshots of the subvolume that holds a folder, and of those nested in it."""

    name = "btrfs"

    def fits(self, mounted: Mounted) -> bool:
        return mounted.fstype == "btrfs"

    def freeze(self, path: str, mounted: Mounted, stamp: str, number: int) -> Iterator[Frozen]:
        root = self._subvolume_of(path)
        self._clean(root, stamp)
        yield self._frozen(root, path, stamp)
        # A snapshot ends where another subvolume begins: there stands an empty folder in it.
        nested = [one for one in self._nested(root) if _within(one, path) and one != path]
        if len(nested) > _SUBVOLUMES:
            raise VolumeError(f"{path} holds {len(nested)} subvolumes, more than {_SUBVOLUMES}")
        for one in sorted(nested):
            self._clean(one, stamp)
            yield self._frozen(one, one, stamp)

    def tidy(self, path: str) -> None:
        """Take away what killed runs left: without freezing it would be backed up as files."""
        root = self._subvolume_of(path)
        for one in (root, *self._nested(root)):
            self._clean(one, "")

    @staticmethod
    def _subvolume_of(path: str) -> str:
        folder = path
        while os.stat(folder).st_ino != _SUBVOLUME_INO:
            if folder == "/":
                raise VolumeError(f"no subvolume holds {path}")
            folder = os.path.dirname(folder)
        return folder

    def _frozen(self, root: str, path: str, stamp: str) -> Frozen:
        """The copy of a subvolume, made once a run, whoever asks for it again."""
        at = os.path.join(root, PREFIX + stamp)
        release: Callable[[], None] = _nothing
        if not os.path.isdir(at):
            _run("btrfs", "btrfs-progs", "subvolume", "snapshot", "-r", root, at)
            release = functools.partial(self._delete, at)
        relative = os.path.relpath(path, root)
        return Frozen(path, at if relative == "." else os.path.join(at, relative), release)

    @staticmethod
    def _delete(at: str) -> None:
        _run("btrfs", "btrfs-progs", "subvolume", "delete", at)

    def _clean(self, root: str, stamp: str) -> None:
        for entry in os.scandir(root):
            ours = entry.name.startswith(PREFIX) and entry.name != PREFIX + stamp
            if ours and entry.stat(follow_symlinks=False).st_ino == _SUBVOLUME_INO:
                self._delete(entry.path)

    def _nested(self, root: str) -> list[str]:
        """Subvolumes below this one, nested ones' own included; what is none of these is passed over."""
        own = _run("btrfs", "btrfs-progs", "subvolume", "show", root).splitlines()[0].strip().strip("/")
        nested = []
        for line in _run("btrfs", "btrfs-progs", "subvolume", "list", "-o", root).splitlines():
            inside = line.partition(" path ")[2].removeprefix(own).strip("/")
            path = os.path.join(root, inside)
            if PREFIX in inside or not os.path.isdir(path) or os.stat(path).st_ino != _SUBVOLUME_INO:
                continue
            nested += [path, *self._nested(path)]
        return nested


class Lvm:
    """A snapshot volume with room for a tenth of the original's size to change meanwhile. Never run."""

    name = "lvm"

    def fits(self, mounted: Mounted) -> bool:
        with contextlib.suppress(OSError):
            if mounted.source.startswith("/dev/") and stat.S_ISBLK(os.stat(mounted.source).st_mode):
                return os.path.basename(os.path.realpath(mounted.source)).startswith("dm-")
        return False

    def freeze(self, path: str, mounted: Mounted, stamp: str, number: int) -> Iterator[Frozen]:
        group, volume = _run("lvs", "lvm2", "--noheadings", "-o", "vg_name,lv_name", mounted.source).split()
        name = f"pilulier-frozen-{stamp}-{number}"
        words = ("--snapshot", "--extents", "10%ORIGIN", "--name", name, f"{group}/{volume}")
        _run("lvcreate", "lvm2", "--yes", *words)
        point = Path("/run") / f"{PREFIX}{stamp}-{number}"

        def release() -> None:
            with contextlib.suppress(OSError):
                namespaces.unbind(os.fsencode(point))
            with contextlib.suppress(DatabaseError):
                _run("umount", "mount", str(point))
            _run("lvremove", "lvm2", "--yes", f"{group}/{name}")
            point.rmdir()

        try:
            point.mkdir(mode=0o700)
            options = "ro,nouuid,norecovery" if mounted.fstype == "xfs" else "ro"
            _run("mount", "mount", "-o", options, f"/dev/{group}/{name}", str(point))
        except (OSError, DatabaseError):
            release()
            raise
        yield Frozen(path, str(point / os.path.relpath(path, mounted.target)), release)


class Zfs:
    """A snapshot of the file system, read through its `.zfs` folder. Never run."""

    name = "zfs"

    def fits(self, mounted: Mounted) -> bool:
        return mounted.fstype == "zfs"

    def freeze(self, path: str, mounted: Mounted, stamp: str, number: int) -> Iterator[Frozen]:
        snapshot = f"pilulier-frozen-{stamp}-{number}"
        full = f"{mounted.source}@{snapshot}"
        _run("zfs", "zfsutils-linux", "snapshot", full)
        at = os.path.join(mounted.target, ".zfs", "snapshot", snapshot, os.path.relpath(path, mounted.target))

        def release() -> None:
            _run("zfs", "zfsutils-linux", "destroy", full)

        yield Frozen(path, os.path.normpath(at), release)


def _nothing() -> None:
    """The release of what somebody else releases."""


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


KINDS: Final[tuple[VolumeKind, ...]] = (Btrfs(), Zfs(), Lvm())
