"""The clock's witness in the control database, and the alarm that a jump raises."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import alarms, clock, machines, statistics
from appliance.control.clock import Reading
from appliance.store.upkeep.clock import UNWITNESSED, ClockWitness, Sound, Suspect
from tests.support.control_house import NOW, House, build, figures

DAY = 86400.0


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def reading(days: float, counted_days: float | None = None, boot: str = "one") -> Reading:
    return Reading(NOW + days * DAY, boot, DAY * (days if counted_days is None else counted_days))


def test_this_machine_s_clocks_are_read() -> None:
    first, second = clock.read(), clock.read(NOW)
    assert first.boot == second.boot != "" and 0 < first.counted <= second.counted
    assert second.at == NOW and first.at > 1_700_000_000


def test_believed_readings_become_the_witness(house: House) -> None:
    assert clock.witness(house.db, reading(0)) == UNWITNESSED
    assert clock.note(house.db, reading(0)) == Sound()
    assert clock.witness(house.db, reading(3)) == ClockWitness(int(NOW * 1000), 3 * 86_400_000)
    # After a restart the count begins anew and says nothing; nor does one without a name.
    assert clock.witness(house.db, reading(3, boot="two")).elapsed_ms is None
    assert clock.witness(house.db, reading(3, boot="")).elapsed_ms is None
    assert clock.note(house.db, reading(200)) == Sound()
    assert alarms.every(house.db) == []


def test_a_jump_raises_an_alarm_and_does_not_become_its_own_witness(house: House) -> None:
    clock.note(house.db, reading(0))
    for attempt in (1, 2, 3):
        assert isinstance(clock.note(house.db, reading(200 + attempt, 0.1 * attempt)), Suspect)
        [alarm] = alarms.every(house.db)
        assert (alarm.kind, alarm.machine_id, alarm.first_seen_at) == ("clock", None, NOW + 201 * DAY)
        assert alarm.last_seen_at == NOW + (200 + attempt) * DAY and "days further" in alarm.text
    assert isinstance(clock.note(house.db, reading(-1, 1)), Suspect)
    # Set right again: the alarm ends by itself.
    assert clock.note(house.db, reading(2)) == Sound()
    assert alarms.every(house.db) == []


def test_an_operator_s_word_ends_it(house: House) -> None:
    clock.note(house.db, reading(0))
    away = reading(60, 0, boot="two")
    assert isinstance(clock.note(house.db, away), Suspect)
    assert clock.accept(house.db, away).accepted
    assert alarms.every(house.db) == []
    assert clock.note(house.db, reading(60.5, 0.5, boot="two")) == Sound()


def test_visits_and_snapshots_are_witnesses(house: House) -> None:
    machines.seen(house.db, house.machine.id, agent_version="1", platform="x", now=NOW)
    assert clock.witness(house.db, reading(0)).last_ms == int(NOW * 1000)
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(), now=NOW + DAY)
    assert clock.witness(house.db, reading(0)).last_ms == int((NOW + DAY) * 1000)


def test_alarms_of_a_machine_and_of_the_appliance_are_two(house: House) -> None:
    alarms.sound(house.db, alarms.CLOCK, "first\x1b line\nsecond", now=NOW)
    alarms.sound(house.db, alarms.CLOCK, "its own", now=NOW + 1, machine_id=house.machine.id)
    assert [(one.machine_id, one.text) for one in alarms.every(house.db)] == [
        (None, "first line second"),
        (house.machine.id, "its own"),
    ]
    alarms.end(house.db, alarms.CLOCK)
    assert [one.machine_id for one in alarms.every(house.db)] == [house.machine.id]
    alarms.end(house.db, alarms.CLOCK, house.machine.id)
    alarms.end(house.db, alarms.CLOCK, house.machine.id)
    assert alarms.every(house.db) == []
