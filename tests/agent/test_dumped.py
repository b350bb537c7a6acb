"""The folder of dumps in a scan: beside the disk's own folders, never over them, unchanged but for the dumps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.scanner import Listing, Scanner
from agent.selection import Selection
from agent.settings import AgentHome
from agent.sources.configured import Databases, MariadbSource, PostgresqlSource, SqliteSource
from agent.sources.dumped import Dumped
from agent.sources.places import apart, dump_named
from transport.errors import UsageError
from transport.names import ROOT, VaultId
from transport.sealing import vault_keys
from transport.tree import FileType

KEYS = vault_keys(bytes(32), VaultId(b"v" * 16))
THREE = Databases((SqliteSource("caisse", "/srv/caisse.db"), PostgresqlSource("b", "x"), MariadbSource("a", "x")))


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "home")
    home.create()
    return home


def scanned(home: AgentHome, databases: Databases, selection: Selection, *, dump: bool = True) -> list[Listing]:
    scan = Scanner(selection, KEYS, home=os.fsencode(home.path)).scan()
    return list(Dumped(home, databases, KEYS).besides(scan, dump=dump))


def test_they_come_right_after_the_top_and_nothing_else_changes(home: AgentHome, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    selection = Selection.of([os.fsencode(tmp_path / "source")])
    plain = list(Scanner(selection, KEYS, home=os.fsencode(home.path)).scan())
    assert scanned(home, Databases(), selection) == plain
    listings = scanned(home, THREE, selection)
    assert [listing.path for listing in listings[:3]] == [b"/", b"/.pilulier", b"/.pilulier/databases"]
    assert listings[3:] == plain[1:]
    assert [child.name for child in listings[0].children] == [b".pilulier", *(c.name for c in plain[0].children)]
    assert [child.name for child in listings[2].children] == [
        *(b"a.mariadb.sql", b"b.postgresql.sql", b"caisse.sqlite")
    ]
    folder = listings[2]
    assert folder.complete and folder.folder is not None and folder.path_id == folder.folder.path_id
    assert {child.parent_id for child in folder.children} == {folder.path_id}
    scanner = Scanner(selection, KEYS)
    assert folder.children[0].path_id == scanner.path_id(b"/.pilulier/databases/a.mariadb.sql")
    again = scanned(home, THREE, selection)
    assert again[1] == listings[1] and again[0] == listings[0], "the folders count as unchanged"


def test_without_a_selection_they_are_all_there_is(home: AgentHome) -> None:
    listings = scanned(home, THREE, Selection())
    assert [listing.path for listing in listings] == [b"/", b"/.pilulier", b"/.pilulier/databases"]


def test_a_run_that_dumps_nothing_leaves_the_last_dumps_as_they_are(home: AgentHome) -> None:
    (listing,) = scanned(home, THREE, Selection(), dump=False)
    assert listing.unsure == {Scanner(Selection(), KEYS).path_id(b"/.pilulier")} and listing.children == []


def test_a_real_folder_of_that_name_is_left_out_with_a_word(home: AgentHome) -> None:
    real = Listing(
        b"/", ROOT, None, [], error=None, complete=True, included=True
    )
    dumped = Dumped(home, THREE, KEYS)
    (folder,) = next(iter(dumped.besides([real]))).children
    real.children.append(folder)
    inside = Listing(b"/.pilulier", folder.path_id, folder, [], error=None, complete=True, included=False)
    other = Listing(b"/.pilulier2", ROOT, None, [], error=None, complete=True, included=False)
    listings = list(dumped.besides([real, inside, other]))
    assert [listing.path for listing in listings] == [b"/", b"/.pilulier", b"/.pilulier/databases", b"/.pilulier2"]
    assert "left out" in listings[0].warnings[0].reason
    assert [child.type for child in listings[0].children] == [FileType.FOLDER]


def test_leftovers_of_a_killed_run_go(home: AgentHome) -> None:
    home.dumps.mkdir()
    (home.dumps / "caisse.123.sqlite").write_bytes(b"x")
    (home.dumps / "restoring" / "deep").mkdir(parents=True)
    scanned(home, Databases(), Selection())
    assert list(home.dumps.iterdir()) == []


def test_names_are_told_apart_and_bounded() -> None:
    with pytest.raises(UsageError, match="already"):
        THREE.adding(SqliteSource("CAISSE", "/x"))
    for name in ("", "-x", "a/b", "a b", "é", "x" * 61, ".x"):
        with pytest.raises(UsageError, match="no name"):
            THREE.adding(SqliteSource(name, "/x"))
    with pytest.raises(UsageError, match="no source"):
        THREE.named("d")
    assert [source.name for source in THREE.without("b").sources] == ["caisse", "a"]
    assert dump_named([], "a") is None and apart
