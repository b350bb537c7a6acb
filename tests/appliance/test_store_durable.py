"""The door to the disk: whole files, appends that count after fsync, full and failing disks, crashes at every step."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from appliance.store import packs
from appliance.store.durable import AppendFile, Buffer, Disk, LockFile, write_whole
from appliance.store.errors import (
    DamagedRepositoryError,
    DiskFullError,
    FatalDiskError,
    StoreError,
)
from appliance.store.repository import Repository
from tests.appliance.store_builder import (
    KEY,
    Client,
    CrashingDisk,
    FailingSync,
    FullDisk,
    PowerCut,
    assert_snapshots,
    commit_record,
    make_repository,
)
from transport import messages as m
from transport.errors import ProtocolError
from transport.names import PathId, SessionId, random_id
from transport.tree import AddedDigest


def test_a_file_is_written_whole_and_replaces_the_old(tmp_path: Path) -> None:
    for content in (b"first", b"second, longer"):
        write_whole(Disk(), tmp_path / "file", [content[:2], content[2:]])
        assert (tmp_path / "file").read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


def test_an_append_continues_after_short_writes(tmp_path: Path) -> None:
    class Short(Disk):
        def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
            return super().write_at(descriptor, [b"".join(buffers)[:3]], offset)

    file = AppendFile.create(Short(), tmp_path / "file")
    file.append([b"", b"abcde", b"", b"f", b"ghijklmn", b""])
    file.sync()
    file.close()
    assert (tmp_path / "file").read_bytes() == b"abcdefghijklmn" and file.size_bytes == 14


def test_many_buffers_are_written_in_order(tmp_path: Path) -> None:
    file = AppendFile.create(Disk(), tmp_path / "file")
    file.append([bytes([n % 256]) for n in range(3000)])
    file.sync()
    assert (tmp_path / "file").read_bytes() == bytes(n % 256 for n in range(3000))


def test_a_file_of_another_length_than_written_is_fatal(tmp_path: Path) -> None:
    file = AppendFile.create(Disk(), tmp_path / "file")
    file.append([b"12345"])
    os.truncate(tmp_path / "file", 3)
    with pytest.raises(FatalDiskError, match="3 bytes long after a write that made it 5"):
        file.sync()


def test_one_lock_one_holder(tmp_path: Path) -> None:
    lock, other = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert other.free() and lock.try_lock()
    assert not other.try_lock() and not other.free()
    lock.unlock()
    assert other.free() and other.try_lock()
    other.close()
    assert lock.try_lock()
    lock.close()


def test_a_failed_fsync_ends_the_repository_for_good(tmp_path: Path) -> None:
    disk = FailingSync()
    repository = make_repository(tmp_path / "r", disk)
    client = Client(repository)
    client.begin()
    client.put_folders((b"a",))
    client.commit()
    client.begin()
    disk.broken = True
    with pytest.raises(FatalDiskError, match="fsync"):
        client.put_folders((b"b",))
    disk.broken = False
    with pytest.raises(StoreError, match="fsync"):
        repository.begin(SessionId(b"s" * 16), client.previous)
    with pytest.raises(StoreError, match="fsync"):
        _ = repository.head
    repository.close()
    with Repository.open(tmp_path / "r") as again:
        client.repository = again
        assert_snapshots(again, client)
        client.begin()
        client.put_folders((b"b",))
        client.commit()
        assert_snapshots(again, client)


@pytest.mark.parametrize("room", [0, 1, 50, 3000])
def test_a_full_disk_refuses_new_data_and_nothing_else(tmp_path: Path, room: int) -> None:
    disk = FullDisk()
    repository = make_repository(tmp_path / "r", disk)
    client = Client(repository)
    client.begin()
    client.put_file((b"a",), b"first")
    client.commit()
    client.begin()
    version, items = client.whole(client.random.randbytes(5000))
    entry = client.entries(client.entry((b"b",), version))
    size = (tmp_path / "r" / "packs" / "00000001.pack").stat().st_size
    disk.room = room
    with pytest.raises(DiskFullError) as caught:
        client.stage(*items, entry)
    assert caught.value.code == "disk-full"
    assert (tmp_path / "r" / "packs" / "00000001.pack").stat().st_size == size
    assert repository.check(read_data=True).ok
    disk.room = None
    assert client.stage(*items, entry) == client.seq
    client.commit()
    assert_snapshots(repository, client)


def test_a_disk_that_is_full_for_the_catalog_only(tmp_path: Path) -> None:
    disk = FullDisk()
    repository = make_repository(tmp_path / "r", disk)
    client = Client(repository)
    client.begin()
    version, items = client.whole(client.random.randbytes(5000))
    disk.catalog_full = True
    size = (tmp_path / "r" / "packs" / "00000001.pack").stat().st_size
    with pytest.raises(DiskFullError):
        client.stage(*items)
    assert (tmp_path / "r" / "packs" / "00000001.pack").stat().st_size == size
    disk.catalog_full = False
    client.stage(*items, client.entries(client.entry((b"b",), version)))
    client.commit()
    assert_snapshots(repository, client)


def test_a_full_disk_while_a_new_pack_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", 2000)
    disk = FullDisk()
    repository = make_repository(tmp_path / "r", disk)
    client = Client(repository)
    client.begin()
    client.put_file((b"a",), client.random.randbytes(3000))
    disk.room = 200
    version, items = client.whole(client.random.randbytes(3000))
    with pytest.raises(DiskFullError):
        client.stage(*items)
    assert not (tmp_path / "r" / "packs" / "00000002.pack").exists()
    disk.room = None
    client.stage(*items, client.entries(client.entry((b"b",), version)))
    client.commit()
    assert_snapshots(repository, client)


@pytest.mark.parametrize("pack_bytes", [256 << 20, 2000])
def test_a_refused_group_that_was_written_ahead_leaves_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack_bytes: int
) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", pack_bytes)
    monkeypatch.setattr(packs, "AHEAD_BYTES", 4096)
    started: list[tuple[int, int]] = []

    class Telling(Disk):
        def start_write_out(self, descriptor: int, start: int, end: int) -> None:
            started.append((start, end))
            super().start_write_out(descriptor, start, end)

    repository = make_repository(tmp_path / "r", Telling())
    client = Client(repository)
    client.begin()
    client.put_file((b"a",), client.random.randbytes(3000))

    def files() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in (tmp_path / "r" / "packs").iterdir()}

    before = files()
    version, items = client.whole(client.random.randbytes(20_000))
    refused = [*items, (m.PutDeaths(items[-1][0].seq + 1, [PathId(random_id())]), b"")]
    started.clear()
    with pytest.raises(ProtocolError):
        repository.stage(refused)
    assert started and started[0][1] - started[0][0] >= 4096, "some of it was written before it was refused"
    assert files() == before
    client.stage(*items, client.entries(client.entry((b"b",), version)))
    client.commit()
    assert_snapshots(repository, client)
    assert repository.check(read_data=True).ok


def test_the_reserve_is_kept_for_restoring(tmp_path: Path) -> None:
    disk = FullDisk()
    repository = make_repository(tmp_path / "r", disk, reserve_bytes=1000)
    client = Client(repository)
    client.begin()
    client.put_folders((b"a",))
    items = client.segment(client.random.randbytes(500))
    disk.free = 1400
    with pytest.raises(DiskFullError, match="in reserve"):
        client.stage(items)
    assert client.repository.held_count() == 0
    signed, seq = client.sign(), client.seq
    assert repository.commit(seq, signed, received_ms=1, bytes_received=1) == 1
    disk.free = 5000
    repository.begin(SessionId(b"s" * 16), signed.hash())


def work(repository: Repository, client: Client) -> None:
    """Two sessions with files, an edit and a death; what is committed or acknowledged is noted in `client`."""
    client.repository = repository
    client.begin()
    client.put_folders((b"a",))
    client.put_file((b"a", b"f"), client.random.randbytes(3000))
    _commit(client)
    client.begin()
    base = client.live[client.path(b"a", b"f")].version_id
    version, items = client.delta(base, [b"new head", (8, 2992)])
    client.stage(*items, client.entries(client.entry((b"g",), version)), client.deaths(client.path(b"a", b"f")))
    _commit(client)


def _commit(client: Client) -> None:
    """As Client.commit, with the attempt noted first: a crash may fall before or after the commit took effect."""
    signed = client.sign()
    client.attempt = (signed, dict(client.live))  # type: ignore[attr-defined]
    number = client.repository.commit(client.next(), signed, received_ms=1, bytes_received=1)
    client.made(signed, number)


def after_crash(grave: Path, client: Client) -> None:
    """What was committed is there; the repository opens, is sound, and goes on."""
    with Repository.open(grave) as reopened:
        if reopened.head_number > client.number:
            signed, live = client.attempt  # type: ignore[attr-defined]
            client.live = live
            client.made(signed, client.number + 1)
        assert reopened.head_number == client.number
        assert_snapshots(reopened, client)
        client.repository = reopened
        client.begin()
        client.put_file((b"after",), b"goes on")
        client.commit()
        assert_snapshots(reopened, client)


@pytest.mark.parametrize("lose_unsynced", [False, True])
@pytest.mark.parametrize(("pack_bytes", "ahead_bytes"), [(256 << 20, 4 << 20), (2500, 4 << 20), (2500, 1000)])
def test_a_power_cut_at_every_operation_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose_unsynced: bool, pack_bytes: int, ahead_bytes: int
) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", pack_bytes)
    monkeypatch.setattr(packs, "AHEAD_BYTES", ahead_bytes)
    crashes = 0
    for at in range(1, 200):
        folder, grave = tmp_path / f"r{at}", tmp_path / f"g{at}"
        make_repository(folder).close()
        disk = CrashingDisk(folder, grave, at, lose_unsynced=lose_unsynced)
        repository = Repository.open(folder, disk=disk, reserve_bytes=0)
        client = Client(repository)
        try:
            work(repository, client)
        except PowerCut:
            crashes += 1
            with pytest.raises(StoreError):
                repository.begin(SessionId(b"x" * 16), client.previous)
            repository.close()
            after_crash(grave, client)
        else:
            repository.close()
            assert crashes >= 25
            return
    pytest.fail("the work never ended")


def test_a_power_cut_during_creation_leaves_nothing_or_all(tmp_path: Path) -> None:
    for at in range(1, 60):
        folder = tmp_path / f"r{at}"
        disk = CrashingDisk(tmp_path / "no such folder", tmp_path / "grave", at)
        try:
            make_repository(folder, disk).close()
        except PowerCut:
            if not folder.exists():
                make_repository(folder).close()
            with Repository.open(folder) as repository:
                assert repository.head is None and repository.check(read_data=True).ok
        else:
            return
    pytest.fail("the creation never ended")


def repository_with(tmp_path: Path, change: Callable[[Path], None]) -> Path:
    folder = tmp_path / "r"
    client = Client(make_repository(folder))
    client.begin()
    client.put_file((b"a",), b"content")
    client.commit()
    client.repository.close()
    change(folder)
    return folder


def resumed(folder: Path) -> Client:
    """A client that stands on the repository's head and knows nothing else of it."""
    client = Client(Repository.open(folder), seed=2)
    head = client.repository.head
    assert head is not None
    client.previous, client.number = head.hash(), head.decoded().number
    client.committed[client.number] = {}
    client.begin()
    return client


