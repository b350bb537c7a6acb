"""What the running backup adds to the ledger, until the appliance has the commit.

Owns staging.db beside the ledger: rows in the order staged, the digests of the folders they change, and the
signed commit they belong to. Everything up to `seal` is one open transaction: cheap to fill, and gone with the
process. A file of its own, so that a backup of days never locks the ledger against `status`, and a damaged one is
simply made anew: a commit that it might have held is found again by comparing heads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent.errors import LedgerLost
from agent.sqlite_files import connected, translated
from transport.commits import SignedCommit
from transport.names import Digest, PathId, VersionId

if TYPE_CHECKING:
    from agent.overlay import TreeAfter

STAGING_FORMAT: Final = 1


class Known(msgspec.Struct, frozen=True, gc=False):
    """An entry as the ledger knows it, live or staged. Times in nanoseconds; `ctime_ns` and `ino` are 0 where a
    rebuilt ledger cannot know them yet."""

    path_id: PathId
    parent_id: PathId
    name: bytes
    kind: int
    """transport.tree.EntryKind."""
    type: int
    """transport.tree.FileType."""
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    uid: int
    gid: int
    ino: int
    target: bytes
    link_group: bytes
    version_id: VersionId
    mac: bytes
    """Content MAC, empty unless a file."""
    token: Digest
    """What the folder digest covers of this entry."""
    metadata_digest: bytes
    """agent.metadata.metadata_digest of what was sealed: tells changed attributes from a changed ctime."""
    has_signature: bool
    """signatures/ holds one for `version_id`: a change can go as a delta."""
    settled: bool
    """The status was old enough when the content was read that equal status means equal content."""


class ChildRow(msgspec.Struct, frozen=True, gc=False):
    """What the overlay needs of one child of a folder; `digest` only of a live folder."""

    path_id: PathId
    token: Digest
    kind: int
    size: int
    digest: Digest | None
    dead: bool = False


_FIELDS: Final = Known.__struct_fields__
_COLUMNS: Final = ", ".join(_FIELDS)
# Without column types: SQLite keeps what it is given, and the ledger's own table checks it.
_SCHEMA: Final = f"""
CREATE TABLE staged (seq INTEGER PRIMARY KEY, dead, {_COLUMNS});
CREATE TABLE folder (path_id, parent_id, digest);
CREATE TABLE pending (
    one INTEGER PRIMARY KEY CHECK (one = 1), record BLOB, signature BLOB, root BLOB, entry_count INTEGER,
    bytes_source INTEGER
);
"""
_INSERT: Final = f"INSERT INTO staged (dead, {_COLUMNS}) VALUES (0, {', '.join('?' * len(_FIELDS))})"
_LAST: Final = (
    "NOT EXISTS (SELECT 1 FROM staged later WHERE later.parent_id = staged.parent_id"
    " AND later.path_id = staged.path_id AND later.seq > staged.seq)"
)


class Staging:
    """An open staging file. A later row for the same path counts, whatever came before."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        """Of the file; once sealed it may be read by other connections."""
        self._db = database
        self._indexed = False
        self._sealed = False
        self.count = 0
        """Rows staged."""

    @classmethod
    def open(cls, path: Path) -> Staging:
        """The staging file, made anew where it is missing or damaged."""
        try:
            return cls._opened(path)
        except LedgerLost:
            for name in (path.name, path.name + "-journal"):
                path.with_name(name).unlink(missing_ok=True)
            return cls._opened(path)

    @classmethod
    def _opened(cls, path: Path) -> Staging:
        with translated(path):
            database = connected(path, STAGING_FORMAT, _SCHEMA)
            staging = cls(path, database)
            try:
                staging.count = database.execute("SELECT count(*) FROM staged").fetchone()[0]
                staging._sealed = staging.commit() is not None
                if staging.count:
                    staging.index()
            except BaseException:
                database.close()
                raise
        return staging

    def close(self) -> None:
        """Let go of the file; what was not sealed is forgotten."""
        self._db.close()

    def _begin(self) -> None:
        if self._sealed:
            raise ValueError("a prepared commit waits to be applied or discarded: nothing can be staged beside it")
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def add(self, entries: Iterable[Known]) -> None:
        """Stage entries."""
        with translated(self.path):
            self._begin()
            done = self._db.executemany(_INSERT, map(msgspec.structs.astuple, entries))
            self.count += max(done.rowcount, 0)

    def add_deaths(self, gone: Iterable[Known]) -> None:
        """Stage deaths."""
        with translated(self.path):
            self._begin()
            done = self._db.executemany(
                "INSERT INTO staged (dead, path_id, parent_id, kind) VALUES (1, ?, ?, ?)",
                ((known.path_id, known.parent_id, known.kind) for known in gone),
            )
            self.count += max(done.rowcount, 0)

    def index(self) -> None:
        """Make lookups by folder quick; called once the bulk is in."""
        if not self._indexed:
            with translated(self.path):
                self._db.execute("CREATE INDEX IF NOT EXISTS staged_parent ON staged (parent_id, path_id)")
            self._indexed = True

    def touched(self) -> set[PathId]:
        """Folders of which a child is staged."""
        with translated(self.path):
            return {row[0] for row in self._db.execute("SELECT DISTINCT parent_id FROM staged")}

    def folders(self) -> dict[PathId, PathId]:
        """Staged folders that live, each with its parent."""
        with translated(self.path):
            rows = self._db.execute(f"SELECT path_id, parent_id FROM staged WHERE dead = 0 AND kind = 1 AND {_LAST}")
            return dict(rows.fetchall())

    def last(self, parent_id: PathId, path_id: PathId) -> ChildRow | None:
        """What was staged last for one path."""
        rows = self._children("AND path_id = ?", (parent_id, path_id))
        return rows[-1] if rows else None

    def children(self, parent_id: PathId) -> list[ChildRow]:
        """All rows of one folder in the order staged."""
        return self._children("", (parent_id,))

    def _children(self, also: str, keys: tuple[PathId, ...]) -> list[ChildRow]:
        with translated(self.path):
            rows = self._db.execute(
                f"SELECT path_id, token, kind, size, NULL, dead FROM staged WHERE parent_id = ? {also} ORDER BY seq",
                keys,
            ).fetchall()
        return [ChildRow(*row) for row in rows]

    def seal(self, commit: SignedCommit | None, after: TreeAfter) -> None:
        """Make everything staged durable, with the tree it leads to and the commit that says so."""
        with translated(self.path):
            self._begin()
            self._db.execute("DELETE FROM folder")
            self._db.executemany(
                "INSERT INTO folder VALUES (?, ?, ?)",
                ((path_id, folder.parent_id, folder.digest) for path_id, folder in after.changed.items()),
            )
            self._db.execute(
                "INSERT OR REPLACE INTO pending VALUES (1, ?, ?, ?, ?, ?)",
                (
                    commit.record if commit is not None else None,
                    commit.signature if commit is not None else None,
                    after.root, after.entry_count, after.bytes_source,
                ),
            )  # fmt: skip
            self._db.execute("COMMIT")
        self._sealed = True

    def commit(self) -> SignedCommit | None:
        """The sealed commit."""
        with translated(self.path):
            row = self._db.execute("SELECT record, signature FROM pending").fetchone()
        return SignedCommit(row[0], row[1]) if row is not None and row[0] is not None else None

    def sealed_totals(self) -> tuple[Digest, int, int] | None:
        """Root digest, entry count and bytes of files as sealed."""
        with translated(self.path):
            row = self._db.execute("SELECT root, entry_count, bytes_source FROM pending").fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def dead_keys(self) -> Iterator[tuple[PathId, PathId]]:
        """(parent, path) of what died and was not staged again after that."""
        with translated(self.path):
            yield from self._db.execute(f"SELECT parent_id, path_id FROM staged WHERE dead = 1 AND {_LAST}")

    def folder_digests(self) -> Iterator[tuple[Digest, PathId, PathId]]:
        """(digest, parent, folder) of the folders that change."""
        with translated(self.path):
            yield from self._db.execute("SELECT digest, parent_id, path_id FROM folder")

    def signature_versions(self) -> list[VersionId]:
        """Versions of staged entries that have a signature."""
        with translated(self.path):
            rows = self._db.execute("SELECT version_id FROM staged WHERE dead = 0 AND has_signature = 1").fetchall()
        return [row[0] for row in rows]

    def clear(self) -> None:
        """Forget everything."""
        with translated(self.path):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DROP INDEX IF EXISTS staged_parent")
            for table in ("staged", "folder", "pending"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.execute("COMMIT")
        self._indexed = False
        self._sealed = False
        self.count = 0
