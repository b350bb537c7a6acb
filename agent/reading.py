"""Reading files for a backup: one read feeds the MAC, the delta or signature, and the packer.

Owns how a file's bytes become a version draft. Rules: at most the size seen at opening is read, so that a growing log
gives a clean prefix; the signature comes from the same bytes as the MAC; a delta that outruns its budget stops where
it is and the rest of the file goes whole, nothing is sent twice. A file that changed while it was read is kept and
reported rather than skipped: for a database that never rests a torn copy with a warning beats no copy.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.packing import Packer, Piece, VersionDraft
from transport import delta as deltas
from transport import librsync
from transport.contents import CHUNK_BYTES, ZERO_CHUNK, ZERO_CHUNK_DIGEST, chunk_digest, file_mac
from transport.errors import DeltaBudgetError
from transport.extents import Copy, Fragment, Operation, Zero
from transport.names import VersionId


@dataclass(slots=True)
class Content:
    """What one read of a file gave. `draft` is None when its bytes were only hashed."""

    size: int
    mac: bytes
    changed: bool
    draft: VersionDraft | None = None
    signature: bytes | bytearray | None = None
    literal_bytes: int = 0
    copied_bytes: int = 0


class SourceFile:
    """An open file read in chunks; counts what it reads and notices changes."""

    def __init__(self, path: bytes) -> None:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        self._descriptor = os.open(path, flags)
        try:
            status = os.fstat(self._descriptor)
            self.size = status.st_size
            self.status = status
            self._sparse = hasattr(os, "SEEK_DATA") and status.st_blocks * 512 < status.st_size
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
        """Chunk `index`, shorter only at the end; holes of sparse files are not read."""
        offset = index * CHUNK_BYTES
        length = min(CHUNK_BYTES, self.size - offset)
        if length <= 0:
            return b""
        if self._sparse and self._is_hole(offset, length):
            return ZERO_CHUNK if length == CHUNK_BYTES else bytes(length)
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length:  # a signal or a network file system may give less
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        self.bytes_read += len(data)
        return data

    def _is_hole(self, offset: int, length: int) -> bool:
        if offset + length <= self._data_from:
            return True
        try:
            self._data_from = os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: no data from here to the end
            self._data_from = self.size
        return offset + length <= self._data_from

    def changed(self) -> bool:
        """Whether the file was written to since it was opened."""
        now = os.fstat(self._descriptor)
        then = self.status
        return (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns)


def is_zero(chunk: bytes) -> bool:
    """Whether a chunk holds nothing but zero bytes."""
    return chunk[:1] == b"\0" and chunk[-1:] == b"\0" and chunk == ZERO_CHUNK[: len(chunk)]


class _Chunks:
    """Walks a file's chunks once, hashing each, and hands it on; a librsync source as well."""

    def __init__(
        self,
        file: SourceFile,
        each: Callable[[bytes, bytes], None] | None,
        progress: Callable[[int], None],
    ) -> None:
        self._file = file
        self._each = each
        self._progress = progress
        self._chunk = b""
        self._at = 0
        self.digests: list[bytes] = []
        self.size = 0

    def next(self) -> bytes:
        """The next chunk, b"" at the end."""
        if self.size % CHUNK_BYTES:
            return b""  # a short chunk was the last, even if the file grew meanwhile
        chunk = self._file.chunk(len(self.digests))
        if chunk:
            digest = ZERO_CHUNK_DIGEST if chunk is ZERO_CHUNK else chunk_digest(chunk)
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


class _Sums:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self.parts.append(data)


def nothing(_: int) -> None:
    """A progress that nobody watches."""


def hash_file(file: SourceFile, key: bytes, progress: Callable[[int], None] = nothing) -> Content:
    """The MAC alone."""
    chunks = _Chunks(file, None, progress)
    chunks.drain()
    return Content(chunks.size, file_mac(key, chunks.size, chunks.digests), file.changed())


def _place(operations: list[Operation | Piece], packer: Packer, chunk: bytes, digest: bytes) -> None:
    """One chunk (or the rest of one) as a hole, a segment of its own, or a piece of a shared one."""
    if is_zero(chunk):
        operations.append(Zero(len(chunk)))
    elif len(chunk) == CHUNK_BYTES:
        operations.append(Fragment(packer.whole(chunk, digest), 0, len(chunk)))
    else:
        operations.append(packer.add(chunk, digest))


def send_whole(
    file: SourceFile,
    version: VersionId,
    packer: Packer,
    key: bytes,
    *,
    with_signature: bool,
    progress: Callable[[int], None] = nothing,
) -> Content:
    """Every byte of the file, and a signature from the same read where one is wanted."""
    operations: list[Operation | Piece] = []
    chunks = _Chunks(file, lambda chunk, digest: _place(operations, packer, chunk, digest), progress)
    signature: bytes | None = None
    sign = with_signature and file.size >= deltas.MIN_DELTA_BYTES
    if sign:
        sums = _Sums()
        librsync.library().signature(chunks, sums, deltas.block_bytes_for(file.size))
        signature = b"".join(sums.parts)
    chunks.drain()
    draft = VersionDraft(version, chunks.size, operations)
    mac = file_mac(key, chunks.size, chunks.digests)
    return Content(chunks.size, mac, file.changed(), draft, signature, literal_bytes=chunks.size)


