"""Scrubbing: what reads badly is noted with what it costs, by turns, from where the last scrub stopped."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.store.layout import Layout
from appliance.store.packs import Damage, PackWalk
from appliance.store.records import OVERHEAD_BYTES, Kind, segment_id_of
from appliance.store.repository import Repository
from appliance.store.upkeep import scrub as scrubbing
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.scrub import ScrubReport, scrub
from tests.appliance.store_builder import Client, make_repository

NOW_MS = 1_700_000_000_000


def make(folder: Path, files: int = 4) -> Client:
    """One snapshot of some files of 300 kB, each in a segment of its own; a second one in which the first changed."""
    client = Client(make_repository(folder))
    noise = random.Random(2)
    client.begin()
    for number in range(files):
        client.put_file((b"file-%d" % number,), noise.randbytes(300_000))
    client.commit()
    client.begin()
    client.put_file((b"file-0",), b"changed")
    client.commit()
    client.repository.close()
    return client


def records(folder: Path, kind: Kind, pack: int = 1) -> list[tuple[int, int, bytes]]:
    """Offset, payload length and payload of each record of a kind."""
    path = Layout(folder).pack(pack)
    walk = PackWalk(path, path.stat().st_size, read_data=True)
    found = (step for step in walk if not isinstance(step, Damage) and step.kind == kind)
    return [(step.offset, step.length_bytes, bytes(step.payload)) for step in found]


def flip(folder: Path, offset: int, pack: int = 1) -> None:
    path = Layout(folder).pack(pack)
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def scrubbed(folder: Path, **options: object) -> ScrubReport:
    with Access(folder, reserve_bytes=0) as access:
        return scrub(access, now_ms=lambda: NOW_MS, **options)  # type: ignore[arg-type]


def test_a_sound_repository_is_read_whole(tmp_path: Path) -> None:
    make(tmp_path / "r")
    report = scrubbed(tmp_path / "r")
    assert report.finished and report.damage == [] and report.well_again == []
    assert report.bytes_read == Layout(tmp_path / "r").pack(1).stat().st_size
    with Repository.open(tmp_path / "r", read_only=True) as repository:
        assert report.records == repository.check(read_data=True).records_checked


@pytest.mark.parametrize("where", [3, OVERHEAD_BYTES - 1, OVERHEAD_BYTES + 5, OVERHEAD_BYTES + 200_000])
def test_damage_is_named_with_pack_offset_snapshots_and_files(tmp_path: Path, where: int) -> None:
    folder = tmp_path / "r"
    make(folder)
    places = records(folder, Kind.SEGMENT)
    flip(folder, places[0][0] + where)
    flip(folder, places[2][0] + where)
    report = scrubbed(folder)
    assert [(found.pack, found.offset, found.kind) for found in report.damage] == [
        ("00000001.pack", places[at][0], "SEGMENT") for at in (0, 2)
    ]
    assert [found.segment for found in report.damage] == [segment_id_of(places[at][2]) for at in (0, 2)]
    assert [(found.impact.snapshots, found.impact.files) for found in report.damage] == [((1,), 1), ((1, 2), 1)]
    assert report.damage[1].impact.sentence() == "1 file in snapshots 1 to 2"


def test_damaged_metadata_is_named_too(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    make(folder)
    offset = records(folder, Kind.ENTRIES)[0][0]
    flip(folder, offset + OVERHEAD_BYTES + 10)
    (found,) = scrubbed(folder).damage
    assert (found.offset, found.kind, found.segment) == (offset, "ENTRIES", None)


def test_a_lost_pack_costs_what_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.store.packs.PACK_BYTES", 400_000)
    folder = tmp_path / "r"
    make(folder)
    lost = {segment_id_of(payload) for _, _, payload in records(folder, Kind.SEGMENT, 2)}
    Layout(folder).pack(2).unlink()
    report = scrubbed(folder)
    assert lost and {found.segment for found in report.damage if found.segment} == lost and report.finished
    assert report.damage[0].offset == 0 and report.damage[0].segment is None, "its header and other metadata"
    needed = [found for found in report.damage if found.impact.files]
    assert len(needed) == len(lost)


def test_metadata_within_a_wide_damage_is_named_beside_the_segments(tmp_path: Path) -> None:
    """A torn stretch from within one segment into the next: the records between them are lost too."""
    folder = tmp_path / "r"
    make(folder)
    (first, length, _), (second, _, _) = records(folder, Kind.SEGMENT)[:2]
    path = Layout(folder).pack(1)
    data = bytearray(path.read_bytes())
    data[first + 1000 : second + 1000] = bytes(second - first)
    path.write_bytes(data)
    found = [(one.offset, one.kind, one.segment is None) for one in scrubbed(folder).damage]
    behind = first + OVERHEAD_BYTES + length
    assert found == [(first, "SEGMENT", False), (behind, "unreadable", True), (second, "SEGMENT", False)]


def test_a_scrub_goes_on_where_the_last_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "SAVED_BYTES", 200_000)
    folder = tmp_path / "r"
    make(folder)
    whole = scrubbed(folder)
    offset = records(folder, Kind.SEGMENT)[1][0]
    flip(folder, offset + 100)

    class Stop(Exception):
        pass

    def stop(_: float) -> None:
        raise Stop

    with pytest.raises(Stop):  # a process that is ended at its first pause
        scrubbed(folder, rate_bytes_s=1.0, pause=stop)
    rest = scrubbed(folder)
    assert rest.finished and 0 < rest.records < whole.records
    assert rest.bytes_read < whole.bytes_read
    again = scrubbed(folder)
    assert again.records == whole.records - 1 and [found.offset for found in again.damage] == [offset]


def test_the_rate_is_kept_by_pausing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "SAVED_BYTES", 100_000)
    make(tmp_path / "r")
    paused: list[float] = []
    report = scrubbed(tmp_path / "r", rate_bytes_s=1000.0, pause=paused.append)
    assert paused and max(paused) > 0.8 * report.bytes_read / 1000.0


def test_what_reads_well_again_is_taken_off_the_list_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    make(folder)
    offset = records(folder, Kind.SEGMENT)[1][0]
    flip(folder, offset + 100)
    assert len(scrubbed(folder).damage) == 1
    assert len(scrubbed(folder).damage) == 1, "found twice, noted once"
    flip(folder, offset + 100)
    report = scrubbed(folder)
    assert report.damage == [] and report.well_again == [("00000001.pack", offset)]
