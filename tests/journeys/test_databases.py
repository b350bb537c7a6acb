"""Databases that are backed up while money moves between their accounts, and put back whole."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.test_onsite import disk, read_in_hand
from tests.support.database_servers import PASSWORD, Mariadb, Postgres, mariadb, postgres
from tests.support.processes import Agent, House

ACCOUNTS = 60_000
AS_NOBODY = ["--run-as", "nobody"] if os.geteuid() == 0 else []
BUSY = 200
"""Accounts between which money moves: what changes between two backups is then bounded, however fast it moves."""
BALANCE = 1000
TOTAL = ACCOUNTS * BALANCE
"""What all accounts together hold at any committed moment."""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgres]:
    with postgres() as server:
        server.sql("postgres", "CREATE DATABASE officine")
        server.sql(
            "officine",
            f"CREATE ROLE pharmacie; CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, note text);"
            f"INSERT INTO accounts SELECT i, {BALANCE}, md5(i::text) || md5((i + 1)::text)"
            f" FROM generate_series(1, {ACCOUNTS}) i; ALTER TABLE accounts OWNER TO pharmacie",
        )
        yield server


@pytest.fixture(scope="module")
def maria() -> Iterator[Mariadb]:
    with mariadb() as server:
        server.sql("", "CREATE DATABASE officine")
        server.sql(
            "officine",
            "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, note varchar(80)) ENGINE=InnoDB;"
            f"INSERT INTO accounts SELECT seq, {BALANCE}, CONCAT(MD5(seq), MD5(seq + 1)) FROM seq_1_to_{ACCOUNTS};"
            "CREATE TRIGGER kept BEFORE UPDATE ON accounts FOR EACH ROW SET NEW.note = OLD.note;"
            "CREATE FUNCTION twice(x int) RETURNS int DETERMINISTIC RETURN 2 * x;"
            "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO UPDATE accounts SET balance = balance",
        )
        yield server


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One appliance for all of them: each test has an agent of its own."""
    with House(tmp_path_factory.mktemp("databases") / "house") as opened:
        yield opened


class Mover:
    """Moves money between accounts in transactions, one after the other, until told to stop."""

    def __init__(self, transfer: Callable[[int, int, int], None]) -> None:
        self._transfer = transfer
        self._stop = threading.Event()
        self.moves = 0
        self.error: Exception | None = None
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Mover:
        self._thread.start()
        self.go_on()
        return self

    def go_on(self) -> None:
        """Wait until money has moved some more times."""
        with self._turn:
            wanted = self.moves + 20
            assert self._turn.wait_for(lambda: self.moves >= wanted or self.error, 60), "no money moves"

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert self.error is None, self.error
        assert not self._thread.is_alive()

    def _run(self) -> None:
        rng = random.Random(11)
        try:
            while not self._stop.is_set():
                self._transfer(rng.randint(1, BUSY), rng.randint(1, BUSY), rng.randint(1, 50))
                with self._turn:
                    self.moves += 1
                    self._turn.notify_all()
        except Exception as error:
            with self._turn:
                self.error = error
                self._turn.notify_all()


Transfer = Callable[[int, int, int], None]
MOVE = (
    "BEGIN; UPDATE accounts SET balance = balance - {amount} WHERE id = {giver};"
    " UPDATE accounts SET balance = balance + {amount} WHERE id = {taker}; COMMIT; SELECT 'moved';"
)


def through(argv: list[str], env: dict[str, str]) -> tuple[subprocess.Popen[str], Transfer]:
    """A client that is fed transfers through its standard input and answers each."""
    client = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env={**os.environ, **env}
    )

    def transfer(giver: int, taker: int, amount: int) -> None:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(MOVE.format(giver=giver, taker=taker, amount=amount) + "\n")
        client.stdin.flush()
        assert client.stdout.readline().strip() == "moved"

    return client, transfer


def paths(warnings: list[dict[str, Any]]) -> list[str]:
    return [warning["path"] for warning in warnings]


