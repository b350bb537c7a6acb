"""Copies on site at the appliance: kept as told, missed when nobody wrote them, and the alert that ends by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import alert_table, machine_alerts, site_copies
from appliance.control.machine_alerts import AlertKind
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from tests.support.control_house import NOW, House, build
from transport.messages_onsite import CopiesReport, CopyTold

DAY = 86_400.0


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def told(number: int, written_at: float, *, place: int = 0, state: str = "written") -> CopyTold:
    return CopyTold(bytes([number]) * 16, f"disk-{number}", place, state, int(written_at * 1000), 5)  # type: ignore[arg-type]


def kinds(house: House, now: float) -> list[AlertKind]:
    return [alert.kind for alert in machine_alerts.every(house.db, EVERYTHING, now) if alert.kind is AlertKind.ONSITE]


def test_kept_as_told_and_forgotten_when_removed(house: House) -> None:
    report = CopiesReport([told(1, NOW), told(2, 0, state="")], 7)
    site_copies.keep(house.db, house.machine.id, report, NOW)
    first, second = site_copies.of_machine(house.db, house.machine.id)
    assert (first.name, first.written_at, first.free_bytes, first.state) == ("disk-1", NOW, 5, "written")
    assert (second.written_at, second.added_at) == (None, NOW)
    site_copies.keep(house.db, house.machine.id, report, NOW + DAY)
    assert [copy.added_at for copy in site_copies.of_machine(house.db, house.machine.id)] == [NOW, NOW]
    site_copies.keep(house.db, house.machine.id, CopiesReport([], 7), NOW + DAY)
    assert site_copies.of_machine(house.db, house.machine.id) == []


def test_a_clock_that_is_ahead_hushes_nothing(house: House) -> None:
    site_copies.keep(house.db, house.machine.id, CopiesReport([told(1, NOW + 400 * DAY)], 7), NOW)
    assert kinds(house, NOW + 6.9 * DAY) == [] and kinds(house, NOW + 7 * DAY) == [AlertKind.ONSITE]


def test_disks_that_alternate_are_one_copy(house: House) -> None:
    week_old = told(1, NOW - 8 * DAY, state="not there")
    site_copies.keep(house.db, house.machine.id, CopiesReport([week_old, told(2, NOW)], 7), NOW)
    assert kinds(house, NOW) == []
    elsewhere = CopiesReport([week_old, told(2, NOW, place=1)], 7)
    site_copies.keep(house.db, house.machine.id, elsewhere, NOW)
    assert kinds(house, NOW) == [AlertKind.ONSITE]


def test_opens_after_days_and_resolves_by_itself(house: House) -> None:
    site_copies.keep(house.db, house.machine.id, CopiesReport([told(1, 0, state="failed")], 3), NOW)
    later = NOW + 3 * DAY
    assert kinds(house, later - 1) == []
    found = machine_alerts.every(house.db, EVERYTHING, later)
    (alert,) = [one for one in found if one.kind is AlertKind.ONSITE]
    assert machine_alerts.reason_of(alert) == "No copy on site (disk-1) was written for 3 days"
    assert alert_table.sync(house.db, found, later).opened >= 1
    site_copies.keep(house.db, house.machine.id, CopiesReport([told(1, later)], 3), later)
    again = machine_alerts.every(house.db, EVERYTHING, later)
    assert AlertKind.ONSITE not in [one.kind for one in again]
    assert alert_table.sync(house.db, again, later).resolved == 1


def test_nobody_else_hears_of_it(house: House) -> None:
    site_copies.keep(house.db, house.machine.id, CopiesReport([told(1, 0)], 1), NOW)
    assert site_copies.missing(house.db, EVERYTHING, NOW + DAY)
    assert site_copies.missing(house.db, OneSpace("another"), NOW + DAY) == []
    assert site_copies.missing(house.db, OneContract("another"), NOW + DAY) == []
