"""Logs as pages read them: filters, cursors both ways, scope."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import log_search, machine_logs
from appliance.control.log_search import LogFilter, MachineLine
from appliance.control.machine_logs import LogEntry
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from tests.support.control_house import NOW, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Three machines with ten lines each."""
    house = build(tmp_path, monkeypatch)
    levels = ("debug", "info", "warning", "error", "info")
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        lines = [LogEntry(NOW + n, levels[n % 5], "scan" if n % 2 else "send", f"Step {n} 100 %") for n in range(10)]
        machine_logs.add_many(house.db, machine.id, lines)
    return house


def texts(lines: list[MachineLine]) -> list[int]:
    return [int(line.text.split()[1]) for line in lines]


def test_filters(house: House) -> None:
    def found(**chosen: object) -> list[int]:
        page = log_search.search(house.db, EVERYTHING, LogFilter(machine_id=house.machine.id, **chosen))  # type: ignore[arg-type]
        return texts(page.lines)

    assert found() == list(range(9, -1, -1))
    assert found(levels=frozenset({"warning", "error"})) == [8, 7, 3, 2]
    assert found(text="STEP 4") == [4] and found(text="scan") == [9, 7, 5, 3, 1] and found(text="0 %'") == []
    assert found(since=NOW + 3, until=NOW + 6) == [5, 4, 3]
    assert len(log_search.search(house.db, EVERYTHING, LogFilter(contract_id=house.ours.id)).lines) == 10
    assert len(log_search.search(house.db, EVERYTHING, LogFilter(space_id=house.ours.space_id)).lines) == 20


def test_pages_back_and_tail_forward(house: House) -> None:
    mine = LogFilter(machine_id=house.machine.id)
    seen: list[int] = []
    before = None
    while True:
        page = log_search.search(house.db, EVERYTHING, mine, before=before, limit=4)
        seen += texts(page.lines)
        if (before := page.next) is None:
            break
    assert seen == list(range(9, -1, -1))
    newest = log_search.search(house.db, EVERYTHING, mine).newest
    assert log_search.tail(house.db, EVERYTHING, mine, newest) == []
    machine_logs.add(house.db, house.neighbour_machine.id, level="info", module="m", text="Step 77", now=NOW)
    machine_logs.add(house.db, house.machine.id, level="info", module="m", text="Step 10", now=NOW)
    machine_logs.add(house.db, house.machine.id, level="info", module="m", text="Step 11", now=NOW)
    assert texts(log_search.tail(house.db, EVERYTHING, mine, newest)) == [10, 11]
    quiet = LogFilter(text="nothing like it")
    empty = log_search.search(house.db, EVERYTHING, quiet)
    assert empty.lines == [] and log_search.tail(house.db, EVERYTHING, LogFilter(), empty.newest) == []


def test_nobody_sees_out_of_their_scope(house: House) -> None:
    for scope, expected in (
        (OneContract(house.ours.id), {"ours"}),
        (OneSpace(house.ours.space_id), {"ours", "next"}),
        (OneSpace(house.elsewhere.space_id), {"away"}),
        (OneSpace("snothing"), set()),
    ):
        for chosen in (
            LogFilter(),
            LogFilter(machine_id=house.elsewhere_machine.id),
            LogFilter(contract_id=house.neighbour.id),
            LogFilter(space_id=house.elsewhere.space_id),
        ):
            clients = {line.client_id for line in log_search.search(house.db, scope, chosen).lines}
            assert clients <= expected
            assert {line.client_id for line in log_search.tail(house.db, scope, chosen, 0)} == clients
        assert {line.client_id for line in log_search.search(house.db, scope, LogFilter()).lines} == expected


def test_a_wide_search_stops_where_it_has_read_enough_and_goes_on_from_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_search, "SCAN_LINES", 8)
    chosen = LogFilter(text="Step 1 ")
    seen, stops, before = [], 0, None
    while True:
        page = log_search.search(house.db, EVERYTHING, chosen, before=before)
        seen += [line.client_id for line in page.lines]
        stops += page.stopped
        if (before := page.next) is None:
            break
    assert seen == ["away", "next", "ours"] and stops == 3
    assert [line.client_id for line in log_search.every(house.db, EVERYTHING, chosen, 100)] == seen
    # One contract's or machine's lines are read by their index, all of them.
    for narrow in (LogFilter(text="Step 1 ", contract_id=house.ours.id), LogFilter(machine_id=house.machine.id)):
        page = log_search.search(house.db, EVERYTHING, narrow)
        assert page.lines and page.next is None and not page.stopped
    assert not log_search.search(house.db, OneContract(house.ours.id), chosen).stopped


def test_a_time_leads_to_its_lines_however_far_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "SCAN_LINES", 2)
    machine_logs.add(house.db, house.machine.id, level="info", module="m", text="Step 50", now=NOW + 86400)
    page = log_search.search(house.db, EVERYTHING, LogFilter(since=NOW + 86000))
    assert texts(page.lines) == [50] and page.next is None
    page = log_search.search(house.db, EVERYTHING, LogFilter(until=NOW + 1))
    assert texts(page.lines) == [0] and page.stopped
    assert log_search.search(house.db, EVERYTHING, LogFilter(until=NOW - 1)).next is None


def test_an_export_ends_at_its_limit(house: House) -> None:
    assert len(list(log_search.every(house.db, EVERYTHING, LogFilter(), 12))) == 12
    assert len(list(log_search.every(house.db, EVERYTHING, LogFilter(), 1000))) == 30
    assert log_search.newest_line(house.db) == 30
