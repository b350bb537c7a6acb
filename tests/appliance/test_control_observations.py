"""What guards of agents saw: a touched decoy freezes at once, a wrong clock stands until it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import alarms, alert_table, machine_alerts, observations, statistics
from appliance.control.machine_alerts import AlertKind
from appliance.control.scope import EVERYTHING, OneContract, Scope
from appliance.store.upkeep.changes import SnapshotChange
from tests.appliance.test_control_machine_alerts import backup
from tests.support.control_house import NOW, House, build
from transport.messages import Observed


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Nothing happened yet."""
    return build(tmp_path, monkeypatch)


def seen(house: House, number: int, observed: Observed) -> None:
    backup(house, house.machine.id, NOW, number)
    observations.record(house.db, house.machine.id, number, observed, NOW)


def suspicious(house: House, scope: Scope = EVERYTHING) -> list[machine_alerts.Alert]:
    return [one for one in machine_alerts.every(house.db, scope, NOW) if one.kind is AlertKind.SUSPICIOUS]


def test_a_touched_decoy_freezes_at_once_and_until_somebody_has_looked(house: House) -> None:
    seen(house, 1, Observed(decoys=6))
    assert not alert_table.pruning_is_frozen(house.db, house.machine.id)
    seen(house, 2, Observed(decoys=6, decoys_touched=2))
    assert alert_table.pruning_is_frozen(house.db, house.machine.id), "before any look around"
    assert not alert_table.pruning_is_frozen(house.db, house.neighbour_machine.id)
    [alert] = suspicious(house)
    assert (alert.facts.decoys, alert.facts.snapshot, alert.facts.percent) == (2, 2, 0)
    assert "2 decoy documents" in machine_alerts.reason_of(alert)
    assert suspicious(house, OneContract(house.neighbour.id)) == []
    alert_table.sync(house.db, machine_alerts.every(house.db, EVERYTHING, NOW), NOW)
    [row] = [one for one in alert_table.living(house.db, EVERYTHING) if one.alert.kind is AlertKind.SUSPICIOUS]
    seen(house, 3, Observed(decoys=6))
    alert_table.sync(house.db, machine_alerts.every(house.db, EVERYTHING, NOW), NOW)
    assert alert_table.pruning_is_frozen(house.db, house.machine.id), "however calm it has been since"
    alert_table.acknowledge(house.db, EVERYTHING, row.id, by="admin", now=NOW)
    alert_table.sync(house.db, machine_alerts.every(house.db, EVERYTHING, NOW), NOW)
    assert row.id not in [one.id for one in alert_table.living(house.db, EVERYTHING)]
    assert observations.suspicious_snapshots(house.db, house.machine.id) == {2}


def test_decoys_and_many_changes_make_one_alert(house: House) -> None:
    seen(house, 1, Observed())
    seen(house, 2, Observed(decoys=3, decoys_touched=3))
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(2, 1000, 450)])
    [alert] = suspicious(house)
    assert (alert.facts.decoys, alert.facts.percent) == (3, 45)


def test_a_repeated_word_changes_nothing(house: House) -> None:
    for _ in range(2):
        seen(house, 1, Observed(decoys=3, decoys_touched=1))
    assert len(suspicious(house)) == len(alert_table.living(house.db, EVERYTHING)) == 1


@pytest.mark.parametrize(
    ("ahead_s", "text"),
    [
        (300, None),
        (-300, None),
        (301, "the machine's clock is 5 minutes ahead of the appliance's"),
        (-40 * 86400, "the machine's clock is 40 days behind the appliance's"),
    ],
)
def test_a_clock_that_is_far_off(house: House, ahead_s: int, text: str | None) -> None:
    seen(house, 1, Observed(clock_ahead_s=ahead_s))
    found = [alarm.text for alarm in alarms.every(house.db) if alarm.kind == alarms.MACHINE_CLOCK]
    assert found == ([text] if text else [])
    seen(house, 2, Observed())
    assert alarms.every(house.db) == []
