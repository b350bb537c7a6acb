"""Extents and the operations of a delta as they travel: bounds, encoding, resolution.

A version is a flat list of extents; a changed file travels as operations over its base version: copies,
fragments of sealed segments, holes. Decoding is the place where a hostile agent's copies out of bounds end; turning
operations into extents is the repository's (`appliance.store.pages`). Pure Python over bounded input.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

import msgspec

from transport.errors import DecodeError
from transport.names import FILE_LIMIT, ID_BYTES, SEGMENT_LIMIT, ZERO_SEGMENT, SegmentId, VersionId

OP_COPY: Final = 1
OP_FRAGMENT: Final = 2
OP_ZERO: Final = 3

_COPY = struct.Struct(">QQ")
_FRAGMENT = struct.Struct(f">{ID_BYTES}sII")
_ZERO = struct.Struct(">Q")

OPS_PER_RECORD: Final = 30_000
"""Operations in one VersionRecord at most; longer versions travel as several records (`more`)."""


class Copy(msgspec.Struct, frozen=True, gc=False):
    """`length` bytes of the base version from `offset`."""

    offset: int
    length: int


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """`length` bytes of a segment's plaintext from `offset`."""

    segment: SegmentId
    offset: int
    length: int


class Zero(msgspec.Struct, frozen=True, gc=False):
    """`length` zero bytes, stored nowhere."""

    length: int


Operation = Copy | Fragment | Zero

Extent = tuple[SegmentId, int, int]
"""(segment, offset in its plaintext, length); ZERO_SEGMENT for a hole (offset 0). A tuple, since a version may
have hundreds of thousands: they cross borders only inside ExtentPage or as documented lists."""


FileSize = Annotated[int, msgspec.Meta(ge=0, le=FILE_LIMIT)]


class VersionRecord(msgspec.Struct, frozen=True, array_like=True):
    """A version, or the first part of one, as it travels. `base` is NO_VERSION when the file went whole."""

    version_id: VersionId
    size: FileSize
    base_id: VersionId
    base_size: FileSize
    operations: bytes
    more: bool = False
    """Another record with the same id follows and its operations continue these."""


class ExtentPage(msgspec.Struct, frozen=True, array_like=True):
    """Part of a version's flat extent list, starting at byte `start` of the file."""

    version_id: VersionId
    size: int
    start: int
    extents: list[tuple[SegmentId, int, int]]
    more: bool


def encode_operations(operations: Iterable[Operation]) -> bytes:
    """Operations in their travelling form: one kind byte, then fixed big-endian fields."""
    out = bytearray()
    for op in operations:
        if isinstance(op, Fragment):
            out.append(OP_FRAGMENT)
            out += _FRAGMENT.pack(op.segment, op.offset, op.length)
        elif isinstance(op, Copy):
            out.append(OP_COPY)
            out += _COPY.pack(op.offset, op.length)
        else:
            out.append(OP_ZERO)
            out += _ZERO.pack(op.length)
    return bytes(out)


def decode_operations(data: bytes, *, size: int, base_size: int | None, partial: bool = False) -> list[Operation]:
    """Operations out of peer bytes, each within its bounds, in total exactly `size` bytes.

    `base_size` None forbids copies; `partial` allows the total to stay below `size` (a record that continues).
    Raises DecodeError with the numbers.
    """
    if not 0 <= size <= FILE_LIMIT:
        raise DecodeError(f"a version of {size} bytes is outside 0..{FILE_LIMIT}")
    operations: list[Operation] = []
    total, at, end = 0, 0, len(data)
    while at < end:
        kind = data[at]
        at += 1
        if len(operations) >= OPS_PER_RECORD:
            raise DecodeError(f"more than {OPS_PER_RECORD} operations in one record")
        try:
            if kind == OP_FRAGMENT:
                segment, offset, length = _FRAGMENT.unpack_from(data, at)
                at += _FRAGMENT.size
                if length == 0 or offset + length > SEGMENT_LIMIT:
                    raise DecodeError(
                        f"fragment out of bounds (offset={offset}, length={length}, limit={SEGMENT_LIMIT})"
                    )
                if segment == ZERO_SEGMENT:
                    raise DecodeError("a fragment names the reserved zero segment")
                operations.append(Fragment(SegmentId(segment), offset, length))
            elif kind == OP_COPY:
                offset, length = _COPY.unpack_from(data, at)
                at += _COPY.size
                if base_size is None:
                    raise DecodeError(f"a copy (offset={offset}, length={length}) without a base version")
                if length == 0 or offset + length > base_size:
                    raise DecodeError(f"copy out of bounds (offset={offset}, length={length}, base={base_size})")
                operations.append(Copy(offset, length))
            elif kind == OP_ZERO:
                (length,) = _ZERO.unpack_from(data, at)
                at += _ZERO.size
                if length == 0:
                    raise DecodeError("a hole of no bytes")
                operations.append(Zero(length))
            else:
                raise DecodeError(f"unknown operation {kind} at byte {at - 1}")
        except struct.error:
            raise DecodeError(f"operations end inside one at byte {at - 1} of {end}") from None
        total += length
        if total > size:
            raise DecodeError(f"operations make {total} bytes or more of a version of {size}")
    if total != size and not partial:
        raise DecodeError(f"operations make {total} bytes of a version of {size}")
    return operations


def slice_extents(extents: Sequence[Extent], starts: Sequence[int], offset: int, length: int) -> Iterator[Extent]:
    """The extents of bytes [offset, offset+length) of a list whose file offsets are `starts` (ascending)."""
    from bisect import bisect_right

    index = bisect_right(starts, offset) - 1
    end = offset + length
    while offset < end:
        segment, seg_offset, ext_length = extents[index]
        skip = offset - starts[index]
        take = min(ext_length - skip, end - offset)
        yield (segment, 0 if segment == ZERO_SEGMENT else seg_offset + skip, take)
        offset += take
        index += 1


def merge_extents(extents: Iterable[Extent]) -> list[Extent]:
    """The same bytes with neighbours joined where one continues the other in its segment."""
    merged: list[Extent] = []
    for segment, offset, length in extents:
        if merged:
            last, last_offset, last_length = merged[-1]
            if last == segment and (segment == ZERO_SEGMENT or last_offset + last_length == offset):
                merged[-1] = (segment, last_offset, last_length + length)
                continue
        merged.append((segment, offset, length))
    return merged
