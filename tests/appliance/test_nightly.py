"""The long work of the night: every machine is looked at, a busy or damaged one holds up none, delays are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import metrics, nightly, notices
from appliance.control import alarms, alert_table, clock, contracts, machine_alerts, machine_logs, statistics
from appliance.control.clock import Reading
from appliance.control.contracts import Changes
from appliance.control.machines import Machine
from appliance.control.scope import EVERYTHING
from appliance.job_running import JobContext, JobStoppedError, Stopping
from appliance.nightly import SCRUB_AGAIN_DAYS, Turn, night_bytes, rotation
from appliance.settings import Home
from appliance.store.layout import Layout
from appliance.store.turns import MaintenanceTurn
from appliance.store.upkeep.changes import SnapshotChange
from appliance.store.upkeep.retention import Policy
from appliance.store.upkeep.scrub import ScrubState, scrub_state
from tests.support.control_house import NOW, House, build, figures
from tests.support.dated_history import write_history

DAY = 86400.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.repositories.mkdir()
    return home


@pytest.fixture
def house(home: Home, monkeypatch: pytest.MonkeyPatch) -> House:
    house = build(home.root, monkeypatch)
    for machine in (house.machine, house.neighbour_machine):
        write_history(home.repository(machine.id), [int((NOW - days * DAY) * 1000) for days in range(20, 0, -1)])
    clock.accept(house.db, clock.read(NOW))
    return house


def context(home: Home, house: House, now: Callable[[], float] = lambda: NOW) -> JobContext:
    return JobContext(home, house.db, now, Stopping())


def turn(machine: Machine, started_ms: int, finished_days_ago: float, size: int = 1000) -> Turn:
    return Turn(machine, ScrubState(started_ms, int((NOW - finished_days_ago * DAY) * 1000), size))


def test_all_are_pruned_by_their_own_contract(home: Home, house: House) -> None:
    contracts.edit(house.db, house.ours, Changes(retention=Policy(keep_days=15, floor_days=10)))
    report = nightly.prune_all(context(home, house))
    assert report.text.startswith("2 machines pruned, 6 snapshots dropped") and not report.warnings
    # The third has no repository yet, which is no failure.
    assert [line.module for line in machine_logs.of_machine(house.db, house.elsewhere_machine.id)] == []


def test_a_busy_one_is_told_and_tried_again_soon(home: Home, house: House) -> None:
    busy = MaintenanceTurn(Layout(home.repository(house.machine.id)))
    try:
        report = nightly.prune_all(context(home, house))
    finally:
        busy.close()
    assert report.text.startswith("1 machines pruned") and "1 not, the first of them PC-1" in report.text
    assert report.warnings and report.again_s == nightly.BUSY_AGAIN_S


def test_a_suspicious_one_is_left_alone(home: Home, house: House) -> None:
    contracts.edit(house.db, house.ours, Changes(retention=Policy(keep_days=15, floor_days=10)))
    statistics.record(house.db, house.machine.id, 20, complete=True, figures=figures(), now=NOW - DAY)
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(20, 1000, 700)])
    alert_table.sync(house.db, machine_alerts.every(house.db, EVERYTHING, NOW), NOW)
    report = nightly.prune_all(context(home, house))
    assert "1 machines pruned, 0 snapshots dropped" in report.text and "1 left alone" in report.text


def test_a_clock_that_jumped_drops_nothing(home: Home, house: House) -> None:
    contracts.edit(house.db, house.ours, Changes(retention=Policy(keep_days=15, floor_days=10)))
    clock.accept(house.db, Reading(NOW - 100 * DAY, "", 0.0))
    report = nightly.prune_all(context(home, house))
    assert report.warnings and "0 machines pruned, 0 snapshots dropped" in report.text
    assert "nothing is dropped, because" in report.text


def test_a_stop_leaves_the_rest_for_later(home: Home, house: House) -> None:
    stopped = context(home, house)
    stopped.stopping.set()
    with pytest.raises(JobStoppedError):
        nightly.prune_all(stopped)
    with pytest.raises(JobStoppedError):
        nightly.scrub_in_turn(stopped, monotonic=time.monotonic)


def test_everything_is_read_again_and_damage_is_an_alarm_until_it_is_mended(home: Home, house: House) -> None:
    folder = home.repository(house.machine.id)
    # A night reads its share, a 25th of all, and to the end of what it has begun: one of two here.
    for _ in range(2):
        report = nightly.scrub_in_turn(context(home, house), monotonic=time.monotonic)
        assert "1 repositories to their end" in report.text and not report.warnings
    assert scrub_state(folder).finished_ms == int(NOW * 1000)
    # Nobody is due again tomorrow.
    later = context(home, house, lambda: NOW + DAY)
    assert nightly.scrub_in_turn(later, monotonic=time.monotonic).text.startswith("0 B read again, 0 repositories")
    assert notices.cursor(house.db, metrics.SCRUB_CURSOR) == NOW
    pack = next((folder / "packs").iterdir())
    content = bytearray(pack.read_bytes())
    at = len(content) // 2
    content[at] ^= 1
    pack.write_bytes(content)
    due = context(home, house, lambda: NOW + (SCRUB_AGAIN_DAYS + 1) * DAY)
    told = [nightly.scrub_in_turn(due, monotonic=time.monotonic).text for _ in range(2)]
    assert sum("1 with damage" in text for text in told) == 1
    (alarm,) = alarms.every(house.db)
    assert (alarm.kind, alarm.machine_id) == (alarms.DAMAGE, house.machine.id)
    content[at] ^= 1
    pack.write_bytes(content)
    well = context(home, house, lambda: NOW + 3 * SCRUB_AGAIN_DAYS * DAY)
    for _ in range(2):
        nightly.scrub_in_turn(well, monotonic=time.monotonic)
    assert alarms.every(house.db) == []


def test_one_that_is_too_slow_is_an_alarm(home: Home, house: House) -> None:
    late = context(home, house, lambda: NOW + 31 * DAY)
    busy = MaintenanceTurn(Layout(home.repository(house.machine.id)))
    try:
        nightly.scrub_in_turn(late, monotonic=time.monotonic)
    finally:
        busy.close()
    (alarm,) = alarms.every(house.db)
    assert alarm.kind == alarms.SCRUB_LATE and alarm.text.startswith("1 repositories were not read again within 30")
    nightly.scrub_in_turn(late, monotonic=time.monotonic)
    assert alarms.every(house.db) == []


def test_whose_turn_it_is(house: House) -> None:
    begun = turn(house.machine, 5, 3)
    oldest = turn(house.neighbour_machine, 0, 40)
    older = turn(house.elsewhere_machine, 0, SCRUB_AGAIN_DAYS)
    fresh = turn(house.machine, 0, 3)
    assert rotation([fresh, older, begun, oldest], int(NOW * 1000)) == [begun, oldest, older]
    assert rotation([], 0) == [] and rotation([fresh], int(NOW * 1000)) == []


def test_a_night_s_share_covers_all_in_time() -> None:
    house_of = [Turn(None, ScrubState(0, 0, size)) for size in (10**12, 1, 500)]  # type: ignore[arg-type]
    assert night_bytes(house_of) * SCRUB_AGAIN_DAYS >= 10**12 + 501 and night_bytes([]) == 0
