"""The repository of one machine: the façade over packs, catalog, intake, snapshots, listing and check.

Order of every write: records appended, fsync, catalog transaction, and only then the return that callers may
acknowledge. One writer per folder (flock); readers elsewhere open it read-only. Methods may be called from any
thread, one at a time. After a FatalDiskError, or an interruption in the middle of a write, the object refuses
everything: opening anew finds the last durable state.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.store import care, listing, recovery, snapshots, staging, stats, succession
from appliance.store.catalog import Catalog, State, select_in, sqlite_errors
from appliance.store.durable import Disk, publish
from appliance.store.errors import (
    DamagedRecordError,
    DiskFullError,
    FatalDiskError,
    StoreError,
    UnknownItemError,
)
from appliance.store.intake import Intake, Item, fresh_items
from appliance.store.layout import Layout, pack_name
from appliance.store.packs import Group, Identity, PackWriter, read_record
from appliance.store.records import (
    CommitRecordOnDisk,
    Kind,
    StagedBy,
    SuccessionRecord,
    encode_payload,
    segment_id_of,
)
from appliance.store.stats import RepositoryStats as RepositoryStats
from appliance.store.turns import WriterTurn
from appliance.store.upkeep import check
from transport.commits import SignedCommit, StoredCommit
from transport.errors import DecodeError, IntegrityError, ProtocolError
from transport.extents import ExtentPage
from transport.keys import verify_commit
from transport.messages import CareRange
from transport.names import (
    DIGEST_BYTES,
    ID_BYTES,
    Digest,
    PathId,
    RepositoryId,
    SegmentId,
    SessionId,
    VaultId,
    VersionId,
    checked_id,
)
from transport.signers import Signers
from transport.succession import SignedSuccession
from transport.tree import EntryPage

RESERVE_BYTES: Final = 64 << 20
"""Room kept free for listing, restoring and pruning: below it new data is refused."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A group of records on its way, within its transaction."""

    connection: sqlite3.Connection
    state: State
    group: Group


