"""Migrations, transactions and refusals of the control database."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from appliance.control import contracts, deletions
from appliance.control.database import Database
from appliance.control.migrations import MIGRATIONS, Migration
from appliance.control.scope import EVERYTHING
from appliance.errors import ControlDatabaseError
from appliance.store.upkeep.retention import Policy

ONE = Migration(
    1,
    "first",
    ("CREATE TABLE schema_migration (number INTEGER PRIMARY KEY, name TEXT, applied_at REAL)", "CREATE TABLE a (x)"),
)
TWO = Migration(2, "second", ("ALTER TABLE a ADD COLUMN y", "UPDATE a SET y = x * 2"))
BROKEN = Migration(2, "broken", ("CREATE TABLE b (x)", "INSERT INTO nowhere VALUES (1)"))


def test_new_database_is_at_the_newest_schema_and_private(tmp_path: Path) -> None:
    with Database.create(tmp_path / "control.db") as db:
        assert db.schema_version() == MIGRATIONS[-1].number
        assert db.value("PRAGMA foreign_keys") == 1
        assert db.value("PRAGMA synchronous") == 3
        assert db.value("PRAGMA journal_mode") == "truncate"
        assert db.integrity_problems() == []
    assert stat.S_IMODE((tmp_path / "control.db").stat().st_mode) == 0o600


def test_create_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "control.db").write_bytes(b"precious")
    with pytest.raises(ControlDatabaseError, match="control.db cannot be created"):
        Database.create(tmp_path / "control.db")
    assert (tmp_path / "control.db").read_bytes() == b"precious"


def test_older_schema_is_brought_up_to_date_with_its_data(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Database.create(path, [ONE]) as db, db.write():
        db.insert("a", {"x": 21})
    with Database.open(path, [ONE, TWO]) as db:
        assert db.schema_version() == 2
        assert db.value("SELECT y FROM a") == 42
    with Database.open(path, [ONE, TWO]) as db:
        assert [row["number"] for row in db.rows("SELECT number FROM schema_migration ORDER BY number")] == [1, 2]


def test_contracts_of_the_first_schema_get_the_default_retention(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Database.create(path, MIGRATIONS[:1]) as db, db.write():
        db.insert("space", {"id": "s1", "name": "first", "created_at": 1.0})
        db.execute(
            "INSERT INTO contract VALUES ('c1', 's1', 'client', 'a@x.org', 1, 1, 1.0, '2026-01-01', NULL, 'confided', "
            "'active', NULL)"
        )
    with Database.open(path) as db:
        assert db.schema_version() == MIGRATIONS[-1].number and db.integrity_problems() == []
        [contract] = contracts.every(db, EVERYTHING)
        assert contract.retention == Policy()


def test_contracts_marked_before_there_was_a_table_wait_their_days(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Database.create(path, MIGRATIONS[:2]) as db, db.write():
        db.insert("space", {"id": "s1", "name": "first", "created_at": 1.0})
        db.execute(
            "INSERT INTO contract (id, space_id, client_id, email, allocated_bytes, machine_quota, created_at, "
            "start_date, escrow, state, delete_requested_at) "
            "VALUES ('c1', 's1', 'client', 'a@x.org', 1, 1, 1.0, '2026-01-01', 'confided', 'paused', 1000.0)"
        )
    with Database.open(path) as db:
        [waiting] = deletions.pending(db, EVERYTHING)
        assert (waiting.object_id, waiting.due_at) == ("c1", 1000.0 + deletions.WAIT_S)
        assert db.integrity_problems() == []


def test_failed_migration_leaves_the_older_schema_whole(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    Database.create(path, [ONE]).close()
    with pytest.raises(ControlDatabaseError, match="nowhere"):
        Database.open(path, [ONE, BROKEN])
    with Database.open(path, [ONE]) as db:
        assert db.schema_version() == 1
        assert db.row("SELECT 1 FROM sqlite_master WHERE name = 'b'") is None


def test_newer_schema_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    Database.create(path, [ONE, TWO]).close()
    with pytest.raises(ControlDatabaseError, match="schema 2, and this Pilulier knows up to 1"):
        Database.open(path, [ONE])


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with pytest.raises(ControlDatabaseError, match="control.db is missing"):
        Database.open(path)
    assert not path.exists()
    path.write_bytes(b"not a database at all, " * 200)
    with pytest.raises(ControlDatabaseError, match="control.db is damaged"):
        Database.open(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root opens anything")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    Database.create(path).close()
    path.chmod(0)
    with pytest.raises(ControlDatabaseError, match="cannot be opened"):
        Database.open(path)


def test_write_is_all_or_nothing_and_nests(tmp_path: Path) -> None:
    with Database.create(tmp_path / "control.db", [ONE]) as db:
        with pytest.raises(ZeroDivisionError), db.write():
            db.insert("a", {"x": 1})
            with db.write():
                db.insert("a", {"x": 2})
            _ = 1 / 0
        assert db.rows("SELECT * FROM a") == []
        with db.write(), db.write():
            db.insert("a", {"x": 3})
        assert db.value("SELECT x FROM a") == 3
        with pytest.raises(RuntimeError):
            db.execute("DELETE FROM a")


def test_data_version_tells_of_other_connections_only(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Database.create(path, [ONE]) as db, Database.open(path, [ONE]) as other:
        before = db.data_version()
        with db.write():
            db.insert("a", {"x": 1})
        assert db.data_version() == before
        with other.write():
            other.insert("a", {"x": 2})
        assert db.data_version() != before


def test_two_writers_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with Database.create(path, [ONE]) as db, db.write():
        db.insert("a", {"x": 0})

    def add_many() -> None:
        with Database.open(path, [ONE]) as own:
            for _ in range(20):
                with own.write():
                    own.execute("UPDATE a SET x = ?", [own.value("SELECT x FROM a") + 1])

    threads = [threading.Thread(target=add_many) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Database.open(path, [ONE]) as db:
        assert db.value("SELECT x FROM a") == 40
