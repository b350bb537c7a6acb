"""Packs against the catalog: every record whole, and everything that the catalog names where it says.

Reads each pack once, in order and in large blocks. What stands in packs and is no longer in the catalog is no finding:
it is dead, and waits for compaction. Every finding names pack and offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.store import succession
from appliance.store.catalog import Catalog, PackRow, select_in
from appliance.store.layout import Layout, pack_name
from appliance.store.mending import all_mends
from appliance.store.packs import Damage, Found, PackWalk
from appliance.store.records import (
    CheckpointBegin,
    CheckpointEnd,
    CheckpointPages,
    CheckpointRecord,
    CheckpointSnapshots,
    CheckpointSuccessions,
    CheckpointVersions,
    CommitRecordOnDisk,
    DeathsRecord,
    EntriesRecord,
    HeaderRecord,
    Kind,
    MendRecord,
    PageRow,
    PagesRecord,
    RetirementRecord,
    SuccessionRecord,
    VersionRow,
    VersionsRecord,
    decode_payload,
    sealed_plain_length,
    segment_id_of,
)
from appliance.store.upkeep.findings import DamagedSpot, Findings, View, moment
from transport.commits import SignedCommit
from transport.errors import DecodeError
from transport.names import ID_BYTES

_ATTEMPTS: Final = 3
"""A pack may be compacted between the look at the catalog and the opening of its file."""


@dataclass(slots=True)
class _Checkpoint:
    """The parts of one checkpoint, as far as they were met."""

    pack: int
    offset: int
    parts: int = 0
    whole: bool = False
    commits: set[int] = field(default_factory=set)
    retired: set[int] = field(default_factory=set)
    successions: set[int] = field(default_factory=set)


class PackChecker:
    """`pack` for each, then `finish`; `commits` are those found, held by the catalog as they stand in the packs."""

    def __init__(self, layout: Layout, catalog: Catalog, view: View, findings: Findings, *, read_data: bool) -> None:
        self._layout = layout
        self._catalog = catalog
        self._connection = catalog.connection
        self._view = view
        self._findings = findings
        self._read_data = read_data
        self._retired: set[int] = set()
        self._checkpoints: dict[bytes, _Checkpoint] = {}
        self.commits: set[int] = set()
        self.successions: set[int] = set()
        self._wanted_successions = set(range(1, len(succession.records(catalog.connection)) + 1))
        self.records = 0
        self.mended = 0
        """Damaged records that nothing needs any more, since what they held is read elsewhere: kept as evidence."""
        self.bytes_read = 0
        self.damage: list[DamagedSpot] = []
        """What is not mended of what does not read well, missing files included."""
        self._overtaken = False
        """Whether the record at hand stands before the newest whole checkpoint: nobody reads it any more."""

    def pack(self, number: int) -> None:
        """Walk one pack, and look in it for everything that the catalog says is there."""
        for attempt in range(_ATTEMPTS):
            with moment(self._catalog):
                row = self._catalog.packs().get(number, self._view.packs[number])
                expected = {
                    segment[1]: segment
                    for segment in self._connection.execute(
                        "SELECT id, offset, length, plain FROM segment WHERE pack = ?", (number,)
                    ).fetchall()
                }
            path, name = self._layout.pack(number, row.generation), pack_name(number, row.generation)
            try:
                actual = path.stat().st_size
                if actual < row.size_bytes:
                    detail = f"is {actual} bytes long, but {row.size_bytes} were acknowledged"
                    self._findings.report(name, actual, "pack", detail)
                    self._lost(row, actual, detail)
                self._walk(row, PackWalk(path, min(row.size_bytes, actual), read_data=self._read_data), expected)
                return
            except FileNotFoundError:
                if attempt + 1 == _ATTEMPTS or self._catalog.packs().get(number, row).generation == row.generation:
                    self._findings.report(name, 0, "pack", "is missing: put it back from a copy")
                    self._lost(row, 0, "the pack is missing")
                    return
            except OSError as error:
                self._findings.report(name, 0, "pack", f"cannot be read ({error.strerror}): check the disk")
                return

    def _lost(self, row: PackRow, offset: int, detail: str) -> None:
        self.damage.append(DamagedSpot(row.number, row.generation, offset, row.size_bytes, "unreadable", detail))

    def _walk(self, row: PackRow, walk: PackWalk, expected: dict[int, Any]) -> None:
        name = pack_name(row.number, row.generation)
        damaged: list[tuple[int, int]] = []
        statement = "SELECT offset, mended_ms > 0 FROM damage WHERE pack = ?"
        known: dict[int, int] = dict(self._connection.execute(statement, (row.number,)).fetchall())
        for step in walk:
            if isinstance(step, Damage):
                inside = {offset for offset in (*expected, *known) if step.offset <= offset < step.end} | {step.offset}
                if all(known.get(offset) for offset in inside):
                    self.mended += 1
                else:
                    self._findings.report(name, step.offset, step.kind, step.detail)
                    spot = DamagedSpot(row.number, row.generation, step.offset, step.end, step.kind, step.detail)
                    self.damage.append(spot)
                damaged.append((step.offset, step.end))
                continue
            self.records += 1
            if step.kind == Kind.SEGMENT and known.get(step.offset):
                expected.pop(step.offset, None)  # unread, it may look whole: mended damage is no finding either way
                continue
            checkpoint = (self._view.state.checkpoint_pack, self._view.state.checkpoint_offset)
            self._overtaken = (row.number, step.offset) < checkpoint
            try:
                self._record(row, name, step, expected)
            except DecodeError as error:
                self._findings.report(name, step.offset, step.kind.name, str(error))
        self.bytes_read += walk.bytes_read
        for segment, offset, *_ in expected.values():
            if not any(start <= offset < end for start, end in damaged):
                detail = f"segment {segment.hex()} should stand here and does not"
                self._findings.report(name, offset, Kind.SEGMENT.name, detail)

    def _record(self, row: PackRow, name: str, found: Found, expected: dict[int, Any]) -> None:
        payload, kind = found.payload, found.kind
        if found.offset == 0 and kind != Kind.HEADER:
            self._findings.report(name, 0, kind.name, "a pack that does not begin with a header")
        if kind == Kind.SEGMENT:
            held = expected.pop(found.offset, None)
            segment = segment_id_of(payload)
            plain = sealed_plain_length(payload[ID_BYTES:], found.length_bytes - ID_BYTES)
            if held is not None and (held[0], held[2], held[3]) != (segment, found.length_bytes, plain):
                self._otherwise(name, found, f"segment {segment.hex()}")
        elif kind == Kind.HEADER:
            header = decode_payload(payload, HeaderRecord)
            ours = self._catalog.identity
            theirs = (header.repository, header.vault, header.public_key, header.pack)
            if found.offset or theirs != (ours.repository, ours.vault, ours.public_key, row.number):
                self._findings.report(name, found.offset, "HEADER", "this pack belongs to another repository or place")
        elif kind == Kind.PAGES:
            self._pages(name, found, decode_payload(payload, PagesRecord).pages)
        elif kind == Kind.VERSIONS:
            self._versions(name, found, decode_payload(payload, VersionsRecord).versions)
        elif kind == Kind.ENTRIES:
            decode_payload(payload, EntriesRecord)
        elif kind == Kind.DEATHS:
            decode_payload(payload, DeathsRecord)
        elif kind == Kind.COMMIT:
            self._commit(name, found, decode_payload(payload, CommitRecordOnDisk))
        elif kind == Kind.RETIREMENT:
            self._retired.update(decode_payload(payload, RetirementRecord).snapshots)
        elif kind == Kind.CHECKPOINT:
            self._checkpoint(row.number, name, found, decode_payload(payload, CheckpointRecord))
        elif kind == Kind.SUCCESSION:
            self._succession(name, found, decode_payload(payload, SuccessionRecord), self.successions)
        else:
            decode_payload(payload, MendRecord)

    def _otherwise(self, name: str, found: Found, what: str) -> None:
        self._findings.report(name, found.offset, found.kind.name, f"the catalog knows {what} otherwise")

    def _pages(self, name: str, found: Found, pages: Sequence[PageRow]) -> None:
        numbers = [page.number for page in pages]
        statement = "SELECT number, length, extents FROM page WHERE number IN ({})"
        held = {row[0]: row[1:] for row in select_in(self._connection, statement, numbers)}
        for page in pages:
            length, extents = held.get(page.number, (page.length_bytes, page.extents))
            if length != page.length_bytes or not self._same(extents, page.extents):
                self._otherwise(name, found, f"page {page.number}")

    def _versions(self, name: str, found: Found, versions: Sequence[VersionRow]) -> None:
        ids = [row.version_id for row in versions]
        statement = "SELECT id, size, span, body FROM version WHERE id IN ({})"
        held = {row[0]: row[1:] for row in select_in(self._connection, statement, ids)}
        for row in versions:
            size, span, body = held.get(row.version_id, (row.size_bytes, row.span_bytes, row.body))
            same = body == row.body if span else self._same(body, row.body)
            if (size, span) != (row.size_bytes, row.span_bytes) or not same:
                self._otherwise(name, found, f"version {row.version_id.hex()}")

    def _same(self, held: bytes, written: bytes) -> bool:
        """Whether these extents are what was written, or what mending made of it.

        Where a checkpoint tells them anew they are compared there: orders to mend may be gone with what it replaced.
        """
        if held == written or self._overtaken:
            return True
        for redirection in all_mends(self._connection):
            written = redirection.redirect(written)
        return held == written

    def _commit(self, name: str, found: Found, record: CommitRecordOnDisk) -> None:
        row = self._snapshot(record.signed)
        if row is None or row[1:3] != (record.received_ms, record.bytes_received):
            self._otherwise(name, found, "this snapshot")
        else:
            self.commits.add(row[0])

    def _snapshot(self, signed: SignedCommit) -> tuple[Any, ...] | None:
        """(number, received_ms, bytes_received, entry_count) of exactly this commit."""
        row: tuple[Any, ...] | None = self._connection.execute(
            "SELECT number, received_ms, bytes_received, entry_count FROM snapshot "
            "WHERE hash = ? AND record = ? AND signature = ?",
            (signed.hash(), signed.record, signed.signature),
        ).fetchone()
        return row

    def _succession(self, name: str, found: Found, record: SuccessionRecord, seen: set[int]) -> None:
        for number, known in enumerate(succession.records(self._connection), 1):
            if known == record:
                seen.add(number)
                return
        self._otherwise(name, found, "this succession")

    # Checkpoints

    def _checkpoint(self, pack: int, name: str, found: Found, record: CheckpointRecord) -> None:
        content = record.content
        known = self._checkpoints.setdefault(record.checkpoint, _Checkpoint(pack, found.offset))
        if record.part != known.parts or isinstance(content, CheckpointBegin) != (known.parts == 0):
            detail = f"part {record.part} of a checkpoint where part {known.parts} was expected"
            self._findings.report(name, found.offset, "CHECKPOINT", detail)
            return
        known.parts += 1
        if isinstance(content, CheckpointPages):
            self._pages(name, found, content.pages)
        elif isinstance(content, CheckpointVersions):
            self._versions(name, found, content.versions)
        elif isinstance(content, CheckpointEnd):
            known.whole = content.parts == known.parts
        elif isinstance(content, CheckpointSnapshots):
            for row in content.snapshots:
                held = self._snapshot(row.signed)
                if held != (row.number, row.received_ms, row.bytes_received, row.entry_count):
                    self._otherwise(name, found, f"snapshot {row.number}")
                    continue
                known.commits.add(row.number)
                if row.retired:
                    known.retired.add(row.number)
        elif isinstance(content, CheckpointSuccessions):
            for one in content.successions:
                self._succession(name, found, one, known.successions)

    def finish(self) -> None:
        """What only all packs together can say: the checkpoint, and what is retired."""
        state, findings = self._view.state, self._findings
        place = (state.checkpoint_pack, state.checkpoint_offset)
        now = self._catalog.state()
        moved = (now.checkpoint_pack, now.checkpoint_offset) != place
        for checkpoint in self._checkpoints.values():
            if checkpoint.whole:
                self.commits |= checkpoint.commits
                self._retired |= checkpoint.retired
                self.successions |= checkpoint.successions
        if moved:
            # Another was finished meanwhile, and packs read after that may have lost what stands in it now.
            self.commits |= set(self._view.held) | self._view.retired
            self._retired |= self._view.retired
        elif place[0] and not any(c.whole and (c.pack, c.offset) == place for c in self._checkpoints.values()):
            findings.report(
                pack_name(place[0]), place[1], "CHECKPOINT", "the checkpoint that the catalog names is not whole"
            )
        for number in sorted(self._wanted_successions - self.successions) if not moved else ():
            findings.catalog("SUCCESSION", f"succession {number} stands in no pack")
        for number in sorted(self._view.retired - self._retired):
            findings.catalog("RETIREMENT", f"snapshot {number} is marked as retired, and no record says so")
        rows = select_in(
            self._connection, "SELECT number FROM snapshot WHERE NOT retired AND number IN ({})", self._retired
        )
        for (number,) in rows:
            findings.catalog("RETIREMENT", f"snapshot {number} was retired, and the catalog shows it as held")
