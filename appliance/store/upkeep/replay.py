"""Replay: what each metadata record of the packs does to an empty catalog, damage included.

The rules are FORMAT.md's "From records to snapshots". A record that cannot be taken is named in `differences` and
passed over, so that one bad record costs what it held and nothing else. Of several commits with one number the one
whose signature, predecessor and root all hold is taken, wherever it stands. Works on an open transaction; reads no
pack itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from appliance.store import mending, snapshots, staging, succession
from appliance.store.catalog import FOREVER, State
from appliance.store.packs import Identity
from appliance.store.records import (
    CheckpointBatches,
    CheckpointBegin,
    CheckpointEntries,
    CheckpointFolders,
    CheckpointPages,
    CheckpointPart,
    CheckpointSnapshots,
    CheckpointSuccessions,
    CheckpointVersions,
    CommitRecordOnDisk,
    DeathsRecord,
    EntriesRecord,
    EntryRow,
    Kind,
    MendRecord,
    PageRow,
    PagesRecord,
    RetirementRecord,
    SnapshotRow,
    StagedBy,
    SuccessionRecord,
    VersionRow,
    VersionsRecord,
    decode_payload,
)
from transport.commits import CommitRecord
from transport.errors import IntegrityError, PilulierError
from transport.keys import verify_commit
from transport.signers import Signers
from transport.tree import EntryRecord


class Replay:
    """Carries out records: first all parts of a checkpoint, then what stands behind its begin, in order.

    `note` takes one sentence about each thing that is not as it should be. `better` says of a commit whose root does
    not hold whether another of the same number stands further on.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        state: State,
        identity: Identity,
        note: Callable[[str], None],
        better: Callable[[CommitRecord], bool],
    ) -> None:
        self._connection = connection
        self._state = state
        self._identity = identity
        self._note = note
        self._better = better
        self._signers: Signers | None = None
        """As far as known; read anew after each succession, not for each of many thousand commits."""
        self.committed_at = (0, 0)
        """Pack and offset of the newest commit or release: what stands before it is committed."""
        self.committed_version = 0
        """The same for versions, by number."""

    def take(self, pack: int, offset: int, kind: Kind, payload: bytes | memoryview) -> None:
        """One record of an upload or of maintenance. DecodeError where it is none; everything else wrong is noted."""
        if kind == Kind.PAGES:
            self._pages(decode_payload(payload, PagesRecord).pages)
        elif kind == Kind.VERSIONS:
            self._versions(decode_payload(payload, VersionsRecord).versions)
        elif kind == Kind.ENTRIES:
            self._entries(decode_payload(payload, EntriesRecord))
        elif kind == Kind.DEATHS:
            self._deaths(decode_payload(payload, DeathsRecord))
        elif kind == Kind.COMMIT:
            self._commit(pack, offset, decode_payload(payload, CommitRecordOnDisk))
        elif kind == Kind.RETIREMENT:
            self._retirement(pack, offset, decode_payload(payload, RetirementRecord))
        elif kind == Kind.MEND:
            self._mend(decode_payload(payload, MendRecord))
        elif kind == Kind.SUCCESSION:
            self._succession(decode_payload(payload, SuccessionRecord))

    def signer(self, number: int) -> bytes:
        """The key that signs snapshot `number`, as far as the records taken so far say."""
        if self._signers is None:
            self._signers = succession.signers(self._connection, self._identity)
        return self._signers.at(number)

    # What an upload wrote

    def _pages(self, rows: Sequence[PageRow]) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO page VALUES (?, ?, ?)", [(row.number, row.length_bytes, row.extents) for row in rows]
        )
        self._state.next_page = max([self._state.next_page, *(row.number + 1 for row in rows)])

    def _versions(self, rows: Sequence[VersionRow]) -> None:
        first = self._state.next_version
        self._state.next_version += len(rows)
        self._connection.executemany(
            "INSERT OR IGNORE INTO version (id, number, size, span, body) VALUES (?, ?, ?, ?, ?)",
            [
                (row.version_id, number, row.size_bytes, row.span_bytes, row.body)
                for number, row in enumerate(rows, first)
            ],
        )

    def _stands_in(self, by: StagedBy) -> None:
        """What another intake staged is forgotten."""
        if by.intake != self._state.intake:
            staging.drop_staged(self._connection, self._state)
            self._state.intake = by.intake

    def _entries(self, record: EntriesRecord) -> None:
        self._stands_in(record.by)
        self._attempt(lambda: staging.stage_entries(self._connection, self._state, record.number, record.batch))

    def _deaths(self, record: DeathsRecord) -> None:
        self._stands_in(record.by)
        self._attempt(lambda: staging.stage_deaths(self._connection, self._state, record.paths))

    def _attempt(self, action: Callable[[], object]) -> bool:
        """Do it whole or not at all; False, and a note, where it cannot be."""
        live, batch = self._state.live_entries, self._state.next_batch
        self._connection.execute("SAVEPOINT attempt")
        try:
            action()
        except (PilulierError, sqlite3.IntegrityError) as error:
            self._connection.execute("ROLLBACK TO attempt")
            self._connection.execute("RELEASE attempt")
            self._state.live_entries, self._state.next_batch = live, batch
            self._note(str(error))
            return False
        self._connection.execute("RELEASE attempt")
        return True

    # Snapshots

    def _commit(self, pack: int, offset: int, record: CommitRecordOnDisk) -> None:
        state = self._state
        try:
            commit = verify_commit(self.signer(record.signed.decoded().number), record.signed)
            if commit.vault != self._identity.vault or commit.repository != self._identity.repository:
                raise IntegrityError(f"the commit of snapshot {commit.number} was made for another repository")
            if commit.number <= state.head and self._known(record):
                return
            snapshots.check_place(self._connection, state, commit)
        except PilulierError as error:
            self._note(f"a commit is passed over: {error}")
            return
        self._stands_in(record.by)
        if not self._attempt(lambda: snapshots.apply_staged(self._connection, state, commit)):
            if self._better(commit):
                return
            self._make_do(commit)
        snapshots.add_snapshot(
            self._connection,
            state,
            record.signed,
            received_ms=record.received_ms,
            bytes_received=record.bytes_received,
            pack=pack,
            offset=offset,
        )
        self._settled(pack, offset)

    def _settled(self, pack: int, offset: int) -> None:
        self.committed_at = (pack, offset)
        self.committed_version = self._state.next_version - 1

    def _known(self, record: CommitRecordOnDisk) -> bool:
        row = self._connection.execute("SELECT 1 FROM snapshot WHERE hash = ?", (record.signed.hash(),)).fetchone()
        return row is not None

    def _make_do(self, commit: CommitRecord) -> None:
        """The tree does not make the root that was signed: what is left of it is kept, and a restorer is told by its
        digests which folders are not whole."""
        try:
            snapshots.write_digests(self._connection, self._state.next_snapshot)
        except PilulierError as error:
            self._note(f"snapshot {commit.number}: {error}")

    def _retirement(self, pack: int, offset: int, record: RetirementRecord) -> None:
        self._connection.executemany(
            "UPDATE snapshot SET retired = 1 WHERE number = ?", [(number,) for number in record.snapshots]
        )
        if record.released:
            self._settled(pack, offset)

    def _mend(self, record: MendRecord) -> None:
        self._attempt(lambda: mending.apply_record(self._connection, self._identity, record))

    def _succession(self, record: SuccessionRecord) -> None:
        self._attempt(lambda: succession.replay(self._connection, self._identity, record))
        self._signers = None

    # The checkpoint

    def checkpoint_ends(self, pack: int, offset: int) -> None:
        """All parts were taken; what stands before its begin, at this place, is committed."""
        self._settled(pack, offset)

    def take_part(self, part: CheckpointPart) -> None:
        """One part of the checkpoint from which this replay begins."""
        state = self._state
        if isinstance(part, CheckpointBegin):
            state.head, state.intake = part.head, part.intake
            state.next_page, state.next_batch, state.next_version = part.next_page, part.next_batch, part.next_version
        elif isinstance(part, CheckpointPages):
            self._pages(part.pages)
        elif isinstance(part, CheckpointVersions):
            self._versions(part.versions)
        elif isinstance(part, CheckpointBatches):
            self._connection.executemany(
                "INSERT OR IGNORE INTO batch VALUES (?, ?, ?, ?, ?)",
                [(row.number, row.epoch, row.salt, row.commitment, row.born) for row in part.batches],
            )
        elif isinstance(part, CheckpointEntries):
            self._kept_entries(part.entries)
        elif isinstance(part, CheckpointFolders):
            self._connection.executemany(
                "INSERT OR IGNORE INTO folder VALUES (?, ?, ?, ?)",
                [(row.path_id, row.died or FOREVER, row.born, row.digest) for row in part.folders],
            )
        elif isinstance(part, CheckpointSnapshots):
            self._kept_snapshots(part.snapshots)
        elif isinstance(part, CheckpointSuccessions):
            for record in part.successions:
                self._succession(record)

    def _kept_entries(self, rows: Sequence[EntryRow]) -> None:
        values = []
        for row in rows:
            record = EntryRecord(
                row.path_id, row.parent_id, row.kind, row.size, row.version_id, row.index, row.sealed
            )
            values.append(
                (row.parent_id, row.path_id, row.born, row.died or FOREVER, row.kind, row.size, row.version_id)
                + (row.batch, row.index, record.token(), row.sealed)
            )
            self._state.live_entries += not row.died
        self._connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _kept_snapshots(self, rows: Sequence[SnapshotRow]) -> None:
        for row in rows:
            try:
                commit = verify_commit(self.signer(row.number), row.signed)
                before = snapshots.head_hash(self._connection, row.number - 1)
                if commit.number != row.number or commit.previous != before:
                    raise IntegrityError(f"the commit of snapshot {row.number} does not follow the one before it")
            except PilulierError as error:
                self._note(f"checkpoint: {error}")
            self._connection.execute(
                "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
                (row.number, row.signed.hash(), row.signed.record, row.signed.signature)
                + (row.entry_count, row.received_ms, row.bytes_received, int(row.retired)),
            )
