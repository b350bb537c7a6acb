"""Checkpoints: all metadata that is held, written anew behind the rest, so that older metadata can be dropped.

`decide_checkpoint` is pure. Writing begins only when nothing is staged, in a pack of its own, and goes on by turns: a
backup may stage and commit in between, for the checkpoint tells the state at its begin, and what came later is told
by the records behind it. The catalog names a checkpoint only once its end is durable; one that a crash cut short is
never whole, and its bytes are dead like any others.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.store import staging, succession
from appliance.store.catalog import Catalog, State
from appliance.store.records import (
    BatchRow,
    CheckpointBatches,
    CheckpointBegin,
    CheckpointEnd,
    CheckpointEntries,
    CheckpointFolders,
    CheckpointPages,
    CheckpointPart,
    CheckpointRecord,
    CheckpointSnapshots,
    CheckpointSuccessions,
    CheckpointVersions,
    EntryRow,
    FolderRow,
    Kind,
    PageRow,
    SnapshotRow,
    VersionRow,
    encode_payload,
)
from appliance.store.repository import Recording
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.check_history import HistoryChecker
from appliance.store.upkeep.findings import Findings, View
from transport.commits import SignedCommit
from transport.names import ID_BYTES

SLACK_BYTES: Final = 8 << 20
"""So much dead metadata is never worth a checkpoint."""
PART_BYTES: Final = 512 << 10
GROUP_BYTES: Final = 4 << 20
PORTION_S: Final = 0.3
"""A group is ended after so many bytes or so long."""
_PORTIONS: Final = 256
_OVERTAKEN: Final = "segment IS NULL AND mended_ms = 0 AND (pack, offset) < (?, ?)"
"""Damaged metadata that nobody reads any more."""

# Beside the blobs, msgpack heads included; estimates for a decision, nothing is sized by them.
_ENTRY_BYTES: Final = 75
_VERSION_BYTES: Final = 34
_PAGE_BYTES: Final = 16
_FOLDER_BYTES: Final = 60
_BATCH_BYTES: Final = 80
_SNAPSHOT_BYTES: Final = 30


# Deciding


@dataclass(frozen=True, slots=True)
class MetadataUse:
    """What the decision stands on, bytes."""

    written_bytes: int
    """All records but segments, from the newest whole checkpoint on."""
    live_bytes: int
    """What a checkpoint would write, estimated; 0 where `written_bytes` alone decides."""
    free_bytes: int
    staged: bool
    damaged_records: int = 0
    """Metadata records found damaged that stand before no whole checkpoint: only the catalog still holds them."""


@dataclass(frozen=True, slots=True)
class Write:
    """A checkpoint is worth it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """None is written now."""

    reason: str


def decide_checkpoint(use: MetadataUse, *, slack_bytes: int = SLACK_BYTES) -> Write | Leave:
    """Write where a metadata record is damaged, or what is dead outweighs what is live by more than `slack_bytes`; but
    nothing may be staged, and it has to fit."""
    dead = use.written_bytes - use.live_bytes
    if not use.damaged_records and dead <= use.live_bytes + slack_bytes:
        return Leave(f"{max(dead, 0)} bytes of dead metadata beside {use.live_bytes} live ones are not worth it")
    if use.staged:
        return Leave("a backup has entries staged: put off until they are committed")
    if use.free_bytes < use.live_bytes + use.live_bytes // 8 + GROUP_BYTES:
        return Leave(f"no room: about {use.live_bytes} bytes would be written, {use.free_bytes} are free")
    if use.damaged_records:
        return Write(f"{use.damaged_records} damaged records of metadata are written anew as the catalog holds them")
    return Write(f"{dead} bytes of dead metadata outweigh {use.live_bytes} live ones")


def metadata_use(access: Access, *, slack_bytes: int = SLACK_BYTES) -> MetadataUse:
    """The figures for `decide_checkpoint`; live metadata is only counted where it can matter."""
    with access.reading() as repository, repository.reading_catalog() as catalog:
        state = catalog.state()
        written = sum(
            pack.size_bytes - pack.segment_bytes
            for pack in catalog.packs().values()
            if pack.number >= state.checkpoint_pack
        )
        (damaged,) = catalog.connection.execute(
            "SELECT count(*) FROM damage WHERE segment IS NULL AND mended_ms = 0 AND (pack, offset) >= (?, ?)",
            (state.checkpoint_pack, state.checkpoint_offset),
        ).fetchone()
        live = _live_bytes(catalog.connection, state) if damaged or written > slack_bytes else 0
        staged = staging.anything_staged(catalog.connection)
    return MetadataUse(written, live, access.disk.free_bytes(access.layout.folder), staged, damaged)


