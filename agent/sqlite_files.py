"""Opening the agent's SQLite files, and what SQLite's errors mean to the caller.

Owns the connection settings (SQLite 3.40 has the WAL-reset bug, hence the rollback journal) and the split between
a file that is damaged (LedgerLost: rebuild) and a disk that is full, failing or locked (LedgerError: mend and
try again). Knows no tables.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from agent.errors import LedgerError, LedgerLost

_TIMEOUT_S: Final = 30.0
_ENVIRONMENT: Final = frozenset(
    (
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
    )
)  # fmt: skip
_BUGS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class translated:
    """`with translated(path):` turns sqlite3's errors on that file into LedgerLost and LedgerError."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, _BUGS):
            return
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _ENVIRONMENT:
            raise LedgerError(f"{self._path} cannot be used now ({error}): check the disk, then try again") from None
        raise LedgerLost(f"{self._path} is damaged ({error}): it is rebuilt from the appliance") from None


def connected(path: Path, form: int, schema: str, *, synchronous: str = "EXTRA") -> sqlite3.Connection:
    """A connection to the file, made with `schema` where it is new, readable by its owner only.

    LedgerLost where it holds another format than `form`. Call it inside `translated`.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise LedgerError(f"{path} cannot be opened: {error.strerror}") from None
    database = sqlite3.connect(path, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = TRUNCATE")
        database.execute(f"PRAGMA synchronous = {synchronous}")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA cache_size = -16384")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.execute("BEGIN IMMEDIATE")
            # Another process may have made the tables while this one waited for the lock.
            if database.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in schema.split(";\n"):
                    if statement.strip():
                        database.execute(statement)
                database.execute(f"PRAGMA user_version = {form}")
            database.execute("COMMIT")
        elif version != form:
            raise LedgerLost(f"{path} is of format {version}, this program writes {form}: it is rebuilt")
    except BaseException:
        database.close()
        raise
    return database
