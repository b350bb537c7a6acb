"""Client programs are told the way to a server, and never a secret where others could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import DatabaseError
from agent.sources import mariadb, postgresql
from agent.sources.configured import Connection
from agent.sources.dumps import words
from agent.sources.postgresql import connection_string
from transport.errors import UsageError

SECRET = 'very:secret\\"pass'


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return str(path)


def fake(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of a client, which writes down all that `ps` would show of it, and reads what it was
    handed."""
    seen = folder / "seen"
    path = folder / name
    path.write_text(
        f'#!/bin/sh\ntr "\\0" "\\n" </proc/$$/cmdline >{seen}\ntr "\\0" "\\n" </proc/$$/environ >>{seen}\n'
        f'for word in "$@" "PGPASSFILE=$PGPASSFILE"; do case $word in\n'
        f"--defaults-extra-file=*|PGPASSFILE=/*) cat ${{word#*=}} >{folder}/handed;; esac; done\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return seen


def test_a_password_is_handed_to_psql_through_no_argument_and_no_variable(
    tmp_path: Path, password_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fake(tmp_path, "psql", monkeypatch)
    with postgresql.Server(Connection(host="db", user="u", password_file=password_file)) as server:
        assert server.ask("officine", "SELECT 1") == []
    shown = seen.read_text()
    assert "dbname='officine'" in shown and "--no-password" in shown and "PGPASSFILE=" in shown
    assert "secret" not in shown
    assert (tmp_path / "handed").read_text() == '*:*:*:*:very\\:secret\\\\"pass\n'


def test_a_password_is_handed_to_mariadb_in_an_option_file(
    tmp_path: Path, password_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fake(tmp_path, "mariadb", monkeypatch)
    with mariadb.Server(Connection(socket="/s", user="u", password_file=password_file)) as server:
        assert server.ask("SELECT 1", "officine") == []
    shown = seen.read_text()
    assert "--socket=/s\n--user=u" in shown and shown.index("--defaults-extra-file=") < shown.index("--socket")
    assert "secret" not in shown
    assert (tmp_path / "handed").read_text() == '[client]\npassword="very:secret\\\\\\"pass"\n'


def test_an_option_file_of_the_owners_comes_first_and_alone(
    tmp_path: Path, password_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, "mariadb-dump", monkeypatch)
    with mariadb.Server(Connection(defaults_file="/etc/backup.cnf")) as server:
        dump = server.dump("officine")
    assert dump.argv[1] == "--defaults-extra-file=/etc/backup.cnf" and dump.argv[-1] == "officine"
    assert {"--single-transaction", "--routines", "--events", "--triggers", "--skip-dump-date"} <= set(dump.argv)
    both = Connection(defaults_file="/etc/backup.cnf", password_file=password_file)
    with pytest.raises(UsageError, match="or an option file"), mariadb.Server(both):
        pass


def test_connection_strings_quote_what_people_type() -> None:
    said = connection_string(Connection(host="/run/pg", port=5433, user="o'brien\\", service="s"), "a b='c'")
    assert said == (
        "service='s' host='/run/pg' port='5433' user='o\\'brien\\\\' dbname='a b=\\'c\\'' connect_timeout='20'"
        " application_name='pilulier'"
    )


def test_a_client_that_is_not_there_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgresql, "_folders", lambda: [])
    with postgresql.Server(Connection()) as server, pytest.raises(DatabaseError, match="package postgresql-client"):
        server.ask("officine", "SELECT 1")
    with mariadb.Server(Connection()) as maria, pytest.raises(DatabaseError, match="comes with mariadb-client"):
        maria.ask("SELECT 1")


def test_complaints_become_one_sentence() -> None:
    assert words(b"psql: error: no\n\n  such   thing\n") == "no; such thing"
    assert words(b"") == "it did not say why"
    assert len(words(b"x" * 5000)) == 400