def test_postgresql_while_it_writes(house: House, postgresql: Postgres) -> None:
    agent = house.agent()
    agent.command("source", "add", "postgresql", "--database", "officine", *postgresql.options, *AS_NOBODY)
    assert "PostgreSQL" in agent.command("source", "test", "officine").document["detail"]
    argv = [
        *(postgresql.program("psql"), "-X", "-q", "-At", "-w", "-v", "ON_ERROR_STOP=1"),
        *("-h", str(postgresql.folder), "-U", "postgres", "-d", "officine"),
    ]
    client, transfer = through(argv, {"PGPASSWORD": PASSWORD})
    with client, Mover(transfer) as mover:
        first = agent.backup()
        mover.go_on()
        second = agent.backup()
        mover.go_on()
    assert (first["files_full"], second["files_delta"], second["warnings"]) == (1, 1, [])
    assert first["bytes_source"] > 4_000_000
    told = second["bytes_sent"], mover.moves
    assert second["bytes_sent"] < first["bytes_sent"] / 4, told

    for snapshot in (1, 2):
        into = f"copy_{snapshot}"
        done = agent.command(
            "restore-database", "officine", "--into", into, "--snapshot", str(snapshot), *house.login()
        ).document
        assert (done["kind"], done["snapshot"], done["kept_as"]) == ("postgresql", snapshot, "")
        assert postgresql.sql(into, "SELECT sum(balance), count(*) FROM accounts") == f"{TOTAL}|{ACCOUNTS}"
        assert postgresql.sql(into, "SELECT tableowner FROM pg_tables WHERE tablename = 'accounts'") == "pharmacie"
        postgresql.check(into)
    moved = "SELECT md5(string_agg(id || ':' || balance, ',' ORDER BY id)) FROM accounts"
    assert postgresql.sql("copy_2", moved) != postgresql.sql("copy_1", moved)

    assert "already" in agent.told("restore-database", "officine", "--into", "copy_1", *house.login(), code=2)
    done = agent.command("restore-database", "officine", "--into", "copy_1", "--replace", *house.login()).document
    assert postgresql.sql(done["kept_as"], moved) != postgresql.sql("copy_1", moved) == postgresql.sql("copy_2", moved)


def test_a_dump_that_fails_keeps_the_last_good_one(house: House, postgresql: Postgres, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "paper").write_text("x")
    agent = house.agent(source)
    agent.command("source", "add", "postgresql", "--database", "officine", *postgresql.options)
    assert agent.backup()["files_total"] == 2
    # This user may read the one table and not the other.
    nosy = "CREATE ROLE nosy LOGIN PASSWORD 'x'; GRANT SELECT ON accounts TO nosy; CREATE TABLE zz (x int)"
    postgresql.sql("officine", nosy)
    agent.command("source", "remove", "officine")
    password = tmp_path / "password"
    password.write_text("x")
    password.chmod(0o600)
    agent.command(
        *("source", "add", "postgresql", "--database", "officine", "--host", str(postgresql.folder)),
        *("--user", "nosy", "--password-file", str(password)),
    )
    report = agent.backup(expect=3)
    (warning,) = report["warnings"]
    assert warning["path"] == "/.pilulier/databases/officine.postgresql.sql"
    assert "permission denied" in warning["reason"] and "its previous version is kept" in warning["reason"]
    assert (report["files_total"], report["files_unchanged"], report["state"]) == (2, 2, "complete")
    agent.command("restore-database", "officine", "--into", "kept", *postgresql.options, *house.login())
    assert postgresql.sql("kept", "SELECT count(*) FROM accounts") == str(ACCOUNTS)
    assert "permission denied" in agent.told("source", "test", "officine", code=1)
    log = "\n".join(house.log(agent))
    assert "1 path was not backed up" in log and "officine" not in log
    assert "A database could not be dumped; its last good copy, if there is one, stays" in log

    agent.command("source", "remove", "officine")
    assert agent.backup()["files_deleted"] == 1


def test_a_dump_that_breaks_off_in_the_middle_of_its_rows(house: House, postgresql: Postgres) -> None:
    agent = house.agent()
    agent.command("source", "add", "postgresql", "--name", "caisse", "--database", "officine", *postgresql.options)
    agent.backup()
    # A copy of the files that nobody has read yet, so that the damage is met on the disk, after half of the rows.
    postgresql.sql("postgres", "CREATE DATABASE torn TEMPLATE officine STRATEGY file_copy")
    path = postgresql.folder / "data" / postgresql.sql("torn", "SELECT pg_relation_filepath('accounts')")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 8192 * 8192)
        file.write(b"no page" * 100)
    agent.command("source", "remove", "caisse")
    agent.command("source", "add", "postgresql", "--name", "caisse", "--database", "torn", *postgresql.options)
    report = agent.backup(expect=3)
    (warning,) = report["warnings"]
    assert "invalid page in block" in warning["reason"] and "its previous version is kept" in warning["reason"]
    assert report["files_unchanged"] == 1 and report["bytes_source"] > 4_000_000
    agent.command("restore-database", "caisse", "--into", "mended", *house.login())
    assert postgresql.sql("mended", "SELECT count(*) FROM accounts") == str(ACCOUNTS)
    postgresql.sql("postgres", "DROP DATABASE torn")


