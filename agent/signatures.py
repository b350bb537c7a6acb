"""Sums of the last backed-up versions: leaf digests and the librsync signature, one file a version, never sent.

A cache: a missing or damaged one means that the file goes whole once. Written under a temporary name, since a torn one
must not pass for whole; not fsynced, since a lost one costs bytes and never truth. Layout, big-endian: "PLSU", format
(u32), size of the version (u64), its leaf digests (32 bytes each, transport.contents), librsync's signature.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transport.contents import LEAF_BYTES
from transport.delta import SignatureBytes
from transport.errors import LibrsyncError
from transport.names import DIGEST_BYTES, FILE_LIMIT, VersionId

_HEADER = struct.Struct(">4sIQ")
_MAGIC: Final = b"PLSU"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class FileSums:
    """What a delta against a version needs to know of it."""

    size: int
    leaves: bytes | memoryview
    signature: bytes | bytearray | memoryview
    """librsync's, or empty: changes are then found by leaf only."""


class Signatures:
    """The folder of signatures, two levels deep. Thread-safe: every version has its own file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, version: VersionId) -> Path:
        """Where a version's signature is kept."""
        text = version.hex()
        return self._folder / text[:2] / text

    def write(self, version: VersionId, sums: FileSums) -> None:
        """Keep a version's sums."""
        path = self.path(version)
        temporary = f"{path}.new"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_HEADER.pack(_MAGIC, _FORMAT, sums.size))
            file.write(sums.leaves)
            file.write(sums.signature)
        os.replace(temporary, path)

    def copy(self, version: VersionId, other: VersionId) -> None:
        """Keep the sums of a version for another one of the same content; nothing where there are none."""
        path = self.path(other)
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.link(self.path(version), path)

    @contextlib.contextmanager
    def mapped(self, version: VersionId) -> Iterator[FileSums | None]:
        """A version's sums as mapped memory; None where there are none or they are damaged."""
        try:
            with open(self.path(version), "rb") as file:
                mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            yield None
            return
        view = memoryview(mapping)
        try:
            yield _decoded(view)
        finally:
            with contextlib.suppress(BufferError):
                view.release()
                mapping.close()


def _decoded(view: memoryview) -> FileSums | None:
    if len(view) < _HEADER.size:
        return None
    magic, form, size = _HEADER.unpack_from(view)
    if magic != _MAGIC or form != _FORMAT or not 0 < size <= FILE_LIMIT:
        return None
    end = _HEADER.size + -(-size // LEAF_BYTES) * DIGEST_BYTES
    if len(view) < end:
        return None
    if len(view) == end:
        return FileSums(size, view[_HEADER.size : end], b"")
    try:
        signature = SignatureBytes(view[end:])
    except LibrsyncError:
        return None
    if signature.blocks != -(-size // signature.block_bytes):
        return None
    return FileSums(size, view[_HEADER.size : end], signature.data)
