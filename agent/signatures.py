"""librsync signatures of the last backed-up versions: one file a version, never sent.

A cache: a missing or damaged one means that the file goes whole once. Written under a temporary name, since a torn one
must not pass for whole; not fsynced, since a lost one costs bytes and never truth.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from transport.delta import SignatureBytes
from transport.errors import LibrsyncError
from transport.names import VersionId


class Signatures:
    """The folder of signatures, two levels deep. Thread-safe: every version has its own file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, version: VersionId) -> Path:
        """Where a version's signature is kept."""
        text = version.hex()
        return self._folder / text[:2] / text

    def write(self, version: VersionId, signature: bytes | bytearray) -> None:
        """Keep a signature."""
        path = self.path(version)
        temporary = f"{path}.new"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(signature)
        os.replace(temporary, path)

    @contextlib.contextmanager
    def mapped(self, version: VersionId) -> Iterator[memoryview | None]:
        """A version's signature as mapped memory; None where there is none or it is damaged."""
        try:
            with open(self.path(version), "rb") as file:
                mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            yield None
            return
        view = memoryview(mapping)
        try:
            try:
                SignatureBytes(view)
            except LibrsyncError:
                yield None
            else:
                yield view
        finally:
            with contextlib.suppress(BufferError):
                view.release()
                mapping.close()
