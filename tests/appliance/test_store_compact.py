"""Compaction: which packs are worth a rewrite and why, and that a rewrite loses nothing that anybody can still want."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from appliance.store import packs as packs_module
from appliance.store import recovery
from appliance.store.durable import Buffer, Disk
from appliance.store.errors import DamagedRepositoryError
from appliance.store.layout import Layout, PackFile
from appliance.store.packs import Found, PackWalk
from appliance.store.records import Kind, segment_id_of
from appliance.store.repository import Repository
from appliance.store.upkeep import compact as compaction
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.checkpoint import Written, write_checkpoint
from appliance.store.upkeep.compact import (
    CompactionPlan,
    CompactionResult,
    Keep,
    NotRewritten,
    PackPlan,
    PackUse,
    Rewrite,
    Rewritten,
    compact,
    delete_expired,
    pack_use,
    plan_compaction,
)
from appliance.store.upkeep.copying import copy_pack
from appliance.store.upkeep.rebuilding import rebuild
from appliance.store.upkeep.retire import retire
from appliance.store.upkeep.sweep import sweep
from tests.appliance.store_builder import Client, FullDisk, content, listed, make_repository
from tests.support.crashing_disk import Crash, CrashingDisk, crash_points
from transport.names import NO_VERSION, SegmentId

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3600 * 1000


# Deciding


def use(number: int, size: int, live: int, **more: bool | int) -> PackUse:
    rest = {"generation": 0, "metadata_bytes": 0, "metadata_droppable": False, "open": False, "damaged": False}
    return PackUse(number=number, size_bytes=size, live_segment_bytes=live, **(rest | more))  # type: ignore[arg-type]


def decided(*packs: PackUse) -> dict[int, type[Keep] | type[Rewrite]]:
    return {plan.use.number: type(plan.decision) for plan in plan_compaction(packs).packs}


MIB = 1 << 20


def test_a_pack_that_is_mostly_dead_is_rewritten_and_a_living_one_is_not() -> None:
    assert decided(use(1, 100 * MIB, 40 * MIB), use(2, 1000 * MIB, 990 * MIB)) == {1: Rewrite, 2: Keep}


def test_all_together_keep_a_tenth_dead_at_most() -> None:
    packs = [use(number, 100 * MIB, 100 * MIB - number * 3 * MIB) for number in range(1, 13)]
    plan = plan_compaction(packs)
    left = sum(p.use.dead_bytes for p in plan.packs if isinstance(p.decision, Keep))
    assert left <= 0.1 * 1200 * MIB
    chosen = {p.use.number for p in plan.packs if isinstance(p.decision, Rewrite)}
    assert chosen == set(range(min(chosen), 13)), "the most dead ones"
    assert [u.number for u in plan.rewrites] == sorted(chosen, reverse=True)
    assert plan.dead_bytes == sum(number * 3 * MIB for number in chosen)
    assert all(p.decision.reason for p in plan.packs)


def test_what_is_little_dead_is_never_rewritten() -> None:
    """Everywhere 9 %: to win them all, ten times as much would be written."""
    assert set(decided(*[use(n, 100 * MIB, 91 * MIB) for n in range(1, 9)]).values()) == {Keep}


def test_small_wins_the_open_pack_and_damage() -> None:
    assert decided(use(1, 200 << 10, 0)) == {1: Keep}
    assert decided(use(1, 10 * MIB, 6 * MIB, open=True)) == {1: Keep}
    assert decided(use(1, 10 * MIB, 4 * MIB, open=True)) == {1: Rewrite}
    assert decided(use(1, 10 * MIB, 0, damaged=True)) == {1: Keep}


def test_metadata_counts_as_dead_once_a_checkpoint_stands_behind_it() -> None:
    metadata = use(1, 10 * MIB, 0, metadata_bytes=10 * MIB)
    assert metadata.dead_bytes == 0
    assert replace(metadata, metadata_droppable=True).dead_bytes > 10 * MIB - 1000


# Doing


@dataclass
class Pruned:
    """A repository of several packs, whose oldest snapshots were retired and swept."""

    folder: Path
    client: Client

    @property
    def layout(self) -> Layout:
        return Layout(self.folder)

    def compact(self, disk: Disk | None = None, now_ms: int = NOW_MS) -> CompactionResult:
        with Access(self.folder, disk=disk, reserve_bytes=0) as access:
            return compact(access, everything(access), now_ms=now_ms)

    def retire(self, *numbers: int) -> None:
        with Access(self.folder, reserve_bytes=0) as access:
            with access.turn() as repository:
                retire(repository, numbers, now_ms=NOW_MS, released=True)
            sweep(access)
        for number in numbers:
            del self.client.committed[number]

    def change(self, *statements: str) -> None:
        """The catalog, behind everybody's back."""
        with (
            Repository.open(self.folder) as repository,
            repository.maintaining() as catalog,
            catalog.transaction() as connection,
        ):
            for statement in statements:
                connection.execute(statement)

    def check(self) -> None:
        with Repository.open(self.folder, reserve_bytes=0) as repository:
            assert_read(repository, self.client)
            report = repository.check(read_data=True)
            assert report.ok, report.errors


