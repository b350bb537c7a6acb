"""The one way to the control database: connections, write transactions, versions.

Rules: `BEGIN IMMEDIATE` for every write, so that what was read inside still holds at the commit; journal
TRUNCATE and synchronous EXTRA, since WAL is unsafe with several writers before SQLite 3.51.3; a newer schema
is refused, an older one is brought up to date on opening. A `Database` belongs to the thread that opened it.
Knows no table but `schema_migration`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlite_utils

from appliance.control.migrations import MIGRATIONS, Migration
from appliance.errors import ControlDatabaseError

SQLITE_VERSION: Final = sqlite3.sqlite_version_info
"""Of the library that this process runs on."""
OLDEST_SQLITE: Final = (3, 37, 0)
"""The first with STRICT tables."""
SAFE_WAL: Final = (3, 51, 3)
"""The first of its line in which a write-ahead log with several writers cannot be corrupted."""
_TIMEOUT_S: Final = 30.0
_ID_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_ID_LETTERS: Final = 10
"""31**10 is about 2**49: spaces and contracts number thousands, and an id grants nothing by itself."""


def new_id(prefix: str) -> str:
    """An opaque, global id that a person can type: `prefix` and ten letters and digits that do not look alike."""
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LETTERS))


class Database:
    """One connection to the control database, for one thread."""

    __slots__ = ("_connection", "_tables", "path")

    def __init__(self, path: Path) -> None:
        """Connect to an existing file, whatever its schema; `open` and `create` are what most callers want."""
        self.path = path
        if not path.exists():
            raise ControlDatabaseError(
                f"{path} is missing: check that the disk of this home is mounted, or put the file back from a backup"
            )
        connection: sqlite3.Connection | None = None
        try:
            # mode=rw: a missing file must be an error, never a fresh empty database on an unmounted disk.
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT_S, isolation_level=None
            )
            for pragma in (
                "journal_mode=TRUNCATE",
                "synchronous=EXTRA",
                "foreign_keys=ON",
                "trusted_schema=OFF",
                "secure_delete=ON",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise self._explained(error) from None
        self._connection = connection
        self._tables = sqlite_utils.Database(connection, execute_plugins=False)

    @classmethod
    def create(cls, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> Database:
        """A new control database, readable by its owner only; ControlDatabaseError where a file is in the way."""
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise ControlDatabaseError(f"{path} cannot be created: {error.strerror}") from None
        database = cls(path)
        database._migrate(migrations)
        return database

    @classmethod
    def open(cls, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> Database:
        """An existing control database at the newest schema.

        ControlDatabaseError where it is missing, damaged or of a newer version than this program.
        """
        database = cls(path)
        try:
            database._migrate(migrations)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """End the connection; closing twice is harmless."""
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def write(self) -> Iterator[None]:
        """A write transaction, all or nothing; inside another one it joins that."""
        if self._connection.in_transaction:
            yield
            return
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """All rows of a query."""
        try:
            # Read to the end at once: an open cursor would hold the shared lock and starve writers.
            return list(self._tables.query(sql, list(parameters)))
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def row(self, sql: str, parameters: Sequence[object] = ()) -> dict[str, Any] | None:
        """The first row of a query, or None."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def value(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        """The first column of the first row; None where there is no row."""
        row = self.row(sql, parameters)
        return next(iter(row.values())) if row else None

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """One statement inside `write()`; the number of rows it changed."""
        if not self._connection.in_transaction:
            raise RuntimeError("control database written outside of write()")
        return self._run(sql, parameters)

    def insert(self, table: str, record: dict[str, object]) -> None:
        """One row, inside `write()`."""
        names = ", ".join(record)
        marks = ", ".join("?" * len(record))
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(record.values()))

    def update(self, table: str, key: str, changes: dict[str, object]) -> None:
        """Change columns of the row whose `id` is `key`, inside `write()`."""
        sets = ", ".join(f"{name} = ?" for name in changes)
        self.execute(f"UPDATE {table} SET {sets} WHERE id = ?", [*changes.values(), key])

    def copy_to(self, path: Path) -> None:
        """A whole copy as of one moment, by SQLite's own backup, beside whoever reads and writes; 0600.

        ControlDatabaseError where it cannot be written. What is there under that name is replaced.
        """
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        target = sqlite3.connect(path, isolation_level=None)
        try:
            # All pages in one step: in several, each foreign write would begin the copy again.
            self._connection.backup(target)
        except sqlite3.Error as error:
            raise self._explained(error) from None
        finally:
            target.close()

    def data_version(self) -> int:
        """A number that differs from its last value whenever another connection has committed since."""
        return int(self.value("PRAGMA data_version"))

    def schema_version(self) -> int:
        """The number of the last migration applied; 0 for an empty file."""
        known = self.value("SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name = 'schema_migration'")
        if not known:
            return 0
        return int(self.value("SELECT coalesce(max(number), 0) AS n FROM schema_migration"))

    def integrity_problems(self) -> list[str]:
        """What SQLite's own check and the foreign keys find wrong; empty when sound. Reads the whole file."""
        problems = [str(row["integrity_check"]) for row in self.rows("PRAGMA integrity_check(20)")]
        problems = [problem for problem in problems if problem != "ok"]
        problems += [
            f"{row['table']} row {row['rowid']} points nowhere" for row in self.rows("PRAGMA foreign_key_check")
        ]
        return problems

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        newest = migrations[-1].number
        found = self.schema_version()
        if found > newest:
            raise ControlDatabaseError(
                f"{self.path} is of schema {found}, and this Pilulier knows up to {newest}: "
                "a newer version wrote it, so update this program"
            )
        for migration in migrations:
            if migration.number <= found:
                continue
            with self.write():
                # Another process may have been here between the look above and this lock.
                if self.schema_version() >= migration.number:
                    continue
                for statement in migration.statements:
                    self._run(statement)
                self.insert(
                    "schema_migration",
                    {"number": migration.number, "name": migration.name, "applied_at": time.time()},
                )

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        try:
            return self._tables.execute(sql, list(parameters)).rowcount
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def _explained(self, error: sqlite3.Error) -> ControlDatabaseError:
        text = str(error)
        if "locked" in text or "busy" in text:
            what = f"is held by another program for more than {_TIMEOUT_S:.0f} s: try again"
        elif "full" in text:
            what = "cannot grow, its disk is full: make room and try again"
        elif "malformed" in text or "not a database" in text or "disk image" in text:
            what = "is damaged: stop the service and put it back from a backup"
        elif "unable to open" in text or "readonly" in text:
            what = "cannot be opened for writing: run this as the user that owns the home"
        else:
            what = f"refused an operation ({text})"
        return ControlDatabaseError(f"{self.path} {what}")
