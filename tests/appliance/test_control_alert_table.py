"""Alerts from their opening to their resolution; a suspicious change waits for somebody."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import alarms, alert_table, machine_alerts, machine_logs, statistics
from appliance.control.alert_table import AlertState, LivingAlert, Synced
from appliance.control.machine_alerts import AlertKind
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import NotFoundError
from appliance.store.upkeep.changes import SnapshotChange
from tests.support.control_house import NOW, House, build, figures

HOUR = 3600.0


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    house = build(tmp_path, monkeypatch)
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        statistics.record(house.db, machine.id, 1, complete=True, figures=figures(), now=NOW - HOUR)
    return house


def sync(house: House, now: float) -> Synced:
    return alert_table.sync(house.db, machine_alerts.every(house.db, EVERYTHING, now), now)


def the_only(house: House) -> LivingAlert:
    (found,) = alert_table.living(house.db, EVERYTHING)
    return found


def test_an_alert_opens_lasts_and_is_resolved(house: House) -> None:
    assert sync(house, NOW) == Synced(0, 0)
    machine_logs.add(house.db, house.machine.id, level="error", module="m", text="no disk", now=NOW)
    assert sync(house, NOW) == Synced(1, 0)
    opened = the_only(house)
    assert (opened.alert.kind, opened.state, opened.alert.facts.text) == (AlertKind.FAILED, AlertState.OPEN, "no disk")
    version = house.db.data_version()
    assert sync(house, NOW + 60) == Synced(0, 0) and house.db.data_version() == version
    seen = alert_table.acknowledge(house.db, EVERYTHING, opened.id, by="boss@example.org", now=NOW + 70)
    assert seen.state is AlertState.ACKNOWLEDGED and seen.acknowledged_by == "boss@example.org"
    # The first who answered stays.
    again = alert_table.acknowledge(house.db, EVERYTHING, opened.id, by="late@example.org", now=NOW + 80)
    assert again.acknowledged_by == "boss@example.org"
    sync(house, NOW + 2 * HOUR)
    assert the_only(house).seen_at == NOW + 2 * HOUR
    statistics.record(house.db, house.machine.id, 2, complete=True, figures=figures(), now=NOW + 3 * HOUR)
    assert sync(house, NOW + 3 * HOUR) == Synced(0, 1)
    assert alert_table.living(house.db, EVERYTHING) == []
    (over,) = alert_table.history(house.db, EVERYTHING, machine_id=house.machine.id)
    assert over.state is AlertState.RESOLVED and over.resolved_at == NOW + 3 * HOUR
    machine_logs.add(house.db, house.machine.id, level="error", module="m", text="again", now=NOW + 4 * HOUR)
    assert sync(house, NOW + 4 * HOUR) == Synced(1, 0) and the_only(house).id != opened.id


def test_a_suspicious_change_freezes_pruning_until_somebody_answers_for_it(house: House) -> None:
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(1, 1000, 900)])
    assert sync(house, NOW) == Synced(1, 0)
    assert alert_table.pruning_is_frozen(house.db, house.machine.id)
    assert not alert_table.pruning_is_frozen(house.db, house.neighbour_machine.id)
    # Calm again the day after: the wave has passed, the question stands.
    statistics.record(house.db, house.machine.id, 2, complete=True, figures=figures(), now=NOW + HOUR)
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(2, 1000, 3)])
    assert sync(house, NOW + HOUR) == Synced(0, 0)
    alert_table.acknowledge(house.db, EVERYTHING, the_only(house).id, by="boss@example.org", now=NOW + HOUR)
    assert not alert_table.pruning_is_frozen(house.db, house.machine.id)
    assert sync(house, NOW + HOUR) == Synced(0, 1)
    # The next wave is another alert, however the last one was answered.
    statistics.record(house.db, house.machine.id, 3, complete=True, figures=figures(), now=NOW + 2 * HOUR)
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(3, 1000, 800)])
    assert sync(house, NOW + 2 * HOUR) == Synced(1, 0)
    assert alert_table.pruning_is_frozen(house.db, house.machine.id)


def test_two_alarms_of_one_machine_are_two_alerts(house: House) -> None:
    alarms.sound(house.db, alarms.DAMAGE, "a pack", now=NOW, machine_id=house.machine.id)
    alarms.sound(house.db, alarms.CLOCK, "a jump", now=NOW, machine_id=house.machine.id)
    alarms.sound(house.db, alarms.CLOCK, "a jump", now=NOW)
    assert sync(house, NOW) == Synced(3, 0)
    kinds = sorted(found.alert.kind for found in alert_table.living(house.db, EVERYTHING))
    assert kinds == [AlertKind.ALARM, AlertKind.ALARM, AlertKind.DAMAGE]
    alarms.end(house.db, alarms.CLOCK)
    assert sync(house, NOW) == Synced(0, 1)


def test_nobody_sees_or_acknowledges_out_of_their_scope(house: House) -> None:
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        machine_logs.add(house.db, machine.id, level="error", module="m", text="x", now=NOW)
    alarms.sound(house.db, alarms.CLOCK, "a jump", now=NOW)
    sync(house, NOW)
    for scope, clients in (
        (EVERYTHING, {"ours", "next", "away", ""}),
        (OneSpace(house.ours.space_id), {"ours", "next"}),
        (OneContract(house.ours.id), {"ours"}),
    ):
        assert {one.alert.client_id for one in alert_table.living(house.db, scope)} == clients
        assert {one.alert.client_id for one in alert_table.history(house.db, scope)} == clients
    (away,) = alert_table.living(house.db, OneSpace(house.elsewhere.space_id))
    for scope in (OneSpace(house.ours.space_id), OneContract(house.ours.id)):
        with pytest.raises(NotFoundError):
            alert_table.acknowledge(house.db, scope, away.id, by="x", now=NOW)
    assert the_state(house, away.id) is AlertState.OPEN


def the_state(house: House, number: int) -> AlertState:
    return alert_table.find(house.db, EVERYTHING, number).state
