"""Reading files for a backup: one read feeds the MAC, the delta or signature, and the packer.

Owns how a file's bytes become a version draft. Rules: at most the size seen at opening is read, so that a growing log
gives a clean prefix; the signature comes from the same bytes as the MAC. Changed files are `agent.differing`'s. A
file that changed while it was read is kept and reported rather than skipped: for a database that never rests a torn
copy with a warning beats no copy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from agent.packing import Packer, Piece, VersionDraft
from agent.signatures import FileSums
from agent.system import descriptors
from agent.system.paths import native
from agent.system.views import seen
from transport import delta as deltas
from transport import librsync
from transport.contents import (
    CHUNK_BYTES,
    ZERO_CHUNK,
    ZERO_LEAVES,
    chunk_digest,
    digest_of_leaves,
    file_mac,
    leaf_digests,
)
from transport.extents import Fragment, Operation, Zero
from transport.names import DIGEST_BYTES, VersionId


@dataclass(slots=True)
class Content:
    """What one read of a file gave. `draft` is None when its bytes were only hashed."""

    size: int
    mac: bytes
    changed: bool
    draft: VersionDraft | None = None
    sums: FileSums | None = None
    literal_bytes: int = 0
    copied_bytes: int = 0


class ChunkSource(Protocol):
    """What is read from its beginning to its end, chunk after chunk."""

    size: int
    """In bytes; of a stream as expected: what was read tells."""

    def chunk(self, index: int) -> bytes:
        """Chunk `index`, the one after the last that was asked for; shorter only at the end."""
        ...

    def changed(self) -> bool:
        """Whether it was written to meanwhile."""
        ...


class SourceFile:
    """An open file read in chunks; counts what it reads and notices changes."""

    def __init__(self, path: bytes) -> None:
        self._descriptor = os.open(native(seen(path)), descriptors.READ)
        try:
            status = os.fstat(self._descriptor)
            self.size = status.st_size
            self.status = status
            self._sparse = descriptors.HAS_HOLES and status.st_blocks * 512 < status.st_size
        except BaseException:
            os.close(self._descriptor)
            raise
        self._data_from = 0
        self.bytes_read = 0

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def chunk(self, index: int) -> bytes:
        """Chunk `index`, shorter only at the end."""
        return self.read(index * CHUNK_BYTES, min(CHUNK_BYTES, self.size - index * CHUNK_BYTES))

    def read(self, offset: int, length: int) -> bytes:
        """At most a chunk from `offset`; holes of sparse files are not read."""
        if length <= 0:
            return b""
        if self._sparse and self._is_hole(offset, length):
            return ZERO_CHUNK if length == CHUNK_BYTES else bytes(length)
        data = descriptors.read_fully(self._descriptor, length, offset)
        self.bytes_read += len(data)
        return data

    def _is_hole(self, offset: int, length: int) -> bool:
        if offset + length <= self._data_from:
            return True
        found = descriptors.data_from(self._descriptor, offset)
        self._data_from = self.size if found is None else found
        return offset + length <= self._data_from

    def changed(self) -> bool:
        """Whether the file was written to since it was opened."""
        now = os.fstat(self._descriptor)
        then = self.status
        return (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns)


class SmallRead(msgspec.Struct, frozen=True, gc=False):
    """A file of at most one chunk, read whole."""

    content: bytes
    ctime_ns: int
    changed: bool
    """It was written to meanwhile."""


def read_small(path: bytes) -> SmallRead | None:
    """A file in as few system calls as prove what was read; None where it is longer than a chunk by now."""
    descriptor = os.open(native(seen(path)), descriptors.READ)
    try:
        before = os.fstat(descriptor)
        size = before.st_size
        if size > CHUNK_BYTES:
            return None
        content = os.read(descriptor, size) if size else b""
        while len(content) < size:  # a signal or a network file system may give less
            more = os.read(descriptor, size - len(content))
            if not more:
                break
            content += more
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    changed = after.st_mtime_ns != before.st_mtime_ns or after.st_size != size or len(content) != size
    return SmallRead(content, before.st_ctime_ns, changed)


def is_zero(chunk: bytes) -> bool:
    """Whether a chunk holds nothing but zero bytes."""
    return chunk[:1] == b"\0" and chunk[-1:] == b"\0" and chunk == ZERO_CHUNK[: len(chunk)]


class Chunks:
    """Walks a file's chunks once, hashing each, and hands it on; a librsync source as well."""

    def __init__(
        self,
        file: ChunkSource,
        each: Callable[[bytes, bytes], None] | None,
        progress: Callable[[int], None],
    ) -> None:
        self._file = file
        self._each = each
        self._progress = progress
        self._chunk = b""
        self._at = 0
        self.digests: list[bytes] = []
        self.leaves = bytearray()
        self.size = 0

    def next(self) -> bytes:
        """The next chunk, b"" at the end."""
        if self.size % CHUNK_BYTES:
            return b""  # a short chunk was the last, even if the file grew meanwhile
        chunk = self._file.chunk(len(self.digests))
        if chunk:
            leaves = ZERO_LEAVES if chunk is ZERO_CHUNK else leaf_digests(chunk)
            digest = digest_of_leaves(leaves)
            self.leaves += leaves
            self.digests.append(digest)
            self.size += len(chunk)
            if self._each is not None:
                self._each(chunk, digest)
            self._progress(len(chunk))
        return chunk

    def read(self, limit: int, /) -> bytes:
        """For librsync: at most `limit` bytes."""
        if self._at >= len(self._chunk):
            self._chunk, self._at = self.next(), 0
        piece = self._chunk[self._at : self._at + limit]
        self._at += len(piece)
        return piece

    def drain(self) -> None:
        """Walk to the end."""
        while self.next():
            pass

    def leaf_holds(self, index: int, data: bytes) -> bool:
        """Whether `data` is what was read as leaf `index`."""
        return hashlib.sha256(data).digest() == self.leaves[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def chunk_holds(self, index: int, data: bytes) -> bool:
        """Whether `data` is what was read as chunk `index`."""
        return chunk_digest(data) == self.digests[index]


class _Sums:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self.parts.append(data)


def nothing(_: int) -> None:
    """A progress that nobody watches."""


def hash_file(file: SourceFile, key: bytes, progress: Callable[[int], None] = nothing) -> Content:
    """The MAC alone."""
    chunks = Chunks(file, None, progress)
    chunks.drain()
    return Content(chunks.size, file_mac(key, chunks.size, chunks.digests), file.changed())


def place(operations: list[Operation | Piece], packer: Packer, chunk: bytes, digest: bytes) -> None:
    """One chunk (or the rest of one) as a hole, a segment of its own, or a piece of a shared one."""
    if is_zero(chunk):
        operations.append(Zero(len(chunk)))
    elif len(chunk) == CHUNK_BYTES:
        operations.append(Fragment(packer.whole(chunk, digest), 0, len(chunk)))
    else:
        operations.append(packer.add(chunk, digest))


def send_whole(
    file: ChunkSource,
    version: VersionId,
    packer: Packer,
    key: bytes,
    *,
    with_signature: bool,
    progress: Callable[[int], None] = nothing,
) -> Content:
    """Every byte of the file, and a signature from the same read where one is wanted."""
    operations: list[Operation | Piece] = []
    chunks = Chunks(file, lambda chunk, digest: place(operations, packer, chunk, digest), progress)
    signature = _signed(chunks, file.size) if with_signature and file.size >= deltas.MIN_DELTA_BYTES else b""
    chunks.drain()
    draft = VersionDraft(version, chunks.size, operations)
    mac = file_mac(key, chunks.size, chunks.digests)
    sums = FileSums(chunks.size, bytes(chunks.leaves), signature) if chunks.size >= deltas.MIN_DELTA_BYTES else None
    return Content(chunks.size, mac, file.changed(), draft, sums, literal_bytes=chunks.size)


def _signed(source: librsync.Source, size: int) -> bytes:
    sums = _Sums()
    librsync.library().signature(source, sums, deltas.block_bytes_for(size))
    return b"".join(sums.parts)


def signature_of(data: bytes) -> bytes:
    """The librsync signature of a file held in memory."""
    return _signed(deltas.BytesSource(data), len(data))


_SELDOM_EDITED: Final = frozenset(
    b"jpg jpeg png gif webp heic heif bmp mp3 m4a ogg flac mp4 m4v mov avi mkv webm".split()
)


def worth_signing(path: bytes) -> bool:
    """Whether edits inside this file are to be expected. Photos, scans and films are replaced, not edited: their leaf
    digests, which cost nothing, still catch what stays in place, and librsync's signature of a pharmacy's scans was a
    sixth of its first backup (measured)."""
    return path.rpartition(b".")[2].lower() not in _SELDOM_EDITED


def sums_of(data: bytes, *, signed: bool = True) -> FileSums:
    """The sums of a file of at most one chunk held in memory."""
    return FileSums(len(data), leaf_digests(data), signature_of(data) if signed else b"")


def sign_file(file: SourceFile, key: bytes, progress: Callable[[int], None], *, signed: bool) -> Content:
    """MAC and sums in one read: the sums may be kept only where the MAC is the expected one."""
    chunks = Chunks(file, None, progress)
    signature = _signed(chunks, file.size) if signed else b""
    chunks.drain()
    sums = FileSums(chunks.size, bytes(chunks.leaves), signature)
    return Content(chunks.size, file_mac(key, chunks.size, chunks.digests), file.changed(), sums=sums)
