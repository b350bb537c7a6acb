"""What Windows alone has: times and marks put on a file by its handle, and handles of folders.

Written from Microsoft's documentation (SetFileInformationByHandle, FILE_BASIC_INFO, CreateFileW); not run where this
was written. Imported nowhere but under `sys.platform == "win32"`.
"""

from __future__ import annotations

import ctypes
import msvcrt
import os
import sys
from typing import Final

assert sys.platform == "win32"

_BASIC_INFO: Final = 0
_READ_ONLY: Final = 0x1
_NORMAL: Final = 0x80
_TICKS_TO_1970: Final = 116_444_736_000_000_000
"""Windows counts 100 ns since 1601."""
_ATTRIBUTES_ONLY: Final = 0x0180
"""FILE_READ_ATTRIBUTES and FILE_WRITE_ATTRIBUTES."""
_SHARED: Final = 0x7
_EXISTING: Final = 3
_FOLDER_AND_NO_LINK: Final = 0x02000000 | 0x00200000
"""FILE_FLAG_BACKUP_SEMANTICS opens folders, FILE_FLAG_OPEN_REPARSE_POINT does not follow links."""
_INVALID: Final = ctypes.c_void_p(-1).value


class _Basic(ctypes.Structure):
    _fields_ = (
        ("created", ctypes.c_int64),
        ("read", ctypes.c_int64),
        ("written", ctypes.c_int64),
        ("changed", ctypes.c_int64),
        ("attributes", ctypes.c_uint32),
    )


def _set(handle: int, basic: _Basic) -> None:
    done = ctypes.windll.kernel32.SetFileInformationByHandle(
        ctypes.c_void_p(msvcrt.get_osfhandle(handle)), _BASIC_INFO, ctypes.byref(basic), ctypes.sizeof(basic)
    )
    if not done:
        raise ctypes.WinError()


def set_times(handle: int, mtime_ns: int) -> None:
    """When it was changed and last read; zero leaves the others."""
    ticks = mtime_ns // 100 + _TICKS_TO_1970
    _set(handle, _Basic(0, ticks, ticks, 0, 0))


def set_read_only(handle: int, wanted: bool) -> None:
    """The read-only mark; the others stay."""
    now = os.fstat(handle).st_file_attributes & ~_NORMAL
    _set(handle, _Basic(0, 0, 0, 0, (now | _READ_ONLY if wanted else now & ~_READ_ONLY) or _NORMAL))


def set_marks(handle: int, marks: bytes) -> None:
    """All marks that travel: `owners.WINDOWS_MARKS`."""
    _set(handle, _Basic(0, 0, 0, 0, int.from_bytes(marks[:4], "little") or _NORMAL))


def open_folder(path: bytes) -> int:
    """A handle of a folder, for its marks and times; never through a link at its end. OSError."""
    opened = ctypes.windll.kernel32.CreateFileW(
        os.fsdecode(path), _ATTRIBUTES_ONLY, _SHARED, None, _EXISTING, _FOLDER_AND_NO_LINK, None
    )
    if opened == _INVALID:
        raise ctypes.WinError()
    return msvcrt.open_osfhandle(opened, 0)
