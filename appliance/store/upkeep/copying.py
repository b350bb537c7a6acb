"""Copying a closed pack to its next generation: the records that are needed, in their order, byte for byte.

Reads once from front to end in large blocks, checks each record that is kept, and skips what is dropped without
checking it. Reads the pack alone; which segments are held is told by whoever asks. Memory: one window, one write
buffer, and 16 bytes for each segment kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from appliance.store.durable import AppendFile
from appliance.store.errors import DamagedRecordError
from appliance.store.records import (
    OVERHEAD_BYTES,
    Kind,
    RecordHead,
    checksum_holds,
    decode_head,
    encode_head,
    segment_id_of,
)
from transport.errors import DecodeError
from transport.names import SegmentId

_WINDOW_BYTES: Final = 8 << 20
"""Read at once: several of the longest records."""
_SYNC_BYTES: Final = 32 << 20
"""Made durable at once: one fsync of a whole pack would hold up those of a backup on the same disk for long."""


class HeldSegment(NamedTuple):
    """A SEGMENT record that the catalog holds in this pack; `length_bytes` of its payload."""

    number: int
    segment: SegmentId
    offset: int
    length_bytes: int


@dataclass(slots=True)
class Moves:
    """Where the kept records stand now."""

    size_bytes: int = 0
    segment_bytes: int = 0
    segment_numbers: array[int] = field(default_factory=lambda: array("Q"))
    segment_offsets: array[int] = field(default_factory=lambda: array("Q"))
    """The new offset of each of `segment_numbers`."""
    marks: list[tuple[int, int]] = field(default_factory=list)
    """(old, new) offset of each COMMIT and part of a CHECKPOINT, ascending."""


class _Source:
    """The pack being read, a window at a time."""

    def __init__(self, file: BinaryIO, path: Path, size_bytes: int) -> None:
        self._file = file
        self._path = path
        self._size_bytes = size_bytes
        self._window = bytearray(min(_WINDOW_BYTES, max(size_bytes, 1)))
        self._start = 0
        self._filled = 0

    def holds(self, offset: int, length: int) -> bool:
        """Whether the window reaches so far already."""
        return self._start <= offset and offset + length <= self._start + self._filled

    def load(self, offset: int) -> None:
        """Move the window: what `view` gave before is no longer valid."""
        self._start, self._filled = offset, 0
        target = min(len(self._window), self._size_bytes - offset)
        self._file.seek(offset)
        while self._filled < target:
            try:
                count = self._file.readinto(memoryview(self._window)[self._filled : target])  # type: ignore[attr-defined]
            except OSError as error:
                at = self._start + self._filled
                raise DamagedRecordError(self._path.name, at, f"cannot be read ({error.strerror})") from error
            if not count:
                break
            self._filled += count

    def view(self, offset: int, length: int) -> memoryview:
        """`length` bytes at `offset`, fewer where the file ends before."""
        start = offset - self._start
        return memoryview(self._window)[start : min(start + length, self._filled)]


class _Sink:
    """The new file. Neighbours in the window are written as one piece."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self._pieces: list[tuple[int, int]] = []
        self._unsynced = 0

    def keep(self, offset: int, length: int) -> None:
        """Bytes of the window that are to be written."""
        if self._pieces and sum(self._pieces[-1]) == offset:
            self._pieces[-1] = (self._pieces[-1][0], self._pieces[-1][1] + length)
        else:
            self._pieces.append((offset, length))

    def flush(self, source: _Source) -> None:
        """Write what was kept, before the window moves."""
        if not self._pieces:
            return
        before = self._file.size_bytes
        self._file.append([source.view(*piece) for piece in self._pieces])
        self._pieces = []
        self._unsynced += self._file.size_bytes - before
        if self._unsynced >= _SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0


