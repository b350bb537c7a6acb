"""Intake: the messages of one group, checked against every bound, turned into records and catalog rows.

One `Intake` lives for one call of Repository.stage, inside its transaction: whatever raises leaves nothing behind.
A peer's fault is DecodeError or ProtocolError with the numbers. No peer's bytes reach C code but SHA-256 and SQLite's
binding of values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from appliance.store import mending, staging, succession
from appliance.store.catalog import State
from appliance.store.packs import Group, Identity
from appliance.store.pages import CELLS_PER_MESSAGE, Layout, resolve
from appliance.store.records import (
    DeathsRecord,
    EntriesRecord,
    Kind,
    MendRecord,
    PageRow,
    PagesRecord,
    StagedBy,
    VersionRow,
    VersionsRecord,
    encode_payload,
    sealed_plain_length,
)
from transport.errors import DecodeError, ProtocolError
from transport.extents import Fragment, Operation, VersionRecord, decode_operations
from transport.keys import verify_mend
from transport.messages import PutDeaths, PutEntries, PutMend, PutSegment, PutVersions
from transport.names import (
    FILE_LIMIT,
    ID_BYTES,
    NO_VERSION,
    ROOT,
    ZERO_SEGMENT,
    PathId,
    SegmentId,
    VersionId,
    checked_id,
)
from transport.tree import EntryBatch, EntryKind

_R = TypeVar("_R", PageRow, VersionRow)

StageMessage = PutSegment | PutVersions | PutEntries | PutDeaths | PutMend

Item = tuple[StageMessage, bytes | memoryview]
"""A message with its payload frame, empty but for PutSegment."""

ENTRIES_PER_BATCH: Final = 4096
ENTRY_SEALED_LIMIT: Final = 512 << 10
"""Largest sealed metadata of one entry, bytes: a page of a listing must always hold at least one."""
_SEAL_TAG_BYTES: Final = 16
PARTS_PER_VERSION: Final = 64
_ROWS_PER_RECORD_BYTES: Final = 512 << 10
_EPOCH_LIMIT: Final = 1 << 32


def fresh_items(state: State, items: Sequence[Item]) -> Sequence[Item]:
    """Those that are not durable yet; ProtocolError for a gap or numbers that do not ascend."""
    if not state.intake:
        raise ProtocolError("data came before an upload session was begun")
    last: int | None = None
    for message, _ in items:
        if last is not None and message.seq <= last:
            raise ProtocolError(f"message {message.seq} came after message {last}")
        last = message.seq
    fresh = [item for item in items if item[0].seq > state.received_upto]
    for expected, (message, _) in enumerate(fresh, state.received_upto + 1):
        if message.seq != expected:
            raise ProtocolError(f"message {message.seq} came where {expected} was expected")
    return fresh


class Intake:
    """Carries out staged messages one after the other."""

    def __init__(
        self, connection: sqlite3.Connection, state: State, group: Group, identity: Identity, now_ms: int
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._now_ms = now_ms
        self._state = state
        self._group = group
        self._segments: list[staging.SegmentRow] = []
        self._fresh: dict[SegmentId, int] = {}
        self._partial = connection.execute("SELECT 1 FROM partial LIMIT 1").fetchone() is not None

    def take(self, message: StageMessage, payload: bytes | memoryview) -> None:
        """One message, whose number was checked."""
        if not isinstance(message, PutSegment) and len(payload):
            raise ProtocolError(f"{type(message).__name__} carries a payload of {len(payload)} bytes")
        if isinstance(message, PutSegment):
            self._segment(SegmentId(message.segment), payload)
        elif isinstance(message, PutVersions):
            self._versions(message)
        elif isinstance(message, PutEntries):
            self._entries(message)
        elif isinstance(message, PutMend):
            self._mend(message)
        else:
            self._deaths(message)

    def finish(self) -> None:
        """Write what was collected over the messages."""
        if self._segments:
            staging.add_segments(self._connection, self._segments)
            self._segments = []

    def _by(self, seq: int) -> StagedBy:
        return StagedBy(self._state.session, self._state.intake, seq)

    def _segment(self, segment: SegmentId, payload: bytes | memoryview) -> None:
        checked_id(segment, "a segment id")
        if segment == ZERO_SEGMENT or segment in self._fresh:
            raise ProtocolError(f"segment {segment.hex()} cannot be sent: its id is reserved or used already")
        plain = sealed_plain_length(payload)
        offset = self._group.add(Kind.SEGMENT, segment, payload)
        self._segments.append((segment, self._group.pack, offset, ID_BYTES + len(payload), plain))
        self._fresh[segment] = plain

    def _entries(self, message: PutEntries) -> None:
        batch = message.batch
        _check_batch(batch)
        number = self._state.next_batch
        self._group.add(Kind.ENTRIES, encode_payload(EntriesRecord(self._by(message.seq), number, batch)))
        staging.stage_entries(self._connection, self._state, number, batch)

    def _deaths(self, message: PutDeaths) -> None:
        for path in message.paths:
            checked_id(path, "a path id")
        if not message.paths:
            raise ProtocolError("a message of deaths names no path")
        self._group.add(Kind.DEATHS, encode_payload(DeathsRecord(self._by(message.seq), message.paths)))
        staging.stage_deaths(self._connection, self._state, message.paths)

    def _mend(self, message: PutMend) -> None:
        """An order that heals nothing that is known to be damaged is acknowledged and left undone: what the agent was
        asked for may read well again, or be mended already."""
        self.finish()  # the fresh segments may have come in this very group
        order = verify_mend(succession.signers(self._connection, self._identity).current, message.mend)
        if not mending.may_be_done(self._connection, self._identity, order):
            return
        record = MendRecord(self._now_ms, message.mend)
        self._group.add(Kind.MEND, encode_payload(record))
        mending.apply_record(self._connection, self._identity, record)
        mending.settle(self._connection, self._now_ms)

    # Versions

    def _versions(self, message: PutVersions) -> None:
        if not message.versions:
            raise ProtocolError("a message of versions holds none")
        whole: list[tuple[VersionRecord, list[Operation]]] = []
        for record in message.versions:
            operations = self._operations(record)
            if operations is not None:
                whole.append((record, operations))
        if whole:
            self._write_versions(*self._resolve_all(whole))

    def _operations(self, record: VersionRecord) -> list[Operation] | None:
        """The operations of a version that is now complete, all parts of it; None while more is to come."""
        version = VersionId(checked_id(record.version_id, "a version id"))
        checked_id(record.base_id, "a base version id")
        if version == NO_VERSION:
            raise ProtocolError("a version cannot have the reserved id")
        base_size = None if record.base_id == NO_VERSION else record.base_size
        if not self._partial and not record.more:
            return decode_operations(record.operations, size=record.size, base_size=base_size)
        earlier = self._connection.execute(
            "SELECT version, size, base, base_size, operations, total FROM partial ORDER BY number"
        ).fetchall()
        done = earlier[-1][5] if earlier else 0
        if earlier and earlier[0][:4] != (version, record.size, record.base_id, record.base_size):
            raise ProtocolError(f"version {earlier[0][0].hex()} is not complete, and {version.hex()} came in between")
        if len(earlier) >= PARTS_PER_VERSION:
            raise ProtocolError(f"version {version.hex()} comes in more than {PARTS_PER_VERSION} parts")
        operations = decode_operations(record.operations, size=record.size, base_size=base_size, partial=True)
        done += sum(operation.length for operation in operations)
        if done > record.size:
            raise DecodeError(f"operations make {done} bytes or more of a version of {record.size}")
        self._partial = record.more
        if record.more:
            self._connection.execute(
                "INSERT INTO partial (version, size, base, base_size, operations, total) VALUES (?, ?, ?, ?, ?, ?)",
                (version, record.size, record.base_id, record.base_size, record.operations, done),
            )
            return None
        self._connection.execute("DELETE FROM partial")
        decoded: list[Operation] = []
        for row in earlier:
            decoded += decode_operations(row[4], size=record.size, base_size=base_size, partial=True)
        return decoded + operations

    def _resolve_all(
        self, whole: list[tuple[VersionRecord, list[Operation]]]
    ) -> tuple[list[PageRow], list[VersionRow]]:
        plain = self._plain_lengths(whole)
        pages: list[PageRow] = []
        fresh_pages: dict[int, bytes] = {}
        layouts: dict[VersionId, Layout] = {}
        budget = CELLS_PER_MESSAGE

        def load(numbers: list[int]) -> dict[int, bytes]:
            made = {number: fresh_pages[number] for number in numbers if number in fresh_pages}
            absent = [number for number in numbers if number not in made]
            return made | staging.load_pages(self._connection, absent) if absent else made

        for record, operations in whole:
            if record.version_id in layouts:
                raise ProtocolError(f"version {record.version_id.hex()} stands twice in one message")
            base = self._base(record, layouts)
            resolved = resolve(record.size, operations, base, load, plain, self._state.next_page, budget)
            budget -= resolved.cells
            self._state.next_page += len(resolved.pages)
            for page in resolved.pages:
                fresh_pages[page.number] = page.extents
                pages.append(PageRow(page.number, page.length_bytes, page.extents))
            layouts[record.version_id] = resolved.layout
        versions = [
            VersionRow(version, layout.size_bytes, layout.span_bytes, layout.body)
            for version, layout in layouts.items()
        ]
        return pages, versions

    def _plain_lengths(self, whole: list[tuple[VersionRecord, list[Operation]]]) -> dict[SegmentId, int]:
        named = {
            operation.segment
            for _, operations in whole
            for operation in operations
            if isinstance(operation, Fragment)
        }
        plain = {segment: self._fresh[segment] for segment in named if segment in self._fresh}
        absent = [segment for segment in named if segment not in plain]
        return plain | staging.held_segments(self._connection, absent) if absent else plain

    def _base(self, record: VersionRecord, layouts: dict[VersionId, Layout]) -> Layout | None:
        if record.base_id == NO_VERSION:
            return None
        base = layouts.get(record.base_id) or staging.version_layout(self._connection, record.base_id)
        if base is None:
            raise ProtocolError(f"base version {record.base_id.hex()} is not held: send the file whole")
        if base.size_bytes != record.base_size:
            raise ProtocolError(
                f"base version {record.base_id.hex()} is {base.size_bytes} bytes long, not {record.base_size}"
            )
        return base

    def _write_versions(self, pages: list[PageRow], versions: list[VersionRow]) -> None:
        for portion in _portions(pages, _page_size):
            self._group.add(Kind.PAGES, encode_payload(PagesRecord(portion)))
        staging.add_pages(self._connection, pages)
        for rows in _portions(versions, _version_size):
            self._group.add(Kind.VERSIONS, encode_payload(VersionsRecord(rows)))
        staging.add_versions(self._connection, self._state, versions)


def _page_size(row: PageRow) -> int:
    return len(row.extents) + 24


def _version_size(row: VersionRow) -> int:
    return len(row.body) + 48


def _portions(rows: list[_R], size: Callable[[_R], int]) -> Iterator[list[_R]]:
    """The rows in order, in lists of about _ROWS_PER_RECORD_BYTES: each becomes one record."""
    portion: list[_R] = []
    held = 0
    for row in rows:
        if portion and held + size(row) > _ROWS_PER_RECORD_BYTES:
            yield portion
            portion, held = [], 0
        portion.append(row)
        held += size(row)
    if portion:
        yield portion


def _check_batch(batch: EntryBatch) -> None:
    header = batch.header
    if not 1 <= header.epoch < _EPOCH_LIMIT or len(header.salt) != 32 or len(header.commitment) != 32:
        raise DecodeError(
            f"an entry batch header with epoch {header.epoch}, {len(header.salt)} bytes of salt "
            f"and {len(header.commitment)} of commitment"
        )
    if not 1 <= len(batch.entries) <= ENTRIES_PER_BATCH:
        raise DecodeError(f"a batch of {len(batch.entries)} entries is outside 1..{ENTRIES_PER_BATCH}")
    for record in batch.entries:
        path: PathId = record.path_id
        if not len(path) == len(record.parent_id) == len(record.version_id) == ID_BYTES:
            raise DecodeError(f"entry {path[:ID_BYTES].hex()}: an id is not {ID_BYTES} bytes long")
        if path in (ROOT, record.parent_id):
            raise DecodeError(f"entry {path.hex()} is the root or its own parent")
        if not 0 <= record.size <= FILE_LIMIT or not 0 <= record.index < ENTRIES_PER_BATCH:
            raise DecodeError(f"entry {path.hex()}: size {record.size} or index {record.index} out of bounds")
        if not _SEAL_TAG_BYTES <= len(record.sealed) <= ENTRY_SEALED_LIMIT:
            raise DecodeError(
                f"entry {path.hex()}: {len(record.sealed)} bytes of sealed metadata are outside "
                f"{_SEAL_TAG_BYTES}..{ENTRY_SEALED_LIMIT}"
            )
        if record.kind == EntryKind.FILE:
            if record.version_id == NO_VERSION and record.size:
                raise DecodeError(f"entry {path.hex()}: a file of {record.size} bytes without a version")
        elif record.kind not in (EntryKind.FOLDER, EntryKind.OTHER) or record.version_id != NO_VERSION:
            raise DecodeError(f"entry {path.hex()}: kind {record.kind} with version {record.version_id.hex()}")
