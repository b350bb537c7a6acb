"""Pack files: groups of records appended under one fsync, and the strict reading of them.

A group lands whole in one pack; the pack that has reached PACK_BYTES is closed before the next group and never
written again. Every pack begins with a HEADER record, so a pack alone says whose it is. The catalog, not the
file's length, says how much of the open pack counts; what lies beyond is an unacknowledged tail.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from appliance.store.durable import AppendFile, Buffer, Disk, disk_error
from appliance.store.errors import DamagedRecordError
from appliance.store.layout import Layout, pack_name
from appliance.store.records import (
    KINDS,
    LABEL,
    MAGIC,
    OVERHEAD_BYTES,
    SEGMENT_PREFIX_BYTES,
    HeaderRecord,
    Kind,
    checksum_holds,
    decode_head,
    decode_payload,
    encode_head,
    encode_payload,
)
from transport.errors import DecodeError
from transport.names import RepositoryId, VaultId

PACK_BYTES: Final = 256 << 20
"""A pack of this size or more is closed before the next group."""
AHEAD_BYTES: Final = 4 << 20
"""A group that holds so much unwritten is written while it grows, and the disk begins: the fsync then finds a fifth of
the work (measured: 39 ms instead of 186 for 288 MB in twelve groups). Nothing of it counts before that."""
_WINDOW_BYTES: Final = 8 << 20
_RECORD_LIMIT: Final = OVERHEAD_BYTES + max(rule.limit for rule in KINDS.values())
_VAIN_BYTES: Final = 64 << 20
_VAIN_SHARE: Final = 32
"""Bytes that one walk may sum in vain when it looks for the next record behind damage: so many, and so many more for
each byte of its way. Damage by chance stays far below the first."""
_HEADER_LIMIT: Final = OVERHEAD_BYTES + 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose packs these are."""

    repository: RepositoryId
    vault: VaultId
    public_key: bytes

    def header(self, pack: int) -> bytes:
        """The HEADER payload of one pack."""
        return encode_payload(HeaderRecord(LABEL, self.repository, self.vault, self.public_key, pack))


class Group:
    """Records on their way into one pack. Payloads are referenced, not copied, until they are written; `write_ahead`
    is called with the group when much waits."""

    def __init__(self, pack: int, start: int, write_ahead: Callable[[Group], None] | None = None) -> None:
        self.pack = pack
        self.start = start
        self.end = start
        self.records = 0
        self.segment_bytes = 0
        self._write_ahead = write_ahead
        self._unwritten: list[Buffer] = []
        self._unwritten_bytes = 0

    def add(self, kind: Kind, *parts: Buffer) -> int:
        """Put a record behind the others; its offset in the pack."""
        offset = self.end
        head = encode_head(kind, parts)
        self._unwritten.append(head)
        self._unwritten.extend(parts)
        size = len(head) + sum(len(part) for part in parts)
        self.end += size
        if kind == Kind.SEGMENT:
            self.segment_bytes += size
        self.records += 1
        self._unwritten_bytes += size
        if self._unwritten_bytes >= AHEAD_BYTES and self._write_ahead is not None:
            self._write_ahead(self)
        return offset

    def take_unwritten(self) -> list[Buffer]:
        """What was not taken yet, in order."""
        taken, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        return taken


