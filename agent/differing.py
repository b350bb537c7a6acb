"""Changed files: what differs from the last version, as copies, literals and holes.

Owns the path of a delta: leaves that did not change are passed over by their digests, the changed ones go through
librsync as one stream, what comes out is put back to its place in the file. A delta that outruns its budget stops
where it is and what is left of the changed runs goes whole; nothing is sent twice.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator

from agent.packing import Packer, Piece, VersionDraft
from agent.reading import Chunks, Content, SourceFile, nothing, place
from agent.signatures import FileSums
from transport import delta as deltas
from transport import librsync
from transport.contents import CHUNK_BYTES, LEAF_BYTES, chunk_digest, file_mac
from transport.errors import DeltaBudgetError
from transport.extents import Copy, Operation
from transport.names import DIGEST_BYTES, FILE_LIMIT, VersionId


class _ChangedLeaves:
    """A librsync source of only those leaves that differ from the base's at the same place, one after the other.

    Most of a large file did not change in place, and its digests are at hand: SHA-256 passes over such leaves at
    1.6 GB/s where librsync's rolling search takes 0.4 GB/s (measured). `runs` maps the stream back to the file.
    """

    def __init__(self, chunks: Chunks, base_leaves: bytes | memoryview) -> None:
        self._chunks = chunks
        self._base = bytes(base_leaves)
        self._pieces: collections.deque[bytes] = collections.deque()
        self.runs: list[list[int]] = []
        """[offset in the file, length] of each run of changed leaves, ascending; the last may still grow."""

    def read(self, limit: int, /) -> bytes:
        """The next changed bytes, at most `limit`."""
        while not self._pieces:
            chunk = self._chunks.next()
            if not chunk:
                return b""
            self._sort(chunk)
        piece = self._pieces.popleft()
        if len(piece) > limit:
            self._pieces.appendleft(piece[limit:])
            piece = piece[:limit]
        return piece

    def drain(self) -> None:
        """Walk to the end; what was not read yet counts as changed where it is."""
        while chunk := self._chunks.next():
            self._sort(chunk)
        self._pieces.clear()

    def _sort(self, chunk: bytes) -> None:
        start = (len(self._chunks.digests) - 1) * CHUNK_BYTES
        for at in range(0, len(chunk), LEAF_BYTES):
            offset = start + at
            digest = offset // LEAF_BYTES * DIGEST_BYTES
            length = min(LEAF_BYTES, len(chunk) - at)
            if self._base[digest : digest + DIGEST_BYTES] == self._chunks.leaves[digest : digest + DIGEST_BYTES]:
                continue
            if self.runs and sum(self.runs[-1]) == offset:
                self.runs[-1][1] += length
            else:
                self.runs.append([offset, length])
            self._pieces.append(chunk[at : at + length])


class Assembly:
    """Operations of a delta as they come out of librsync, put back to where the changed runs stand in the file.

    Between the runs lie leaves that did not change: copies of the base at their own place. Literals are packed as
    they grow.
    """

    def __init__(self, packer: Packer, literal_limit: int, runs: list[list[int]]) -> None:
        self.operations: list[Operation | Piece] = []
        self.placed = deltas.PlacedCopies()
        self.position = 0
        self.literal_bytes = 0
        self._packer = packer
        self._literal: list[bytes] = []
        self._literal_size = 0
        self._limit = literal_limit
        self._runs = runs
        self._run = -1
        self._run_end = 0

    def copy(self, offset: int, length: int) -> None:
        """A copy from the base, in the stream of changed runs."""
        while length:
            part = min(length, self._room())
            self._copied(offset, part)
            offset, length = offset + part, length - part

    def literal(self, data: bytes) -> None:
        """New bytes in the stream of changed runs; DeltaBudgetError past the limit, after they were taken."""
        at = 0
        while at < len(data):
            piece = data[at : at + min(self._room(), CHUNK_BYTES - self._literal_size)]
            at += len(piece)
            self.position += len(piece)
            self.literal_bytes += len(piece)
            self._literal.append(piece)
            self._literal_size += len(piece)
            if self._literal_size == CHUNK_BYTES:
                self.flush()
        if self.literal_bytes > self._limit:
            raise DeltaBudgetError("the delta is mostly literal")

    def lift_limit(self) -> None:
        """From here on literals are what is wanted."""
        self._limit = FILE_LIMIT

    def _room(self) -> int:
        """Bytes left in the present run; enters the next one where there are none."""
        if self.position == self._run_end or self._run < 0:
            grown = self._run >= 0 and sum(self._runs[self._run]) > self.position
            if not grown:
                self._run += 1
                self._unchanged_to(self._runs[self._run][0])
            self._run_end = sum(self._runs[self._run])
        return self._run_end - self.position

    def _unchanged_to(self, offset: int) -> None:
        if offset > self.position:
            self._copied(self.position, offset - self.position)

    def _copied(self, offset: int, length: int) -> None:
        self.flush()
        copy = Copy(offset, length)
        self.operations.append(copy)
        self.placed.copies.append((self.position, copy))
        self.position += length

    def flush(self) -> None:
        """Pack the literal gathered so far."""
        if self._literal_size:
            data = b"".join(self._literal)
            place(self.operations, self._packer, data, chunk_digest(data))
            self._literal, self._literal_size = [], 0

    def finish(self, size: int, whole: Callable[[int, int], Iterator[bytes]]) -> None:
        """To the end of the file: what is left of the runs goes whole, as `whole(offset, length)` gives it."""
        self.flush()
        for offset, length in self._runs:
            if offset + length <= self.position:
                continue
            self._unchanged_to(offset)
            for piece in whole(self.position, offset + length - self.position):
                place(self.operations, self._packer, piece, chunk_digest(piece))
                self.position += len(piece)
                self.literal_bytes += len(piece)
        self._unchanged_to(size)


def send_delta(
    file: SourceFile,
    version: VersionId,
    base: VersionId,
    base_sums: FileSums,
    packer: Packer,
    key: bytes,
    budget: deltas.Budget,
    progress: Callable[[int], None] = nothing,
) -> Content:
    """The file as copies of its base and literals; where the budget ends, the rest of what changed goes whole."""
    chunks = Chunks(file, None, progress)
    changed = _ChangedLeaves(chunks, base_sums.leaves)
    limit = max(budget.literal_floor_bytes, int(file.size * budget.literal_share))
    assembly = Assembly(packer, limit, changed.runs)
    first = changed.read(librsync.STEP_BYTES)
    if not base_sums.signature:  # a photo or film: what changed goes whole, leaf by leaf
        changed.drain()
    elif first:  # loading a signature is dear: not for a file that only looked changed
        source = deltas.BudgetedSource(_Resumed(first, changed), time.monotonic() + budget.deadline_s(file.size))
        parser = deltas.DeltaParser(assembly.copy, assembly.literal, base_sums.size)
        try:
            librsync.library().delta(source, deltas.BytesSource(base_sums.signature), parser)
            parser.close()
        except DeltaBudgetError:
            parser.stop()
            changed.drain()
    assembly.finish(chunks.size, lambda offset, length: _again(file, chunks, offset, length))
    if assembly.position != chunks.size:
        raise DeltaBudgetError(f"the delta makes {assembly.position} bytes of {chunks.size}")
    signature = _carried(file, base_sums, assembly.placed, chunks) if base_sums.signature else b""
    return Content(
        chunks.size,
        file_mac(key, chunks.size, chunks.digests),
        file.changed(),
        VersionDraft(version, chunks.size, assembly.operations, base, base_sums.size),
        FileSums(chunks.size, bytes(chunks.leaves), signature),
        literal_bytes=assembly.literal_bytes,
        copied_bytes=chunks.size - assembly.literal_bytes,
    )


def _carried(file: SourceFile, base: FileSums, placed: deltas.PlacedCopies, chunks: Chunks) -> bytearray:
    signature = deltas.SignatureBytes(base.signature)
    if signature.block_bytes <= LEAF_BYTES:
        unit_bytes, holds = LEAF_BYTES, chunks.leaf_holds
    else:
        unit_bytes, holds = CHUNK_BYTES, chunks.chunk_holds
    return deltas.carried_signature(
        signature,
        base.size,
        placed,
        chunks.size,
        unit_bytes,
        holds,
        lambda index: file.read(index * unit_bytes, min(unit_bytes, chunks.size - index * unit_bytes)),
    )


class _Resumed:
    """A source whose first bytes were read already."""

    def __init__(self, first: bytes, rest: librsync.Source) -> None:
        self._first, self._rest = first, rest

    def read(self, limit: int, /) -> bytes:
        """The first bytes, then the rest."""
        if self._first:
            piece, self._first = self._first[:limit], self._first[limit:]
            return piece
        return self._rest.read(limit)


def _again(file: SourceFile, chunks: Chunks, offset: int, length: int) -> Iterator[bytes]:
    """Bytes of the first read, read once more and proved the same, in pieces of at most a chunk.

    Where they are not, the MAC would not be of what is sent: DeltaBudgetError, and the caller sends the file whole.
    """
    while length:
        index, skip = divmod(offset, CHUNK_BYTES)
        chunk = file.chunk(index)
        if len(chunk) <= skip or not chunks.chunk_holds(index, chunk):
            raise DeltaBudgetError("the file changed while its delta was made")
        piece = chunk[skip : skip + length]
        yield piece
        offset, length = offset + len(piece), length - len(piece)