def copy_pack(
    path: Path,
    size_bytes: int,
    held: Iterator[HeldSegment],
    target: AppendFile,
    *,
    keep_metadata: bool,
    header: bytes = b"",
) -> Moves:
    """Append to `target`, which is empty, what is needed of the pack at `path` up to `size_bytes`; not fsynced yet.

    `held` comes by ascending offset. Without its metadata nothing but the held segments is needed of a pack: damage in
    between is passed over, and for a damaged header the payload `header` is written.

    DamagedRecordError, naming the old pack and offset, where a kept record is not whole, the records do not join, or a
    held segment does not stand where it should.
    """
    moves = Moves()
    with _opened(path) as file:
        source, sink = _Source(file, path, size_bytes), _Sink(target)
        awaited = next(held, None)
        offset = 0
        while offset < size_bytes:
            try:
                head = _head(path, source, sink, offset, size_bytes)
                if not keep_metadata and not offset:
                    _check(path, _reach(source, sink, offset, head.size_bytes), head, offset, None)
            except DamagedRecordError:
                if keep_metadata or (awaited is not None and awaited.offset <= offset):
                    raise
                if not offset:
                    _write_header(moves, target, header)
                offset = awaited.offset if awaited is not None else size_bytes
                continue
            if awaited is not None and awaited.offset < offset:
                raise _missing(path, awaited)
            wanted = awaited if awaited is not None and awaited.offset == offset else None
            if wanted is not None and head.kind != Kind.SEGMENT:
                raise _missing(path, wanted)
            if wanted is not None or head.kind == Kind.HEADER or (keep_metadata and head.kind != Kind.SEGMENT):
                _check(path, _reach(source, sink, offset, head.size_bytes), head, offset, wanted)
                sink.keep(offset, head.size_bytes)
                _note(moves, head, offset, wanted)
            if wanted is not None:
                awaited = next(held, None)
            offset += head.size_bytes
            if not keep_metadata and wanted is None and awaited is not None and head.kind != Kind.HEADER:
                offset = min(offset, awaited.offset)  # a length that was never checked may lead too far
        if awaited is not None:
            raise _missing(path, awaited)
        sink.flush(source)
    return moves


def _write_header(moves: Moves, target: AppendFile, payload: bytes) -> None:
    target.append([encode_head(Kind.HEADER, [payload]), payload])
    moves.size_bytes += OVERHEAD_BYTES + len(payload)


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise DamagedRecordError(path.name, 0, f"cannot be opened ({error.strerror})") from error


def _reach(source: _Source, sink: _Sink, offset: int, length: int) -> memoryview:
    if not source.holds(offset, length):
        sink.flush(source)
        source.load(offset)
    return source.view(offset, length)


def _head(path: Path, source: _Source, sink: _Sink, offset: int, size_bytes: int) -> RecordHead:
    try:
        head = decode_head(_reach(source, sink, offset, OVERHEAD_BYTES))
    except DecodeError as error:
        raise DamagedRecordError(path.name, offset, str(error)) from None
    if offset + head.size_bytes > size_bytes:
        detail = f"{head.kind.name} of {head.length_bytes} bytes ends beyond byte {size_bytes} of its pack"
        raise DamagedRecordError(path.name, offset, detail)
    return head


def _check(path: Path, record: memoryview, head: RecordHead, offset: int, wanted: HeldSegment | None) -> None:
    if len(record) < head.size_bytes:
        raise DamagedRecordError(path.name, offset, f"the pack ends within this {head.kind.name} record")
    payload = record[OVERHEAD_BYTES:]
    if not checksum_holds(record[:OVERHEAD_BYTES], payload):
        raise DamagedRecordError(path.name, offset, f"the checksum of this {head.kind.name} record does not hold")
    if wanted is not None and (segment_id_of(payload), head.length_bytes) != (wanted.segment, wanted.length_bytes):
        raise DamagedRecordError(path.name, offset, f"another segment than {wanted.segment.hex()} stands here")


def _note(moves: Moves, head: RecordHead, offset: int, wanted: HeldSegment | None) -> None:
    if wanted is not None:
        moves.segment_numbers.append(wanted.number)
        moves.segment_offsets.append(moves.size_bytes)
        moves.segment_bytes += head.size_bytes
    elif head.kind in (Kind.COMMIT, Kind.CHECKPOINT):
        moves.marks.append((offset, moves.size_bytes))
    moves.size_bytes += head.size_bytes


def _missing(path: Path, awaited: HeldSegment) -> DamagedRecordError:
    detail = f"segment {awaited.segment.hex()} should stand here and does not"
    return DamagedRecordError(path.name, awaited.offset, detail)