def doubt(catalog: Catalog) -> str:
    """Why the catalog may not stand in for damaged records: the first thing in it that what was signed contradicts.

    "" where trees, chain and extents hold. Reads beside whoever writes.
    """
    findings, view = Findings(), View.of(catalog)
    history = HistoryChecker(catalog, view, findings)
    history.chain(set(range(1, view.state.head + 1)))  # whether the packs hold the commits is not asked here
    history.trees()
    history.versions()
    return str(findings.errors[0].detail) if findings.errors else ""


def settle_damage(access: Access, now_ms: int) -> int:
    """Mark damaged metadata that stands before the newest whole checkpoint as mended; how many records that were."""
    with access.reading() as repository, repository.reading_catalog() as catalog:
        state = catalog.state()
        place = (state.checkpoint_pack, state.checkpoint_offset)
        (waiting,) = catalog.connection.execute(f"SELECT count(*) FROM damage WHERE {_OVERTAKEN}", place).fetchone()
    if not waiting:
        return 0
    with access.turn() as repository, repository.maintaining() as catalog, catalog.transaction() as connection:
        return connection.execute(
            f"UPDATE damage SET mended_ms = ? WHERE {_OVERTAKEN}", (max(1, now_ms), *place)
        ).rowcount


def _live_bytes(connection: sqlite3.Connection, state: State) -> int:
    """What is held, as a checkpoint would write it; lengths only, in short statements."""
    total = 0
    for first in range(_PORTIONS):
        low, high = bytes([first]), bytes([first + 1]) if first + 1 < _PORTIONS else b"\xff" * (ID_BYTES + 1)
        for table, key, blob, each in (
            ("entry", "parent", "sealed", _ENTRY_BYTES),
            ("version", "id", "body", _VERSION_BYTES),
        ):
            statement = f"SELECT count(*), coalesce(sum(length({blob})), 0) FROM {table} WHERE {key} >= ? AND {key} < ?"
            count, size = connection.execute(statement, (low, high)).fetchone()
            total += count * each + size
    step = state.next_page // _PORTIONS + 1
    for start in range(0, state.next_page, step):
        statement = "SELECT count(*), coalesce(sum(length(extents)), 0) FROM page WHERE number >= ? AND number < ?"
        count, size = connection.execute(statement, (start, start + step)).fetchone()
        total += count * _PAGE_BYTES + size
    for table, each, sizes in (
        ("folder", _FOLDER_BYTES, "0"),
        ("batch", _BATCH_BYTES, "0"),
        ("snapshot", _SNAPSHOT_BYTES, "length(record) + length(signature)"),
    ):
        count, size = connection.execute(f"SELECT count(*), coalesce(sum({sizes}), 0) FROM {table}").fetchone()
        total += count * each + size
    return total


# Writing


@dataclass(frozen=True, slots=True)
class Written:
    """A whole checkpoint, durable and named by the catalog."""

    pack: int
    offset: int
    parts: int
    bytes: int


class _StagedMeanwhile(Exception):
    """Something was staged since the decision."""


def write_checkpoint(access: Access) -> Written | Leave:
    """Write one, by turns; Leave where something was staged before it began. DiskFullError leaves it unfinished."""
    writer = _Writer()
    try:
        while not writer.whole:
            with access.turn() as repository, repository.recording(roll=writer.parts == 0) as recording:
                writer.portion(recording)
    except _StagedMeanwhile:
        return Leave("a backup began to stage entries: put off until they are committed")
    return Written(writer.pack, writer.offset, writer.parts, writer.size_bytes)


