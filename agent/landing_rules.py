"""What may land on a disk, and what must stay: the pure rules of a restore.

Owns the errors of landing, how the operating system's become them, and the judgement over what already stands under a
name. Decides from facts it is handed and touches nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final, Protocol

from transport.errors import PilulierError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""What the operating system says of a full disk."""


class LandingError(PilulierError):
    """One path cannot be put on this disk."""

    code = "landing"


class DiskFullError(PilulierError):
    """The disk that a restore writes to is full."""

    code = "disk-full"


class Attributes(Protocol):
    """What is put back on a file, folder or link: modes, nanoseconds since 1970, owner, extended attributes."""

    name: bytes
    size: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    user: str
    group: str
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """The name is free, or what stands there may be replaced."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What stands there stays, and why."""

    reason: str


_PLACE: Final = Place()


def judge(status: os.stat_result | None, mtime_ns: int, *, overwrite: bool, created_folder: bool) -> Place | Keep:
    """Whether an entry of the snapshot may take a name, given what stands there (lstat, None: nothing). Pure."""
    if status is None:
        return _PLACE
    if stat.S_ISDIR(status.st_mode):
        return Keep("a folder stands under this name: it was left alone")
    if created_folder:
        return Keep("another name of this backup landed here: this disk does not tell the two names apart")
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        return Keep("a device, socket or pipe stands under this name: it was left alone")
    if status.st_mtime_ns > mtime_ns and not overwrite:
        return Keep("what stands there is newer than the backup: it was kept (--overwrite replaces it)")
    return _PLACE


def leads_out(target: bytes, depth: int) -> bool:
    """Whether a symbolic link in a folder `depth` below the target may lead out of that. Pure.

    `..` is taken at the beginning alone, where the way up is through real folders: behind a name it goes up from
    wherever that name, which may be another link, leads to. Backslashes and drives count as Windows reads them.
    """
    if target.startswith((b"/", b"\\")) or target[1:2] == b":":
        return True
    names = [name for name in target.replace(b"\\", b"/").split(b"/") if name not in (b"", b".")]
    up = 0
    while up < len(names) and names[up] == b"..":
        up += 1
    return up > depth or b".." in names[up:]


class Explained:
    """Turns what the operating system says into a sentence; a full disk is everybody's error, the rest one path's."""

    __slots__ = ("_root",)

    def __init__(self, root: bytes) -> None:
        self._root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            if error.errno in FULL:
                raise DiskFullError(
                    f"the disk that holds {os.fsdecode(self._root)} is full: the restore stopped and removed its "
                    "unfinished files; make room, then run it again (what is already restored is not fetched twice)"
                ) from None
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise LandingError("a symbolic link or a file stands in the place of a folder: not followed") from None
            raise LandingError(error.strerror or str(error)) from None
        if isinstance(error, (OverflowError, ValueError)):
            raise LandingError(f"this system cannot hold it: {error}") from None