def test_a_tail_of_any_length_is_cut_at_open(tmp_path: Path) -> None:
    folder = repository_with(tmp_path, lambda _: None)
    pack = folder / "packs" / "00000001.pack"
    whole = pack.read_bytes()
    client = resumed(folder)
    client.stage(client.segment(b"unacknowledged"))
    client.repository.close()
    tail = pack.read_bytes()[len(whole) :]
    with sqlite3.connect(folder / "catalog.sqlite") as catalog:
        catalog.execute("DELETE FROM segment WHERE number = 2")
        catalog.execute("UPDATE pack SET size = ?", (len(whole),))
        catalog.execute("UPDATE state SET received_upto = 0")
    catalog.close()
    for length in (*range(0, len(tail), 7), len(tail)):
        pack.write_bytes(whole + tail[:length])
        with Repository.open(folder) as repository:
            assert pack.stat().st_size == len(whole)
            assert repository.check(read_data=True).ok


def test_a_catalog_older_than_its_packs_is_noticed_and_nothing_cut(tmp_path: Path) -> None:
    folder = repository_with(tmp_path, lambda _: None)
    old = (folder / "catalog.sqlite").read_bytes()
    client = resumed(folder)
    head = client.repository.head
    assert head is not None
    tree = head.decoded()
    for number in (2, 3):
        record = commit_record(number, client.previous, tree.root, tree.entry_count, AddedDigest().digest())
        signed = KEY.sign_commit(record)
        client.made(signed, client.repository.commit(client.next(), signed, received_ms=1, bytes_received=1))
    client.repository.close()
    (folder / "catalog.sqlite").write_bytes(old)
    size = (folder / "packs" / "00000001.pack").stat().st_size
    with pytest.raises(DamagedRepositoryError, match="older than the packs"):
        Repository.open(folder)
    assert (folder / "packs" / "00000001.pack").stat().st_size == size


