"""Packs: groups, rolling over, walks, damage named and passed over, torn tails."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.store import packs
from appliance.store.durable import Disk
from appliance.store.errors import DamagedRecordError
from appliance.store.layout import Layout
from appliance.store.packs import Damage, Found, Identity, PackWalk, PackWriter, read_record
from appliance.store.records import OVERHEAD_BYTES, Kind, checksum_holds, encode_head
from appliance.store.repository import Repository
from tests.appliance.store_builder import KEY, REPOSITORY, VAULT, Client, assert_snapshots, make_repository

IDENTITY = Identity(REPOSITORY, VAULT, KEY.public)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "packs").mkdir()
    return Layout(tmp_path)


def written(layout: Layout, *payloads: bytes) -> list[int]:
    writer = PackWriter(Disk(), layout, IDENTITY, 0, 0)
    group = writer.begin(roll=True)
    offsets = [group.add(Kind.DEATHS, payload) for payload in payloads]
    writer.write(group)
    writer.accept(group)
    writer.close()
    return offsets


def walk(layout: Layout, *, read_data: bool = True) -> list[Found | Damage]:
    path = layout.pack(1)
    return list(PackWalk(path, path.stat().st_size, read_data=read_data))


def test_a_walk_meets_every_record_in_order(layout: Layout) -> None:
    offsets = written(layout, b"one", b"two" * 1000, b"three")
    for read_data in (True, False):
        steps = walk(layout, read_data=read_data)
        assert [step.offset for step in steps] == [0, *offsets]
        assert all(isinstance(step, Found) for step in steps)
    assert bytes(read_record(layout, 1, offsets[1], Kind.DEATHS, 3000)) == b"two" * 1000


def test_a_flipped_byte_damages_one_record_and_no_other(layout: Layout) -> None:
    offsets = written(layout, b"one" * 100, b"two" * 100, b"three" * 100)
    whole = layout.pack(1).read_bytes()
    for at in range(offsets[1], offsets[2]):
        broken = bytearray(whole)
        broken[at] ^= 0x40
        layout.pack(1).write_bytes(broken)
        steps = walk(layout)
        assert [step.offset for step in steps] == [0, *offsets], at
        assert [isinstance(step, Damage) for step in steps] == [False, False, True, False]
        with pytest.raises(DamagedRecordError) as caught:
            read_record(layout, 1, offsets[1], Kind.DEATHS, 300)
        assert (caught.value.pack, caught.value.offset) == ("00000001.pack", offsets[1])
        assert bytes(read_record(layout, 1, offsets[0], Kind.DEATHS, 300)) == b"one" * 100


def test_a_pack_cut_anywhere_within_its_last_record_shows_the_rest(layout: Layout) -> None:
    offsets = written(layout, b"one", b"last record")
    whole = layout.pack(1).read_bytes()
    for length in range(offsets[1], len(whole)):
        layout.pack(1).write_bytes(whole[:length])
        steps = walk(layout)
        assert [step.offset for step in steps if isinstance(step, Found)] == [0, offsets[0]]
        assert all(step.end == length for step in steps if isinstance(step, Damage))


def test_rubbish_with_a_false_beginning_is_passed_over(layout: Layout) -> None:
    offsets = written(layout, b"one", b"two")
    whole = layout.pack(1).read_bytes()
    rubbish = b"PLR1" + b"\x01\x06\x01\x00\x00\x00\x00\x04" + bytes(32) + b"PLR1"
    layout.pack(1).write_bytes(whole[: offsets[1]] + rubbish + whole[offsets[1] :])
    steps = walk(layout)
    assert isinstance(steps[2], Damage) and isinstance(steps[3], Found)
    assert steps[3].offset == offsets[1] + len(rubbish)


def test_records_larger_than_what_is_left_of_the_window_are_whole(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_WINDOW_BYTES", 5000)
    payloads = [bytes([n]) * (300 + 311 * n) for n in range(14)]
    written(layout, *payloads)
    path = layout.pack(1)
    steps = PackWalk(path, path.stat().st_size, read_data=True)
    met = [bytes(step.payload) for step in steps if isinstance(step, Found)]
    assert met[1:] == payloads


def test_a_record_read_as_another_kind_or_length_is_damage(layout: Layout) -> None:
    (offset,) = written(layout, b"payload")
    for kind, length in ((Kind.COMMIT, 7), (Kind.DEATHS, 6), (Kind.DEATHS, 8)):
        with pytest.raises(DamagedRecordError):
            read_record(layout, 1, offset, kind, length)
    with pytest.raises(DamagedRecordError, match=r"00000002\.pack"):
        read_record(layout, 2, 0, Kind.DEATHS, 7)
    with pytest.raises(DamagedRecordError):
        read_record(layout, 1, offset + OVERHEAD_BYTES + 7, Kind.DEATHS, 7)


def test_a_full_pack_is_closed_and_never_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", 20_000)
    repository = make_repository(tmp_path / "r")
    client = Client(repository)
    client.begin()
    closed: dict[str, bytes] = {}
    for number in range(8):
        client.put_file((b"f%d" % number,), client.random.randbytes(9_000))
        files = sorted((tmp_path / "r" / "packs").iterdir())
        for path in files[:-1]:
            assert closed.setdefault(path.name, path.read_bytes()) == path.read_bytes()
    client.commit()
    assert len(closed) >= 2
    assert_snapshots(repository, client)
    repository.close()
    with Repository.open(tmp_path / "r") as again:
        client.repository = again
        client.begin()
        client.put_file((b"more",), client.random.randbytes(30_000))
        client.commit()
        assert_snapshots(again, client)
        assert again.stats().packs == len(list((tmp_path / "r" / "packs").iterdir()))


def crafted(room: int, length: int) -> bytes:
    """Heads of records of `length` bytes, one behind the other, none of which holds."""
    head = encode_head(Kind.DEATHS, [bytes(length)])
    return (head * (room // len(head) + 1))[:room]


@pytest.mark.parametrize("read_data", [True, False])
def test_the_search_behind_a_damaged_head_sums_little_however_its_bytes_were_made(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, read_data: bool
) -> None:
    """A record every few bytes that claims to reach to the end: summing each would be 10,000 times the bytes."""
    summed = 0

    def counting(head: bytes, payload: bytes) -> bool:
        nonlocal summed
        summed += len(payload)
        return checksum_holds(head, payload)

    monkeypatch.setattr(packs, "checksum_holds", counting)
    size = 900_000
    payloads = [crafted(size, size - 100) for _ in range(3)]
    offsets = written(layout, *payloads, b"honest" * 10_000, b"last")
    whole = bytearray(layout.pack(1).read_bytes())
    whole[offsets[0]] ^= 1
    layout.pack(1).write_bytes(whole)
    for vain_bytes, vain_share in ((64 << 20, 32), (1 << 20, 4), (0, 1), (0, 0)):
        monkeypatch.setattr(packs, "_VAIN_BYTES", vain_bytes)
        monkeypatch.setattr(packs, "_VAIN_SHARE", vain_share)
        summed = 0
        taken = PackWalk(layout.pack(1), len(whole), read_data=read_data)
        steps = list(taken)
        damage = [step for step in steps if isinstance(step, Damage)]
        assert [step.offset for step in damage] == [offsets[0]]
        assert summed <= vain_bytes + vain_share * len(whole) + 3 * len(whole)
        assert taken.bytes_read <= 2 * len(whole)
        if vain_share:
            assert [step.offset for step in steps if isinstance(step, Found)][-2:] == offsets[3:]
        if vain_bytes >= size:
            assert damage[0].end == offsets[1], "what follows the damage was lost with it"


def test_a_record_that_was_passed_over_unsummed_is_found_by_the_one_behind_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_VAIN_BYTES", 60_000)
    monkeypatch.setattr(packs, "_VAIN_SHARE", 2)
    honest = random.Random("honest").randbytes(60_000)
    offsets = written(layout, crafted(50_000, 49_000), honest, b"last")
    whole = bytearray(layout.pack(1).read_bytes())
    whole[offsets[0]] ^= 1
    layout.pack(1).write_bytes(whole)
    steps = list(PackWalk(layout.pack(1), len(whole), read_data=True))
    assert [step.offset for step in steps if isinstance(step, Found)] == [0, *offsets[1:]]
