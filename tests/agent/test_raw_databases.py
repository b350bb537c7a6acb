"""Database files read as they lie there: open ones are named with the better way, large ones once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.scanner import Listing, Scanner, ScanWarning
from agent.selection import Selection
from agent.settings import AgentHome
from agent.sources.configured import Databases, MariadbSource, PostgresqlSource, SqliteSource
from agent.sources.raw_databases import RawDatabases
from agent.system.open_files import open_elsewhere
from transport.names import VaultId
from transport.sealing import vault_keys

KEYS = vault_keys(bytes(32), VaultId(b"v" * 16))


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def listings(source: Path) -> list[Listing]:
    return list(Scanner(Selection.of([os.fsencode(source)]), KEYS).scan())


def said(home: AgentHome, source: Path, databases: Databases = Databases()) -> list[ScanWarning]:  # noqa: B008
    raw = RawDatabases(home, databases)
    told = []
    for listing in listings(source):
        for found in listing.children:
            told += raw.look(listing, found)
    return told + raw.warnings()


@contextlib.contextmanager
def held(*paths: Path) -> Iterator[None]:
    """Another process has these files open."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, "rb")) for path in paths]
        process = subprocess.Popen(["sleep", "600"], pass_fds=[file.fileno() for file in files])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_who_has_what_open_is_known_and_oneself_is_not_others(source: Path) -> None:
    (source / "a").write_text("x")
    (source / "b").write_text("x")
    with held(source / "a"), open(source / "b"):
        found = open_elsewhere()
    assert os.fsencode(source / "a") in found and os.fsencode(source / "b") not in found
    assert os.fsencode(source / "a") not in open_elsewhere()


def database(path: Path, journal: str = "delete") -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    return connection


def test_an_open_sqlite_file_is_named_with_the_better_way(home: AgentHome, source: Path) -> None:
    quiet, busy = source / "quiet.db", source / "busy.dat"
    for path in (quiet, busy):
        database(path).close()
    (source / "no-database.db").write_bytes(b"thumbs" * 1000)
    with held(quiet, source / "no-database.db", busy):
        told = said(home, source)
    assert [warning.path for warning in told] == [os.fsencode(quiet)], "a small file of another name is not looked into"
    assert f"in use: its copy may be torn; the better way: pilulier-agent source add sqlite {quiet}" in told[0].reason
    assert said(home, source) == []
    with busy.open("r+b") as file:
        file.truncate(2 << 20)
    with held(quiet, busy):
        assert len(said(home, source)) == 2
        dumped = Databases((SqliteSource("quiet", str(quiet)), SqliteSource("busy", str(busy))))
        assert said(home, source, dumped) == []


def test_a_log_beside_it_tells_as_well(home: AgentHome, source: Path) -> None:
    with contextlib.closing(database(source / "base.db", "wal")):
        (warning,) = said(home, source)  # by this very process, which the look at open files passes over
    assert b"base.db" in warning.path
    (source / "old.MDB").write_bytes(b"x")
    (source / "old.ldb").write_bytes(b"locked by somebody")
    (warning,) = said(home, source)
    assert "an Access database that is in use" in warning.reason


def test_files_of_one_kind_in_a_folder_are_one_word(home: AgentHome, source: Path) -> None:
    files = [source / f"CLIENT{number}.FIC" for number in range(5)]
    for path in files:
        path.write_bytes(b"x")
    with held(*files):
        (warning,) = said(home, source)
    assert "an HFSQL database that is in use (and 4 more files of its folder)" in warning.reason
    assert "hooks add before" in warning.reason


def test_servers_are_known_by_their_files_unless_they_are_dumped(home: AgentHome, source: Path) -> None:
    (source / "pg" / "global").mkdir(parents=True)
    (source / "pg" / "global" / "pg_control").write_bytes(b"x")
    (source / "my").mkdir()
    (source / "my" / "ibdata1").write_bytes(b"x")
    assert said(home, source) == []
    (source / "pg" / "postmaster.pid").write_text("1")
    with held(source / "my" / "ibdata1"):
        told = said(home, source)
        assert sorted(warning.reason.split(" that ")[0] for warning in told) == [
            "a MariaDB or MySQL server's data",
            "a PostgreSQL server's data",
        ]
        assert len(said(home, source, Databases((MariadbSource("m", "m"),)))) == 1
        assert said(home, source, Databases((MariadbSource("m", "m"), PostgresqlSource("p", "p")))) == []


def test_growth_is_told_once_and_again_after_half_as_much_more(home: AgentHome, source: Path) -> None:
    path = source / "CLIENT.FIC"

    def grow(size: int) -> int:
        with path.open("ab") as file:
            file.truncate(size)
        return len(said(home, source, Databases(threshold_bytes=1000)))

    sizes = {1000: 0, 1001: 1, 1400: 0, 1501: 0, 1502: 1, 2000: 0, 2252: 0, 2253: 1, 3000: 0, 900: 0, 1002: 1}
    assert {size: grow(size) for size in sizes} == sizes
    assert said(home, source, Databases(threshold_bytes=0)) == []
    with path.open("r+b") as file:
        file.truncate(2_100_000_000)
    (warning,) = said(home, source)
    assert "has grown to 2.1 GB, beyond 2 GB" in warning.reason
