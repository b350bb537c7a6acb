"""Open files, where operating systems differ: how they are opened, read at a place, written at a place, locked, marked.

Each function is the system's own call where it has one, chosen once when this module is loaded; the others are made of
what every system has and are tested here by their own names (`seeking_read`, …). The Windows calls by ctypes (times and
the read-only mark) are written from their documentation and were not run here.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from typing import Final

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_OURS_ALONE: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_BINARY", 0)
READ: Final = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | _OURS_ALONE
"""A file to read: never through a link at its end, never waiting for the other side of a pipe."""
CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _OURS_ALONE
REOPEN: Final = os.O_RDWR | _NO_FOLLOW | _OURS_ALONE
KEEP: Final = os.O_RDWR | os.O_CREAT | _OURS_ALONE
"""A file of the agent's own, made where it is missing."""
READ_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW | _OURS_ALONE

_AT_A_PLACE: Final = threading.Lock()
"""Where a place is set and then read or written in two steps, copies of a handle share it."""


def seeking_read(handle: int, length: int, offset: int) -> bytes:
    """At most `length` bytes from `offset`, for systems that cannot do it in one step."""
    with _AT_A_PLACE:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, length)


def seeking_write(handle: int, data: bytes | memoryview, offset: int) -> int:
    """As much of `data` as goes at `offset`, for systems that cannot do it in one step."""
    with _AT_A_PLACE:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.write(handle, data)


if sys.platform == "win32":
    read_at, write_at = seeking_read, seeking_write
else:
    read_at, write_at = os.pread, os.pwrite

def read_fully(handle: int, length: int, offset: int) -> bytes:
    """`length` bytes from `offset`, fewer only where the file ends."""
    data = read_at(handle, length, offset)
    while len(data) < length:  # a signal or a network file system may give less
        more = read_at(handle, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


HAS_HOLES: Final = hasattr(os, "SEEK_DATA")
"""Whether holes of a file can be told from zeros."""


def data_from(handle: int, offset: int) -> int | None:
    """Where the next byte lies that is no hole, None where none does."""
    if sys.platform == "win32":
        return offset
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError:  # ENXIO: no data from here to the end
        return None


CAN_FORGET: Final = hasattr(os, "posix_fadvise")


def forget(handle: int, offset: int, length: int) -> None:
    """Let a range leave the page cache once it is on the disk; advice only. OSError where the disk has none of it."""
    if sys.platform == "linux":
        os.posix_fadvise(handle, offset, length, os.POSIX_FADV_DONTNEED)


def lock_now(handle: int) -> None:
    """Take the file's lock or raise OSError at once; closing the handle, or dying, gives it back."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, _LOCK_AT, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_LOCK_AT: Final = 1 << 30
"""Windows locks bytes, and locked bytes cannot be read: a byte that no file of ours ever has."""


# what is put back on a restored file or folder, by its handle


def set_mode(handle: int, mode: int) -> None:
    """Permission bits. Windows knows one of them: whether it may be written."""
    if sys.platform == "win32":
        from agent.system import windows

        windows.set_read_only(handle, not mode & stat.S_IWUSR)
    else:
        os.fchmod(handle, mode)


def set_times(handle: int, mtime_ns: int) -> None:
    """When it was changed and last read, in nanoseconds since 1970."""
    if sys.platform == "win32":
        from agent.system import windows

        windows.set_times(handle, mtime_ns)
    else:
        os.utime(handle, ns=(mtime_ns, mtime_ns))


def set_owner(handle: int, uid: int, gid: int) -> None:
    """Owner and group by number; nothing where the system has no such numbers."""
    if sys.platform != "win32":
        os.fchown(handle, uid, gid)


def way_to(handle: int) -> bytes:
    """A path that leads to what a handle has open, whatever covers its own; Linux only."""
    return b"/proc/self/fd/%d" % handle


def duplicate(handle: int) -> int:
    """A second handle of the same open file, for another thread."""
    return os.dup(handle)

