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
