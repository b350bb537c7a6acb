"""Rebuild: a catalog made anew from packs alone, at a path of its own.

Two walks over the packs: the first notes every segment and where each other record stands, the second carries those
out in order (`replay`), beginning at the newest whole checkpoint. What is damaged is named and passed over; which
segments stood in such bytes a former catalog may say, so that they can still be mended. Nothing that was retired comes
back: the sweep that a live catalog gets is made here too. Never writes into a pack.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final

from appliance.store import staging
from appliance.store.catalog import Catalog
from appliance.store.durable import Disk
from appliance.store.errors import DamagedRepositoryError
from appliance.store.layout import Layout
from appliance.store.packs import Damage, Found, Identity, PackWalk, is_foreign, read_header
from appliance.store.records import (
    OVERHEAD_BYTES,
    CheckpointBegin,
    CheckpointEnd,
    CheckpointRecord,
    CommitRecordOnDisk,
    Kind,
    checksum_holds,
    decode_payload,
    sealed_plain_length,
    segment_id_of,
)
from appliance.store.upkeep import sweep
from appliance.store.upkeep.findings import DamagedSpot
from appliance.store.upkeep.replay import Replay
from transport.commits import CommitRecord, SignedCommit
from transport.errors import DecodeError, PilulierError
from transport.keys import verify_commit
from transport.names import ID_BYTES

_DIFFERENCES_LIMIT: Final = 1000
_ROWS: Final = 4096
Remembered = Callable[[DamagedSpot], Sequence[staging.SegmentRow]]
"""The segments that a former catalog knew within a damaged spot, by offset."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a metadata record stands."""

    pack: int
    generation: int
    offset: int
    kind: Kind
    length_bytes: int


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild found. `differences` are sentences about what is not as it should be in the packs."""

    records_read: int = 0
    bytes_read: int = 0
    segments: int = 0
    snapshots: int = 0
    differences: list[str] = field(default_factory=list)
    damage: list[DamagedSpot] = field(default_factory=list)
    """What of the packs does not read well; segments are read no further than to their ids."""

    def note(self, text: str) -> None:
        """Keep a sentence, up to a bound."""
        if len(self.differences) < _DIFFERENCES_LIMIT:
            self.differences.append(text)


def rebuild_catalog(
    layout: Layout,
    target: Path,
    *,
    disk: Disk | None = None,
    remembered: Remembered = lambda spot: (),
    progress: Callable[[int, int], None] | None = None,
) -> Rebuilt:
    """Make the catalog of the packs in `layout` at `target`, a path where nothing is; not yet durable.

    `remembered` is asked about damaged bytes only. DamagedRepositoryError where no pack has a readable header.
    `progress` is told packs done and packs in all.
    """
    disk = disk or Disk()
    found = Rebuilt()
    packs = _newest_generations(layout)
    identity = _identity(layout, packs)
    catalog = Catalog.create(disk, target, identity)
    try:
        connection = catalog.connection
        connection.execute("PRAGMA synchronous = OFF")  # nobody looks at it before it is whole and fsynced
        with catalog.transaction():
            survey = _Survey(layout, identity, connection, found, remembered)
            for done, (number, generation) in enumerate(packs):
                survey.walk(number, generation, last=number == packs[-1][0])
                if progress is not None:
                    progress(done + 1, len(packs))
            (found.segments,) = connection.execute("SELECT count(*) FROM segment").fetchone()
            builder = _Builder(layout, identity, catalog, survey, found)
            try:
                builder.build()
            finally:
                builder.close()
    finally:
        catalog.close()
    return found


def _newest_generations(layout: Layout) -> list[tuple[int, int]]:
    """(number, generation) of each pack, ascending, the newest generation of each."""
    newest = {file.number: file.generation for file in layout.pack_files()}
    if not newest:
        raise DamagedRepositoryError(f"{layout.packs} holds no pack: check the path, or that its disk is mounted")
    return sorted(newest.items())


def _identity(layout: Layout, packs: Sequence[tuple[int, int]]) -> Identity:
    """Whose packs these are, as most readable headers say; the first of them where that is undecided."""
    counted: Counter[Identity] = Counter()
    for number, generation in packs:
        header = read_header(layout, number, generation)
        if header is not None:
            counted[Identity(header.repository, header.vault, header.public_key)] += 1
    for identity, _ in counted.most_common(1):
        return identity
    raise DamagedRepositoryError(f"no pack in {layout.packs} begins with a readable header")


class _Survey:
    """The first walk: segments go into the catalog at once, places of everything else are remembered."""

    def __init__(
        self,
        layout: Layout,
        identity: Identity,
        connection: sqlite3.Connection,
        found: Rebuilt,
        remembered: Remembered,
    ) -> None:
        self._layout = layout
        self._identity = identity
        self._connection = connection
        self._found = found
        self._remembered = remembered
        self._expected = 1
        self._segments: list[staging.SegmentRow] = []
        self.places: list[_Place] = []
        self.checkpoints: dict[bytes, list[tuple[_Place, bool]]] = {}
        self.commits: dict[int, list[SignedCommit]] = {}

    def walk(self, number: int, generation: int, *, last: bool) -> None:
        """One pack. Damage at the end of the last one is the tail that a crash leaves, and does not count."""
        found, path = self._found, self._layout.pack(number, generation)
        for absent in range(self._expected, number):
            found.note(f"pack {self._layout.pack(absent).name} is missing")
        self._expected = number + 1
        size = path.stat().st_size
        if is_foreign(self._layout, number, generation, self._identity):
            # Its bytes count as metadata, which is never taken out of a pack that is left alone.
            found.note(f"{path.name}: this pack belongs to another repository or another place, and is passed over")
            self._connection.execute("INSERT INTO pack VALUES (?, ?, ?, ?)", (number, generation, size, 0))
            return
        walk = PackWalk(path, size, read_data=False)
        counted = segment_bytes = 0
        for step in walk:
            if isinstance(step, Damage):
                if last and step.end == size:
                    break
                found.note(f"{path.name} at byte {step.offset}: {step.detail}")
                spot = DamagedSpot(number, generation, step.offset, step.end, step.kind, step.detail)
                found.damage.append(spot)
                for row in self._remembered(spot):
                    self._segments.append(row)
                    segment_bytes += OVERHEAD_BYTES + row[3]
                counted = step.end
                continue
            counted = step.offset + OVERHEAD_BYTES + step.length_bytes
            found.records_read += 1
            if step.kind == Kind.SEGMENT:
                segment_bytes += OVERHEAD_BYTES + step.length_bytes
            try:
                self._record(number, generation, step)
            except DecodeError as error:
                found.note(f"{path.name} at byte {step.offset}: {error}")
        found.bytes_read += walk.bytes_read
        self._flush()
        self._connection.execute("INSERT INTO pack VALUES (?, ?, ?, ?)", (number, generation, counted, segment_bytes))

    def _record(self, number: int, generation: int, step: Found) -> None:
        place = _Place(number, generation, step.offset, step.kind, step.length_bytes)
        if step.kind == Kind.SEGMENT:
            prefix = step.payload
            plain = sealed_plain_length(prefix[ID_BYTES:], step.length_bytes - ID_BYTES)
            self._segments.append((segment_id_of(prefix), number, step.offset, step.length_bytes, plain))
            if len(self._segments) >= _ROWS:
                self._flush()
        elif step.kind == Kind.HEADER:
            if step.offset:
                raise DecodeError("a header stands within the pack")
        elif step.kind == Kind.CHECKPOINT:
            record = decode_payload(step.payload, CheckpointRecord)
            parts = self.checkpoints.setdefault(record.checkpoint, [])
            begins = isinstance(record.content, CheckpointBegin)
            if record.part != len(parts) or begins != (not parts):
                raise DecodeError(f"part {record.part} of a checkpoint where part {len(parts)} was expected")
            ends = isinstance(record.content, CheckpointEnd) and record.content.parts == len(parts) + 1
            parts.append((place, ends))
        else:
            if step.kind == Kind.COMMIT:
                self._commit(decode_payload(step.payload, CommitRecordOnDisk).signed)
            self.places.append(place)

    def _commit(self, signed: SignedCommit) -> None:
        """Whose turn it was to sign is known on the second walk alone."""
        with contextlib.suppress(DecodeError):
            self.commits.setdefault(signed.decoded().number, []).append(signed)

    def _flush(self) -> None:
        # An id is taken again only after its first segment was forgotten: of two records the last one counts.
        self._connection.executemany(
            "INSERT OR REPLACE INTO segment (id, pack, offset, length, plain) VALUES (?, ?, ?, ?, ?)", self._segments
        )
        self._segments.clear()

    def newest_checkpoint(self) -> list[_Place]:
        """The parts of the newest whole checkpoint; empty for none."""
        whole = [[place for place, _ in parts] for parts in self.checkpoints.values() if parts[-1][1]]
        return max(whole, key=lambda places: (places[0].pack, places[0].offset), default=[])


class _Builder:
    """The second walk: records are carried out."""

    def __init__(
        self, layout: Layout, identity: Identity, catalog: Catalog, survey: _Survey, found: Rebuilt
    ) -> None:
        self._layout = layout
        self._catalog = catalog
        self._survey = survey
        self._found = found
        self._at = ""
        self._file: FileIO | None = None
        self._state = catalog.state()
        self._replay = Replay(catalog.connection, self._state, identity, self._note, self._better)

    def _note(self, text: str) -> None:
        self._found.note(f"{self._at}: {text}")

    def _better(self, commit: CommitRecord) -> bool:
        """Whether another properly signed commit of this number, further on, may hold what this one does not."""
        same = [one for one in self._survey.commits.get(commit.number, []) if self._is_signed(one)]
        self._survey.commits[commit.number] = same[1:]
        return bool(same[1:])

    def _is_signed(self, signed: SignedCommit) -> bool:
        try:
            verify_commit(self._replay.signer(signed.decoded().number), signed)
        except PilulierError:
            return False
        return True

    def build(self) -> None:
        """Checkpoint, replay, sweep; the state is saved and its transaction left to the caller."""
        state = self._state
        begin = (0, 0)
        parts = self._survey.newest_checkpoint()
        for place in parts:
            payload = self._payload(place)
            if payload is not None:
                self._replay.take_part(decode_payload(payload, CheckpointRecord).content)
        if parts:
            begin = (parts[0].pack, parts[0].offset)
            state.checkpoint_pack, state.checkpoint_offset = begin
            self._replay.checkpoint_ends(*begin)
        for place in self._survey.places:
            if (place.pack, place.offset) < begin:
                continue
            payload = self._payload(place)
            if payload is None:
                continue
            try:
                self._replay.take(place.pack, place.offset, place.kind, payload)
            except DecodeError as error:
                self._note(str(error))
        self._settle()
        self._found.snapshots = state.head
        self._catalog.save(state)

    def _payload(self, place: _Place) -> bytes | None:
        """What stands at a place of the first walk; None, and a note, where the disk no longer says the same."""
        path = self._layout.pack(place.pack, place.generation)
        self._at = f"{path.name} at byte {place.offset}"
        try:
            if self._file is None or self._file.name != str(path):
                self.close()
                self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - kept for the next record, see close()
            record = os.pread(self._file.fileno(), OVERHEAD_BYTES + place.length_bytes, place.offset)
        except OSError as error:
            self._note(f"cannot be read ({error.strerror})")
            return None
        if not checksum_holds(record[:OVERHEAD_BYTES], record[OVERHEAD_BYTES:]):
            self._note("this record reads otherwise than a moment ago")
            return None
        return record[OVERHEAD_BYTES:]

    def close(self) -> None:
        """Give the open pack back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _settle(self) -> None:
        """What is staged belongs to an upload that will begin anew; then the sweep."""
        state, connection = self._state, self._catalog.connection
        staging.drop_staged(connection, state)
        pack, offset = self._replay.committed_at
        row = connection.execute(
            "SELECT coalesce(max(number), 0) FROM segment WHERE pack < ? OR (pack = ? AND offset < ?)",
            (pack, pack, offset),
        ).fetchone()
        state.committed_segment = state.leased_segment = row[0]
        state.leased_version = self._replay.committed_version
        sweep.sweep_whole(self._catalog, state)