def test_mariadb_while_it_writes(house: House, maria: Mariadb) -> None:
    agent = house.agent()
    agent.command("source", "add", "mariadb", "--database", "officine", *maria.options, *AS_NOBODY)
    argv = ["mariadb", "--no-defaults", f"--socket={maria.socket}", "--user=root", "-B", "-N", "-n", "officine"]
    client, transfer = through(argv, {})
    with client, Mover(transfer) as mover:
        first = agent.backup()
        mover.go_on()
        second = agent.backup()
        mover.go_on()
    assert (first["files_full"], second["files_delta"], second["warnings"]) == (1, 1, [])
    assert second["bytes_sent"] < first["bytes_sent"] / 4, (second["bytes_sent"], mover.moves)
    for snapshot in (1, 2):
        into = f"copy_{snapshot}"
        agent.command("restore-database", "officine", "--into", into, "--snapshot", str(snapshot), *house.login())
        assert maria.sql(into, "SELECT SUM(balance), COUNT(*) FROM accounts") == f"{TOTAL}\t{ACCOUNTS}"
        assert maria.check(into).split() == [f"{into}.accounts", "OK"]
        assert maria.sql(into, "SELECT twice(21)") == "42"
    for what in ("trigger", "event"):
        counted = f"SELECT COUNT(*) FROM information_schema.{what}s WHERE {what}_schema = 'copy_1'"
        assert maria.sql("", counted) == "1"
    assert "already" in agent.told("restore-database", "officine", "--into", "copy_1", *house.login(), code=2)
    agent.command("restore-database", "officine", "--into", "copy_1", "--replace", *house.login())
    moved = "SELECT SUM(CAST(id AS DECIMAL) * balance) FROM accounts"
    assert maria.sql("copy_1", moved) == maria.sql("copy_2", moved)

    maria.sql("officine", "CREATE TABLE old_stock (x int) ENGINE=MyISAM")
    (warning,) = agent.backup(expect=3)["warnings"]
    assert "1 table is of an engine without transactions (old_stock)" in warning["reason"]
    # A view of a table that is gone: the dump breaks off there.
    orphan = "DROP TABLE old_stock; CREATE VIEW v AS SELECT id FROM accounts; RENAME TABLE accounts TO gone"
    maria.sql("officine", orphan)
    (warning,) = agent.backup(expect=3)["warnings"]
    assert "mariadb-dump ended with code" in warning["reason"] and "its previous version is kept" in warning["reason"]
    maria.sql("officine", "DROP VIEW v; RENAME TABLE gone TO accounts")


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite_while_it_writes(house: House, tmp_path: Path, journal: str) -> None:
    path = tmp_path / "officine.db"
    database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    database.execute(f"PRAGMA journal_mode = {journal}")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER, note TEXT)")
    notes = random.Random(1)
    database.execute("BEGIN")
    rows = ((number, BALANCE, notes.randbytes(40).hex()) for number in range(1, ACCOUNTS + 1))
    database.executemany("INSERT INTO accounts VALUES (?, ?, ?)", rows)
    database.execute("COMMIT")

    def transfer(giver: int, taker: int, amount: int) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", (amount, giver))
        database.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", (amount, taker))
        database.execute("COMMIT")

    agent = house.agent()
    agent.command("source", "add", "sqlite", str(path))
    with Mover(transfer) as mover:
        first = agent.backup()
        mover.go_on()
        second = agent.backup()
        mover.go_on()
    assert (first["files_full"], second["files_delta"], second["warnings"]) == (1, 1, [])
    assert not list((agent.home / "dumps").iterdir())
    database.close()

    back = tmp_path / "back.db"
    done = agent.command("restore-database", "officine", "--into", str(back), *house.login()).document
    assert (done["kind"], done["into"]) == ("sqlite", str(back))
    _whole(back)
    assert back.stat().st_mode & 0o777 == path.stat().st_mode & 0o777
    assert "already" in agent.told("restore-database", "officine", "--into", str(back), *house.login(), code=2)
    (tmp_path / "back.db-wal").write_bytes(b"what an earlier run left")
    done = agent.command("restore-database", "officine", "--into", str(back), "--replace", *house.login()).document
    _whole(back)
    _whole(Path(done["kept_as"]))
    assert not (tmp_path / "back.db-wal").exists()

    _sent_pages_only(agent, path)
    path.write_bytes(b"SQLite format 3\0 and then nothing of the kind" * 100)
    (warning,) = agent.backup(expect=3)["warnings"]
    assert "SQLite cannot read" in warning["reason"] and "its previous version is kept" in warning["reason"]


