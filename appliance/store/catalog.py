"""The catalog: schema, the one connection factory, transactions, and the row that says where things stand.

Everything here can be made anew from the packs. Rules: writes only between BEGIN IMMEDIATE and a COMMIT that goes
through the door to the disk; reads are single short statements, because a reader's lock holds up a commit in this
journal mode. Entries staged for the next snapshot carry born = head + 1, and what they replace died = head + 1:
no snapshot that exists can see either, so a commit has nothing to rewrite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.store import upgrade
from appliance.store.durable import Disk
from appliance.store.errors import (
    BusyRepositoryError,
    DamagedRepositoryError,
    DiskFullError,
    FatalDiskError,
    StoreError,
)
from appliance.store.packs import Identity
from transport.errors import PilulierError
from transport.names import RepositoryId, SessionId, VaultId

FORMAT: Final = 2
"""Of the catalog, not of the packs. `upgrade` turns a catalog of format 1 into this one."""
WITH_SUCCESSIONS: Final = 3
"""Format of a catalog that holds successions of signing keys (see `succession`); none is upgraded to it before."""
FOREVER: Final = 1 << 62
"""`died` of what is still alive."""
_PARAMETERS: Final = 4096
"""Values in one IN (...), below SQLite's 32766."""
_READ_FAILURES: Final = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)
_CACHE_KIB: Final = 16 * 1024

SCHEMA: Final = """
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    format INTEGER NOT NULL,
    repository BLOB NOT NULL, vault BLOB NOT NULL, public_key BLOB NOT NULL,
    head INTEGER NOT NULL,
    committed_segment INTEGER NOT NULL,
    committed_version INTEGER NOT NULL,
    next_page INTEGER NOT NULL,
    next_batch INTEGER NOT NULL,
    next_version INTEGER NOT NULL,
    leased_segment INTEGER NOT NULL,
    leased_version INTEGER NOT NULL,
    checkpoint_pack INTEGER NOT NULL,
    checkpoint_offset INTEGER NOT NULL,
    intake INTEGER NOT NULL,
    session BLOB NOT NULL,
    session_start INTEGER NOT NULL,
    received_upto INTEGER NOT NULL,
    live_entries INTEGER NOT NULL
);
CREATE TABLE pack (
    number INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    size INTEGER NOT NULL,
    segment_bytes INTEGER NOT NULL
);
CREATE TABLE segment (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    pack INTEGER NOT NULL REFERENCES pack (number) DEFERRABLE INITIALLY DEFERRED,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    plain INTEGER NOT NULL
);
CREATE TABLE page (number INTEGER PRIMARY KEY, length INTEGER NOT NULL, extents BLOB NOT NULL);
CREATE TABLE version (
    id BLOB PRIMARY KEY, number INTEGER NOT NULL, size INTEGER NOT NULL, span INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX version_number ON version (number);
CREATE TABLE batch (
    number INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL, salt BLOB NOT NULL, commitment BLOB NOT NULL,
    born INTEGER NOT NULL
);
CREATE TABLE entry (
    parent BLOB NOT NULL, path BLOB NOT NULL, born INTEGER NOT NULL, died INTEGER NOT NULL,
    kind INTEGER NOT NULL, size INTEGER NOT NULL, version BLOB NOT NULL, batch INTEGER NOT NULL, idx INTEGER NOT NULL,
    token BLOB NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (parent, path, born)
) WITHOUT ROWID;
CREATE UNIQUE INDEX entry_path ON entry (path, died);
CREATE TABLE folder (
    path BLOB NOT NULL, died INTEGER NOT NULL, born INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (path, died)
) WITHOUT ROWID;
CREATE TABLE snapshot (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE, record BLOB NOT NULL, signature BLOB NOT NULL,
    entry_count INTEGER NOT NULL, received_ms INTEGER NOT NULL, bytes_received INTEGER NOT NULL,
    retired INTEGER NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL
);
CREATE TABLE touched (folder BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE staged (number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, items BLOB NOT NULL);
CREATE TABLE partial (
    number INTEGER PRIMARY KEY,
    version BLOB NOT NULL, size INTEGER NOT NULL, base BLOB NOT NULL, base_size INTEGER NOT NULL,
    operations BLOB NOT NULL, total INTEGER NOT NULL
);
"""