class PackWriter:
    """The open pack of a repository. One group at a time: begin, add, write, then accept or abandon."""

    def __init__(self, disk: Disk, layout: Layout, identity: Identity, pack: int, size_bytes: int) -> None:
        self._disk = disk
        self._layout = layout
        self._identity = identity
        self._file: AppendFile | None = None
        self._file_pack = 0
        self.pack = pack
        """The pack that the last accepted group went into."""
        self.size_bytes = size_bytes

    def begin(self, *, roll: bool = False) -> Group:
        """An empty group at the end of the open pack, or at the start of a new one."""
        if self.size_bytes < PACK_BYTES and not roll:
            return Group(self.pack, self.size_bytes, self._write_ahead)
        group = Group(self.pack + 1, 0, self._write_ahead)
        group.add(Kind.HEADER, self._identity.header(group.pack))
        return group

    def write(self, group: Group) -> None:
        """Append and fsync: afterwards the records survive power loss, though nothing refers to them yet."""
        self._append(group).sync()
        if group.start == 0:
            try:
                self._disk.sync_folder(self._layout.packs)
            except OSError as error:
                raise disk_error(error, f"cannot keep {self._layout.pack(group.pack)}") from error

    def _write_ahead(self, group: Group) -> None:
        self._append(group).start_write_out()

    def _append(self, group: Group) -> AppendFile:
        if self._file is None or self._file_pack != group.pack:
            self.close()
            path = self._layout.pack(group.pack)
            if group.pack != self.pack:
                self._file = AppendFile.create(self._disk, path)
            else:
                self._file = AppendFile.resume(self._disk, path, self.size_bytes)
            self._file_pack = group.pack
        self._file.append(group.take_unwritten())
        return self._file

    def accept(self, group: Group) -> None:
        """The catalog knows the group: it counts from now on."""
        self.pack, self.size_bytes = group.pack, group.end

    def abandon(self, group: Group) -> None:
        """The group does not count: take away whatever of it reached the disk."""
        if group.pack != self.pack:
            self.close()
            try:
                self._disk.remove(self._layout.pack(group.pack))
            except OSError as error:
                raise disk_error(error, f"cannot remove {self._layout.pack(group.pack)}") from error
        elif self._file is not None and self._file.size_bytes != self.size_bytes:
            self._file.cut(self.size_bytes)

    def close(self) -> None:
        """Give the open file back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_record(
    layout: Layout, pack: int, offset: int, kind: Kind, length_bytes: int, *, generation: int = 0, summed: bool = True
) -> memoryview:
    """The payload of one record whose place, kind and length the catalog knows; DamagedRecordError otherwise.

    Without `summed` the checksum is left to whoever can check more than that: a seal's own tag.
    """
    name = pack_name(pack, generation)
    try:
        with open(layout.pack(pack, generation), "rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(OVERHEAD_BYTES + length_bytes)
    except OSError as error:
        raise DamagedRecordError(name, offset, f"cannot be read ({error.strerror})") from error
    try:
        head = decode_head(data)
    except DecodeError as error:
        raise DamagedRecordError(name, offset, str(error)) from None
    view = memoryview(data)
    if head.kind != kind or head.length_bytes != length_bytes or len(data) != OVERHEAD_BYTES + length_bytes:
        raise DamagedRecordError(
            name,
            offset,
            f"{head.kind.name} of {head.length_bytes} bytes ({len(data) - OVERHEAD_BYTES} there) "
            f"where {kind.name} of {length_bytes} was written",
        )
    if summed and not checksum_holds(view[:OVERHEAD_BYTES], view[OVERHEAD_BYTES:]):
        raise DamagedRecordError(name, offset, f"the checksum of this {kind.name} record does not hold")
    return view[OVERHEAD_BYTES:]


def read_header(layout: Layout, pack: int, generation: int) -> HeaderRecord | None:
    """What a pack says of itself; None where its header cannot be read, or is not what was written."""
    try:
        with open(layout.pack(pack, generation), "rb", buffering=0) as file:
            data = file.read(_HEADER_LIMIT)
        head = decode_head(data[:OVERHEAD_BYTES])
        payload = data[OVERHEAD_BYTES : head.size_bytes]
        if head.kind != Kind.HEADER or not checksum_holds(data[:OVERHEAD_BYTES], payload):
            return None
        return decode_payload(payload, HeaderRecord)
    except (DecodeError, OSError):
        return None


def is_foreign(layout: Layout, pack: int, generation: int, identity: Identity) -> bool:
    """Whether a pack says that it belongs to another repository or place. A damaged header says nothing."""
    header = read_header(layout, pack, generation)
    if header is None:
        return False
    theirs = Identity(header.repository, header.vault, header.public_key)
    return theirs != identity or header.pack != pack


@dataclass(frozen=True, slots=True)
class Found:
    """A record met on a walk through a pack. `payload` is valid only until the walk goes on.

    Of a SEGMENT on a walk that skips data, `payload` holds the first SEGMENT_PREFIX_BYTES and no checksum was read.
    """

    offset: int
    kind: Kind
    length_bytes: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a pack that are no record, or one whose checksum does not hold."""

    offset: int
    end: int
    kind: str
    detail: str


