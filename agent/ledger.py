"""The ledger: what this machine has sent, as of its last commit, and what the next one will change.

Owns ledger.db: one row an entry, clustered by folder, so that a folder's children are one short read; the digest
of every folder; the head commit; and running totals, so that a backup without changes reads nothing else than the
folders it compares. What a running backup adds is kept apart in `Staging` until the appliance has the commit:

1. `stage`, `stage_deaths` collect; `tree_after` says which tree that makes (`agent.overlay`).
2. `prepare` makes the staged rows durable together with the signed commit, before it is sent.
3. `apply` moves them into the ledger in one transaction that also sets the head; `discard` forgets them.

At any time the ledger is exactly the tree of its head. A crash between 2 and 3 leaves `pending_commit`, and the
appliance's head tells whether to apply or to discard. A file that SQLite cannot read raises LedgerLost and never
anything else: the caller rebuilds. One thread at a time; the agent's lock keeps other processes from writing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.errors import LedgerError, LedgerLost
from agent.overlay import TreeAfter, tree_after
from agent.settings import AgentHome
from agent.sqlite_files import connected, translated
from agent.staging import ChildRow, Staging
from agent.staging import Known as Known
from transport.commits import SignedCommit
from transport.errors import IntegrityError
from transport.names import ROOT, Digest, PathId, VersionId
from transport.tree import EMPTY_FOLDER, EntryKind

LEDGER_FORMAT: Final = 1

_TABLES: Final = """
CREATE TABLE entry (
    path_id BLOB NOT NULL, parent_id BLOB NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL, type INTEGER NOT NULL,
    size INTEGER NOT NULL, mode INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    uid INTEGER NOT NULL, gid INTEGER NOT NULL, ino INTEGER NOT NULL, target BLOB NOT NULL, link_group BLOB NOT NULL,
    version_id BLOB NOT NULL, mac BLOB NOT NULL, token BLOB NOT NULL,
    metadata_digest BLOB NOT NULL, has_signature INTEGER NOT NULL, settled INTEGER NOT NULL, digest BLOB,
    PRIMARY KEY (parent_id, path_id)
) WITHOUT ROWID;
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1), record BLOB, signature BLOB,
    root BLOB NOT NULL, entry_count INTEGER NOT NULL, bytes_source INTEGER NOT NULL
);
"""
# In a table without rowid an index carries the primary key: entry_folder gives a folder's parent by itself.
_INDEXES: Final = {
    "entry_folder": "ON entry (path_id) WHERE kind = 1",
    "entry_moved": "ON entry (ino, mtime_ns) WHERE kind = 0",
    "entry_content": "ON entry (mac) WHERE kind = 0",
    "entry_large": "ON entry (size) WHERE kind = 0 AND size > 1048576",
    "entry_signature": "ON entry (version_id) WHERE has_signature = 1",
}
_COLUMNS: Final = ", ".join(Known.__struct_fields__)
_IDS_PER_QUERY: Final = 500
_BULK_ROWS: Final = 5000
"""From so many staged rows on, and where they outnumber the ledger's, indexes are made anew after the insert."""


_FILE: Final = int(EntryKind.FILE)
_FOLDER: Final = int(EntryKind.FOLDER)
# Ordered for the key, so that pages fill once; where a path was staged twice, the later row replaces the earlier.
_INSERT: Final = (
    f"INSERT OR REPLACE INTO entry ({_COLUMNS}) SELECT {_COLUMNS} FROM staging.staged WHERE dead = 0"
    " ORDER BY parent_id, path_id, seq"
)


def last_head(home: AgentHome) -> SignedCommit | None:
    """The head this machine remembers, read without disturbing a running backup; None without one.

    A ledger that cannot be read counts as none: what is asked here is only a witness against a rolled-back history.
    """
    if not home.ledger.exists():
        return None
    try:
        with translated(home.ledger):
            database = connected(home.ledger, LEDGER_FORMAT, _schema())
            try:
                row = database.execute("SELECT record, signature FROM head").fetchone()
            finally:
                database.close()
    except (LedgerLost, LedgerError):
        return None
    return SignedCommit(row[0], row[1]) if row is not None and row[0] is not None else None


def _schema() -> str:
    indexes = "".join(f"CREATE INDEX {name} {what};\n" for name, what in _INDEXES.items())
    empty = f"INSERT INTO head VALUES (1, NULL, NULL, x'{EMPTY_FOLDER.hex()}', 0, 0);\n"
    return _TABLES + indexes + empty


