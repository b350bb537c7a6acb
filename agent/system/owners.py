"""Owners, groups and extended attributes of files: what the system knows beside content, mode and times.

A system that has none of them answers with nothing. Linux has all; macOS has owners, and its attributes are not
reached by the standard library; Windows has neither numbers nor these attributes, its file marks travel as one
(`WINDOWS_MARKS`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

if sys.platform != "win32":
    import grp
    import pwd

WINDOWS_MARKS: Final = b"windows.attributes"
"""Hidden, system, archive and read-only, as the four bytes of dwFileAttributes, little end first."""
_KEPT_MARKS: Final = 0x1 | 0x2 | 0x4 | 0x20
HAS_ATTRIBUTES: Final = sys.platform in ("linux", "win32")


def my_number() -> int:
    """The number of who runs this; -1 where people have none."""
    return -1 if sys.platform == "win32" else os.geteuid()


def my_numbers() -> tuple[int, int]:
    """User and group of who runs this; zeros where people have none."""
    return (0, 0) if sys.platform == "win32" else (os.getuid(), os.getgid())


def is_administrator() -> bool:
    """Whether this runs as root; not asked of Windows."""
    return my_number() == 0


def give(path: bytes, status: os.stat_result) -> None:
    """Give what stands at `path` to the owner of something else, where root may; links are not followed. OSError."""
    if sys.platform != "win32" and is_administrator():
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def number_of(name: str) -> int | None:
    """The number of a user by name; None where there is none such."""
    if sys.platform == "win32":
        return None
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def user_name(uid: int) -> str:
    """The name, or nothing where the system has none. Names that are no UTF-8 cannot travel as text."""
    if sys.platform == "win32":
        return ""
    try:
        return _clean(pwd.getpwuid(uid).pw_name)
    except (KeyError, OSError, OverflowError):
        return ""


def group_name(gid: int) -> str:
    """The same of a group."""
    if sys.platform == "win32":
        return ""
    try:
        return _clean(grp.getgrgid(gid).gr_name)
    except (KeyError, OSError, OverflowError):
        return ""


def user_number(name: str, otherwise: int) -> int:
    """The number of a name on this machine."""
    if sys.platform != "win32" and name:
        with contextlib.suppress(KeyError, ValueError):
            return pwd.getpwnam(name).pw_uid
    return otherwise


def group_number(name: str, otherwise: int) -> int:
    """The same of a group."""
    if sys.platform != "win32" and name:
        with contextlib.suppress(KeyError, ValueError):
            return grp.getgrnam(name).gr_gid
    return otherwise


def _clean(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def attribute_names(path: bytes) -> list[bytes]:
    """Names of the extended attributes of what stands at `path`, sorted; links are not followed. OSError."""
    if sys.platform == "win32":
        return [name for name, _ in marks_of(os.lstat(path))]
    if sys.platform != "linux":
        return []
    return sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))


def attribute(path: bytes, name: bytes) -> bytes:
    """The value of one of them; OSError."""
    if sys.platform != "linux":
        return dict(marks_of(os.lstat(path))).get(name, b"")
    return os.getxattr(path, name, follow_symlinks=False)


def set_attribute(handle: int, name: bytes, value: bytes) -> None:
    """Put one on an open file or folder; OSError."""
    if sys.platform == "linux":
        os.setxattr(handle, name, value)
    elif sys.platform == "win32" and name == WINDOWS_MARKS:
        from agent.system import windows

        windows.set_marks(handle, value)


def marks_of(status: os.stat_result) -> list[tuple[bytes, bytes]]:
    """The marks that Windows puts on a file, as an attribute; nothing elsewhere or where there are none."""
    kept = getattr(status, "st_file_attributes", 0) & _KEPT_MARKS
    return [(WINDOWS_MARKS, kept.to_bytes(4, "little"))] if kept else []