MAINTENANCE: Final = """
CREATE TABLE quarantine (
    pack INTEGER NOT NULL, generation INTEGER NOT NULL, size INTEGER NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (pack, generation)
) WITHOUT ROWID;
CREATE TABLE damage (
    pack INTEGER NOT NULL, offset INTEGER NOT NULL, kind TEXT NOT NULL, segment BLOB, detail TEXT NOT NULL,
    found_ms INTEGER NOT NULL, mended_ms INTEGER NOT NULL,
    PRIMARY KEY (pack, offset)
) WITHOUT ROWID;
CREATE TABLE mend (number INTEGER PRIMARY KEY, record BLOB NOT NULL UNIQUE);
CREATE TABLE scrub (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    pack INTEGER NOT NULL, generation INTEGER NOT NULL, offset INTEGER NOT NULL,
    started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL
);
INSERT INTO scrub VALUES (1, 0, 0, 0, 0, 0);
CREATE TABLE wish (
    version BLOB NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (version, offset)
) WITHOUT ROWID;
"""
"""Tables that only maintenance fills: old generations of compacted packs, damage found, mends applied, how far the
scrub has come, and which parts of versions the next backup is asked to send anew. All but `mend` say something about
the disk, not about history, so that no pack tells it: a rebuild takes `damage` over from the old catalog."""


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack as the catalog knows it."""

    number: int
    generation: int
    """How often it was compacted."""
    size_bytes: int
    """Bytes that count; the file of the newest pack may be longer after a crash."""
    segment_bytes: int
    """Of these, SEGMENT records, dead ones included."""


@dataclass(slots=True)
class State:
    """The one row of `state` that changes. Loaded from disk for every write, so it cannot drift from it."""

    head: int
    committed_segment: int
    """The newest segment at the last commit; held ones with a higher number are in no snapshot."""
    committed_version: int
    """The same for versions."""
    next_page: int
    next_batch: int
    next_version: int
    leased_segment: int
    """Segments with a higher number are live whatever refers to them: an upload may still need them."""
    leased_version: int
    """The same for versions."""
    checkpoint_pack: int
    """Where the newest whole checkpoint begins; 0 for none."""
    checkpoint_offset: int
    intake: int
    session: SessionId
    session_start: int
    received_upto: int
    live_entries: int

    @property
    def next_snapshot(self) -> int:
        """What staged entries are born with."""
        return self.head + 1


_STATE_COLUMNS: Final = (
    "head, committed_segment, committed_version, next_page, next_batch, next_version, leased_segment, leased_version, "
    "checkpoint_pack, checkpoint_offset, intake, session, session_start, received_upto, live_entries"
)


def _sqlite_message(error: sqlite3.Error, path: Path) -> PilulierError:
    """What an SQLite error means for whoever waits."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(f"{path}: no space left on the appliance's disk; free some and try again")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyRepositoryError(f"{path} stayed locked by another process: try again later")
    if getattr(error, "sqlite_errorcode", 0) in _READ_FAILURES:
        return DamagedRepositoryError(f"{path} cannot be read ({error}): check the disk, keep the packs")
    if code == sqlite3.SQLITE_IOERR:
        return FatalDiskError(f"{path}: the disk failed ({error}); check it before starting again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedRepositoryError(f"{path} is damaged ({error}): keep the packs, rebuild the catalog")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(f"{path} was left by a crash or cannot be written: start the appliance once to recover it")
    if code == sqlite3.SQLITE_CANTOPEN:
        return DamagedRepositoryError(f"{path} cannot be opened: it is missing, or this user may not read it")
    return DamagedRepositoryError(f"{path}: {error}")


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _sqlite_message(error, path) from error


def connect(path: Path, *, read_only: bool, create: bool = False) -> sqlite3.Connection:
    """The one way to a catalog. WAL is left alone: SQLite before 3.51.3 can corrupt it with several writers."""
    mode = "ro" if read_only else ("rwc" if create else "rw")
    with sqlite_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=30.0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                connection.execute("PRAGMA journal_mode = TRUNCATE")
                connection.execute("PRAGMA synchronous = EXTRA")
        except sqlite3.Error:
            connection.close()
            raise
    return connection


class Catalog:
    """An open catalog."""

    def __init__(self, disk: Disk, path: Path, *, read_only: bool) -> None:
        self._disk = disk
        self.path = path
        self.connection = connect(path, read_only=read_only)
        try:
            with sqlite_errors(path):
                row = self.connection.execute(
                    "SELECT format, repository, vault, public_key FROM state WHERE id = 1"
                ).fetchone()
            if row is None or row[0] > WITH_SUCCESSIONS:
                raise DamagedRepositoryError(
                    f"{path} is no catalog of format 1 to {WITH_SUCCESSIONS}: update Pilulier, or rebuild the catalog"
                )
            if row[0] < FORMAT:
                with sqlite_errors(path):
                    upgrade.upgrade(
                        disk, path, self.connection, new_tables=MAINTENANCE, to_format=FORMAT, read_only=read_only
                    )
        except PilulierError:
            self.connection.close()
            raise
        self.identity = Identity(RepositoryId(row[1]), VaultId(row[2]), row[3])

    @classmethod
    def create(cls, disk: Disk, path: Path, identity: Identity) -> Catalog:
        """A new, empty catalog."""
        connection = connect(path, read_only=False, create=True)
        try:
            with sqlite_errors(path):
                connection.execute("BEGIN IMMEDIATE")
                for statement in (SCHEMA + MAINTENANCE).split(";"):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO state VALUES (1, ?, ?, ?, ?, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, ?, 0, 0, 0)",
                    (FORMAT, identity.repository, identity.vault, identity.public_key, b""),
                )
                disk.commit_catalog(connection)
        finally:
            connection.close()
        return cls(disk, path, read_only=False)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """BEGIN IMMEDIATE … COMMIT. On an Exception everything is rolled back; FatalDiskError where that is unsure."""
        with sqlite_errors(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self._disk.commit_catalog(self.connection)
            except Exception:
                if self.connection.in_transaction:
                    self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise FatalDiskError(f"{self.path}: cannot roll back ({error}); check the disk") from error

    def state(self) -> State:
        """Where things stand."""
        row = self.connection.execute(f"SELECT {_STATE_COLUMNS} FROM state WHERE id = 1").fetchone()
        return State(*row)

    def save(self, state: State) -> None:
        """Write the state back, within a transaction."""
        columns = ", ".join(f"{column} = ?" for column in _STATE_COLUMNS.split(", "))
        values = [getattr(state, column) for column in _STATE_COLUMNS.split(", ")]
        self.connection.execute(f"UPDATE state SET {columns} WHERE id = 1", values)

    def save_pack(self, number: int, size_bytes: int, segment_bytes: int) -> None:
        """How much of an open pack counts, `segment_bytes` more of it being SEGMENT records; within a transaction."""
        self.connection.execute(
            "INSERT INTO pack (number, generation, size, segment_bytes) VALUES (?, 0, ?, ?) "
            "ON CONFLICT (number) DO UPDATE "
            "SET size = excluded.size, segment_bytes = segment_bytes + excluded.segment_bytes",
            (number, size_bytes, segment_bytes),
        )

    def pack(self, number: int) -> PackRow:
        """One pack that counts."""
        row = self.connection.execute(
            "SELECT number, generation, size, segment_bytes FROM pack WHERE number = ?", (number,)
        ).fetchone()
        if row is None:
            raise StoreError(f"{self.path} knows no pack {number}: rebuild the catalog")
        return PackRow(*row)

    def packs(self) -> dict[int, PackRow]:
        """The packs that count, by number."""
        rows = self.connection.execute("SELECT number, generation, size, segment_bytes FROM pack ORDER BY number")
        return {row[0]: PackRow(*row) for row in rows}

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def select_in(connection: sqlite3.Connection, statement: str, values: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of `statement`, whose `{}` stands for the marks of an IN list, over all values in bounded portions."""
    pending: Sequence[Any] = list(values)
    for at in range(0, len(pending), _PARAMETERS):
        portion = pending[at : at + _PARAMETERS]
        yield from connection.execute(statement.format(",".join("?" * len(portion))), portion).fetchall()