class Ledger:
    """An open ledger; use `Ledger.open` and close it. All methods raise LedgerLost where the file is damaged and
    LedgerError where the disk is full, failing or the file locked."""

    def __init__(self, path: Path, database: sqlite3.Connection, staging: Staging, signatures: Path) -> None:
        self._path = path
        self._db = database
        self._staging = staging
        self._signatures = signatures
        self._after: TreeAfter | None = None

    @classmethod
    def open(cls, home: AgentHome) -> Ledger:
        """The home's ledger, made empty where there is none. Only the holder of the agent's lock may stage."""
        with translated(home.ledger):
            database = connected(home.ledger, LEDGER_FORMAT, _schema())
        try:
            staging = Staging.open(home.ledger.with_name("staging.db"))
        except BaseException:
            database.close()
            raise
        ledger = cls(home.ledger, database, staging, home.signatures)
        try:
            head, pending = ledger.head(), staging.commit()
            if head is not None and pending is not None and head.hash() == pending.hash():
                staging.clear()  # died after the ledger's own transaction, before this: nothing is missing
        except BaseException:
            ledger.close()
            raise
        return ledger

    @staticmethod
    def duplicate(home: AgentHome, path: Path) -> None:
        """A copy of the home's ledger as of its head, in a new file; what is staged is left out. LedgerLost."""
        with translated(home.ledger):
            source = connected(home.ledger, LEDGER_FORMAT, _schema())
            try:
                target = sqlite3.connect(path)
                try:
                    source.backup(target)
                finally:
                    target.close()
            finally:
                source.close()

    def close(self) -> None:
        """Let go of the files; what was staged and not prepared is forgotten."""
        self._staging.close()
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What is known

    def head(self) -> SignedCommit | None:
        """The commit whose tree this is."""
        with translated(self._path):
            row = self._db.execute("SELECT record, signature FROM head").fetchone()
        return None if row[0] is None else SignedCommit(row[0], row[1])

    def tree(self) -> TreeAfter:
        """The live tree: root digest, number of entries, bytes of files."""
        with translated(self._path):
            row = self._db.execute("SELECT root, entry_count, bytes_source FROM head").fetchone()
        return TreeAfter(Digest(row[0]), row[1], row[2], {})

    def verify_empty(self) -> bool:
        """Whether nothing was ever committed from this ledger."""
        return self.head() is None and self.tree().entry_count == 0

    def children(self, parent_id: PathId) -> dict[PathId, Known]:
        """The live entries of one folder, by path id; empty for an unknown folder."""
        with translated(self._path):
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM entry WHERE parent_id = ?", (parent_id,)).fetchall()
        return {row[0]: Known(*row) for row in rows}

    def entry(self, parent_id: PathId, path_id: PathId) -> Known | None:
        """One live entry."""
        with translated(self._path):
            row = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE parent_id = ? AND path_id = ?", (parent_id, path_id)
            ).fetchone()
        return None if row is None else Known(*row)

    def descendants(self, path_id: PathId) -> Iterator[Known]:
        """Every live entry below a folder, the folder excepted; parents before their children."""
        pending = [path_id]
        while pending:
            for known in self.children(pending.pop()).values():
                yield known
                if known.kind == _FOLDER:
                    pending.append(known.path_id)

    def everything(self) -> Iterator[Known]:
        """Every live entry, folder by folder."""
        with translated(self._path):
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM entry")
            while part := rows.fetchmany(1000):
                yield from (Known(*row) for row in part)

    def has_files_below(self, parent_id: PathId, path_id: PathId) -> bool:
        """Whether the entry is a file, or a folder with a file somewhere below it."""
        top = self.entry(parent_id, path_id)
        if top is None:
            return False
        return top.kind == _FILE or any(known.kind == _FILE for known in self.descendants(path_id))

    def chain(self, folder: PathId) -> list[PathId]:
        """The folder and those above it up to ROOT, ROOT excepted; empty where it is not a live folder."""
        chain: list[PathId] = []
        at = folder
        while at != ROOT:
            parent = self.parent_of(at)
            if parent is None:
                return []
            chain.append(at)
            at = parent
        return chain

    def parent_of(self, folder: PathId) -> PathId | None:
        """The folder above a live folder; None where it is none."""
        with translated(self._path):
            row = self._db.execute("SELECT parent_id FROM entry WHERE path_id = ? AND kind = 1", (folder,)).fetchone()
        return None if row is None else PathId(row[0])

    def file_totals(self) -> tuple[int, int]:
        """How many live files there are, and their bytes."""
        with translated(self._path):
            count = self._db.execute("SELECT count(*) FROM entry WHERE kind = 0").fetchone()[0]
        return count, self.tree().bytes_source

    def names_of(self, inodes: Collection[int]) -> Iterator[tuple[Known, bytes]]:
        """Live files that had one of these inode numbers, with their absolute paths."""
        for ino in inodes:
            with translated(self._path):
                rows = self._db.execute(f"SELECT {_COLUMNS} FROM entry WHERE kind = 0 AND ino = ?", (ino,)).fetchall()
            for known in (Known(*row) for row in rows):
                yield known, self._path_of(known)

    def find_moved(self, ino: int, size: int, mtime_ns: int) -> list[Known]:
        """Files that had this inode number, size and time: candidates for "renamed, not changed". Equal `ctime_ns`
        too, and settled, proves it (their folder was renamed); otherwise the content MAC must."""
        with translated(self._path):
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE kind = 0 AND ino = ? AND mtime_ns = ? AND size = ?",
                (ino, mtime_ns, size),
            ).fetchall()
        return [Known(*row) for row in rows]

    def find_size(self, size: int, limit: int = 8) -> list[Known]:
        """Some large files (over 1 MiB) of exactly this size: a new file may be a copy of one; the MAC must tell."""
        if size <= 1 << 20:
            return []
        with translated(self._path):
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE kind = 0 AND size > 1048576 AND size = ? LIMIT ?", (size, limit)
            ).fetchall()
        return [Known(*row) for row in rows]

    def find_content(self, mac: bytes, size: int) -> Known | None:
        """Some file with this content, whose version can be named again."""
        with translated(self._path):
            row = self._db.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE kind = 0 AND mac = ? AND size = ?"
                " ORDER BY has_signature DESC LIMIT 1",
                (mac, size),
            ).fetchone()
        return None if row is None else Known(*row)

    def places_of(self, versions: Collection[VersionId]) -> list[tuple[Known, list[bytes]]]:
        """Live files with one of these versions: one of them for each version, and the absolute paths of all."""
        found: dict[VersionId, tuple[Known, list[bytes]]] = {}
        wanted = list(versions)
        for at in range(0, len(wanted), _IDS_PER_QUERY):
            part = wanted[at : at + _IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            with translated(self._path):
                rows = self._db.execute(
                    f"SELECT {_COLUMNS} FROM entry WHERE kind = 0 AND version_id IN ({marks})", part
                ).fetchall()
            for known in (Known(*row) for row in rows):
                found.setdefault(known.version_id, (known, []))[1].append(self._path_of(known))
        return list(found.values())

    def _path_of(self, known: Known) -> bytes:
        names, folder = [known.name], known.parent_id
        while folder != ROOT:
            with translated(self._path):
                row = self._db.execute(
                    "SELECT name, parent_id FROM entry WHERE path_id = ? AND kind = 1", (folder,)
                ).fetchone()
            if row is None:
                break
            names.append(row[0])
            folder = PathId(row[1])
        return b"/" + b"/".join(reversed(names))

    # What the next commit changes

    def stage(self, entries: Iterable[Known]) -> None:
        """Collect new or changed entries; a later one for the same path replaces the earlier."""
        self._after = None
        self._staging.add(entries)

    def stage_deaths(self, gone: Iterable[Known]) -> None:
        """Collect entries that are gone, descendants included."""
        self._after = None
        self._staging.add_deaths(gone)

    def tree_after(self) -> TreeAfter:
        """The tree that live and staged entries make together; reads only folders that change, and those above.

        Raises ValueError where staged rows hang in the air: a parent that is no folder, or children left under one
        that died.
        """
        if self._after is None:
            self._after = tree_after(self._staging, self.tree(), self.parent_of, self.live_children)
        return self._after

    def live_children(self, folder: PathId) -> list[ChildRow]:
        """What a digest needs of a live folder's children, in path id order."""
        with translated(self._path):
            rows = self._db.execute(
                "SELECT path_id, token, kind, size, digest FROM entry WHERE parent_id = ? ORDER BY path_id", (folder,)
            ).fetchall()
        return [ChildRow(*row) for row in rows]

    def prepare(self, commit: SignedCommit) -> None:
        """Make what is staged durable with its commit; to be called before the commit is sent.

        ValueError where the commit does not describe the staged tree or does not follow the head.
        """
        record, after, head = commit.decoded(), self.tree_after(), self.head()
        if (record.root, record.entry_count) != (after.root, after.entry_count):
            raise ValueError(f"snapshot {record.number} names another tree than the staged one")
        if head is not None and record.previous != head.hash():
            raise ValueError(f"snapshot {record.number} does not follow the ledger's head")
        self._staging.seal(commit, after)

    def pending_commit(self) -> SignedCommit | None:
        """A prepared commit of which the ledger does not know whether the appliance has it."""
        return self._staging.commit()

    def apply(self) -> None:
        """The prepared commit stands: make its tree the live one, in one transaction. ValueError without one."""
        commit = self._staging.commit()
        totals = self._staging.sealed_totals()
        if commit is None or totals is None:
            raise ValueError("no commit was prepared")
        with translated(self._path):
            self._replace(TreeAfter(*totals, {}), commit)
        self._after = None
        self._staging.clear()

    def discard(self) -> None:
        """Forget everything staged or prepared; the live tree stays as it is."""
        self._after = None
        self._staging.clear()

    def _replace(self, after: TreeAfter, commit: SignedCommit, *, from_nothing: bool = False) -> None:
        # The sealed staging file is only read here, so the transaction is still one of ledger.db alone.
        self._db.execute("ATTACH DATABASE ? AS staging", (str(self._staging.path),))
        try:
            self._transact(after, commit, from_nothing)
        finally:
            self._db.execute("DETACH DATABASE staging")

    def _transact(self, after: TreeAfter, commit: SignedCommit, from_nothing: bool) -> None:
        database = self._db
        database.execute("BEGIN IMMEDIATE")
        try:
            live = 0 if from_nothing else database.execute("SELECT entry_count FROM head").fetchone()[0]
            if from_nothing:
                database.execute("DELETE FROM entry")
            bulk = self._staging.count > max(_BULK_ROWS, live)
            if bulk:
                for name in _INDEXES:
                    database.execute(f"DROP INDEX {name}")
            # Deaths after births: the former names only what was not staged again later.
            database.execute(_INSERT)
            database.executemany("DELETE FROM entry WHERE parent_id = ? AND path_id = ?", self._staging.dead_keys())
            if bulk:
                for name, what in _INDEXES.items():
                    database.execute(f"CREATE INDEX {name} {what}")
            database.executemany(
                "UPDATE entry SET digest = ? WHERE parent_id = ? AND path_id = ?", self._staging.folder_digests()
            )
            database.execute(
                "UPDATE head SET record = ?, signature = ?, root = ?, entry_count = ?, bytes_source = ?",
                (commit.record, commit.signature, after.root, after.entry_count, after.bytes_source),
            )
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def refresh(self, entries: Iterable[Known]) -> None:
        """Correct what only this machine knows of live entries (ctime, inode, settled, signature), at once.

        For files that were read again and proved unchanged: nothing of it is sent. Rows whose token is another by
        now are left alone.
        """
        with translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    "UPDATE entry SET ctime_ns = ?, ino = ?, settled = ?, has_signature = ?"
                    " WHERE parent_id = ? AND path_id = ? AND token = ?",
                    ((k.ctime_ns, k.ino, k.settled, k.has_signature, k.parent_id, k.path_id, k.token) for k in entries),
                )
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def replace_all(self, entries: Iterable[Known], head: SignedCommit) -> None:
        """Make the ledger anew from the entries of a verified head; parents and children in any order.

        IntegrityError, and the ledger as it was, where they do not make the tree that the commit signs.
        """
        record = head.decoded()
        self.discard()
        self._staging.add(entries)
        try:
            try:
                after = tree_after(self._staging, TreeAfter(EMPTY_FOLDER, 0, 0, {}), lambda _: None, lambda _: [])
            except ValueError as error:
                raise IntegrityError(f"the appliance's list of snapshot {record.number} is no tree: {error}") from None
            if (after.root, after.entry_count) != (record.root, record.entry_count):
                raise IntegrityError(
                    f"the appliance lists {after.entry_count} entries for snapshot {record.number}, and they are not"
                    f" the {record.entry_count} that this machine signed"
                )
            self._staging.seal(None, after)
            with translated(self._path):
                self._replace(after, head, from_nothing=True)
        finally:
            self._staging.clear()

    # Signatures

    def sweep_signatures(self) -> int:
        """Remove files in signatures/ that no live or staged entry needs; how many. Not while one is written."""
        with translated(self._path):
            needed = {row[0].hex() for row in self._db.execute("SELECT version_id FROM entry WHERE has_signature = 1")}
        needed.update(version.hex() for version in self._staging.signature_versions())
        removed = 0
        if not self._signatures.is_dir():
            return 0
        for folder in os.scandir(self._signatures):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for file in os.scandir(folder.path):
                if file.name not in needed:
                    os.unlink(file.path)
                    removed += 1
        return removed
