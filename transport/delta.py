"""Deltas: what librsync says, read back as operations; signatures carried forward.

Owns the parser of librsync's delta stream (the formats are in librsync's own documentation), the budget that stops a
delta that costs more than it saves, and the making of the next signature out of the last one. Parsing happens on the
agent only, over output of its own librsync; the parser is bounded all the same. No zmq, no files: callers give readers.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from transport import librsync
from transport.contents import CHUNK_BYTES
from transport.errors import DeltaBudgetError, LibrsyncError
from transport.extents import Copy

SMALL_BLOCK: Final = 1024
BLOCK: Final = 2048
"""Signatures never travel, so blocks are small: a 200-byte edit then costs one or two blocks of literal."""
BLOCKS_LIMIT: Final = 1 << 20
"""Blocks in a signature before their length doubles: 36 bytes each here and some 16 more in librsync's hash table."""

MIN_DELTA_BYTES: Final = 64 * 1024
"""Smaller files go whole: packed many to a segment they cost less than the bookkeeping."""


def block_bytes_for(size: int) -> int:
    """Signature block length for a file of `size` bytes: 1 KiB to 64 MiB, 2 KiB to 2 GiB, then doubling
    up to a chunk (1 MiB)."""
    if size <= 64 << 20:
        return SMALL_BLOCK
    block = BLOCK
    while size > block * BLOCKS_LIMIT and block < CHUNK_BYTES:
        block *= 2
    return block


@dataclass(frozen=True, slots=True)
class Budget:
    """What a delta may cost before the file goes whole.

    Why both: where nothing matches librsync crawls at some 30 MB/s, and a crafted file makes it a thousand times
    slower (measured); sending whole costs about 100 MB/s.
    """

    floor_s: float = 5.0
    seconds_per_gib: float = 30.0
    literal_share: float = 0.7
    literal_floor_bytes: int = 8 << 20

    def deadline_s(self, size: int) -> float:
        """Seconds that a delta over `size` bytes may run."""
        return self.floor_s + self.seconds_per_gib * size / (1 << 30)


