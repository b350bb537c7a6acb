"""A sweep forgets what no held snapshot needs, beside an upload that goes on, and may be stopped anywhere."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.store.errors import UnknownItemError
from appliance.store.repository import Repository
from appliance.store.upkeep import sweep as sweep_module
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.retire import retire
from appliance.store.upkeep.sweep import EVIDENCE_MS, SweepReport, sweep
from tests.appliance.store_builder import Client, assert_snapshots, make_repository
from tests.appliance.store_history import Worker, assert_live
from transport import messages as m
from transport.extents import Fragment
from transport.names import SegmentId, VersionId


class Stopped(BaseException):
    """The sweep ends here, as with a process."""


class Interrupted(Access):
    """Calls `hook` with the number of each turn before it begins, when nobody has the place of the writer."""

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


def swept(folder: Path, hook: Callable[[int], None] = lambda _: None) -> tuple[SweepReport, int]:
    with Interrupted(folder, hook) as access:
        return sweep(access), access.turns


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """Six days, the first four retired, nothing leased, the repository closed."""
    return retired_worker(tmp_path / "r")


def retired_worker(folder: Path) -> Worker:
    worker = Worker(Client(make_repository(folder)), 11)
    for _ in range(6):
        worker.day(8)
    retire(worker.client.repository, {1, 2, 3, 4}, now_ms=1, released=True)
    worker.client.repository.close()
    worker.forget({1, 2, 3, 4})
    return worker


def reopened(worker: Worker, folder: Path) -> Client:
    worker.client.repository = Repository.open(folder, reserve_bytes=0)
    return worker.client


def test_what_is_dead_goes_and_a_second_sweep_finds_nothing(worker: Worker, tmp_path: Path) -> None:
    report, _ = swept(tmp_path / "r")
    assert min(report.entries, report.versions, report.pages, report.segments, report.batches) > 0 and report.finished
    assert_live(tmp_path / "r", worker.client)
    again, turns = swept(tmp_path / "r")
    assert again == SweepReport() and turns == 1
    client = reopened(worker, tmp_path / "r")
    stats = client.repository.stats()
    with sqlite3.connect(tmp_path / "r" / "catalog.sqlite") as catalog:
        (held,) = catalog.execute("SELECT sum(length - 16) FROM segment").fetchone()
    catalog.close()
    assert stats.bytes_live == held
    assert_snapshots(client.repository, client)


def test_stopped_at_any_turn_the_catalog_is_sound_and_the_next_sweep_finishes(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "PORTION_S", 0.0)
    monkeypatch.setattr(sweep_module, "_CHUNK", 8)

    def stop(turn: int) -> None:
        if turn == at:
            raise Stopped

    for at in (2, 3, 4, 6, 8, 100):
        folder = tmp_path / f"r{at}"
        shutil.copytree(tmp_path / "r", folder)
        try:
            swept(folder, stop)
        except Stopped:
            with Repository.open(folder, reserve_bytes=0) as repository:
                report = repository.check()
                assert report.ok, report.errors
            swept(folder)
            assert_live(folder, worker.client)
        else:
            assert at == 100


@pytest.mark.parametrize("commit", [False, True])
def test_a_dead_version_that_a_session_names_meanwhile_stays(tmp_path: Path, commit: bool) -> None:
    """Whenever an upload is told that a version is held, and names it before the sweep comes to it, it is kept."""
    at, turns, kept = 1, 1, 0
    while at <= turns:
        folder = tmp_path / f"r{at}"
        client = Client(make_repository(folder))
        client.begin()
        client.put_folders((b"d",))
        version = client.put_file((b"old",), b"x" * 4000)
        client.commit()
        client.begin()
        client.stage(client.deaths(client.path(b"old")))
        client.commit()
        client.begin()
        retire(client.repository, {1}, now_ms=1, released=True)
        client.repository.close()
        del client.committed[1]
        named: list[bool] = []

        def upload(
            turn: int,
            at: int = at,
            folder: Path = folder,
            client: Client = client,
            version: VersionId = version,
            named: list[bool] = named,
        ) -> None:
            if turn != at:
                return
            with Repository.open(folder, reserve_bytes=0) as client.repository:
                client.begin()
                if client.repository.has_versions([version]):
                    client.stage(client.entries(client.entry((b"d", b"back"), version)))
                    if commit:
                        client.commit()
                    named.append(True)

        _, turns = swept(folder, upload)
        with Repository.open(folder, reserve_bytes=0) as client.repository:
            if named and not commit:
                client.commit()
            assert_snapshots(client.repository, client)
        kept += len(named)
        at += 1
    assert kept >= 3


def test_a_dead_segment_that_a_new_version_names_meanwhile_stays(tmp_path: Path) -> None:
    for at in (1, 2):
        folder = tmp_path / f"r{at}"
        client = Client(make_repository(folder))
        client.begin()
        client.stage(client.segment(b"y" * 500))
        (segment,) = client.segments
        client.commit()
        client.begin()
        client.repository.close()
        named: list[VersionId] = []

        def upload(
            turn: int,
            at: int = at,
            folder: Path = folder,
            client: Client = client,
            segment: SegmentId = segment,
            named: list[VersionId] = named,
        ) -> None:
            if turn != at:
                return
            with Repository.open(folder, reserve_bytes=0) as client.repository:
                client.begin()
                try:
                    client.repository.read_segment(segment)
                except UnknownItemError:
                    return
                record = client.version(500, [Fragment(segment, 0, 500)])
                client.contents[record.version_id] = client.segments[segment]
                client.stage((m.PutVersions(client.next(), [record]), b""))
                client.stage(client.entries(client.entry((b"f",), record.version_id)))
                client.commit()
                named.append(record.version_id)

        swept(folder, upload)
        with Repository.open(folder, reserve_bytes=0) as client.repository:
            assert_snapshots(client.repository, client)
        assert len(named) == 1


def test_numbers_given_anew_are_not_taken_for_committed(worker: Worker, tmp_path: Path) -> None:
    client = reopened(worker, tmp_path / "r")
    client.begin()
    client.stage(client.segment(b"given up"))
    retire(client.repository, set(), now_ms=1, released=True)
    client.repository.close()
    swept(tmp_path / "r")
    reopened(worker, tmp_path / "r")
    client.begin()
    segment, payload = client.segment(b"fresh")
    client.stage((segment, payload))
    assert client.repository.held_after(SegmentId(bytes(16)), 9) == [segment.segment]
    client.repository.close()
    swept(tmp_path / "r")
    reopened(worker, tmp_path / "r")
    assert client.repository.held_after(SegmentId(bytes(16)), 9) == [segment.segment]


def test_a_damaged_segment_stays(worker: Worker, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r" / "catalog.sqlite") as catalog:
        number, segment, pack, offset = catalog.execute("SELECT number, id, pack, offset FROM segment").fetchone()
        catalog.execute(
            "INSERT INTO damage (pack, offset, kind, segment, detail, found_ms, mended_ms) "
            "VALUES (?, ?, 'SEGMENT', ?, 'test', 1, 0)",
            (pack, offset, segment),
        )
        catalog.execute("DELETE FROM entry WHERE version != zeroblob(16)")
    catalog.close()
    report, _ = swept(tmp_path / "r")
    assert report.segments > 3
    with sqlite3.connect(tmp_path / "r" / "catalog.sqlite") as catalog:
        assert catalog.execute("SELECT number FROM segment").fetchall() == [(number,)]
    catalog.close()


def test_the_original_of_what_was_mended_stays_for_a_season(worker: Worker, tmp_path: Path) -> None:
    """Then the segment is forgotten, and what is known of it says that nothing is missing."""
    mended_ms, path = 1_700_000_000_000, tmp_path / "r" / "catalog.sqlite"
    with sqlite3.connect(path) as catalog:
        rows = catalog.execute("SELECT number, id, pack, offset FROM segment LIMIT 2").fetchall()
        catalog.executemany(
            "INSERT INTO damage (pack, offset, kind, segment, detail, found_ms, mended_ms) "
            "VALUES (?, ?, 'SEGMENT', ?, 'test', 1, ?)",
            [(rows[0][2], rows[0][3], rows[0][1], mended_ms), (rows[1][2], rows[1][3], rows[1][1], 0)],
        )
        catalog.execute("DELETE FROM entry WHERE version != zeroblob(16)")
    catalog.close()
    for now_ms, kept in ((0, rows), (mended_ms + EVIDENCE_MS - 1, rows), (mended_ms + EVIDENCE_MS, rows[1:])):
        with Access(tmp_path / "r", reserve_bytes=0) as access:
            sweep(access, now_ms=now_ms)
        with sqlite3.connect(path) as catalog:
            assert catalog.execute("SELECT number FROM segment ORDER BY number").fetchall() == [(r[0],) for r in kept]
            evidence = {row[0] for row in catalog.execute("SELECT segment FROM damage")}
        catalog.close()
        assert evidence == {row[1] for row in kept} | (set() if kept is rows else {None})


def test_a_catalog_with_a_torn_extent_list_is_not_swept(worker: Worker, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r" / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE version SET body = substr(body, 2) WHERE span = 0")
        before = catalog.execute("SELECT count(*) FROM segment").fetchone()
    catalog.close()
    with pytest.raises(Exception, match="nothing was forgotten"):
        swept(tmp_path / "r")
    with sqlite3.connect(tmp_path / "r" / "catalog.sqlite") as catalog:
        assert catalog.execute("SELECT count(*) FROM segment").fetchone() == before
    catalog.close()
