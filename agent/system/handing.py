"""Handing a program a secret: a file that has no name, which only that program's user may read.

On Linux it lies in memory (memfd_create(2)) and is reached as /proc/self/fd/N; elsewhere it is a file of mode 0600 in
a folder of its own, removed afterwards. Never an argument, never a variable: both are shown by `ps`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transport.errors import UsageError

_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Handed:
    """Where the program finds it, and the descriptors that it must inherit."""

    path: str
    pass_fds: tuple[int, ...]


def read_password(path: str) -> str:
    """The only line of a password file; UsageError where others may read the file, or it holds something else."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"the password file {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if sys.platform != "win32" and status.st_mode & 0o077:
        raise UsageError(f"the password file {path} can be read by others: chmod 600 {path}")
    try:
        line = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"the password file {path} is not UTF-8") from None
    if len(data) > _LIMIT or not line or "\n" in line or "\0" in line:
        raise UsageError(f"the password file {path} must hold one line, the password, and nothing else")
    return line


@contextlib.contextmanager
def handed(content: str, uid: int | None) -> Iterator[Handed]:
    """`content` for one program that runs as `uid` (None: as this one)."""
    data = content.encode()
    if sys.platform == "linux":
        descriptor = os.memfd_create("pilulier")
        try:
            os.write(descriptor, data)
            os.fchmod(descriptor, 0o600)
            if uid is not None:
                os.fchown(descriptor, uid, -1)
            yield Handed(f"/proc/self/fd/{descriptor}", (descriptor,))
        finally:
            os.close(descriptor)
    else:
        folder = tempfile.mkdtemp(prefix="pilulier-")
        try:
            path = Path(folder) / "secret"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            yield Handed(str(path), ())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