class _Writer:
    def __init__(self) -> None:
        self._id = secrets.token_bytes(16)
        self._sources: Iterator[_Source] = iter(())
        self._source: _Source | None = None
        self.pack = self.offset = self.parts = self.size_bytes = 0
        self.whole = False

    def portion(self, recording: Recording) -> None:
        """One group. The first one begins the checkpoint, the last one ends it, in the state too."""
        began, connection = time.monotonic(), recording.connection
        if not self.parts:
            self._begin(recording)
        start = recording.group.end
        while True:
            if self._source is None:
                self._add(recording, CheckpointEnd(self.parts + 1))
                recording.state.checkpoint_pack, recording.state.checkpoint_offset = self.pack, self.offset
                self.whole = True
                return
            part = self._source.read(connection)
            if part is None:
                self._source = next(self._sources, None)
            else:
                self._add(recording, part)
            if recording.group.end - start >= GROUP_BYTES or time.monotonic() - began >= PORTION_S:
                return

    def _begin(self, recording: Recording) -> None:
        state = recording.state
        if staging.anything_staged(recording.connection):
            raise _StagedMeanwhile
        self._sources = iter(_sources(state))
        self._source = next(self._sources)
        self.pack, self.offset = recording.group.pack, recording.group.end
        begin = CheckpointBegin(state.head, state.next_page, state.next_batch, state.next_version, state.intake)
        self._add(recording, begin)
        if successions := succession.records(recording.connection):
            self._add(recording, CheckpointSuccessions(successions))

    def _add(self, recording: Recording, content: CheckpointPart) -> None:
        payload = encode_payload(CheckpointRecord(self._id, self.parts, content))
        recording.group.add(Kind.CHECKPOINT, payload)
        self.parts += 1
        self.size_bytes += len(payload)


class _Source:
    """One table, row after row in the order of its key; `build` makes a part of some rows."""

    def __init__(
        self, statement: str, after: tuple[Any, ...], size: Callable[[Any], int], build: Callable[[Any], CheckpointPart]
    ) -> None:
        self._statement = statement
        self._after = after
        self._size = size
        self._build = build

    def read(self, connection: sqlite3.Connection) -> CheckpointPart | None:
        """The next part, of about PART_BYTES; None when there is no more."""
        rows, held = [], 0
        cursor = connection.execute(self._statement, self._after)
        for row in cursor:
            rows.append(row)
            held += self._size(row)
            if held >= PART_BYTES:
                break
        cursor.close()
        if not rows:
            return None
        self._after = rows[-1][: len(self._after)]
        return self._build(rows)


def _sources(state: State) -> list[_Source]:
    """All that is held as of `state`. Rows that come later are numbered or born above it; rows that end later still
    carry the key they had, or one further on that was not read yet."""
    head = state.head

    def died(value: int) -> int:
        return value if value <= head else 0

    return [
        _Source(
            f"SELECT number, length, extents FROM page WHERE number > ? AND number < {state.next_page} ORDER BY number",
            (0,),
            lambda row: len(row[2]) + _PAGE_BYTES,
            lambda rows: CheckpointPages([PageRow(*row) for row in rows]),
        ),
        _Source(
            "SELECT number, id, size, span, body FROM version "
            f"WHERE number > ? AND number < {state.next_version} ORDER BY number",
            (0,),
            lambda row: len(row[4]) + _VERSION_BYTES,
            lambda rows: CheckpointVersions([VersionRow(*row[1:]) for row in rows]),
        ),
        _Source(
            "SELECT number, epoch, salt, commitment, born FROM batch "
            f"WHERE number > ? AND number < {state.next_batch} ORDER BY number",
            (0,),
            lambda _: _BATCH_BYTES,
            lambda rows: CheckpointBatches([BatchRow(*row) for row in rows]),
        ),
        _Source(
            "SELECT parent, path, born, died, kind, size, version, batch, idx, sealed FROM entry "
            f"WHERE (parent, path, born) > (?, ?, ?) AND born <= {head} ORDER BY parent, path, born",
            (b"", b"", -1),
            lambda row: len(row[9]) + _ENTRY_BYTES,
            lambda rows: CheckpointEntries(
                [EntryRow(path, parent, born, died(end), *rest) for parent, path, born, end, *rest in rows]
            ),
        ),
        _Source(
            "SELECT path, died, born, digest FROM folder "
            f"WHERE (path, died) > (?, ?) AND born <= {head} ORDER BY path, died",
            (b"", -1),
            lambda _: _FOLDER_BYTES,
            lambda rows: CheckpointFolders(
                [FolderRow(path, born, died(end), digest) for path, end, born, digest in rows]
            ),
        ),
        _Source(
            "SELECT number, entry_count, received_ms, bytes_received, retired, record, signature FROM snapshot "
            f"WHERE number > ? AND number <= {head} ORDER BY number",
            (0,),
            lambda row: len(row[5]) + len(row[6]) + _SNAPSHOT_BYTES,
            lambda rows: CheckpointSnapshots(
                [SnapshotRow(n, count, at, size, bool(retired), SignedCommit(*signed))
                 for n, count, at, size, retired, *signed in rows]
            ),
        ),
    ]
