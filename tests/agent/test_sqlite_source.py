"""SQLite copies: of one moment beside a writer, bounded where it never rests, never over what was good."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import DatabaseError
from agent.sources import sqlite
from agent.sources.configured import SqliteSource
from agent.sources.sqlite import SqliteDumper, copy, put_back
from transport.errors import UsageError

ROWS = 2000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "o'ffi?cine#.db"


@contextlib.contextmanager
def opened(path: Path, journal: str = "delete") -> Iterator[sqlite3.Connection]:
    """A database whose two halves hold the same number in every committed state."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, filling TEXT)")
        database.execute("BEGIN")
        database.executemany("INSERT INTO t VALUES (?, 0, ?)", ((number, "x" * 400) for number in range(ROWS)))
        database.execute("COMMIT")
        yield database


def states(path: Path) -> set[tuple[int, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return set(database.execute(f"SELECT n FROM t WHERE id IN (0, {ROWS - 1})").fetchall())


def nothing() -> None:
    """A check that lets everything pass."""


@pytest.mark.parametrize("journal", ["wal", "delete", "truncate", "persist"])
def test_a_write_between_any_two_steps_and_still_of_one_moment(
    path: Path, tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "STEP_PAGES", 20)
    steps = 0
    with opened(path, journal) as database:

        def write() -> None:
            nonlocal steps
            steps += 1
            assert steps < 200, "the copy has no end"
            database.execute(f"UPDATE t SET n = {steps} WHERE id IN (0, {ROWS - 1})")

        copy(str(path), tmp_path / "copy", write)
    assert len(states(tmp_path / "copy")) == 1
    assert steps > sqlite.RESTARTS
    if journal == "wal":
        assert states(tmp_path / "copy") == {(0,)}, "a copy of the moment in which it began"


def test_a_database_that_somebody_keeps_locked(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCKED_S", 0.0)
    with opened(path) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseError, match="locked"):
            copy(str(path), tmp_path / "copy", nothing)


def test_a_copy_needs_room_before_it_begins(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
        with pytest.raises(DatabaseError, match="needs 6[0-9] MB in .* and 0 MB are free"):
            copy(str(path), tmp_path / "copy", nothing)


def test_what_is_damaged_or_no_database_is_said_and_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"

    def why() -> str:
        with (
            pytest.raises(DatabaseError) as raised,
            SqliteDumper(SqliteSource("officine", str(path)), dumps).open(nothing),
        ):
            pass
        assert list(dumps.iterdir()) == []
        return str(raised.value)

    assert "is not there" in why()
    path.write_bytes(b"nothing of the kind" * 100)
    assert "SQLite cannot read" in why()
    path.unlink()
    with opened(path):
        pass
    with path.open("r+b") as file:
        file.seek(4096 * 10)
        file.write(b"\xff" * 8192)
    assert "damaged" in why()


def test_a_copy_goes_when_it_was_read(path: Path, tmp_path: Path) -> None:
    with opened(path, "wal") as database:
        dumper = SqliteDumper(SqliteSource("officine", str(path)), tmp_path / "dumps")
        assert "SQLite, " in dumper.probe() and "journal wal" in dumper.probe()
        with dumper.open(nothing) as file:
            (found,) = (tmp_path / "dumps").iterdir()
            assert file.size == found.stat().st_size > 0
            assert found.stat().st_mode & 0o777 == 0o600
        assert list((tmp_path / "dumps").iterdir()) == []
        database.execute("UPDATE t SET n = 1")


def test_put_back_never_over_what_is_there_or_open(path: Path, tmp_path: Path) -> None:
    with opened(path):
        pass
    fresh = tmp_path / "fresh"
    into = tmp_path / "into.db"
    copy(str(path), fresh, nothing)
    assert put_back(fresh, into, replace=False, stamp="S") == "" and states(into) == {(0,)}
    copy(str(path), fresh, nothing)
    with pytest.raises(UsageError, match="already"):
        put_back(fresh, into, replace=False, stamp="S")
    (tmp_path / "into.db-journal").write_bytes(b"of the old one")
    kept = put_back(fresh, into, replace=True, stamp="S")
    assert (tmp_path / "into.db.before-S-journal").exists() and not (tmp_path / "into.db-journal").exists()
    assert kept == str(tmp_path / "into.db.before-S") and states(Path(kept)) == states(into) == {(0,)}
    fresh.write_bytes(b"SQLite format 3\0 and no more")
    with pytest.raises(DatabaseError, match="not whole"):
        put_back(fresh, into, replace=True, stamp="T")
    assert states(into) == {(0,)}