def test_what_lies_open_is_named_and_what_stands_on_no_disk_is_left_alone(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    path = source / "base.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = wal")
    database.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER)")
    agent = house.agent(source)
    agent.command("select", "exclude", "*-shm")  # whoever opens the database writes there
    assert agent.command("source", "threshold").document == {"threshold_bytes": 2_000_000_000}
    assert agent.command("source", "threshold", "1kB").document == {"threshold_bytes": 1000}
    assert "no size" in agent.told("source", "threshold", "0GB", code=2)
    warnings = {warning["reason"].split(":")[0] for warning in agent.backup(expect=3)["warnings"]}
    assert warnings == {
        "this database has grown to 0.0 GB, beyond 1e-06 GB",
        "a SQLite database that is in use",
    }
    agent.command("source", "add", "sqlite", str(path), "--name", "caisse")
    database.execute("INSERT INTO accounts VALUES (1, 2)")
    agent.command("source", "threshold", "off")
    assert agent.backup()["warnings"] == []

    checked = agent.command("verify").document
    assert (checked["files_changed_since"], checked["files_damaged"]) == (0, 0)
    database.close()
    report = agent.command("restore", "--in-place", "--overwrite", *house.login(), expect=3).document
    assert [error["path"] for error in report["errors"]] == ["/.pilulier/databases/caisse.sqlite"]
    assert "restore-database" in report["errors"][0]["reason"]
    assert not Path("/.pilulier").exists()
    target = tmp_path / "target"
    agent.restore(target, house.account(), "/.pilulier")
    with sqlite3.connect(target / ".pilulier/databases/caisse.sqlite") as copy:
        assert copy.execute("SELECT * FROM accounts").fetchall() == [(1, 2)]
    copy.close()
    assert "no database 'other'" in agent.told("restore-database", "other", "--into", "x", *house.login(), code=2)
    assert "asks for --account" in agent.told("restore-database", "caisse", "--into", "x", code=4)


def test_a_copy_on_site_that_comes_later_gets_the_dumps_too(
    house: House, postgresql: Postgres, tmp_path: Path
) -> None:
    """A dump cannot be read once more to bring a copy level: it is kept for that until the run is over."""
    path = tmp_path / "caisse.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, note TEXT)")
        notes = random.Random(2)
        rows = ((number, notes.randbytes(90).hex()) for number in range(3000))
        database.executemany("INSERT INTO accounts VALUES (?, ?)", rows)
    database.close()
    agent = house.agent()
    agent.command("source", "add", "postgresql", "--database", "officine", *postgresql.options)
    agent.command("source", "add", "sqlite", str(path))
    agent.backup()
    nas = disk(tmp_path, "nas")
    agent.command("onsite", "add", str(nas))
    report = agent.backup()
    (copy,) = report["onsite"]
    assert (copy["state"], copy["reason"]) == ("written", ""), copy
    assert report["bytes_sent"] < 100_000, "nothing of it travels again"
    assert list((agent.home / "dumps").iterdir()) == []
    back = read_in_hand(agent, nas, tmp_path, "back") / ".pilulier" / "databases"
    with sqlite3.connect(back / "caisse.sqlite") as copied:
        assert copied.execute("SELECT count(*) FROM accounts").fetchone() == (3000,)
    copied.close()
    assert b"PostgreSQL database dump complete" in (back / "officine.postgresql.sql").read_bytes()[-200:]


def _whole(path: Path) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT sum(balance), count(*) FROM accounts").fetchone() == (TOTAL, ACCOUNTS)
    database.close()


def _sent_pages_only(agent: Agent, path: Path) -> None:
    agent.backup()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE accounts SET balance = balance WHERE id = 7")
        database.execute("UPDATE accounts SET note = 'x' WHERE id = 7")
    database.close()
    assert agent.backup()["bytes_sent"] < 20_000
