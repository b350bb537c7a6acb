"""Segments that the appliance has acknowledged but no snapshot names yet, so that a killed agent need not resend.

Owns pending.db. It is a cache: a damaged file is made anew and costs only bytes sent twice, so it is written without
fsync (which held the sending thread for half of a first backup, measured); a killed process loses nothing by that.
Entries are found by the digest of their whole plaintext and its length, never trusted without the appliance:
`restrict_to` keeps what it says it still holds. Digests fingerprint plaintext, so the file stays on this machine.
Safe to use from several threads.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.errors import LedgerLost
from agent.sqlite_files import connected, translated
from transport.names import SegmentId

PENDING_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE segment (
    segment_id BLOB PRIMARY KEY, digest BLOB NOT NULL, length INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX segment_digest ON segment (digest, length);
"""


class PendingSegments:
    """An open pending.db; `PendingSegments.open(path)`."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._db = database
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> PendingSegments:
        """The file, made anew where it is missing or damaged."""
        try:
            return cls._opened(path)
        except LedgerLost:
            for name in (path.name, path.name + "-journal"):
                path.with_name(name).unlink(missing_ok=True)
            return cls._opened(path)

    @classmethod
    def _opened(cls, path: Path) -> PendingSegments:
        with translated(path):
            database = connected(path, PENDING_FORMAT, _SCHEMA, synchronous="OFF")
            try:
                database.execute("SELECT max(segment_id), max(digest) FROM segment").fetchone()
            except BaseException:
                database.close()
                raise
        return cls(path, database)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> PendingSegments:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._lock, translated(self._path):
            count: int = self._db.execute("SELECT count(*) FROM segment").fetchone()[0]
        return count

    def add_many(self, segments: Iterable[tuple[SegmentId, bytes, int]]) -> None:
        """Remember acknowledged segments: (id, SHA-256 of the plaintext, its length in bytes), in one transaction."""
        self._write("INSERT OR REPLACE INTO segment VALUES (?, ?, ?)", segments)

    def find(self, digest: bytes, length: int) -> SegmentId | None:
        """A held segment with exactly this plaintext."""
        with self._lock, translated(self._path):
            row = self._db.execute(
                "SELECT segment_id FROM segment WHERE digest = ? AND length = ?", (digest, length)
            ).fetchone()
        return None if row is None else SegmentId(row[0])

    def restrict_to(self, held: Iterable[SegmentId]) -> None:
        """Forget what the appliance does not hold (any more)."""
        held = frozenset(held)
        with self._lock, translated(self._path):
            mine = [row[0] for row in self._db.execute("SELECT segment_id FROM segment")]
        gone = [(segment,) for segment in mine if segment not in held]
        if gone:
            self._write("DELETE FROM segment WHERE segment_id = ?", gone)

    def clear(self) -> None:
        """Forget all: a commit names them now."""
        self._write("DELETE FROM segment", [()])

    def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._lock, translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(statement, rows)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
