"""What the web wants of machines: versions of parts, what agents answer, who sees it, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.control import machine_alerts, machine_settings
from appliance.control.machine_alerts import AlertKind
from appliance.control.machine_settings import MachineSettings, Outcome, Report, SelectionRules, Sync, Wanted
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import NotFoundError
from tests.support.control_house import NOW, House, build
from transport.errors import UsageError
from transport.schedule import Schedule

NOON = Schedule.of(["12:30"])
RULES = SelectionRules(("/srv/pharmacie",), ("*.tmp",))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def save(house: House, wanted: Wanted, *, impose: bool = False) -> MachineSettings:
    return machine_settings.save(
        house.db, EVERYTHING, house.machine.id, wanted, "admin@example.org", NOW, impose=impose
    )


def report(**changes: object) -> Report:
    plain = Report(
        at=NOW + 10,
        version=0,
        outcome=Outcome.NONE,
        reason="",
        remote_allowed=True,
        schedule=Schedule(),
        schedule_version=0,
        language="fr",
        selection="ab" * 32,
        selection_version=0,
        includes=1,
        excludes=0,
        next_run_at=None,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_nothing_is_wanted_at_first(house: House) -> None:
    settings = machine_settings.get(house.db, EVERYTHING, house.machine.id)
    assert (settings.version, settings.wanted, settings.sync, settings.report) == (0, Wanted(), Sync.NOTHING, None)
    assert settings.remote_allowed and settings.saved_at is None


def test_each_part_keeps_the_version_that_changed_it(house: House) -> None:
    one = save(house, Wanted(schedule=NOON))
    assert (one.version, one.schedule_version, one.selection_version) == (1, 1, 0)
    two = save(house, Wanted(RULES, NOON, "de"))
    assert (two.version, two.schedule_version, two.selection_version) == (2, 1, 2)
    assert (two.wanted, two.saved_by, two.saved_at) == (Wanted(RULES, NOON, "de"), "admin@example.org", NOW)
    assert save(house, Wanted(RULES, NOON, "fr")).version == 2, "a language alone needs no new version"
    assert save(house, Wanted(RULES, NOON)).wanted.language is None
    again = save(house, Wanted(RULES, NOON), impose=True)
    assert (again.version, again.schedule_version, again.selection_version) == (3, 3, 3)
    left = save(house, Wanted(None, NOON))
    assert (left.version, left.wanted.selection, left.selection_version) == (4, None, 4)


def test_how_far_a_machine_is(house: House) -> None:
    def sync(**changes: object) -> Sync:
        machine_settings.note(house.db, house.machine.id, report(**changes), shrunk=False)
        return machine_settings.get(house.db, EVERYTHING, house.machine.id).sync

    assert save(house, Wanted(RULES, NOON)).sync is Sync.WAITING
    assert sync() is Sync.WAITING
    assert sync(remote_allowed=False) is Sync.REFUSED
    assert sync(version=1, outcome=Outcome.REFUSED, remote_allowed=False) is Sync.REFUSED
    assert sync(version=1, outcome=Outcome.INVALID, reason="no such thing") is Sync.INVALID
    assert sync(version=1, outcome=Outcome.APPLIED, selection_version=1, schedule_version=1) is Sync.APPLIED
    assert sync(version=1, outcome=Outcome.APPLIED, selection_version=0, schedule_version=1) is Sync.CHANGED_LOCALLY
    assert save(house, Wanted(RULES, Schedule.of(["9:00"]))).sync is Sync.WAITING


def test_what_an_agent_says_is_kept_and_cut_to_size(house: House) -> None:
    said = report(
        version=3, outcome=Outcome.APPLIED, schedule=NOON, next_run_at=NOW + 60, reason="a\n\x1b[31m" + "x" * 900
    )
    machine_settings.note(house.db, house.machine.id, said, shrunk=False)
    kept = machine_settings.get(house.db, EVERYTHING, house.machine.id).report
    assert kept is not None and len(kept.reason) == 500 and "\x1b" not in kept.reason
    assert dataclasses.replace(kept, reason=said.reason) == said


def test_a_smaller_selection_is_an_alert_until_someone_accepts_it(house: House) -> None:
    def shrunk() -> list[bytes | None]:
        found = machine_alerts.every(house.db, EVERYTHING, NOW + 7210)
        return [alert.machine_id for alert in found if alert.kind is AlertKind.SHRUNK]

    machine_settings.note(house.db, house.machine.id, report(), shrunk=False)
    assert shrunk() == []
    machine_settings.note(house.db, house.machine.id, report(), shrunk=True)
    machine_settings.note(house.db, house.machine.id, report(at=NOW + 500), shrunk=False)
    assert shrunk() == [house.machine.id]
    [alert] = [one for one in machine_alerts.every(house.db, EVERYTHING, NOW + 7210) if one.kind is AlertKind.SHRUNK]
    assert (alert.since, alert.facts.hours) == (NOW + 10, 2)
    for foreign in (OneContract(house.neighbour.id), OneSpace(house.elsewhere.space_id)):
        assert machine_alerts.every(house.db, foreign, NOW)[0].kind is not AlertKind.SHRUNK
        with pytest.raises(NotFoundError):
            machine_settings.accept_selection(house.db, foreign, house.machine.id)
    machine_settings.accept_selection(house.db, OneContract(house.ours.id), house.machine.id)
    assert shrunk() == []


@pytest.mark.parametrize(
    ("include", "exclude", "sentence"),
    [
        ([], [], "no path is included"),
        (["  "], [], "no path is included"),
        (["srv"], [], "srv is not an absolute path"),
        (["\\\\server\\share"], [], "is not an absolute path"),
        (["/a\x00b"], [], "control characters"),
        (["/a"], ["b\x1b[31m"], "an excluded path or pattern contains control"),
        (["/" + "a" * 500], [], "501 characters: at most 500"),
        ([f"/{n}" for n in range(201)], [], "201 included paths are more than 200"),
        (["/a"], [f"*.{n}" for n in range(201)], "201 exclusions are more than 200"),
    ],
)
def test_rules_that_make_no_sense(house: House, include: list[str], exclude: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        save(house, Wanted(SelectionRules(tuple(include), tuple(exclude))))
    assert machine_settings.get(house.db, EVERYTHING, house.machine.id).version == 0


def test_rules_are_tidied_and_languages_checked(house: House) -> None:
    saved = save(house, Wanted(SelectionRules((" /a ", "/a", "", "C:\\Données"), ("*.tmp", "*.tmp"))))
    assert saved.wanted.selection == SelectionRules(("/a", "C:\\Données"), ("*.tmp",))
    with pytest.raises(UsageError):
        save(house, Wanted(language="xx"))


def test_nobody_reads_or_writes_out_of_their_scope(house: House) -> None:
    calls: list[Callable[[], object]] = []
    for scope in (OneContract(house.neighbour.id), OneSpace(house.elsewhere.space_id)):
        calls += [
            lambda scope=scope: machine_settings.get(house.db, scope, house.machine.id),  # type: ignore[misc]
            lambda scope=scope: machine_settings.save(  # type: ignore[misc]
                house.db, scope, house.machine.id, Wanted(schedule=NOON, language="de"), "x", NOW
            ),
        ]
        assert house.machine.id not in machine_settings.every(house.db, scope)
    for call in calls:
        with pytest.raises(NotFoundError):
            call()
    assert machine_settings.get(house.db, EVERYTHING, house.machine.id).wanted == Wanted()
    assert set(machine_settings.every(house.db, OneSpace(house.ours.space_id))) == {
        house.machine.id,
        house.neighbour_machine.id,
    }
    assert len(machine_settings.every(house.db, EVERYTHING)) == 3
