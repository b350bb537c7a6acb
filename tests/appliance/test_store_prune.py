"""Whatever is pruned, what is held lists and restores exactly as before, and nothing else is left."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.store.errors import BusyRepositoryError, StoreError, UnknownItemError
from appliance.store.layout import Layout
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.prune import PruneReport, prune
from appliance.store.upkeep.rebuild import rebuild_catalog
from tests.appliance.store_builder import Client, FullDisk, assert_snapshots, listed, make_repository
from tests.appliance.store_history import Worker, assert_live
from transport.names import SegmentId

DAY_MS = 86_400_000
NOW_MS = time.time_ns() // 1_000_000
"""The real one: a repository that is opened ends old quarantines by its own clock."""


def pruned(
    worker: Worker, folder: Path, numbers: set[int], *, released: bool = True, slack: int = 1 << 30, gain: int = 1 << 18
) -> PruneReport:
    """Prune with the repository closed, then open it again for the client."""
    worker.client.repository.close()
    report = prune(
        folder,
        frozenset(numbers),
        now_ms=NOW_MS,
        released=released,
        checkpoint_slack_bytes=slack,
        small_gain_bytes=gain,
    )
    worker.client.repository = Repository.open(folder, reserve_bytes=0)
    worker.forget(numbers)
    return report


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    days=st.integers(2, 7),
    chosen=st.lists(st.sets(st.integers(1, 12)), min_size=1, max_size=2),
    slack=st.sampled_from([0, 1 << 30]),
    gain=st.sampled_from([1, 1 << 18]),
)
def test_every_held_snapshot_is_as_before_whatever_is_pruned(
    seed: int, days: int, chosen: list[set[int]], slack: int, gain: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "r"
        worker = Worker(Client(make_repository(folder)), seed)
        retired: set[int] = set()
        for numbers in chosen:
            for _ in range(days):
                worker.day()
            held = {number for number in numbers if number < worker.client.number}
            report = pruned(worker, folder, held, slack=slack, gain=gain)
            assert report.snapshots_retired == held - retired and report.finished
            retired |= held
            assert_live(folder, worker.client)
            assert_snapshots(worker.client.repository, worker.client)
            assert_rebuilt_equal(folder, Path(place) / f"anew-{len(retired)}-{worker.days}.sqlite")
        again = pruned(worker, folder, retired)
        assert (again.snapshots_retired, again.entries_dropped, again.versions_dropped) == (frozenset(), 0, 0)
        assert (again.segments_dropped, again.bytes_freed, again.packs_compacted) == (0, 0, 0)
        worker.client.repository.close()


def assert_rebuilt_equal(folder: Path, anew: Path) -> None:
    """The packs alone make the same catalog: nothing that was retired comes back, nothing that is held is missing."""
    rebuilt = rebuild_catalog(Layout(folder), anew)
    assert rebuilt.differences == []
    tables = {
        "entry": "parent, path, born, died, version, batch, idx, sealed",
        "folder": "path, died, born, digest",
        "version": "id, size, span, body",
        "page": "number, length, extents",
        "batch": "number, epoch, salt, commitment, born",
        "segment": "id, pack, offset, length, plain",
        "pack": "number, generation, size, segment_bytes",
        "snapshot": "number, hash, entry_count, retired, received_ms",
        "state": "head, leased_version - next_version, live_entries",
    }
    for table, columns in tables.items():
        found = []
        for path in (folder / "catalog.sqlite", anew):
            connection = sqlite3.connect(path)
            found.append(sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall()))
            connection.close()
        assert found[0] == found[1], table


def make_worker(folder: Path, days: int, seed: int = 7) -> Worker:
    worker = Worker(Client(make_repository(folder)), seed)
    for _ in range(days):
        worker.day(12)
    return worker


def test_the_newest_snapshot_and_unknown_ones_are_refused_and_nothing_is_done(tmp_path: Path) -> None:
    worker = make_worker(tmp_path / "r", 3)
    worker.client.repository.close()
    before = (tmp_path / "r" / "packs" / "00000001.pack").read_bytes()
    for numbers, error, text in (
        ({3}, StoreError, "snapshot 3 is the newest one"),
        ({1, 4}, UnknownItemError, "no snapshot 4 to retire"),
        ({0}, UnknownItemError, "no snapshot 0 to retire"),
    ):
        with pytest.raises(error, match=text):
            prune(tmp_path / "r", frozenset(numbers), now_ms=NOW_MS)
    assert (tmp_path / "r" / "packs" / "00000001.pack").read_bytes() == before
    with Repository.open(tmp_path / "r") as repository:
        assert [commit.retired for commit in repository.commits(0, 9)] == [False, False, False]


def test_a_retired_snapshot_is_not_listed_and_its_commit_stays(tmp_path: Path) -> None:
    worker = make_worker(tmp_path / "r", 3)
    pruned(worker, tmp_path / "r", {1, 2})
    repository = worker.client.repository
    for number in (1, 2):
        with pytest.raises(UnknownItemError, match="no longer held"):
            listed(repository, number)
    assert [commit.retired for commit in repository.commits(0, 9)] == [True, True, False]
    assert repository.stats().snapshots == 1
    stats = repository.stats()
    assert stats.bytes_live > 0


def big_history(folder: Path) -> Worker:
    """Eight days, each with a fresh megabyte that the next day replaces."""
    worker = Worker(Client(make_repository(folder)), 3)
    client = worker.client
    for _ in range(8):
        client.begin()
        client.put_file((b"churn",), client.random.randbytes(1_000_000))
        client.commit()
    return worker


def test_bytes_come_back_after_the_quarantine(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    worker = big_history(folder)
    stored = worker.client.repository.stats().bytes_stored
    report = pruned(worker, folder, set(range(1, 8)))
    assert report.segments_dropped == 7 and report.packs_compacted == 1
    assert 7_000_000 < report.bytes_freed < 7_010_000
    assert report.bytes_in_quarantine >= stored and report.bytes_deleted == 0
    stats = worker.client.repository.stats()
    assert stats.bytes_stored < stored - 6_900_000 and stats.segments == 1
    assert_snapshots(worker.client.repository, worker.client)
    worker.client.repository.close()
    soon = prune(folder, frozenset(), now_ms=NOW_MS + DAY_MS // 2)
    assert soon.bytes_deleted == 0 and soon.bytes_in_quarantine == report.bytes_in_quarantine
    later = prune(folder, frozenset(), now_ms=NOW_MS + DAY_MS + 1)
    assert later.bytes_deleted == report.bytes_in_quarantine and later.bytes_in_quarantine == 0
    assert sum(path.stat().st_size for path in (folder / "packs").iterdir()) == stats.bytes_stored
    worker.client.repository = Repository.open(folder)
    assert_snapshots(worker.client.repository, worker.client)
    worker.day()


def test_on_a_full_disk_pruning_works_and_gives_the_bytes_back_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    worker = big_history(folder)
    worker.client.repository.close()
    disk = FullDisk()
    disk.free = 3_000_000
    report = prune(folder, frozenset(range(1, 8)), now_ms=NOW_MS, released=True, disk=disk, reserve_bytes=3_500_000)
    assert report.bytes_freed > 7_000_000 and report.bytes_in_quarantine == 0 and report.bytes_deleted > 8_000_000
    assert sum(path.stat().st_size for path in (folder / "packs").iterdir()) < 1_100_000
    worker.forget(range(1, 8))
    with Repository.open(folder) as worker.client.repository:
        assert_snapshots(worker.client.repository, worker.client)


def test_what_a_killed_session_left_survives_until_it_is_committed_or_released(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    worker = make_worker(folder, 3)
    client = worker.client
    client.begin()
    version, items = client.whole(b"half an upload" * 100)
    client.stage(*items)
    segment = max(client.segments, key=list(client.segments).index)
    held = client.repository.held_after(SegmentId(bytes(16)), 10)
    assert held == [segment]
    pruned(worker, folder, {1}, released=False)
    assert client.repository.held_after(SegmentId(bytes(16)), 10) == [segment]
    assert client.begin() == 0
    client.stage(client.entries(client.entry((b"late",), version)))
    client.commit()
    pruned(worker, folder, {1, 2}, released=False)
    assert_snapshots(client.repository, client)
    worker.day()
    worker.day(commit=False)
    client.begin()
    client.stage(client.segment(b"never used"))
    assert client.repository.held_count() >= 1
    pruned(worker, folder, set())
    assert client.repository.held_count() == 0
    client.begin()
    assert_live(folder, client)


def test_a_resumed_session_goes_on_after_a_prune(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    worker = make_worker(folder, 4)
    client = worker.client
    client.begin(b"s" * 16)
    names = sorted(worker.files)[0]
    base = worker.files[names]
    client.put_folders((b"staged",))
    seq = client.seq
    pruned(worker, folder, {1, 2, 3}, released=False)
    assert client.repository.begin(client.session, client.previous) == seq
    version, items = client.delta(base, [(0, len(client.contents[base])), b"more"])
    client.stage(*items, client.entries(client.entry(names, version)))
    client.commit()
    assert_snapshots(client.repository, client)


def test_one_maintenance_at_a_time(tmp_path: Path) -> None:
    worker = make_worker(tmp_path / "r", 2)
    worker.client.repository.close()
    with Access(tmp_path / "r"), pytest.raises(BusyRepositoryError, match="being pruned"):
        prune(tmp_path / "r", frozenset(), now_ms=NOW_MS)


def test_progress_is_told_in_sentences(tmp_path: Path) -> None:
    worker = make_worker(tmp_path / "r", 3)
    worker.client.repository.close()
    said: list[str] = []
    prune(tmp_path / "r", frozenset({1}), now_ms=NOW_MS, progress=said.append)
    assert said[0] == "1 snapshots are no longer held" and said[2].startswith("no checkpoint: ")


def test_a_checkpoint_lets_old_metadata_go(tmp_path: Path) -> None:
    """Many snapshots' worth of entries, all but the last retired: the packs end up with little but what is live."""
    folder = tmp_path / "r"
    client = Client(make_repository(folder))
    worker = Worker(client, 1)
    for number in range(12):
        client.begin()
        client.stage(client.entries(*[client.entry((b"f%d" % n,), note=b"%d" % number * 40) for n in range(100)]))
        client.commit()
    stored = client.repository.stats().bytes_stored
    report = pruned(worker, folder, set(range(1, 12)), slack=0, gain=1)
    assert report.checkpoint_written and report.packs_compacted == 1 and report.entries_dropped == 1100
    assert report.bytes_freed > stored - 500
    assert client.repository.stats().bytes_stored < stored / 5
    assert_snapshots(client.repository, client)
    assert_rebuilt_equal(folder, tmp_path / "anew.sqlite")
    again = pruned(worker, folder, set(), slack=0, gain=1)
    assert not again.checkpoint_written and again.packs_compacted == 0


def test_a_sample_is_of_held_segments_though_numbers_have_gaps(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    client = Client(make_repository(folder))
    client.begin()
    for number in range(40):
        client.put_file((b"f%d" % number,), b"%d" % number * 100)
    client.commit()
    client.begin()
    client.stage(client.deaths(*[client.path(b"f%d" % number) for number in range(40) if number % 3]))
    client.commit()
    report = pruned(Worker(client, 1), folder, {1})
    assert report.segments_dropped == 26
    held = {segment for segment in client.segments if _is_held(client.repository, segment)}
    assert len(held) == 14 and set(client.repository.sample(40)) == held
    for count in (0, 1, 3, 9):
        sample = client.repository.sample(count)
        assert len(set(sample)) == len(sample) <= count and set(sample) <= held


def _is_held(repository: Repository, segment: SegmentId) -> bool:
    try:
        repository.read_segment(segment)
    except UnknownItemError:
        return False
    return True