def assert_read(repository: Repository, client: Client) -> None:
    """Every held snapshot lists and reads as the client made it."""
    for number, entries in client.committed.items():
        if number:
            assert listed(repository, number) == entries
            for record in entries.values():
                if record.version_id != NO_VERSION:
                    assert content(repository, record.version_id) == client.contents[record.version_id]


def everything(access: Access) -> CompactionPlan:
    """A plan in which each closed pack with anything dead is rewritten."""
    return plan_compaction([u for u in pack_use(access) if not u.open], dead_share=0, small_gain_bytes=1)


SMALL_PACK_BYTES = 60_000


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    folder = tmp_path_factory.mktemp("original") / "r"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs_module, "PACK_BYTES", SMALL_PACK_BYTES)
        with make_repository(folder) as repository:
            client = Client(repository)
            for day in range(1, 7):
                client.begin()
                for name in (b"a", b"b", b"c"):
                    client.put_file((name,), client.random.randbytes(9_000))
                client.put_file((b"once-%d" % day,), client.random.randbytes(5_000))
                client.commit()
        made = Pruned(folder, client)
        made.retire(1, 2, 4)
    return made


@pytest.fixture
def pruned(original: Pruned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pruned:
    monkeypatch.setattr(packs_module, "PACK_BYTES", SMALL_PACK_BYTES)
    shutil.copytree(original.folder, tmp_path / "r")
    client = copy.copy(original.client)
    client.committed = dict(client.committed)
    return Pruned(tmp_path / "r", client)


def records(path: Path) -> list[tuple[Kind, bytes]]:
    found = []
    for step in PackWalk(path, path.stat().st_size, read_data=True):
        assert isinstance(step, Found), step
        found.append((step.kind, bytes(step.payload)))
    return found


def test_a_rewrite_keeps_what_is_held_in_its_order(pruned: Pruned) -> None:
    before = {n: records(pruned.layout.pack(n)) for n in pruned.layout.pack_numbers()}
    with Repository.open(pruned.folder, read_only=True) as repository, repository.reading_catalog() as catalog:
        held = {row[0] for row in catalog.connection.execute("SELECT id FROM segment").fetchall()}
    result = pruned.compact()
    done = [pack for pack in result.packs if isinstance(pack, Rewritten)]
    assert len(done) == len(result.packs) >= 2
    for pack in done:
        wanted = [
            (kind, payload)
            for kind, payload in before[pack.number]
            if kind != Kind.SEGMENT or segment_id_of(payload) in held
        ]
        assert records(pruned.layout.pack(pack.number, 1)) == wanted != before[pack.number]
        assert pruned.layout.pack(pack.number, 1).stat().st_size == pack.size_bytes < pack.size_before_bytes
    assert result.freed_bytes > 0
    pruned.check()
    with Access(pruned.folder) as access:
        assert not everything(access).rewrites, "nothing dead is left in closed packs"


def test_two_generations_in_a_row_and_backups_in_between(pruned: Pruned) -> None:
    first = pruned.compact()
    with Repository.open(pruned.folder, reserve_bytes=0) as repository:
        pruned.client.repository = repository
        pruned.client.begin()
        pruned.client.put_file((b"a",), b"new" * 3000)
        pruned.client.commit()
    pruned.check()
    pruned.retire(3, 5)
    second = pruned.compact(now_ms=NOW_MS + 1)
    again = {pack.number for pack in first.packs} & {pack.number for pack in second.packs}
    assert again
    for number in again:
        assert PackFile(number, 2) in pruned.layout.pack_files()
    pruned.check()


def test_a_pack_of_which_nothing_is_left_keeps_its_header(pruned: Pruned) -> None:
    """As after a checkpoint that stands behind it: told by the plan's figures here, by the catalog in earnest."""
    pruned.change("DELETE FROM segment WHERE pack = 1", "UPDATE state SET checkpoint_pack = 2, checkpoint_offset = 17")
    pruned.compact()
    assert [kind for kind, _ in records(pruned.layout.pack(1, 1))] == [Kind.HEADER]
    with Repository.open(pruned.folder) as repository, repository.reading_catalog() as catalog:
        assert catalog.pack(1).segment_bytes == 0
        statement = "SELECT pack, offset FROM snapshot WHERE pack < 2 OR offset = 17"
        places = catalog.connection.execute(statement).fetchall()
        assert places and set(places) == {(2, 17)}, "commits of dropped packs stand in the checkpoint"


def test_what_stands_before_a_checkpoint_goes_and_a_rebuild_finds_the_same(pruned: Pruned) -> None:
    with Access(pruned.folder, reserve_bytes=0) as access:
        assert isinstance(write_checkpoint(access), Written)
    done = pruned.compact().packs
    assert [pack.number for pack in done if isinstance(pack, Rewritten)]
    kinds = {kind for pack in done for kind, _ in records(pruned.layout.pack(pack.number, 1))}
    assert kinds <= {Kind.HEADER, Kind.SEGMENT}
    pruned.check()
    report = rebuild(pruned.folder, now_ms=NOW_MS)
    assert report.ok and not report.replaced, report
    pruned.retire(3)
    pruned.compact(now_ms=NOW_MS + 1)
    pruned.check()
    report = rebuild(pruned.folder, now_ms=NOW_MS)
    assert report.ok and not report.replaced, report


def test_a_checkpoint_moves_with_its_pack(pruned: Pruned) -> None:
    """What an upload left before it in the same pack is dead by now; the catalog must find it at its new place."""
    with Repository.open(pruned.folder, reserve_bytes=0) as repository:
        pruned.client.repository = repository
        newest = pruned.layout.pack_numbers()[-1]
        repository.close_pack(newest)
        pruned.client.begin()
        pruned.client.put_file((b"a",), pruned.client.random.randbytes(9_500))
        pruned.client.commit()
        pruned.client.begin()
        pruned.client.put_file((b"a",), b"stays" * 1000)
        pruned.client.commit()
    with checkpoints_in_the_open_pack(), Access(pruned.folder, reserve_bytes=0) as access:
        written = write_checkpoint(access)
    assert isinstance(written, Written) and written.pack == newest + 1 and written.offset > 9000
    pruned.retire(7)
    with Repository.open(pruned.folder) as repository:
        repository.close_pack(newest + 1)
    pruned.compact()
    with Repository.open(pruned.folder, read_only=True) as repository:
        ((pack, offset),) = _rows(repository, "SELECT checkpoint_pack, checkpoint_offset FROM state")
    assert pack == newest + 1 and offset < written.offset - 9000
    pruned.check()
    report = rebuild(pruned.folder, now_ms=NOW_MS)
    assert report.ok and not report.replaced, report


@contextlib.contextmanager
def checkpoints_in_the_open_pack() -> Iterator[None]:
    """Checkpoints begin a pack of their own; one of another writer might not."""
    recording = Repository.recording
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repository, "recording", lambda self, *, roll=False: recording(self))
        yield