class Repository:
    """One machine's repository. Made by `create` or `open`, ended by `close`."""

    def __init__(
        self,
        layout: Layout,
        catalog: Catalog,
        disk: Disk,
        reserve_bytes: int,
        turn: WriterTurn | None,
        writer: PackWriter | None,
    ) -> None:
        self._layout = layout
        self._catalog = catalog
        self._disk = disk
        self._reserve_bytes = reserve_bytes
        self._turn = turn
        self._writer = writer
        self._mutex = threading.RLock()
        self._ended: str | None = None
        self.repository: RepositoryId = catalog.identity.repository
        self.vault: VaultId = catalog.identity.vault
        self.public_key: bytes = catalog.identity.public_key

    # Beginning and end

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        repository: RepositoryId,
        vault: VaultId,
        public_key: bytes,
        disk: Disk | None = None,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> Repository:
        """A new repository in `folder`, which must not exist; made beside it and renamed, so never half there."""
        if folder.exists():
            raise StoreError(f"{folder} exists already: a repository is made in a new folder")
        checked_id(repository, "a repository id")
        checked_id(vault, "a vault id")
        if len(public_key) != DIGEST_BYTES:
            raise DecodeError(f"a public key is {len(public_key)} bytes long, not {DIGEST_BYTES}")
        disk = disk or Disk()
        recovery.make_nursery(disk, Layout(folder), Identity(repository, vault, public_key))
        publish(disk, Layout(folder).nursery, folder)
        return cls.open(folder, disk=disk, reserve_bytes=reserve_bytes)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        read_only: bool = False,
        disk: Disk | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        wait_s: float = 0.0,
        catalog_at: Path | None = None,
    ) -> Repository:
        """An existing repository. For writing, the tail that no acknowledgement covers is cut; BusyRepositoryError
        if another writer keeps it for longer than `wait_s`. Read-only changes nothing and works beside a writer; only
        then may the catalog stand elsewhere, at `catalog_at`."""
        layout = Layout(folder)
        if not folder.is_dir():
            raise StoreError(f"{folder} is not there: check that its disk is mounted")
        place = catalog_at if catalog_at is not None and read_only else layout.catalog
        if not place.exists():
            raise StoreError(f"{folder} holds no catalog: check the path, or rebuild the catalog")
        disk = disk or Disk()
        if read_only:
            return cls(layout, Catalog(disk, place, read_only=True), disk, reserve_bytes, None, None)
        turn = WriterTurn(layout, wait_s=wait_s)
        try:
            catalog = Catalog(disk, layout.catalog, read_only=False)
            try:
                with sqlite_errors(layout.catalog):
                    writer = recovery.open_packs(disk, layout, catalog)
            except BaseException:
                catalog.close()
                raise
        except BaseException:
            turn.close()
            raise
        return cls(layout, catalog, disk, reserve_bytes, turn, writer)

    def close(self) -> None:
        """Give files and the lock back. Nothing is lost by not calling it."""
        with self._mutex:
            self._ended = self._ended or f"{self._layout.folder} was closed"
            if self._writer is not None:
                self._writer.close()
            self._catalog.close()
            if self._turn is not None:
                self._turn.close()

    def wanted(self) -> bool:
        """Whether another process waits for its turn to write here: close between two pieces of work."""
        return self._turn is not None and not self._ended and self._turn.wanted()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._mutex, sqlite_errors(self._catalog.path):
            if self._ended:
                raise StoreError(self._ended)
            yield

    @contextmanager
    def _writing(self) -> Iterator[PackWriter]:
        """A write: whatever leaves the packs and the catalog unsure of each other ends this object."""
        with self._mutex:
            if self._ended:
                raise StoreError(self._ended)
            if self._writer is None:
                raise StoreError(f"{self._layout.folder} was opened read-only")
            try:
                with sqlite_errors(self._catalog.path):
                    yield self._writer
            except FatalDiskError as error:
                self._ended = str(error)
                raise
            except Exception:
                raise
            except BaseException:
                self._ended = f"a write to {self._layout.folder} was interrupted: open it anew"
                raise

    @contextmanager
    def maintaining(self) -> Iterator[Catalog]:
        """The catalog, for what maintenance writes there in transactions of its own; raises as every write does."""
        with self._writing():
            yield self._catalog

    @contextmanager
    def reading_catalog(self) -> Iterator[Catalog]:
        """The catalog, for what maintenance reads there in short statements."""
        with self._reading():
            yield self._catalog

    def close_pack(self, number: int) -> None:
        """Begin a new pack if `number` is the open one, so that it never grows again."""
        with self._writing() as writer:
            if writer.pack == number:
                recovery.begin_pack(writer, self._catalog)

    @contextmanager
    def recording(self, *, roll: bool = False) -> Iterator[Recording]:
        """One group of maintenance's own records, made durable as those of an upload are. It may use the reserve.

        `roll` closes the open pack first, if the body adds a record.
        """
        with self._writing() as writer, self._recording(writer, roll=roll) as (state, group):
            yield Recording(self._catalog.connection, state, group)

    @contextmanager
    def _recording(self, writer: PackWriter, *, roll: bool = False) -> Iterator[tuple[State, Group]]:
        """One group: the body fills it and changes the state; then append, fsync, catalog transaction."""
        group = writer.begin(roll=roll)
        try:
            with self._catalog.transaction():
                state = self._catalog.state()
                yield state, group
                if group.records > (1 if group.start == 0 else 0):
                    writer.write(group)
                    self._catalog.save_pack(group.pack, group.end, group.segment_bytes)
                else:
                    group.end = group.start
                self._catalog.save(state)
        except FatalDiskError:
            raise
        except Exception:
            writer.abandon(group)
            raise
        if group.end > group.start:
            writer.accept(group)

    # Uploading

    def begin(self, session: SessionId, head: Digest) -> int:
        """Begin or resume an upload session; the highest message number of it that is durable.

        StaleHeadError (code "stale-head") unless `head` is the hash of the newest snapshot (FIRST_PREVIOUS for
        none); a session being resumed may also name a snapshot that it started from or made itself.
        """
        checked_id(session, "a session id")
        with self._writing():
            state = self._catalog.state()
            resumed = state.session == session and state.intake > 0
            snapshots.check_head(self._catalog.connection, state, head, resumed=resumed)
            if resumed:
                return state.received_upto
            with self._catalog.transaction() as connection:
                staging.move_lease(connection, state)
                staging.drop_staged(connection, state)
                state.session, state.session_start, state.received_upto = session, state.head, 0
                state.intake += 1
                self._catalog.save(state)
            return 0

    def held_after(self, after: SegmentId, limit: int) -> list[SegmentId]:
        """Segments that no snapshot covers yet, ids above `after`, ascending."""
        checked_id(after, "a segment id")
        with self._reading():
            state = self._catalog.state()
            rows = self._catalog.connection.execute(
                "SELECT id FROM segment WHERE number > ? AND +id > ? ORDER BY +id LIMIT ?",
                (state.committed_segment, after, limit),
            ).fetchall()
        return [row[0] for row in rows]

    def held_count(self) -> int:
        """How many segments no snapshot covers yet."""
        with self._reading():
            state = self._catalog.state()
            row = self._catalog.connection.execute(
                "SELECT count(*) FROM segment WHERE number > ?", (state.committed_segment,)
            ).fetchone()
        return int(row[0])

    def has_versions(self, ids: Sequence[VersionId]) -> list[VersionId]:
        """Those of the versions that are held whole, and so can be bases, in the order asked."""
        with self._reading():
            rows = select_in(self._catalog.connection, "SELECT id FROM version WHERE id IN ({})", set(ids))
            held = {row[0] for row in rows} - care.unsound_versions(self._catalog.connection)
        return [version for version in ids if version in held]

    def care(self) -> list[CareRange]:
        """Which parts of present files the next backup is asked to send again."""
        with self._reading():
            return care.care_ranges(self._catalog.connection)

    def stage(self, items: Sequence[Item], *, now_ms: int = 0) -> int:
        """Make a group of numbered messages durable, whole or not at all: one append, one fsync, one transaction.

        Returns the highest durable number. Numbers that are durable already are skipped; a gap, or numbers that do
        not ascend, are ProtocolError, as is every other fault of the peer (or DecodeError). DiskFullError (code
        "disk-full") where there is no room: nothing of the group is kept.
        """
        with self._writing() as writer:
            state = self._catalog.state()
            fresh = fresh_items(state, items)
            if not fresh:
                return state.received_upto
            self._check_room(sum(len(payload) for _, payload in fresh))
            with self._recording(writer) as (state, group):
                intake = Intake(self._catalog.connection, state, group, self._catalog.identity, now_ms)
                for message, payload in fresh:
                    intake.take(message, payload)
                intake.finish()
                state.received_upto = fresh[-1][0].seq
            return state.received_upto

    def _check_room(self, incoming_bytes: int) -> None:
        free = self._disk.free_bytes(self._layout.folder)
        if free - incoming_bytes < self._reserve_bytes:
            raise DiskFullError(
                f"the appliance's disk has {free} bytes left and keeps {self._reserve_bytes} in reserve: "
                "free some space and try again; what was backed up before can be restored"
            )

    def commit(self, seq: int, signed: SignedCommit, *, received_ms: int, bytes_received: int) -> int:
        """Make a snapshot of what the session staged; its number.

        Refused with IntegrityError (signature, vault, broken tree, drifted ledger: codes "integrity",
        "commit-refused", "drift") or StaleHeadError; what was staged is kept. A commit that was made already by the
        same session is answered with its number.
        """
        with self._writing() as writer:
            connection = self._catalog.connection
            state = self._catalog.state()
            if not state.intake:
                raise ProtocolError("a commit came before an upload session was begun")
            if seq <= state.received_upto:
                row = connection.execute(
                    "SELECT number FROM snapshot WHERE hash = ?", (signed.hash(),)
                ).fetchone()
                if row is not None and row[0] > state.session_start:
                    return int(row[0])
                raise ProtocolError(f"message {seq} was something else than this commit")
            if seq != state.received_upto + 1:
                raise ProtocolError(f"message {seq} came where {state.received_upto + 1} was expected")
            record = verify_commit(succession.signers(connection, self._catalog.identity).current, signed)
            if record.vault != self.vault or record.repository != self.repository:
                raise IntegrityError(f"snapshot {record.number} was made for another repository or vault than this one")
            snapshots.check_place(connection, state, record)
            payload = encode_payload(
                CommitRecordOnDisk(
                    StagedBy(state.session, state.intake, seq), received_ms, bytes_received, signed
                )
            )
            with self._recording(writer) as (state, group):
                snapshots.apply_staged(connection, state, record)
                offset = group.add(Kind.COMMIT, payload)
                snapshots.add_snapshot(
                    connection,
                    state,
                    signed,
                    received_ms=received_ms,
                    bytes_received=bytes_received,
                    pack=group.pack,
                    offset=offset,
                )
                state.received_upto = seq
            return state.head

    def succeed(self, signed: SignedSuccession, *, received_ms: int) -> None:
        """Another key signs from now on; durable on return. The caller answers for the approver.

        StaleHeadError where it stands behind another snapshot than the head, IntegrityError where it does not follow.
        """
        with self._writing() as writer, self._recording(writer) as (state, group):
            record = SuccessionRecord(received_ms, signed)
            succession.take(self._catalog.connection, self._catalog.identity, state, group, record)

    # Reading

    def successions(self) -> list[SignedSuccession]:
        """Those that took over from the key of the founding, in order."""
        with self._reading():
            return succession.signed_successions(self._catalog.connection)

    def signers(self) -> Signers:
        """Who signs which snapshots."""
        return Signers.of(self.public_key, self.successions())

    @property
    def head(self) -> SignedCommit | None:
        """The newest snapshot's commit."""
        with self._reading():
            return snapshots.signed_commit(self._catalog.connection, self._catalog.state().head)

    @property
    def head_number(self) -> int:
        """The newest snapshot's number, 0 for none."""
        with self._reading():
            return self._catalog.state().head

    def commits(self, after: int, limit: int) -> list[StoredCommit]:
        """Commits numbered above `after`, ascending."""
        with self._reading():
            return snapshots.stored_commits(self._catalog.connection, after, limit)

    def children(
        self, snapshot: int, folder: PathId, after: PathId, limit_bytes: int = listing.PAGE_LIMIT_BYTES
    ) -> EntryPage:
        """A page of a folder's entries in a snapshot, path ids above `after`; empty for what is no folder there."""
        with self._reading():
            listing.check_snapshot(self._catalog.connection, snapshot)
            return listing.children(self._catalog.connection, snapshot, folder, after, limit_bytes)

    def tree(self, snapshot: int, after: PathId, limit_bytes: int = listing.PAGE_LIMIT_BYTES) -> EntryPage:
        """A page of all entries of a snapshot, path ids above `after`."""
        with self._reading():
            listing.check_snapshot(self._catalog.connection, snapshot)
            return listing.tree(self._catalog.connection, snapshot, after, limit_bytes)

    def extents(self, version: VersionId, start: int, limit: int) -> ExtentPage:
        """At most `limit` extents of a version from byte `start`, where a former page ended."""
        with self._reading():
            return listing.extents(self._catalog.connection, version, start, limit)

    def extent_pages(self, versions: Sequence[VersionId], start: int, limit: int) -> list[ExtentPage]:
        """Pages of at most `limit` extents in all, of as many of these versions as that reaches, in their order."""
        with self._reading():
            return listing.extent_pages(self._catalog.connection, versions, start, limit)

    def file_versions(self, snapshot: int, paths: Sequence[PathId]) -> list[VersionId]:
        """The versions of a snapshot's files under these paths; of all its files where none is named."""
        with self._reading():
            listing.check_snapshot(self._catalog.connection, snapshot)
            return list(listing.file_versions(self._catalog.connection, snapshot, paths))

    def read_segment(self, segment: SegmentId, *, summed: bool = True) -> memoryview:
        """A sealed segment. UnknownItemError if it is not held, DamagedRecordError naming pack and offset if its
        record is not what was written; without `summed` only its head is looked at, for who checks the seal itself."""
        place = self._place_of(segment)
        while True:
            try:
                return self._segment_at(segment, *place, summed=summed)
            except DamagedRecordError:
                # A compaction may have moved it between the look and the read.
                former, place = place, self._place_of(segment)
                if place == former:
                    raise

    def _place_of(self, segment: SegmentId) -> tuple[int, int, int, int]:
        """Pack, generation, offset, payload length."""
        with self._reading():
            row = self._catalog.connection.execute(
                "SELECT s.pack, p.generation, s.offset, s.length FROM segment s JOIN pack p ON p.number = s.pack "
                "WHERE s.id = ?",
                (segment,),
            ).fetchone()
        if row is None:
            raise UnknownItemError(f"segment {segment.hex()} is not held")
        pack, generation, offset, length = row
        return pack, generation, offset, length

    def _segment_at(
        self, segment: SegmentId, pack: int, generation: int, offset: int, length: int, *, summed: bool
    ) -> memoryview:
        payload = read_record(self._layout, pack, offset, Kind.SEGMENT, length, generation=generation, summed=summed)
        if segment_id_of(payload) != segment:
            detail = f"another segment than {segment.hex()} stands here"
            raise DamagedRecordError(pack_name(pack, generation), offset, detail)
        return payload[ID_BYTES:]

    def sample(self, count: int) -> list[SegmentId]:
        """At most `count` committed segments, chosen at random by us."""
        with self._reading():
            top, chance = self._catalog.state().committed_segment, random.SystemRandom()
            connection = self._catalog.connection
            if 4 * count >= top:
                rows = connection.execute("SELECT id FROM segment WHERE number <= ?", (top,)).fetchall()
            else:
                # Numbers have gaps where segments were forgotten: the next held one is taken.
                statement = "SELECT id FROM segment WHERE number BETWEEN ? AND ? ORDER BY number LIMIT 1"
                drawn = (
                    connection.execute(statement, (chance.randint(1, top), top)).fetchone()
                    for _ in range(2 * max(count, 0))
                )
                rows = list({row for row in drawn if row})
        return [row[0] for row in chance.sample(rows, min(max(count, 0), len(rows)))]

    def stats(self) -> RepositoryStats:
        """What is held; reads the whole list of extents."""
        with self._reading():
            return stats.stats(self._catalog)

    def check(self, read_data: bool = False) -> check.CheckReport:
        """Compare packs, catalog and signatures; with `read_data`, every record's checksum too. Changes nothing."""
        with self._reading():
            return check.check_repository(self._layout, self._catalog, read_data=read_data)
