"""The sealed entries of the present tree, kept on this machine so that a copy that was away can be brought level.

Owns onsite.db in the agent's home: by token, the sealed entry and the header of its batch. A cache: what it lacks or
holds too much costs a question to the appliance, never truth, since an entry is believed only where its token is the
one that is asked for. Sealed, so it says no more than the appliance knows. One thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from agent.errors import LedgerLost
from agent.sqlite_files import connected, translated
from transport.names import Digest, PathId, VersionId
from transport.tree import BatchHeader, EntryBatch, EntryRecord

_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE entry (
    token BLOB PRIMARY KEY, path_id BLOB, parent_id BLOB, kind INTEGER, size INTEGER, version_id BLOB,
    number INTEGER, sealed BLOB, epoch INTEGER, salt BLOB, commitment BLOB
) WITHOUT ROWID
"""
_PORTION: Final = 400


class SealedEntries:
    """An open store; made anew where it is missing or damaged."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._db = database

    @classmethod
    def open(cls, path: Path) -> SealedEntries:
        """The store in a file."""
        try:
            with translated(path):
                return cls(path, connected(path, _FORMAT, _SCHEMA, synchronous="NORMAL"))
        except LedgerLost:
            for name in (path.name, path.name + "-journal"):
                path.with_name(name).unlink(missing_ok=True)
            with translated(path):
                return cls(path, connected(path, _FORMAT, _SCHEMA, synchronous="NORMAL"))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add(self, header: BatchHeader, entries: Iterable[EntryRecord]) -> None:
        """Keep entries of one batch."""
        rows = [
            (e.token(), e.path_id, e.parent_id, e.kind, e.size, e.version_id, e.index, e.sealed,
             header.epoch, header.salt, header.commitment)
            for e in entries
        ]  # fmt: skip
        with translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(f"INSERT OR REPLACE INTO entry VALUES ({', '.join('?' * 11)})", rows)
            self._db.execute("COMMIT")

    def lacking(self, tokens: Sequence[Digest]) -> list[Digest]:
        """Those that are not here."""
        held: set[bytes] = set()
        for at in range(0, len(tokens), _PORTION):
            part = tokens[at : at + _PORTION]
            with translated(self._path):
                rows = self._db.execute(f"SELECT token FROM entry WHERE token IN ({_marks(part)})", part)
                held.update(row[0] for row in rows)
        return [token for token in tokens if token not in held]

    def batches(self, tokens: Sequence[Digest]) -> list[EntryBatch]:
        """The entries with these tokens, by the batch in which they were sealed; missing ones are left out."""
        by_header: dict[BatchHeader, list[EntryRecord]] = {}
        made: dict[tuple[int, bytes, bytes], BatchHeader] = {}
        for at in range(0, len(tokens), _PORTION):
            part = tokens[at : at + _PORTION]
            with translated(self._path):
                rows = self._db.execute(f"SELECT * FROM entry WHERE token IN ({_marks(part)})", part).fetchall()
            for token, path, parent, kind, size, version, number, sealed, epoch, salt, commitment in rows:
                record = EntryRecord(PathId(path), PathId(parent), kind, size, VersionId(version), number, sealed)
                if record.token() == token:
                    header = made.setdefault((epoch, salt, commitment), BatchHeader(epoch, salt, commitment))
                    by_header.setdefault(header, []).append(record)
        return [EntryBatch(header, records) for header, records in by_header.items()]

    def sweep(self, ledger: Path) -> None:
        """Forget what the ledger names no more, where that is worth it."""
        with translated(self._path):
            self._db.execute("ATTACH DATABASE ? AS ledger", (str(ledger),))
            try:
                kept, live = self._db.execute(
                    "SELECT (SELECT count(*) FROM main.entry), (SELECT count(*) FROM ledger.entry)"
                ).fetchone()
                if kept > 1.25 * live + 1000:
                    self._db.execute(
                        "DELETE FROM main.entry WHERE token NOT IN (SELECT token FROM ledger.entry)"
                    )
            finally:
                self._db.execute("DETACH DATABASE ledger")


def _marks(part: Sequence[object]) -> str:
    return ",".join("?" * len(part))