def test_the_open_pack_is_closed_for_a_rewrite(pruned: Pruned) -> None:
    with Access(pruned.folder, reserve_bytes=0) as access:
        newest = max(pack_use(access), key=lambda use: use.number)
        assert newest.open
        plan = CompactionPlan((PackPlan(newest, Rewrite("to see")),))
        assert isinstance(compact(access, plan, now_ms=NOW_MS).packs[0], Rewritten)
    assert pruned.layout.pack_numbers()[-1] == newest.number + 1
    pruned.check()


def test_who_has_the_old_generation_open_reads_on_and_who_comes_late_looks_again(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Repository.open(pruned.folder, read_only=True)
    segments = [SegmentId(row[0]) for row in _rows(reader, "SELECT id FROM segment ORDER BY number")]
    before = {segment: bytes(reader.read_segment(segment)) for segment in segments}
    looked: list[SegmentId] = []
    place_of = Repository._place_of

    def interrupted(self: Repository, segment: SegmentId) -> tuple[int, int, int, int]:
        """Between the look and the read, all of a compaction happens, and even the quarantine ends."""
        place = place_of(self, segment)
        if not looked:
            pruned.compact()
            with Access(pruned.folder) as access:
                assert delete_expired(access, now_ms=NOW_MS, quarantine_ms=0) > 0
        looked.append(segment)
        return place

    monkeypatch.setattr(Repository, "_place_of", interrupted)
    for segment in segments:
        assert bytes(reader.read_segment(segment)) == before[segment]
    assert looked.count(segments[0]) == 2
    assert_read(reader, pruned.client)
    reader.close()


def _rows(repository: Repository, statement: str) -> list[Any]:
    with repository.reading_catalog() as catalog:
        rows: list[Any] = catalog.connection.execute(statement).fetchall()
    return rows


def test_a_backup_goes_on_while_packs_are_copied(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    backups = 0

    def meanwhile(*given: object, **named: object) -> object:
        nonlocal backups
        moves = copy_pack(*given, **named)  # type: ignore[arg-type]
        with Repository.open(pruned.folder, reserve_bytes=0) as repository:
            pruned.client.repository = repository
            pruned.client.begin()
            pruned.client.put_file((b"meanwhile",), pruned.client.random.randbytes(30_000))
            pruned.client.commit()
        backups += 1
        return moves

    monkeypatch.setattr(compaction, "copy_pack", meanwhile)
    assert all(isinstance(pack, Rewritten) for pack in pruned.compact().packs)
    assert backups >= 2
    monkeypatch.undo()
    pruned.check()


def test_a_segment_that_dies_while_its_pack_is_copied_stays_as_dead_bytes(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:

    def dying(*given: object, **named: object) -> object:
        moves = copy_pack(*given, **named)  # type: ignore[arg-type]
        pruned.change(f"DELETE FROM segment WHERE number = {moves.segment_numbers[0]}")
        return moves

    monkeypatch.setattr(compaction, "copy_pack", dying)
    result = pruned.compact()
    assert all(isinstance(pack, Rewritten) for pack in result.packs)
    with Access(pruned.folder) as access:
        assert sum(use.dead_bytes for use in pack_use(access) if use.generation) > 0


def test_a_catalog_that_knows_segments_the_copy_did_not_see_is_not_moved_over(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = compaction._held

    def forgetful(*given: object) -> object:
        return itertools.islice(held(*given), 1, None)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "_held", forgetful)
    before = pruned.layout.pack_files()
    assert all(isinstance(pack, NotRewritten) for pack in pruned.compact().packs)
    assert pruned.layout.pack_files() == before
    pruned.check()


def test_damage_stops_it_is_noted_and_the_original_stays(pruned: Pruned) -> None:
    with Access(pruned.folder) as access:
        number = everything(access).rewrites[0].number
        with access.turn() as repository, repository.maintaining() as catalog:
            segment, offset, length = catalog.connection.execute(
                "SELECT id, offset, length FROM segment WHERE pack = ? ORDER BY offset DESC", (number,)
            ).fetchone()
    path = pruned.layout.pack(number)
    damaged = bytearray(path.read_bytes())
    damaged[offset + 44 + length - 1] ^= 1
    path.write_bytes(damaged)
    result = pruned.compact()
    (stopped,) = [pack for pack in result.packs if isinstance(pack, NotRewritten)]
    assert stopped.number == number and f"at byte {offset}" in stopped.reason
    assert path.read_bytes() == damaged
    assert not list(pruned.layout.packs.glob("*.new")) and PackFile(number, 1) not in pruned.layout.pack_files()
    with Access(pruned.folder) as access:
        with access.reading() as repository, repository.reading_catalog() as catalog:
            noted = catalog.connection.execute("SELECT pack, offset, kind, segment, found_ms FROM damage").fetchall()
        assert noted == [(number, offset, "SEGMENT", segment, NOW_MS)]
        (use_now,) = [found for found in pack_use(access) if found.number == number]
        assert use_now.damaged and not everything(access).rewrites


@pytest.mark.parametrize("room", [0, 100, 5_000])
def test_a_disk_that_fills_up_leaves_all_as_it_was(pruned: Pruned, room: int) -> None:
    before = {path.name: path.read_bytes() for path in pruned.layout.packs.iterdir()}
    disk = FullDisk()
    disk.room = room
    result = pruned.compact(disk)
    assert all(isinstance(pack, NotRewritten) and "no space left" in pack.reason for pack in result.packs)
    assert {path.name: path.read_bytes() for path in pruned.layout.packs.iterdir()} == before
    pruned.check()
    assert all(isinstance(pack, Rewritten) for pack in pruned.compact().packs), "and later it works"
    pruned.check()


def test_a_catalog_without_room_leaves_all_as_it_was(pruned: Pruned) -> None:
    disk = FullDisk()
    with Access(pruned.folder, disk=disk, reserve_bytes=0) as access:
        plan = everything(access)
        disk.catalog_full = True
        result = compact(access, plan, now_ms=NOW_MS)
        disk.catalog_full = False
        assert all(isinstance(pack, NotRewritten) for pack in result.packs)
    assert all(file.generation == 0 for file in pruned.layout.pack_files())
    pruned.check()


# What is left over


def test_the_quarantine_lasts_a_day_of_a_clock_that_may_jump(pruned: Pruned) -> None:
    old = [PackFile(pack.number, 0) for pack in pruned.compact().packs]
    for now_ms in (NOW_MS, NOW_MS + DAY_MS - 1, NOW_MS - 400 * DAY_MS):
        with Access(pruned.folder) as access:
            assert delete_expired(access, now_ms=now_ms) == 0
        assert set(old) <= set(pruned.layout.pack_files())
    with Access(pruned.folder) as access:
        assert delete_expired(access, now_ms=NOW_MS + DAY_MS) > 0
    assert not set(old) & set(pruned.layout.pack_files())
    pruned.check()


def test_opening_for_writing_ends_quarantines_and_removes_leftovers(pruned: Pruned) -> None:
    now_ms = 1000
    done = [pack.number for pack in pruned.compact(now_ms=now_ms).packs]
    (pruned.layout.packs / "00000001-7.pack.new").write_bytes(b"half")
    pruned.layout.pack(done[0], 9).write_bytes(b"never told")
    with Access(pruned.folder):
        Repository.open(pruned.folder).close()
        assert pruned.layout.pack(done[0], 9).exists(), "it may be what that maintenance is doing"
    Repository.open(pruned.folder).close()
    assert not list(pruned.layout.packs.glob("*.new"))
    assert all(file.generation <= 1 for file in pruned.layout.pack_files())
    assert not any(PackFile(number, 0) in pruned.layout.pack_files() for number in done)
    pruned.check()


def test_old_generations_that_a_rebuilt_catalog_does_not_know_wait_their_day(pruned: Pruned) -> None:
    done = [pack.number for pack in pruned.compact().packs]
    pruned.change("DELETE FROM quarantine")
    Repository.open(pruned.folder).close()
    with Repository.open(pruned.folder, read_only=True) as repository:
        waiting = _rows(repository, "SELECT pack FROM quarantine WHERE size > 0 AND since_ms > 0 ORDER BY pack")
    assert waiting == [(number,) for number in sorted(done)]
    pruned.check()


def test_nothing_of_a_pack_goes_while_its_new_generation_is_not_whole(pruned: Pruned) -> None:
    number = pruned.compact().packs[0].number
    os.truncate(pruned.layout.pack(number, 1), pruned.layout.pack(number, 1).stat().st_size - 1)
    with Access(pruned.folder) as access:
        delete_expired(access, now_ms=NOW_MS, quarantine_ms=0)
    assert pruned.layout.pack(number).exists()


def test_a_catalog_from_before_a_compaction_is_refused(pruned: Pruned) -> None:
    catalog = pruned.layout.catalog.read_bytes()
    pruned.compact()
    with Access(pruned.folder) as access:
        delete_expired(access, now_ms=NOW_MS, quarantine_ms=0)
    pruned.layout.catalog.write_bytes(catalog)
    before = pruned.layout.pack_files()
    with pytest.raises(DamagedRepositoryError, match="older than the packs"):
        Repository.open(pruned.folder)
    assert pruned.layout.pack_files() == before


class Recorder(Disk):
    """Notes what is done to packs, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        self.done.append("write")
        return super().write_at(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        self.done.append("sync")
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self.done.append("rename")
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self.done.append("remove")
        super().remove(path)

    def commit_catalog(self, connection: object) -> None:
        self.done.append("commit")
        super().commit_catalog(connection)  # type: ignore[arg-type]


def test_each_step_is_durable_before_the_next(pruned: Pruned) -> None:
    disk = Recorder()
    result = pruned.compact(disk)
    assert disk.done == ["write", "sync", "rename", "sync", "commit"] * len(result.packs)


def test_few_files_are_removed_in_one_go(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_FILES", 1)
    done = pruned.compact().packs
    assert len(done) >= 2
    with Access(pruned.folder) as access:
        with access.turn() as repository, repository.maintaining() as catalog:
            tidied = recovery.tidy(access.disk, access.layout, catalog, now_ms=NOW_MS, quarantine_ms=0)
        assert tidied.more and tidied.bytes_freed > 0
        delete_expired(access, now_ms=NOW_MS, quarantine_ms=0)
    assert not any(PackFile(pack.number, 0) in pruned.layout.pack_files() for pack in done)


# Crashes


STEP = 9
"""Of all crash points, so many are passed over; the whole sweep is in tests/sweeps."""


def test_a_crash_anywhere_loses_nothing_and_the_next_run_finishes(
    pruned: Pruned, tmp_path: Path, original: Pruned
) -> None:
    counting = CrashingDisk(pruned.folder.parent)
    pruned.compact(counting)
    points = crash_points(counting.operations)
    assert len(points) > 20
    for number, point in enumerate(points[::STEP]):
        world = tmp_path / f"world-{number}"
        shutil.copytree(original.folder, world / "r")
        disk = CrashingDisk(world, point)
        with pytest.raises(Crash):
            Pruned(world / "r", pruned.client).compact(disk)
        for state, aftermath in enumerate([disk.killed(), *disk.power_cuts(seed=number, torn=1)]):
            left = Pruned(aftermath.lay_out(tmp_path / f"left-{number}-{state}") / "r", pruned.client)
            left.check()
            assert not list(left.layout.packs.glob("*.new"))
            assert all(isinstance(pack, Rewritten) for pack in left.compact().packs)
            left.check()
            with Access(left.folder) as access:
                assert not everything(access).rewrites
            shutil.rmtree(left.folder.parent)
        shutil.rmtree(world)
