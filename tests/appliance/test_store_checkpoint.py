"""A checkpoint tells all that is held at its begin, whatever a backup does meanwhile, and counts only when whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.store.catalog import FOREVER, connect
from appliance.store.layout import Layout
from appliance.store.packs import Damage, PackWalk
from appliance.store.records import (
    CheckpointBegin,
    CheckpointEnd,
    CheckpointRecord,
    Kind,
    decode_payload,
)
from appliance.store.repository import Repository
from appliance.store.upkeep import checkpoint
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.checkpoint import (
    SLACK_BYTES,
    Leave,
    MetadataUse,
    Write,
    Written,
    decide_checkpoint,
    metadata_use,
    write_checkpoint,
)
from appliance.store.upkeep.compact import pack_use
from appliance.store.upkeep.prune import PruneReport, prune
from appliance.store.upkeep.rebuild import rebuild_catalog
from appliance.store.upkeep.retire import retire
from appliance.store.upkeep.scrub import scrub
from tests.appliance.store_builder import Client, CrashingDisk, PowerCut, assert_snapshots, listed, make_repository
from tests.appliance.store_history import Worker

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000


class Interrupted(Access):
    """Calls `hook` with the number of each turn before it begins."""

    def __init__(self, folder: Path, hook: Callable[[int], None]) -> None:
        super().__init__(folder, reserve_bytes=0)
        self._hook = hook
        self.turns = 0

    @contextmanager
    def turn(self) -> Iterator[Repository]:
        self.turns += 1
        self._hook(self.turns)
        with super().turn() as repository:
            yield repository


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    worker = Worker(Client(make_repository(tmp_path / "r")), 5)
    for _ in range(5):
        worker.day(8)
    retire(worker.client.repository, {2}, now_ms=1, released=True)
    worker.forget({2})
    worker.client.repository.close()
    return worker


def use(written: int, live: int, *, free: int = 1 << 40, staged: bool = False) -> MetadataUse:
    return MetadataUse(written, live, free, staged)


def test_it_is_written_when_the_dead_outweighs_the_live() -> None:
    mib = 1 << 20
    assert isinstance(decide_checkpoint(use(208 * mib + 1, 100 * mib)), Write)
    assert isinstance(decide_checkpoint(use(208 * mib, 100 * mib)), Leave)
    assert isinstance(decide_checkpoint(use(SLACK_BYTES, 0)), Leave)
    assert decide_checkpoint(use(SLACK_BYTES + 1, 0)) == Write("8388609 bytes of dead metadata outweigh 0 live ones")
    assert isinstance(decide_checkpoint(use(3, 1), slack_bytes=0), Write | Leave)
    assert isinstance(decide_checkpoint(use(4, 1), slack_bytes=1), Write)


def test_it_is_put_off_with_a_reason() -> None:
    put_off = decide_checkpoint(use(1 << 30, 1 << 20, staged=True))
    assert isinstance(put_off, Leave) and "staged" in put_off.reason
    full = decide_checkpoint(use(1 << 30, 1 << 20, free=4 << 20))
    assert isinstance(full, Leave) and "no room" in full.reason


def parts(folder: Path) -> list[CheckpointRecord]:
    found = []
    for path in sorted((folder / "packs").glob("*.pack")):
        for step in PackWalk(path, path.stat().st_size, read_data=True):
            assert not isinstance(step, Damage)
            if step.kind == Kind.CHECKPOINT:
                found.append(decode_payload(step.payload, CheckpointRecord))
    return found


def test_a_whole_one_is_named_by_the_catalog_and_counts_as_all_the_metadata(worker: Worker, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    with Access(folder) as access:
        before = metadata_use(access, slack_bytes=0)
        written = write_checkpoint(access)
        after = metadata_use(access, slack_bytes=0)
    assert isinstance(written, Written) and written.pack == 2
    assert before.live_bytes == after.live_bytes
    assert 0.8 * written.bytes < after.live_bytes < 1.2 * written.bytes
    assert after.written_bytes - written.bytes < 2000
    found = parts(folder)
    assert [part.part for part in found] == list(range(written.parts))
    assert isinstance(found[0].content, CheckpointBegin) and found[-1].content == CheckpointEnd(written.parts)
    with Repository.open(folder) as worker.client.repository:
        assert_snapshots(worker.client.repository, worker.client)
        worker.day()
        assert_snapshots(worker.client.repository, worker.client)


# Damaged metadata


def damage_record(folder: Path, kind: Kind, at: int) -> int:
    """Turn a bit of the payload of the first record of a kind, and have a scrub note it; its offset."""
    path = Layout(folder).pack(1)
    walk = PackWalk(path, path.stat().st_size, read_data=True)
    offset = next(step.offset for step in walk if not isinstance(step, Damage) and step.kind == kind)
    data = bytearray(path.read_bytes())
    data[offset + at] ^= 1
    path.write_bytes(data)
    with Access(folder, reserve_bytes=0) as access:
        report = scrub(access, now_ms=lambda: NOW_MS)
    assert [(found.offset, found.segment) for found in report.damage] == [(offset, None)]
    return offset


def pruned(folder: Path, now_ms: int) -> PruneReport:
    return prune(folder, frozenset(), now_ms=now_ms, reserve_bytes=0, small_gain_bytes=1)


@pytest.mark.parametrize(
    ("kind", "at"),
    [(Kind.ENTRIES, 60), (Kind.VERSIONS, 50), (Kind.COMMIT, 0), (Kind.RETIREMENT, 45), (Kind.HEADER, 60)]
    + [(Kind.ENTRIES, 9), (Kind.HEADER, 2)],
)
def test_damaged_metadata_is_written_anew_by_the_next_prune(
    worker: Worker, tmp_path: Path, kind: Kind, at: int
) -> None:
    """And then its pack may be compacted, which leaves nothing of the damage."""
    folder = tmp_path / "r"
    damage_record(folder, kind, at)
    report = pruned(folder, NOW_MS)
    assert report.checkpoint_written and "1 damaged records of metadata" in report.checkpoint_reason
    assert report.packs_compacted == 1 and report.packs_kept == ()
    assert pruned(folder, NOW_MS + 1).checkpoint_written is False
    pruned(folder, NOW_MS + 2 * DAY_MS)
    with Repository.open(folder, reserve_bytes=0) as worker.client.repository:
        with worker.client.repository.reading_catalog() as catalog:
            assert catalog.connection.execute("SELECT count(*) FROM damage").fetchone() == (0,)
        assert_snapshots(worker.client.repository, worker.client)
        worker.day()
        assert_snapshots(worker.client.repository, worker.client)
    rebuilt = rebuild_catalog(Layout(folder), tmp_path / "anew.sqlite")
    assert rebuilt.differences == []


def test_damage_that_a_checkpoint_stands_behind_is_no_error(worker: Worker, tmp_path: Path) -> None:
    """Where the pack is not worth a rewrite, the record stays, and a check counts it as mended."""
    folder = tmp_path / "r"
    damage_record(folder, Kind.ENTRIES, 60)
    with Repository.open(folder, read_only=True) as repository:
        assert len(repository.check(read_data=True).errors) == 1
    report = prune(folder, frozenset(), now_ms=NOW_MS, reserve_bytes=0)
    assert report.checkpoint_written and report.packs_compacted == 0
    with Repository.open(folder, read_only=True) as repository:
        found = repository.check(read_data=True)
    assert found.ok and found.mended == 1 and found.damage == []
    with Access(folder, reserve_bytes=0) as access:
        assert scrub(access, now_ms=lambda: NOW_MS).damage == []
        assert not any(use.damaged for use in pack_use(access))


def test_a_catalog_that_contradicts_what_was_signed_does_not_stand_in(worker: Worker, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    damage_record(folder, Kind.ENTRIES, 60)
    connection = connect(Layout(folder).catalog, read_only=False)
    connection.execute(
        "UPDATE entry SET token = zeroblob(32) WHERE (parent, path, born) IN "
        f"(SELECT parent, path, born FROM entry WHERE died = {FOREVER} LIMIT 1)"
    )
    connection.close()
    report = pruned(folder, NOW_MS)
    assert not report.checkpoint_written
    assert "cannot stand in for them" in report.checkpoint_reason and "rebuild" in report.checkpoint_reason
    with Access(folder, reserve_bytes=0) as access:
        assert [use.damaged for use in pack_use(access)] == [True]


def test_damaged_metadata_waits_for_what_is_staged_and_for_room() -> None:
    sick = MetadataUse(100, 100, 1 << 40, False, 2)
    assert decide_checkpoint(sick) == Write("2 damaged records of metadata are written anew as the catalog holds them")
    for put_off in (replace(sick, staged=True), replace(sick, free_bytes=50)):
        assert isinstance(decide_checkpoint(put_off), Leave)


def test_nothing_is_begun_while_something_is_staged(worker: Worker, tmp_path: Path) -> None:
    client = worker.client
    with Repository.open(tmp_path / "r", reserve_bytes=0) as client.repository:
        client.begin()
        client.put_folders((b"staged",))
    with Access(tmp_path / "r") as access:
        outcome = write_checkpoint(access)
        assert metadata_use(access, slack_bytes=0).staged
    assert isinstance(outcome, Leave) and "put off" in outcome.reason
    assert parts(tmp_path / "r") == []


def test_a_backup_may_stage_and_commit_in_between(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packs alone, read from the checkpoint on, make the same snapshots as the live catalog."""
    folder = tmp_path / "r"
    monkeypatch.setattr(checkpoint, "GROUP_BYTES", 1)
    monkeypatch.setattr(checkpoint, "PART_BYTES", 1500)

    def work(turn: int) -> None:
        if turn > 1:
            with Repository.open(folder, reserve_bytes=0) as worker.client.repository:
                worker.day(3, commit=turn % 3 != 0)

    with Interrupted(folder, work) as access:
        written = write_checkpoint(access)
        assert isinstance(written, Written) and access.turns > 6
    with Repository.open(folder, reserve_bytes=0) as worker.client.repository:
        assert_snapshots(worker.client.repository, worker.client)
    rebuild_catalog(access.layout, tmp_path / "anew.sqlite")
    with Repository.open(folder, read_only=True, catalog_at=tmp_path / "anew.sqlite") as anew:
        assert anew.head_number == worker.client.number
        for number, entries in worker.client.committed.items():
            if number:
                assert listed(anew, number) == entries
        report = anew.check()
        assert report.ok, report.errors


def test_killed_at_any_operation_it_is_whole_or_never_named(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "GROUP_BYTES", 1)
    at, named = 1, set()
    while True:
        disk = CrashingDisk(tmp_path / "r", tmp_path / f"grave{at}", at, lose_unsynced=True)
        try:
            with Access(tmp_path / "r", disk=disk) as access:
                write_checkpoint(access)
        except PowerCut:
            with Repository.open(tmp_path / f"grave{at}") as worker.client.repository:
                report = worker.client.repository.check(read_data=True)
                assert report.ok, report.errors
                with worker.client.repository.reading_catalog() as catalog:
                    named.add(catalog.state().checkpoint_pack > 0)
        else:
            break
        at += 5
    assert at > 20 and False in named
