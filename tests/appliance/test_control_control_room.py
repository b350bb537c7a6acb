"""The control room: the state of machines, from real rows, and only those in scope."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from appliance.control import (
    contracts,
    control_room,
    deletions,
    machine_logs,
    machines,
    opening_days,
    space_settings,
    statistics,
)
from appliance.control.contracts import Changes
from appliance.control.control_room import RoomRow, State, state_of
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from tests.support.control_house import NOW, House, build, enrol, figures

HOUR = 3600.0


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def backup(house: House, at: float, *, number: int = 1, complete: bool = True, size: int = 1000, warn: int = 0) -> None:
    done = msgspec.structs.replace(figures(size), warnings=warn)
    statistics.record(house.db, house.machine.id, number, complete=complete, figures=done, now=at)


def ours(house: House, now: float = NOW, running: frozenset[bytes] = frozenset()) -> RoomRow:
    [row] = control_room.rows(house.db, EVERYTHING, now, running, contract_id=house.ours.id)
    return row


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, State.NEVER),
        ({"last_at": NOW - HOUR, "good_at": NOW - HOUR}, State.OK),
        ({"last_at": NOW - HOUR, "good_at": NOW - HOUR, "warnings": 2}, State.WARNING),
        ({"last_at": NOW - 36 * HOUR, "good_at": NOW - 36 * HOUR}, State.OK),
        ({"last_at": NOW - 37 * HOUR, "good_at": NOW - 37 * HOUR}, State.LATE),
        ({"last_at": NOW - HOUR, "good_at": NOW - 37 * HOUR}, State.FAILED),
        ({"last_at": NOW - HOUR}, State.OK),
        ({"last_at": NOW - 37 * HOUR}, State.LATE),
        ({"last_at": NOW - HOUR, "good_at": NOW - HOUR, "last_error_at": NOW - 2 * HOUR}, State.OK),
        ({"last_at": NOW - 2 * HOUR, "good_at": NOW - 2 * HOUR, "last_error_at": NOW - HOUR}, State.FAILED),
        ({"last_error_at": NOW - HOUR}, State.FAILED),
        ({"last_error_at": NOW - HOUR, "running": True}, State.RUNNING),
        ({"running": True, "revoked": True}, State.REVOKED),
    ],
)
def test_a_state_follows_from_its_facts(facts: dict[str, object], state: State) -> None:
    plain: dict[str, object] = {
        "revoked": False, "running": False, "last_at": None, "good_at": None, "last_error_at": None, "warnings": 0,
    }  # fmt: skip
    assert state_of(**{**plain, **facts}, late_before=NOW - 36 * HOUR) is state  # type: ignore[arg-type]


def test_rows_tell_the_newest_and_the_newest_complete(house: House) -> None:
    assert ours(house).state is State.NEVER
    backup(house, NOW - 3 * HOUR, size=5000, warn=1)
    backup(house, NOW - HOUR, number=2, complete=False, size=9000)
    row = ours(house)
    assert (row.last_number, row.last_complete, row.good_number, row.good_at) == (2, False, 1, NOW - 3 * HOUR)
    assert (row.bytes_source, row.used_bytes, row.allocated_bytes) == (5000, 5000, house.ours.allocated_bytes)
    assert row.state is State.WARNING and row.hex == house.machine.id.hex()
    assert ours(house, running=frozenset({house.machine.id})).state is State.RUNNING
    assert control_room.find(house.db, EVERYTHING, NOW, house.machine.id) == row
    assert contracts.usage(house.db, house.ours.id).used_bytes == 5000


def test_an_error_in_the_log_counts_until_the_next_good_backup(house: House) -> None:
    backup(house, NOW - 3 * HOUR)
    machine_logs.add(house.db, house.machine.id, level="ERROR", module="m", text="disk\ngone", now=NOW - HOUR)
    machine_logs.add(house.db, house.machine.id, level="info", module="m", text="later", now=NOW)
    row = ours(house)
    assert (row.state, row.last_error, row.last_error_at) == (State.FAILED, "disk gone", NOW - HOUR)
    backup(house, NOW, number=2)
    assert ours(house).state is State.OK


def test_lateness_is_the_contracts_then_the_spaces(house: House) -> None:
    backup(house, NOW - 40 * HOUR)
    assert ours(house).state is State.LATE
    settings = replace(space_settings.DEFAULT, late_hours=48)
    space_settings.save(house.db, house.ours.space_id, settings, NOW)
    assert ours(house).state is State.OK
    contract = contracts.edit(house.db, house.ours, Changes(late_hours=24))
    assert contract.late_hours == 24 and ours(house).state is State.LATE
    assert contracts.edit(house.db, contract, Changes(no_late_hours=True)).late_hours is None
    assert ours(house).state is State.OK


def test_a_closed_sunday_makes_nobody_late(house: House) -> None:
    monday = datetime(2027, 1, 18, 8, tzinfo=opening_days.ZONE).timestamp()
    backup(house, monday - 38 * HOUR)
    assert ours(house, monday).state is State.LATE
    settings = replace(space_settings.DEFAULT, open_days="mon-sat")
    space_settings.save(house.db, house.ours.space_id, settings, NOW)
    assert ours(house, monday).state is State.OK
    assert ours(house, monday + 25 * HOUR).state is State.LATE
    contract = contracts.edit(house.db, house.ours, Changes(open_days="mon-sun"))
    assert ours(house, monday).state is State.LATE
    assert contracts.edit(house.db, contract, Changes(no_open_days=True)).open_days is None
    assert ours(house, monday).state is State.OK


def test_filters_order_and_counts(house: House) -> None:
    second = enrol(house.db, house.ours, 4, "Accueil")
    machines.revoke(house.db, second)
    backup(house, NOW - HOUR)
    deletions.request(house.db, EVERYTHING, deletions.Kind.MACHINE, house.machine.id.hex(), by="x", now=NOW)
    every = control_room.rows(house.db, EVERYTHING, NOW)
    assert [row.state for row in every] == [State.NEVER, State.NEVER, State.OK, State.REVOKED]
    assert every[2].delete_due_at == NOW + deletions.WAIT_S and every[0].delete_due_at is None
    counted = control_room.counts(every)
    assert (counted.never, counted.ok, counted.revoked, counted.late, counted.total) == (2, 1, 1, 0, 4)
    assert [row.name for row in control_room.rows(house.db, EVERYTHING, NOW, text="ACCUEIL")] == ["Accueil"]
    assert len(control_room.rows(house.db, EVERYTHING, NOW, text="next")) == 1
    assert control_room.rows(house.db, EVERYTHING, NOW, text="%") == []
    assert len(control_room.rows(house.db, EVERYTHING, NOW, state=State.NEVER)) == 2
    assert len(control_room.rows(house.db, EVERYTHING, NOW, space_id=house.ours.space_id)) == 3


def test_nobody_sees_out_of_their_scope(house: House) -> None:
    for scope, expected in (
        (OneContract(house.ours.id), {house.machine.id}),
        (OneSpace(house.ours.space_id), {house.machine.id, house.neighbour_machine.id}),
        (OneSpace(house.elsewhere.space_id), {house.elsewhere_machine.id}),
        (OneSpace("snothing"), set()),
    ):
        assert {row.machine_id for row in control_room.rows(house.db, scope, NOW)} == expected
        for contract in (house.ours, house.neighbour, house.elsewhere):
            rows = control_room.rows(house.db, scope, NOW, contract_id=contract.id)
            assert {row.machine_id for row in rows} <= expected
        for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
            found = control_room.find(house.db, scope, NOW, machine.id)
            assert (found is not None) is (machine.id in expected)
    backup(house, NOW - HOUR, size=77)
    assert control_room.last_day(house.db, OneSpace(house.elsewhere.space_id), NOW).backups == 0
    assert control_room.last_day(house.db, OneContract(house.neighbour.id), NOW).backups == 0
    day = control_room.last_day(house.db, OneSpace(house.ours.space_id), NOW)
    assert (day.backups, day.complete, day.machines, day.bytes_source, day.errors) == (1, 1, 1, 77, 0)
    assert control_room.last_day(house.db, EVERYTHING, NOW, space_id=house.elsewhere.space_id).backups == 0