def signature_of(data: bytes) -> bytes:
    """The signature of a file held in memory."""
    sums = _Sums()
    librsync.library().signature(deltas.BytesSource(data), sums, deltas.block_bytes_for(len(data)))
    return b"".join(sums.parts)


def sign_file(file: SourceFile) -> bytes:
    """The signature of a file, in a read of its own."""
    sums = _Sums()
    chunks = _Chunks(file, None, nothing)
    librsync.library().signature(chunks, sums, deltas.block_bytes_for(file.size))
    return b"".join(sums.parts)


class _Assembly:
    """Operations of a delta as they come out of librsync, literals packed as they grow."""

    def __init__(self, packer: Packer, literal_limit: int) -> None:
        self.operations: list[Operation | Piece] = []
        self.placed = deltas.PlacedCopies()
        self.position = 0
        self.literal_bytes = 0
        self._packer = packer
        self._literal: list[bytes] = []
        self._literal_size = 0
        self._limit = literal_limit

    def copy(self, offset: int, length: int) -> None:
        """A copy from the base."""
        self.flush()
        copy = Copy(offset, length)
        self.operations.append(copy)
        self.placed.copies.append((self.position, copy))
        self.position += length

    def literal(self, data: bytes) -> None:
        """New bytes; DeltaBudgetError past the limit, after they were taken."""
        self.position += len(data)
        self.literal_bytes += len(data)
        while data:
            room = CHUNK_BYTES - self._literal_size
            self._literal.append(data[:room])
            self._literal_size += len(data[:room])
            data = data[room:]
            if self._literal_size == CHUNK_BYTES:
                self.flush()
        if self.literal_bytes > self._limit:
            raise DeltaBudgetError("the delta is mostly literal")

    def flush(self) -> None:
        """Pack the literal gathered so far."""
        if self._literal_size:
            data = b"".join(self._literal)
            _place(self.operations, self._packer, data, hashlib.sha256(data).digest())
            self._literal, self._literal_size = [], 0


def send_delta(
    file: SourceFile,
    version: VersionId,
    base: VersionId,
    base_size: int,
    base_signature: bytes | memoryview,
    packer: Packer,
    key: bytes,
    budget: deltas.Budget,
    progress: Callable[[int], None] = nothing,
) -> Content:
    """The file as copies of its base and literals; where the budget ends, the rest goes whole."""
    sums = deltas.SignatureBytes(base_signature)
    limit = max(budget.literal_floor_bytes, int(file.size * budget.literal_share))
    assembly = _Assembly(packer, limit)
    chunks = _Chunks(file, None, progress)
    parser = deltas.DeltaParser(assembly.copy, assembly.literal, base_size)
    deadline = time.monotonic() + budget.deadline_s(file.size)
    try:
        librsync.library().delta(
            deltas.BudgetedSource(chunks, deadline), deltas.BytesSource(base_signature), parser
        )
        parser.close()
    except DeltaBudgetError:
        parser.stop()
        _send_rest(file, assembly, chunks, packer)
    assembly.flush()
    chunks.drain()
    if assembly.position != chunks.size:
        raise DeltaBudgetError(f"the delta makes {assembly.position} bytes of {chunks.size}")
    signature = deltas.carried_signature(
        sums, base_size, assembly.placed, chunks.size, chunks.digests, file.chunk
    )
    draft = VersionDraft(version, chunks.size, assembly.operations, base, base_size)
    return Content(
        chunks.size,
        file_mac(key, chunks.size, chunks.digests),
        file.changed(),
        draft,
        signature,
        literal_bytes=assembly.literal_bytes,
        copied_bytes=chunks.size - assembly.literal_bytes,
    )


def _send_rest(file: SourceFile, assembly: _Assembly, chunks: _Chunks, packer: Packer) -> None:
    """Everything from where the delta stopped, whole.

    librsync holds back bytes it has read, so up to one of our chunks or more is read again; it must be the same as at
    first reading, or the MAC would not be of what is sent: then DeltaBudgetError, and the caller sends the file whole.
    """
    assembly.flush()
    chunks.drain()
    index, skip = divmod(assembly.position, CHUNK_BYTES)
    while assembly.position < chunks.size:
        chunk = file.chunk(index)
        if len(chunk) <= skip or chunk_digest(chunk) != chunks.digests[index]:
            raise DeltaBudgetError("the file changed while its delta was made")
        rest = chunk[skip:]
        digest = chunks.digests[index] if not skip else chunk_digest(rest)
        _place(assembly.operations, packer, rest, digest)
        assembly.position += len(rest)
        assembly.literal_bytes += len(rest)
        index, skip = index + 1, 0