class BudgetedSource:
    """A source that looks at the clock at every read."""

    def __init__(self, source: librsync.Source, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._deadline, self._clock = source, deadline, clock

    def read(self, limit: int, /) -> bytes:
        """The next bytes; DeltaBudgetError past the deadline."""
        if self._clock() > self._deadline:
            raise DeltaBudgetError("the delta ran past its time")
        return self._source.read(limit)


_LITERAL_SIZES = {65: 1, 66: 2, 67: 4, 68: 8}
_COPY_SIZES = {69 + 4 * i + j: (1 << i, 1 << j) for i in range(4) for j in range(4)}


class DeltaParser:
    """librsync's delta stream, fed in any pieces, out as copies and literal bytes.

    Adjacent copies are joined. `on_copy(offset, length)` and `on_literal(bytes)` are called in file order.
    """

    def __init__(
        self, on_copy: Callable[[int, int], None], on_literal: Callable[[bytes], None], base_size: int
    ) -> None:
        self._on_copy, self._on_literal, self._base_size = on_copy, on_literal, base_size
        self._buffer = b""
        self._literal_left = 0
        self._started = False
        self.finished = False
        self._copy_offset = 0
        self._copy_length = 0

    def _flush_copy(self) -> None:
        if self._copy_length:
            self._on_copy(self._copy_offset, self._copy_length)
            self._copy_length = 0

    def write(self, data: bytes) -> None:
        """Take the next piece of the stream; LibrsyncError where it is not one."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at, end = 0, len(data)
        if not self._started:
            if end < 4:
                self._buffer = data
                return
            (magic,) = struct.unpack_from(">I", data)
            if magic != librsync.DELTA_MAGIC:
                raise LibrsyncError(f"a delta stream begins with {magic:#x}")
            self._started = True
            at = 4
        while at < end:
            if self._literal_left:
                piece = data[at : at + self._literal_left]
                at += len(piece)
                self._literal_left -= len(piece)
                self._on_literal(piece)
                continue
            if self.finished:
                raise LibrsyncError("a delta stream goes on after its end")
            command = data[at]
            if command == 0:
                self._flush_copy()
                self.finished = True
                at += 1
            elif command <= 64:
                self._flush_copy()
                self._literal_left = command
                at += 1
            elif command in _LITERAL_SIZES:
                width = _LITERAL_SIZES[command]
                if at + 1 + width > end:
                    break
                self._flush_copy()
                self._literal_left = int.from_bytes(data[at + 1 : at + 1 + width], "big")
                at += 1 + width
            elif command in _COPY_SIZES:
                first, second = _COPY_SIZES[command]
                if at + 1 + first + second > end:
                    break
                offset = int.from_bytes(data[at + 1 : at + 1 + first], "big")
                length = int.from_bytes(data[at + 1 + first : at + 1 + first + second], "big")
                at += 1 + first + second
                self._copy(offset, length)
            else:
                raise LibrsyncError(f"unknown delta command {command}")
        self._buffer = data[at:]

    def _copy(self, offset: int, length: int) -> None:
        if length == 0 or offset + length > self._base_size:
            raise LibrsyncError(f"copy out of bounds (offset={offset}, length={length}, base={self._base_size})")
        if self._copy_length and self._copy_offset + self._copy_length == offset:
            self._copy_length += length
            return
        self._flush_copy()
        self._copy_offset, self._copy_length = offset, length

    def stop(self) -> None:
        """No more will come: hand over the copy that was still growing."""
        self._flush_copy()

    def close(self) -> None:
        """LibrsyncError unless the stream came to its end."""
        if not self.finished or self._buffer or self._literal_left:
            raise LibrsyncError("a delta stream ended early")


@dataclass(slots=True)
class PlacedCopies:
    """Where the copies of a delta landed in the new file: (offset in the new file, copy)."""

    copies: list[tuple[int, Copy]] = field(default_factory=list)


class SignatureBytes:
    """A signature in librsync's format, as bytes or a memory map; strict about its header and length."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        if len(data) < librsync.SIGNATURE_HEADER_BYTES:
            raise LibrsyncError(f"a signature of {len(data)} bytes")
        magic, block, strong = struct.unpack_from(">III", data)
        body = len(data) - librsync.SIGNATURE_HEADER_BYTES
        if magic != librsync.RK_BLAKE2_MAGIC or strong != librsync.STRONG_BYTES or block < 1:
            raise LibrsyncError(f"a signature of another kind (magic {magic:#x}, strong sum {strong})")
        if body % librsync.BLOCK_SUM_BYTES:
            raise LibrsyncError(f"a signature that ends inside a block sum ({body} bytes)")
        self.data = data
        self.block_bytes: int = block
        self.blocks = body // librsync.BLOCK_SUM_BYTES


def carried_signature(
    base: SignatureBytes,
    base_size: int,
    placed: PlacedCopies,
    size: int,
    unit_bytes: int,
    unchanged_since: Callable[[int, bytes], bool],
    read_unit: Callable[[int], bytes],
) -> bytearray:
    """The signature of the new version out of the base's, hashing only what no copy carries over.

    A block inside a copy that moved by a multiple of the block length keeps its sums. The others are read again
    through `read_unit(index)` (units of `unit_bytes`, a multiple of the block length) and counted only where
    `unchanged_since(index, data)` says that these are the bytes of the first read: a file that changed meanwhile must
    not leave sums of bytes that were never sent. Blocks that cannot be proved get random sums, which match nothing, so
    their bytes simply travel again next time.
    """
    block = base.block_bytes
    entry = librsync.BLOCK_SUM_BYTES
    header = librsync.SIGNATURE_HEADER_BYTES
    count = (size + block - 1) // block
    out = bytearray(header + count * entry)
    out[:header] = struct.pack(">III", librsync.RK_BLAKE2_MAGIC, block, librsync.STRONG_BYTES)
    have = bytearray(count)
    for new_offset, copy in placed.copies:
        shift = new_offset - copy.offset
        if shift % block:
            continue
        first = -(-new_offset // block)
        end = new_offset + copy.length
        last = end // block
        if end == size and copy.offset + copy.length == base_size and size % block:
            last += 1  # the short last block of both
        if last <= first:
            continue
        source = first - shift // block
        out[header + first * entry : header + last * entry] = base.data[
            header + source * entry : header + (source + last - first) * entry
        ]
        have[first:last] = b"\1" * (last - first)
    per_unit, rest = divmod(unit_bytes, block)
    if not per_unit or rest:
        raise LibrsyncError(f"blocks of {block} bytes do not tile {unit_bytes}")
    missing = have.find(0)
    while missing >= 0:
        unit = missing // per_unit
        start, stop = unit * per_unit, min((unit + 1) * per_unit, count)
        wanted = [i for i in range(missing, stop) if not have[i]]
        data = read_unit(unit)
        if data and unchanged_since(unit, data):
            sums = sign(b"".join(data[(i - start) * block : (i - start + 1) * block] for i in wanted), block)
        else:
            sums = os.urandom(entry * len(wanted))
        for position, i in enumerate(wanted):
            out[header + i * entry : header + (i + 1) * entry] = sums[position * entry : (position + 1) * entry]
        missing = have.find(0, stop)
    return out


class BytesSource:
    """Bytes as a source."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data, self._at = memoryview(data), 0

    def read(self, limit: int, /) -> bytes:
        """The next bytes."""
        piece = bytes(self._data[self._at : self._at + limit])
        self._at += len(piece)
        return piece


class _Collect:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self.parts.append(data)


def sign(data: bytes, block_bytes: int) -> bytes:
    """The block sums of `data`, without the signature's header."""
    sink = _Collect()
    librsync.library().signature(BytesSource(data), sink, block_bytes)
    return b"".join(sink.parts)[librsync.SIGNATURE_HEADER_BYTES :]
