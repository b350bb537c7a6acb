"""A repository as it was written before catalogs of format 2 opens, restores bit-exact, and goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from appliance.store import catalog
from appliance.store.errors import DamagedRepositoryError, StoreError
from appliance.store.repository import Repository
from appliance.store.upkeep.prune import prune
from tests.appliance.store_builder import Client, CrashingDisk, PowerCut, assert_snapshots, content, listed
from transport.names import NO_VERSION, Digest, SegmentId, SessionId, VersionId

GOLDEN = Path(__file__).parents[1] / "golden" / "repository-format-1"
WRITTEN: dict[str, Any] = json.loads(GOLDEN.with_suffix(".json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "r")
    return tmp_path / "r"


def assert_as_written(repository: Repository) -> None:
    for number, entries in WRITTEN["snapshots"].items():
        found = listed(repository, int(number))
        assert {path.hex(): [e.version_id.hex(), e.token().hex()] for path, e in found.items()} == entries
        for version in {e.version_id for e in found.values()} - {NO_VERSION}:
            assert hashlib.sha256(content(repository, version)).hexdigest() == WRITTEN["contents"][version.hex()]
    report = repository.check(read_data=True)
    assert report.ok, report.errors


def test_read_only_it_is_refused_and_says_what_to_do(folder: Path) -> None:
    before = (folder / "catalog.sqlite").read_bytes()
    with pytest.raises(StoreError, match="of an older format: start the appliance once"):
        Repository.open(folder, read_only=True)
    assert (folder / "catalog.sqlite").read_bytes() == before


def test_opened_for_writing_it_is_upgraded_and_everything_restores(folder: Path) -> None:
    with Repository.open(folder) as repository:
        assert_as_written(repository)
    with Repository.open(folder, read_only=True) as repository:
        assert_as_written(repository)


def test_the_upgraded_catalog_has_the_tables_of_a_new_one(folder: Path, tmp_path: Path) -> None:
    def columns(path: Path) -> dict[str, set[tuple[str, str, int]]]:
        connection = sqlite3.connect(path)
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {
            name: {row[1:4] for row in connection.execute(f"PRAGMA table_info({name})")}
            for name in names
        }
        indexes = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
        connection.close()
        return tables | {row[0]: set() for row in indexes}

    with Repository.open(folder) as repository:
        Repository.create(
            tmp_path / "new",
            repository=repository.repository,
            vault=repository.vault,
            public_key=repository.public_key,
        ).close()
    assert columns(folder / "catalog.sqlite") == columns(tmp_path / "new" / "catalog.sqlite")


def client_of(repository: Repository) -> Client:
    """An agent that has just rebuilt its ledger from the repository."""
    client = Client(repository, seed=99)
    client.number, client.previous = repository.head_number, Digest(bytes.fromhex(WRITTEN["previous"]))
    client.committed = {number: listed(repository, number) for number in (1, 2, 3)}
    for version in {e.version_id for entries in client.committed.values() for e in entries.values()} - {NO_VERSION}:
        client.contents[version] = content(repository, version)
    return client


def test_a_killed_session_resumes_and_history_goes_on(folder: Path) -> None:
    with Repository.open(folder, reserve_bytes=0) as repository:
        client = client_of(repository)
        held = [segment.hex() for segment in repository.held_after(SegmentId(bytes(16)), 9)]
        assert held == WRITTEN["held"]
        assert repository.begin(SessionId(b"killed-session--"), client.previous) == 3
        client.begin()
        base = client.live[client.path(b"docs", b"big")].version_id
        version, items = client.delta(base, [(0, 700_005), b"again", (700_005, 700_009)])
        client.stage(*items, client.entries(client.entry((b"docs", b"big"), version)))
        assert client.commit() == 4
        assert_snapshots(repository, client)
        client.begin()
    report = prune(folder, frozenset({1, 2}), now_ms=1)
    assert report.entries_dropped > 0
    with Repository.open(folder, reserve_bytes=0) as client.repository:
        client.committed = {number: entries for number, entries in client.committed.items() if number > 2}
        assert_snapshots(client.repository, client)


def test_what_the_old_appliance_held_stays_leased_until_a_whole_upload(folder: Path) -> None:
    prune(folder, frozenset({1}), now_ms=1)
    with Repository.open(folder) as repository:
        versions = [VersionId(bytes.fromhex(version)) for version in WRITTEN["contents"]]
        assert repository.has_versions(versions) == versions


def test_killed_at_any_operation_the_upgrade_is_done_or_not_begun(folder: Path, tmp_path: Path) -> None:
    at = 1
    while True:
        shutil.rmtree(folder)
        shutil.copytree(GOLDEN, folder)
        disk = CrashingDisk(folder, tmp_path / f"grave{at}", at)
        try:
            Repository.open(folder, disk=disk).close()
        except PowerCut:
            with Repository.open(tmp_path / f"grave{at}") as repository:
                assert_as_written(repository)
        else:
            break
        at += 1
    assert at > 2


def test_a_catalog_from_the_future_is_refused(folder: Path) -> None:
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute("UPDATE state SET format = ?", (catalog.WITH_SUCCESSIONS + 1,))
    connection.close()
    with pytest.raises(DamagedRepositoryError, match="update Pilulier"):
        Repository.open(folder)


def test_the_golden_repository_is_of_format_1() -> None:
    connection = sqlite3.connect(f"{GOLDEN.as_uri()}/catalog.sqlite?mode=ro&immutable=1", uri=True)
    assert connection.execute("SELECT format FROM state").fetchone() == (1,)
    connection.close()