class PackWalk:
    """A sequential walk over a pack's records up to byte `end`, in large blocks; damage is reported and passed over."""

    def __init__(self, path: Path, end: int, *, read_data: bool, start: int = 0) -> None:
        self._path = path
        self._start = start
        self._end = end
        self._read_data = read_data
        self._buffer = bytearray(min(_WINDOW_BYTES, max(0, end - start)))
        self._at = 0
        """File offset of the buffer's first byte."""
        self._filled = 0
        self._vain_bytes = 0
        self.bytes_read = 0

    def __iter__(self) -> Iterator[Found | Damage]:
        with open(self._path, "rb", buffering=0) as file:
            offset = self._start
            while offset < self._end:
                step = self._record(file, offset)
                yield step
                offset = step.end if isinstance(step, Damage) else offset + OVERHEAD_BYTES + step.length_bytes

    def _view(self, file: BinaryIO, offset: int, length: int, *, ahead: bool) -> memoryview:
        """`length` bytes at `offset` (fewer at the end); with `ahead`, a whole window is read at once."""
        if not (self._at <= offset and offset + length <= self._at + self._filled):
            kept = b""
            if self._at <= offset < self._at + self._filled:
                kept = bytes(memoryview(self._buffer)[offset - self._at : self._filled])
            self._buffer[: len(kept)] = kept
            self._at, self._filled = offset, len(kept)
            target = min(_WINDOW_BYTES if ahead else length, self._end - offset)
            file.seek(self._at + self._filled)
            while self._filled < target:
                count = file.readinto(memoryview(self._buffer)[self._filled : target])  # type: ignore[attr-defined]
                if not count:
                    break
                self._filled += count
                self.bytes_read += count
        start = offset - self._at
        return memoryview(self._buffer)[start : min(start + length, self._filled)]

    def _record(self, file: BinaryIO, offset: int) -> Found | Damage:
        head_bytes = self._view(file, offset, OVERHEAD_BYTES, ahead=self._read_data)
        try:
            head = decode_head(head_bytes)
        except DecodeError as error:
            return self._pass_over(file, offset, "unreadable", str(error))
        if offset + head.size_bytes > self._end:
            detail = f"{head.kind.name} of {head.length_bytes} bytes ends beyond byte {self._end} of its pack"
            return self._pass_over(file, offset, head.kind.name, detail)
        if head.kind == Kind.SEGMENT and not self._read_data:
            prefix = self._view(file, offset, OVERHEAD_BYTES + SEGMENT_PREFIX_BYTES, ahead=False)
            if len(prefix) == OVERHEAD_BYTES + SEGMENT_PREFIX_BYTES:
                return Found(offset, head.kind, head.length_bytes, prefix[OVERHEAD_BYTES:])
        record = self._view(file, offset, head.size_bytes, ahead=self._read_data)
        if len(record) < head.size_bytes:
            return Damage(
                offset, self._end, head.kind.name, f"the pack ends within this {head.kind.name} record"
            )
        if checksum_holds(record[:OVERHEAD_BYTES], record[OVERHEAD_BYTES:]):
            return Found(offset, head.kind, head.length_bytes, record[OVERHEAD_BYTES:])
        detail = f"the checksum of this {head.kind.name} record does not hold"
        after = offset + head.size_bytes
        if after == self._end or bytes(self._view(file, after, len(MAGIC), ahead=False)) == MAGIC:
            return Damage(offset, after, head.kind.name, detail)
        return self._pass_over(file, offset, head.kind.name, detail)

    def _pass_over(self, file: BinaryIO, offset: int, kind: str, detail: str) -> Damage:
        """Look for the next whole record after `offset`; the damage ends there, or with the pack.

        Whoever made the bytes may have put the head of a long record every few bytes, and summing each of these takes
        hours. So what is summed in vain is bounded by the way made, and what was passed over unsummed for that reason
        is looked at again where a record follows it.
        """
        unproved: deque[tuple[int, int]] = deque()
        for at, size in self._heads(file, offset + 1):
            if not self._affords(at, size):
                unproved.append((at, size))
                while unproved[0][0] + _RECORD_LIMIT < at:
                    unproved.popleft()
            elif self._holds(file, at, size):
                return Damage(offset, self._begin_of(file, at, unproved), kind, detail)
        return Damage(offset, self._end, kind, detail)

    def _heads(self, file: BinaryIO, at: int) -> Iterator[tuple[int, int]]:
        """Offset and size of all that reads as the head of a record, from `at` on. Each byte is read once."""
        while len(self._view(file, at, OVERHEAD_BYTES, ahead=True)) == OVERHEAD_BYTES:
            found = self._buffer.find(MAGIC, at - self._at, self._filled)
            if found < 0:
                at = self._at + self._filled - len(MAGIC) + 1
                continue
            at = self._at + found
            with contextlib.suppress(DecodeError):
                head = decode_head(self._view(file, at, OVERHEAD_BYTES, ahead=True))
                if at + head.size_bytes <= self._end:
                    yield at, head.size_bytes
            at += 1

    def _affords(self, at: int, size: int) -> bool:
        return self._vain_bytes + size <= _VAIN_BYTES + _VAIN_SHARE * (at - self._start)

    def _holds(self, file: BinaryIO, at: int, size: int) -> bool:
        """Whether a whole record of this size stands there."""
        record = self._view(file, at, size, ahead=True)
        if len(record) == size and checksum_holds(record[:OVERHEAD_BYTES], record[OVERHEAD_BYTES:]):
            return True
        self._vain_bytes += size
        return False

    def _begin_of(self, file: BinaryIO, at: int, unproved: deque[tuple[int, int]]) -> int:
        """Where the whole records that lead to the one at `at` begin."""
        end = at
        for start, size in reversed(unproved):
            if start + size == end and self._affords(at, size) and self._holds(file, start, size):
                end = start
        return end
