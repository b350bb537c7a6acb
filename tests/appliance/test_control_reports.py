"""Reports: pages that lose and repeat nothing, days in a zone, volumes that carry on, scope."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.control import configurations, contracts, reports, statistics
from appliance.control.configurations import MachineConfiguration
from appliance.control.contracts import Changes
from appliance.control.reports import Backup, Window
from appliance.control.scope import EVERYTHING, OneContract, OneSpace, Scope
from appliance.errors import NotFoundError
from tests.support.control_house import NOW, House, build, enrol, figures
from transport.errors import UsageError

DAY = 86400.0
WINDOW = Window(NOW - 400 * DAY, NOW + 400 * DAY)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def record(house: House, machine_id: bytes, number: int, at: float, size: int = 1000, complete: bool = True) -> None:
    statistics.record(house.db, machine_id, number, complete=complete, figures=figures(size), now=at)


def pages(house: House, scope: Scope, limit: int, window: Window = WINDOW) -> list[Backup]:
    """All pages, one after the other."""
    found: list[Backup] = []
    cursor = ""
    while True:
        page = reports.rows(house.db, scope, window, cursor=cursor, limit=limit)
        found += [row for day in page.days for row in day.rows]
        if not (cursor := page.next):
            return found


def test_pages_neither_lose_nor_repeat_even_at_the_same_moment(house: House) -> None:
    dice = random.Random(7)
    numbers = {house.machine.id: 0, house.neighbour_machine.id: 0, house.elsewhere_machine.id: 0}
    for _ in range(60):
        machine_id = dice.choice(list(numbers))
        numbers[machine_id] += 1
        record(house, machine_id, numbers[machine_id], NOW + dice.choice((0.1, 0.2, 0.3, 1 / 3)) * DAY)
    every = pages(house, EVERYTHING, 7)
    assert len({(row.machine_id, row.number) for row in every}) == len(every) == 60
    assert [row.received_at for row in every] == sorted((row.received_at for row in every), reverse=True)
    assert every == pages(house, EVERYTHING, 1000) == list(reports.export(house.db, EVERYTHING, WINDOW))


def test_rows_tell_what_the_backup_was(house: House) -> None:
    record(house, house.machine.id, 1, NOW, size=400)
    record(house, house.machine.id, 2, NOW + 1, size=0)
    used = MachineConfiguration("0.9", "Windows-7-6.1", 4711, "ab" * 32, 7, 2)
    configurations.record(house.db, house.machine.id, 1, used)
    configurations.record(house.db, house.machine.id, 1, MachineConfiguration("x", "y", 1, "cd" * 32, 7, 2))
    second, first = pages(house, EVERYTHING, 10)
    assert (first.agent_version, first.platform, first.pid, first.ratio) == ("0.9", "Windows-7-6.1", 4711, 0.25)
    assert (second.agent_version, second.pid, second.ratio) == ("1", None, None), "else what the machine says today"
    assert configurations.find(house.db, EVERYTHING, house.machine.id, 1) == used
    for scope, number in (
        (EVERYTHING, 2),
        (OneContract(house.neighbour.id), 1),
        (OneSpace(house.elsewhere.space_id), 1),
    ):
        with pytest.raises(NotFoundError):
            configurations.find(house.db, scope, house.machine.id, number)


def test_days_are_those_of_the_zone(house: House) -> None:
    late = datetime(2027, 3, 1, 23, 30, tzinfo=UTC).timestamp()
    record(house, house.machine.id, 1, late)
    window = Window(late - DAY, late + DAY)
    for zone, expected in ((UTC, date(2027, 3, 1)), (ZoneInfo("Europe/Paris"), date(2027, 3, 2))):
        assert [day.date for day in reports.rows(house.db, EVERYTHING, window, zone=zone).days] == [expected]
        assert reports.series(house.db, EVERYTHING, window, zone)[0].day == expected


@pytest.mark.parametrize("cursor", ["x", "1_2", "nan", "0x1p4_zz_1", "0x1p99999_00_1", "__", "' OR 1"])
def test_a_damaged_cursor_is_a_sentence(house: House, cursor: str) -> None:
    with pytest.raises(UsageError, match="begin at the first page"):
        reports.rows(house.db, EVERYTHING, WINDOW, cursor=cursor)


def test_a_series_carries_volumes_over_days_without_backups(house: House) -> None:
    start = datetime(2027, 3, 1, 12, tzinfo=UTC).timestamp()
    second = enrol(house.db, house.ours, 4, "PC-2")
    record(house, house.machine.id, 1, start - 30 * DAY, 100)
    record(house, house.machine.id, 2, start + DAY, 150)
    record(house, house.machine.id, 3, start + DAY + 60, 9999, complete=False)
    record(house, second.id, 1, start + 3 * DAY, 40)
    record(house, second.id, 2, start + 3 * DAY + 60, 30)
    points = reports.series(house.db, OneContract(house.ours.id), Window(start, start + 10 * DAY))
    assert [(point.day.day, point.bytes_source, point.backups) for point in points] == [
        (1, 100, 0), (2, 150, 2), (3, 150, 0), (4, 180, 2),
    ]  # fmt: skip
    assert points[3].bytes_sent == 200 and points[3].ratio == pytest.approx(200 / 70) and points[0].ratio is None
    assert reports.series(house.db, OneContract(house.neighbour.id), Window(start, start + 10 * DAY)) == []


def naive_peak(rows: list[tuple[int, float, int]]) -> int:
    """The highest sum of latest sizes at any day's end: (machine, time, size), oldest first."""
    held: dict[int, int] = {}
    ends: dict[int, int] = {}
    for machine, at, size in rows:
        held[machine] = size
        ends[int(at // DAY)] = sum(held.values())
    return max(ends.values())


def test_a_month_is_what_a_plain_walk_counts(house: House) -> None:
    start = datetime(2027, 2, 1, tzinfo=UTC).timestamp()
    contracts.edit(house.db, house.ours, Changes(start_date=date(2026, 1, 1)))
    second = enrol(house.db, house.ours, 4, "PC-2", now=start - 9)
    dice = random.Random(3)
    rows = sorted((dice.randrange(2), start + dice.random() * 27 * DAY, dice.randrange(10_000)) for _ in range(80))
    rows.sort(key=lambda row: row[1])
    numbers = [0, 0]
    for machine, at, size in rows:
        numbers[machine] += 1
        record(house, (house.machine, second)[machine].id, numbers[machine], at, size)
    record(house, house.machine.id, 999, start + 30 * DAY, 10**9)
    [month] = reports.monthly(house.db, OneContract(house.ours.id), 2027, 2)
    latest = {machine: size for machine, _, size in rows}
    assert (month.source_bytes, month.peak_bytes) == (sum(latest.values()), naive_peak(rows))
    assert (month.backups, month.machines, month.first_backup, month.last_backup) == (80, 2, rows[0][1], rows[-1][1])
    [march] = reports.monthly(house.db, OneContract(house.ours.id), 2027, 3)
    assert (march.source_bytes, march.peak_bytes, march.backups) == (10**9 + latest[1], 10**9 + latest[1], 1)
    [april] = reports.monthly(house.db, OneContract(house.ours.id), 2027, 4)
    assert (april.source_bytes, april.peak_date, april.backups) == (march.source_bytes, date(2027, 4, 1), 0)
    assert reports.monthly(house.db, EVERYTHING, 2026, 1) == [], "before there was any contract"
    for year, number in ((2027, 13), (2027, 0), (0, 1), (99999, 1)):
        with pytest.raises(UsageError, match="is not a month"):
            reports.monthly(house.db, EVERYTHING, year, number)


def test_nobody_sees_out_of_their_scope(house: House) -> None:
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        record(house, machine.id, 1, NOW)
    for scope, expected in (
        (EVERYTHING, {"ours", "next", "away"}),
        (OneSpace(house.ours.space_id), {"ours", "next"}),
        (OneSpace(house.elsewhere.space_id), {"away"}),
        (OneContract(house.ours.id), {"ours"}),
    ):
        assert {row.client_id for row in pages(house, scope, 2)} == expected
        assert {row.client_id for row in reports.monthly(house.db, scope, 2027, 1)} == expected
        assert reports.series(house.db, scope, WINDOW)[0].backups == len(expected)
        for window in (
            Window(NOW - 1, NOW + 1, space_id=house.elsewhere.space_id),
            Window(NOW - 1, NOW + 1, contract_id=house.elsewhere.id),
            Window(NOW - 1, NOW + 1, machine_id=house.elsewhere_machine.id),
        ):
            assert {row.client_id for row in pages(house, scope, 9, window)} == expected & {"away"}
            assert bool(reports.series(house.db, scope, window)) is ("away" in expected)
        narrowed = reports.monthly(house.db, scope, 2027, 1, space_id=house.elsewhere.space_id)
        assert {row.client_id for row in narrowed} == expected & {"away"}


def test_one_backup_is_found_in_scope_alone(house: House) -> None:
    record(house, house.machine.id, 4, NOW, 77)
    found = reports.one(house.db, OneContract(house.ours.id), house.machine.id, 4)
    assert (found.number, found.figures.bytes_source, found.client_id) == (4, 77, "ours")
    for scope, number in ((OneContract(house.neighbour.id), 4), (EVERYTHING, 5)):
        with pytest.raises(NotFoundError):
            reports.one(house.db, scope, house.machine.id, number)


def test_allocated_counts_the_contracts_that_a_window_looks_at(house: House) -> None:
    for contract, size in ((house.ours, 100), (house.neighbour, 20), (house.elsewhere, 3)):
        contracts.edit(house.db, contract, Changes(allocated_bytes=size))
    near = OneSpace(house.ours.space_id)
    assert reports.allocated(house.db, EVERYTHING, WINDOW) == 123
    assert reports.allocated(house.db, near, WINDOW) == 120
    assert reports.allocated(house.db, OneContract(house.ours.id), WINDOW) == 100
    assert reports.allocated(house.db, near, Window(0, NOW, contract_id=house.neighbour.id)) == 20
    assert reports.allocated(house.db, near, Window(0, NOW, space_id=house.elsewhere.space_id)) == 0


def test_a_series_is_the_same_whichever_way_it_is_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        at = NOW - 60 * DAY
        for number in range(1, 60):
            at += dice.uniform(0.2, 3) * DAY
            record(house, machine.id, number, at, dice.randint(0, 10**9), complete=dice.random() < 0.9)
    for scope in (EVERYTHING, OneSpace(house.ours.space_id), OneContract(house.ours.id)):
        window = Window(NOW - 20 * DAY, NOW + 10 * DAY)
        found = []
        for bound in (0.0, float("inf")):
            monkeypatch.setattr(reports, "_LONG_S", bound)
            found.append(reports.series(house.db, scope, window, ZoneInfo("Europe/Paris")))
        assert found[0] == found[1] and found[0]
