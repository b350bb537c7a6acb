"""Alerts: each kind from rows that cause it, with facts that fill its texts, and only those in scope."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta
from pathlib import Path

import pytest

from appliance.control import alarms, contracts, machine_alerts, machine_logs, machines, statistics
from appliance.control.contracts import Changes
from appliance.control.machine_alerts import ADVICE, REASONS, SEVERITY, Alert, AlertKind
from appliance.control.scope import EVERYTHING, OneContract, OneSpace, Scope
from appliance.store.upkeep.changes import SnapshotChange
from tests.support.control_house import NOW, House, build, figures

HOUR = 3600.0
TODAY = date(2027, 1, 15)
"""Of NOW."""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Everyone had a good backup an hour ago."""
    house = build(tmp_path, monkeypatch)
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        backup(house, machine.id, NOW - HOUR)
    return house


def backup(house: House, machine_id: bytes, at: float, number: int = 1, size: int = 1000) -> None:
    statistics.record(house.db, machine_id, number, complete=True, figures=figures(size), now=at)


def alerts(house: House, scope: Scope = EVERYTHING, now: float = NOW) -> list[Alert]:
    return machine_alerts.every(house.db, scope, now)


def test_every_kind_has_texts_that_its_facts_fill() -> None:
    facts = dataclasses.asdict(machine_alerts.AlertFacts(text="x"))
    for kind in AlertKind:
        assert REASONS[kind] % facts and ADVICE[kind] % facts and SEVERITY[kind]


def test_nothing_wrong_is_an_empty_list(house: House) -> None:
    assert alerts(house) == []


def test_machines(house: House) -> None:
    machine_logs.add(house.db, house.machine.id, level="error", module="m", text="no disk", now=NOW)
    [failed] = alerts(house)
    assert (failed.kind, failed.machine_id, failed.client_id) == (AlertKind.FAILED, house.machine.id, "ours")
    assert REASONS[failed.kind] % dataclasses.asdict(failed.facts) == "The last backup failed: no disk"
    machines.revoke(house.db, house.machine)
    assert alerts(house) == []
    late = [(alert.kind, alert.facts.hours) for alert in alerts(house, now=NOW + 39 * HOUR)]
    assert late == [(AlertKind.LATE, 40)] * 2


def test_many_changes_at_once_are_suspicious(house: House) -> None:
    for number, ended in ((1, 0), (2, 5), (3, 450)):
        backup(house, house.machine.id, NOW - HOUR, number)
        statistics.record_changes(house.db, house.machine.id, [SnapshotChange(number, 1000, ended)])
    [alert] = alerts(house)
    assert (alert.kind, alert.facts.percent, alert.machine_id) == (AlertKind.SUSPICIOUS, 45, house.machine.id)
    backup(house, house.machine.id, NOW, 4)
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(4, 1000, 399)])
    assert alerts(house) == []


def test_contracts(house: House) -> None:
    contracts.edit(house.db, house.ours, Changes(allocated_bytes=400, end_date=TODAY - timedelta(days=3)))
    contracts.edit(house.db, house.neighbour, Changes(end_date=TODAY + timedelta(days=30)))
    contracts.edit(house.db, house.elsewhere, Changes(end_date=TODAY + timedelta(days=31)))
    found = {alert.kind: alert for alert in alerts(house)}
    assert list(found) == [AlertKind.EXPIRED, AlertKind.OVER_QUOTA, AlertKind.EXPIRING], "worst first"
    over = found[AlertKind.OVER_QUOTA]
    assert (over.facts.percent, over.facts.used_bytes, over.machine_id) == (250, 1000, None)
    assert found[AlertKind.EXPIRED].facts.days == 3 and found[AlertKind.EXPIRING].facts.days == 30
    contracts.pause(house.db, house.ours)
    assert [alert.kind for alert in alerts(house)] == [AlertKind.EXPIRING], "a pause is the answer to both"
    contracts.edit(house.db, house.elsewhere, Changes(allocated_bytes=0))
    assert AlertKind.OVER_QUOTA in [alert.kind for alert in alerts(house)]


def test_alarms_of_the_box_are_the_super_users(house: House) -> None:
    alarms.sound(house.db, "clock", "the clock jumped", now=NOW)
    alarms.sound(house.db, "damage", "a pack is damaged", now=NOW, machine_id=house.machine.id)
    assert sorted(alert.facts.text for alert in alerts(house)) == ["a pack is damaged", "the clock jumped"]
    for scope in (OneSpace(house.ours.space_id), OneContract(house.ours.id)):
        assert [alert.facts.text for alert in alerts(house, scope)] == ["a pack is damaged"]
    assert alerts(house, OneSpace(house.elsewhere.space_id)) == []


def test_nobody_sees_out_of_their_scope(house: House) -> None:
    for contract in (house.ours, house.neighbour, house.elsewhere):
        contracts.edit(house.db, contract, Changes(allocated_bytes=1))
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        machine_logs.add(house.db, machine.id, level="error", module="m", text="x", now=NOW)
        statistics.record_changes(house.db, machine.id, [SnapshotChange(1, 1000, 900)])
    for scope, expected in (
        (EVERYTHING, {"ours", "next", "away"}),
        (OneSpace(house.ours.space_id), {"ours", "next"}),
        (OneSpace(house.elsewhere.space_id), {"away"}),
        (OneContract(house.ours.id), {"ours"}),
    ):
        found = alerts(house, scope)
        assert {alert.client_id for alert in found} == expected and len(found) == 3 * len(expected)
    narrowed = machine_alerts.every(house.db, EVERYTHING, NOW, space_id=house.elsewhere.space_id)
    assert {alert.client_id for alert in narrowed} == {"away"}