def test_a_pack_shorter_than_acknowledged_is_left_alone_and_backups_go_on(tmp_path: Path) -> None:
    def shorten(folder: Path) -> None:
        pack = folder / "packs" / "00000001.pack"
        os.truncate(pack, pack.stat().st_size - 10)

    folder = repository_with(tmp_path, shorten)
    client = resumed(folder)
    report = client.repository.check()
    assert not report.ok and "00000001.pack" in {error.pack for error in report.errors}
    client.stage(client.segment(b"later"))
    assert (folder / "packs" / "00000002.pack").exists()
    client.repository.close()
    with Repository.open(folder) as again:
        assert again.begin(client.session, client.previous) == client.seq


def test_what_was_synced_leaves_the_page_cache_and_reads_the_same(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    class Telling(Disk):
        def uncache(self, descriptor: int, start: int, end: int) -> None:
            told.append((start, end))
            super().uncache(descriptor, start, end)

    parts = [random.Random(1).randbytes(size) for size in (100, (1 << 20) + 77, 2 << 20, 5)]
    file = AppendFile.create(Telling(), tmp_path / "file")
    for part in parts:
        file.append([part])
        file.sync()
    assert told == [(0, (1 << 20) + 177), (1 << 20, (3 << 20) + 177)]
    file.cut(50)
    file.append([b"x" * (1 << 20)])
    file.sync()
    file.close()
    assert told[2:] == [(0, (1 << 20) + 50)]
    assert (tmp_path / "file").read_bytes() == parts[0][:50] + b"x" * (1 << 20)
