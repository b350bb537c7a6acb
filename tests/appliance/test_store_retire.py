"""Retiring is durable before the catalog says so, once, and never the newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.store.errors import DiskFullError, StoreError, UnknownItemError
from appliance.store.packs import Damage, PackWalk
from appliance.store.records import Kind, RetirementRecord, decode_payload
from appliance.store.repository import Repository
from appliance.store.upkeep.retire import retire
from tests.appliance.store_builder import Client, CrashingDisk, FullDisk, PowerCut, assert_snapshots, make_repository
from transport.errors import ProtocolError
from transport.names import SegmentId


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Client(make_repository(tmp_path / "r"))
    add_snapshots(client, 4)
    return client


def add_snapshots(client: Client, count: int) -> None:
    for _ in range(count):
        client.begin()
        client.put_file((b"f%d" % client.number,), b"x" * 200)
        client.commit()


def records(folder: Path) -> list[RetirementRecord]:
    path = folder / "packs" / "00000001.pack"
    found = []
    for step in PackWalk(path, path.stat().st_size, read_data=True):
        assert not isinstance(step, Damage)
        if step.kind == Kind.RETIREMENT:
            found.append(decode_payload(step.payload, RetirementRecord))
    return found


def test_it_is_written_once_and_what_is_retired_already_is_skipped(client: Client, tmp_path: Path) -> None:
    assert retire(client.repository, [3, 1], now_ms=5) == {1, 3}
    assert retire(client.repository, [1, 2, 3], now_ms=6) == {2}
    assert retire(client.repository, [1, 2, 3], now_ms=7) == frozenset()
    assert retire(client.repository, [], now_ms=8) == frozenset()
    assert records(tmp_path / "r") == [RetirementRecord(5, [1, 3], False), RetirementRecord(6, [2], False)]
    assert [commit.retired for commit in client.repository.commits(0, 9)] == [True, True, True, False]
    for number in (1, 2, 3):
        del client.committed[number]
    assert_snapshots(client.repository, client)


def test_the_newest_and_unknown_ones_are_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="snapshot 4 is the newest one and is always kept"):
        retire(client.repository, [1, 4], now_ms=1)
    for number in (0, 5, -1):
        with pytest.raises(UnknownItemError, match=f"no snapshot {number} "):
            retire(client.repository, [1, number], now_ms=1)
    assert records(tmp_path / "r") == []


def test_history_goes_on_in_the_same_session(client: Client) -> None:
    client.begin()
    client.put_folders((b"staged",))
    retire(client.repository, [1, 2], now_ms=1)
    client.put_file((b"more",), b"y" * 300)
    assert client.commit() == 5
    for number in (1, 2):
        del client.committed[number]
    assert_snapshots(client.repository, client)
    with pytest.raises(UnknownItemError, match="no longer held"):
        client.repository.tree(2, client.path())


def test_released_ends_the_session_and_gives_up_what_it_sent(client: Client, tmp_path: Path) -> None:
    client.begin(b"s" * 16)
    client.put_file((b"half",), b"z" * 300)
    assert client.repository.held_count() == 1
    retire(client.repository, [], now_ms=1, released=True)
    assert client.repository.held_after(SegmentId(bytes(16)), 9) == []
    with pytest.raises(ProtocolError, match="where 1 was expected"):
        client.stage(client.segment(b"on"))
    assert client.repository.begin(client.session, client.previous) == 0
    client.begin()
    client.put_folders((b"new",))
    client.commit()
    assert_snapshots(client.repository, client)
    assert records(tmp_path / "r") == [RetirementRecord(1, [], True)]
    retire(client.repository, [], now_ms=2, released=True)
    assert len(records(tmp_path / "r")) == 1


def test_released_after_a_whole_upload_leaves_its_session_alone(client: Client) -> None:
    start = client.previous
    client.begin(b"s" * 16)
    client.put_folders((b"a",))
    signed, seq = client.sign(), client.next()
    assert client.repository.commit(seq, signed, received_ms=1, bytes_received=1) == 5
    retire(client.repository, [], now_ms=1, released=True)
    assert client.repository.begin(client.session, start) == seq
    assert client.repository.commit(seq, signed, received_ms=1, bytes_received=1) == 5


def test_it_may_use_the_reserve_and_a_disk_without_any_room_changes_nothing(tmp_path: Path) -> None:
    disk = FullDisk()
    client = Client(make_repository(tmp_path / "r", disk, reserve_bytes=10_000))
    add_snapshots(client, 3)
    disk.free = 500
    with pytest.raises(DiskFullError):
        add_snapshots(client, 1)
    assert retire(client.repository, [1], now_ms=1) == {1}
    disk.room = 20
    with pytest.raises(DiskFullError):
        retire(client.repository, [2], now_ms=2)
    disk.room = None
    assert [commit.retired for commit in client.repository.commits(0, 9)] == [True, False, False]
    assert retire(client.repository, [2], now_ms=3) == {2}
    assert client.repository.check(read_data=True).ok


def test_killed_at_any_operation_it_is_retired_or_not(tmp_path: Path) -> None:
    client = Client(make_repository(tmp_path / "r"))
    add_snapshots(client, 3)
    client.repository.close()
    at, outcomes = 1, set()
    while True:
        disk = CrashingDisk(tmp_path / "r", tmp_path / f"grave{at}", at, lose_unsynced=True)
        try:
            with Repository.open(tmp_path / "r", disk=disk) as repository:
                retire(repository, [1], now_ms=1)
        except PowerCut:
            with Repository.open(tmp_path / f"grave{at}") as repository:
                outcomes.add(repository.commits(0, 9)[0].retired)
                assert repository.check(read_data=True).ok
                assert retire(repository, [1, 2], now_ms=2) >= {2}
        else:
            break
        at += 1
    assert at > 4 and outcomes == {False, True}
