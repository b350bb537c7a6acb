"""Another installation's key takes over a repository: what it may, what the former may not, what packs tell."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.store import catalog
from appliance.store.durable import Disk
from appliance.store.errors import DamagedRepositoryError, StaleHeadError
from appliance.store.records import Kind
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.checkpoint import Written, write_checkpoint
from appliance.store.upkeep.rebuilding import rebuild
from tests.appliance.store_builder import APPLIANCE, KEY, Client, assert_snapshots, make_repository
from tests.sweeps import maintenance
from transport.errors import IntegrityError, PilulierError
from transport.keys import SigningKey
from transport.names import Digest, RepositoryId
from transport.succession import decode_succession

SECOND, THIRD = SigningKey(b"\2" * 32), SigningKey(b"\3" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def client(folder: Path) -> Client:
    """One snapshot by the founding key."""
    client = Client(make_repository(folder))
    client.begin()
    client.put_file((b"a",), b"first" * 100)
    client.commit()
    return client


def take_over(client: Client, key: SigningKey, approver: SigningKey = APPLIANCE) -> None:
    client.repository.succeed(client.succession(key, approver), received_ms=5)
    client.key = key
    client.successions += 1


def backup(client: Client, name: bytes) -> int:
    client.begin()
    client.put_file((name,), name * 100)
    return client.commit()


def test_the_new_key_goes_on_where_the_old_one_ended(client: Client, folder: Path) -> None:
    take_over(client, SECOND)
    assert backup(client, b"b") == 2
    take_over(client, THIRD, SECOND)
    assert backup(client, b"c") == 3
    assert client.repository.signers().keys == (KEY.public, SECOND.public, THIRD.public)
    assert client.repository.public_key == KEY.public, "the packs' headers stay the same"
    assert_snapshots(client.repository, client)
    client.repository.close()
    report = rebuild(folder, now_ms=0)
    assert report.ok and not report.differences and not report.replaced
    with Repository.open(folder, read_only=True) as repository:
        assert_snapshots(repository, client)


def test_the_former_key_adds_nothing_more(client: Client) -> None:
    client.begin()
    client.put_file((b"late",), b"late" * 100)
    take_over(client, SECOND)
    client.key = KEY
    with pytest.raises(IntegrityError, match="does not carry this machine's signature"):
        client.commit()
    assert client.repository.head_number == 1
    assert client.repository.check(read_data=True).ok


def test_a_succession_stands_right_behind_the_head(client: Client) -> None:
    early = client.succession(SECOND)
    backup(client, b"b")
    with pytest.raises(StaleHeadError, match="recover again"):
        client.repository.succeed(early, received_ms=5)
    statement = decode_succession(client.succession(SECOND).record)
    for change in (
        {"repository": RepositoryId(b"another's repos.")},
        {"number": 2},
        {"former": THIRD.public},
        {"successor": KEY.public, "number": 1, "former": SECOND.public},
        {"head": Digest(b"\1" * 32)},
    ):
        with pytest.raises(PilulierError):
            client.repository.succeed(APPLIANCE.sign_succession(replace(statement, **change)), received_ms=5)
    with pytest.raises(IntegrityError):
        client.repository.succeed(KEY.sign_succession(statement), received_ms=5)
    assert not client.repository.successions() and client.repository.check().ok


def test_the_same_succession_twice_is_one(client: Client) -> None:
    signed = client.succession(SECOND)
    client.repository.succeed(signed, received_ms=5)
    stored = client.repository.stats().bytes_stored
    client.repository.succeed(signed, received_ms=6)
    assert client.repository.stats().bytes_stored == stored and len(client.repository.successions()) == 1


def test_a_machine_without_a_snapshot_may_be_recovered(folder: Path) -> None:
    client = Client(make_repository(folder))
    take_over(client, SECOND)
    assert backup(client, b"b") == 1
    assert client.repository.check(read_data=True).ok


def test_it_lives_on_in_a_checkpoint(client: Client, folder: Path) -> None:
    take_over(client, SECOND)
    backup(client, b"b")
    client.repository.close()
    with Access(folder) as access:
        assert isinstance(write_checkpoint(access), Written)
    first = folder / "packs" / "00000001.pack"
    # What a compaction would leave of what stands before the checkpoint: nothing but its header and its segments.
    report = rebuild(folder, now_ms=0)
    assert report.ok and not report.differences
    with Repository.open(folder) as repository:
        client.repository = repository
        assert repository.signers().current == SECOND.public
        backup(client, b"c")
        assert_snapshots(repository, client)
    assert Kind.SUCCESSION in (record[5] for record in _records(first))


def _records(pack: Path) -> list[bytes]:
    data, at, found = pack.read_bytes(), 0, []
    while at < len(data):
        length = int.from_bytes(data[at + 8 : at + 12], "big")
        found.append(data[at : at + 44 + length])
        at += 44 + length
    return found


def test_orders_to_mend_count_under_the_key_that_was_in_force(tmp_path: Path) -> None:
    """One was signed before the takeover, another comes after it, and a rebuild tells both."""
    folder = tmp_path / "mended"
    machine = maintenance.prepare_mended(folder)
    machine.repository = Repository.open(folder, reserve_bytes=0)
    machine.succeed()
    machine.commit()
    machine.repository.close()
    assert rebuild(folder, now_ms=0).ok
    other = tmp_path / "damaged"
    machine = maintenance.prepare_damaged_segments(other)
    machine.clock_ms = maintenance.NOW_MS
    machine.repository = Repository.open(other, reserve_bytes=0)
    machine.succeed()
    second, machine.key = machine.key, KEY
    with pytest.raises(IntegrityError, match="an order to mend does not carry"):
        machine.mend()
    machine.key = second
    machine.repository.close()
    maintenance.mend_all(other, Disk(), machine)
    assert machine.repository.check(read_data=True).ok
    machine.repository.close()
    # The damaged originals are still there, so the packs do not read without a gap; what they tell is the same.
    assert not rebuild(other, now_ms=0).replaced


def test_one_that_no_pack_tells_or_that_was_altered_is_found(client: Client, folder: Path) -> None:
    take_over(client, SECOND)
    backup(client, b"b")
    client.repository.close()
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute("UPDATE succession SET received_ms = received_ms + 1")
    connection.close()
    with Repository.open(folder, read_only=True) as repository:
        found = {(error.kind, error.detail) for error in repository.check().errors}
    assert ("SUCCESSION", "succession 1 stands in no pack") in found
    assert any("otherwise" in detail for _, detail in found)
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute("DELETE FROM succession")
    connection.close()
    with Repository.open(folder, read_only=True) as repository:
        errors = repository.check().errors
    assert any("snapshot 2 does not carry this machine's signature" in error.detail for error in errors)
    report = rebuild(folder, now_ms=0)
    assert report.replaced and any("succession" in difference for difference in report.differences)
    with Repository.open(folder, read_only=True) as repository:
        assert repository.check(read_data=True).ok


def test_a_program_that_knows_no_successions_refuses_the_catalog(client: Client, folder: Path) -> None:
    def form() -> int:
        with sqlite3.connect(folder / "catalog.sqlite") as connection:
            (found,) = connection.execute("SELECT format FROM state").fetchone()
        connection.close()
        return int(found)

    assert form() == catalog.FORMAT, "no format of its own before the first succession"
    take_over(client, SECOND)
    assert form() == catalog.WITH_SUCCESSIONS > catalog.FORMAT


def test_a_succession_that_the_catalog_never_heard_of_is_cut(client: Client, folder: Path) -> None:
    """As after a crash between the fsync and the catalog: nothing of it was acknowledged."""
    before = (folder / "catalog.sqlite").read_bytes()
    take_over(client, SECOND)
    client.repository.close()
    (folder / "catalog.sqlite").write_bytes(before)
    with Repository.open(folder) as repository:
        assert repository.signers().current == KEY.public and repository.check(read_data=True).ok
    client.repository = Repository.open(folder)
    client.key, client.successions = KEY, 0
    take_over(client, SECOND)
    backup(client, b"b")
    client.repository.close()
    (folder / "catalog.sqlite").write_bytes(before)
    with pytest.raises(DamagedRepositoryError, match="older than the packs"):
        Repository.open(folder)
