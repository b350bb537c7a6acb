"""Pruning a machine: what is gathered from repository and control database, decided, carried out and written down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance import pruning
from appliance.control import alarms, clock, configurations, contracts, holds, machine_logs, statistics
from appliance.control.clock import Reading
from appliance.control.contracts import Changes
from appliance.errors import NotFoundError
from appliance.pruning import PruneOutcome, Stored, judged_calm
from appliance.settings import Home
from appliance.store.repository import Repository
from appliance.store.upkeep.changes import SnapshotChange
from appliance.store.upkeep.retention import Drop, Keep, Policy
from tests.appliance.store_builder import Client, content, listed
from tests.support.control_house import NOW, build
from tests.support.control_house import House as ControlHouse
from tests.support.dated_history import write_history
from transport.errors import UsageError
from transport.messages import UsedConfiguration
from transport.names import NO_VERSION
from transport.schedule import Schedule

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class House:
    """A control database, and a repository for its first machine."""

    control: ControlHouse
    home: Home

    @property
    def folder(self) -> Path:
        return self.home.repository(self.control.machine.id)

    def history(
        self, *days_ago: float, partial: tuple[int, ...] = (), storms: tuple[int, ...] = (), size_bytes: int = 100
    ) -> Client:
        moments = [int((NOW - days * DAY) * 1000) for days in days_ago]
        return write_history(
            self.folder, moments, partial=frozenset(partial), storms=frozenset(storms), size_bytes=size_bytes
        )

    def prune(self, at: float = NOW, *, keep_days: int | None = None, **options: bool) -> PruneOutcome:
        reading = Reading(at, "boot", 1000.0 + at - NOW)
        return pruning.prune_machine(
            self.home, self.control.db, self.control.machine, reading, keep_days=keep_days, **options
        )

    def log(self) -> list[str]:
        return [line.text for line in machine_logs.of_machine(self.control.db, self.control.machine.id)]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    home = Home(tmp_path / "home")
    home.repositories.mkdir(parents=True)
    return House(build(tmp_path, monkeypatch), home)


def test_the_contract_s_policy_decides_and_an_option_replaces_its_days_only(house: House) -> None:
    house.history(*range(20, 0, -1))
    assert house.prune(dry_run=True).plan.dropped == set()
    contracts.edit(house.control.db, house.control.ours, Changes(retention=Policy(keep_days=15, floor_days=10)))
    assert house.prune(dry_run=True).plan.dropped == set(range(1, 7))
    assert house.prune(dry_run=True, keep_days=12).plan.dropped == set(range(1, 10))
    # Nothing below the contract's floor, whatever an operator types.
    least = house.prune(dry_run=True, keep_days=0)
    assert least.plan.dropped == set(range(1, 11)) and least.policy.floor_days == 10
    with pytest.raises(UsageError, match="--keep-days 99999999 is out of range"):
        house.prune(dry_run=True, keep_days=99_999_999)


def test_holds_are_seen(house: House) -> None:
    house.history(*range(20, 0, -1))
    db, machine = house.control.db, house.control.machine
    held = pruning.hold_snapshot(house.home, db, machine, 2, reason="trial", held_by="anna", now=NOW)
    assert held.number == 2
    actions = {one.number: one.action for one in house.prune(dry_run=True, keep_days=0).plan.decisions}
    assert actions[2] == Keep("held by an operator") and isinstance(actions[3], Drop)
    with pytest.raises(NotFoundError, match="PC-1 has no snapshot 21"):
        pruning.hold_snapshot(house.home, db, machine, 21, reason="trial", held_by="anna", now=NOW)
    assert set(holds.of_machine(db, machine.id)) == {2}


def test_what_continuous_mode_made_thins_out(house: House) -> None:
    # Twenty days ago, an hour apart: of those that continuous mode made, the newest of the day is enough.
    house.history(*(20 + hour / 24 for hour in range(3, -1, -1)), 1)
    used = UsedConfiguration("continuous", Schedule(), 1, 0, 0, 65536, 0.5, 60.0)
    for number in (1, 3, 4):
        configurations.record(
            house.control.db,
            house.control.machine.id,
            number,
            configurations.MachineConfiguration("1", "Debian", 1, "00" * 32, 7, 1, used),
        )
    assert house.prune(dry_run=True).plan.dropped == {1, 3}


def test_a_storm_is_counted_from_the_repository_not_from_the_agent_s_figures(house: House) -> None:
    house.history(*range(20, 0, -1), storms=(8,))
    outcome = house.prune(dry_run=True, keep_days=0)
    kept = {one.number: one.action.reason for one in outcome.plan.decisions if isinstance(one.action, Keep)}
    assert kept[7] == "floor: the last calm one before the unquiet snapshot 8"
    assert set(kept) == {7, *range(14, 21)}


def test_partial_snapshots_go_sooner(house: House) -> None:
    house.history(9, 8, 7, 1.5, 1, partial=(1, 2, 4))
    dropped = {one.number: one.action for one in house.prune(dry_run=True).plan.decisions}
    assert dropped[1] == Drop("partial, and snapshot 5 is complete") == dropped[2]
    assert all(isinstance(dropped[number], Keep) for number in (3, 4, 5))


def test_a_dry_run_changes_nothing_and_says_what_would_happen(house: House) -> None:
    house.history(*range(20, 0, -1))
    before = {path: path.read_bytes() for path in sorted(house.folder.rglob("*")) if path.is_file()}
    control = house.control.path.read_bytes()
    outcome = house.prune(dry_run=True, keep_days=0)
    assert (outcome.dry_run, outcome.bytes_freed, len(outcome.plan.dropped)) == (True, 0, 13)
    assert house.control.path.read_bytes() == control
    assert {path: path.read_bytes() for path in sorted(house.folder.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("days", [-5.0, 400.0])
def test_a_wrong_clock_prunes_nothing_raises_one_alarm_and_ends_with_an_operator_s_word(
    house: House, days: float
) -> None:
    house.history(*range(20, 0, -1))
    db, machine = house.control.db, house.control.machine
    clock.note(db, Reading(NOW, "other boot", 5.0))
    outcome = house.prune(NOW + days * DAY, keep_days=0)
    assert outcome.plan.alarm and not outcome.plan.dropped and outcome.bytes_freed == 0
    assert [(one.kind, one.machine_id) for one in alarms.every(db)] == [("clock", None)]
    assert house.log()[-1].startswith("Nothing pruned: the clock says")
    assert house.prune(NOW + days * DAY, keep_days=0, dry_run=True).plan.alarm
    assert house.prune(NOW + days * DAY, keep_days=0, dry_run=True, accept_clock=True).plan.dropped
    assert alarms.every(db), "a dry run ends no alarm"
    with Repository.open(house.folder) as repository:
        assert not any(commit.retired for commit in repository.commits(0, 100)), machine


def test_a_snapshot_from_the_future_is_that_machine_s_alarm(house: House) -> None:
    house.history(20, 10, -5)
    outcome = house.prune(keep_days=0)
    assert outcome.plan.alarm and not outcome.plan.dropped
    assert [one.machine_id for one in alarms.every(house.control.db)] == [house.control.machine.id]


def test_a_machine_without_repository_is_told_so(house: House) -> None:
    with pytest.raises(NotFoundError, match="wait for the first backup of PC-1"):
        house.prune()


def stored(*numbers: int, partial: tuple[int, ...] = ()) -> list[Stored]:
    return [Stored(number, number, number not in partial, False) for number in numbers]


def test_a_storm_that_comes_in_checkpoints_is_one_storm() -> None:
    pieces = [SnapshotChange(number, 1000, 150) for number in (2, 3, 4)]
    calm = judged_calm(stored(1, 2, 3, 4, 5, partial=(2, 3)), [SnapshotChange(1, 0, 0), *pieces])
    assert calm == {1: True, 2: True, 3: True, 4: False, 5: None}
    alone = judged_calm(stored(1, 2, 3, 4), [SnapshotChange(1, 0, 0), *pieces])
    assert alone == {1: True, 2: True, 3: True, 4: True}


# Carried out


def test_pruning_keeps_what_it_says_and_frees_the_rest(house: House) -> None:
    client = house.history(*range(30, 0, -1), size_bytes=50_000)
    db, machine = house.control.db, house.control.machine
    holds.add(db, machine.id, 4, reason="trial", held_by="anna", now=NOW)
    planned = house.prune(dry_run=True, keep_days=10)
    outcome = house.prune(keep_days=10)
    assert outcome.plan == planned.plan and outcome.plan.kept == {4, *range(22, 31)}
    assert outcome.bytes_freed >= 18 * 50_000
    assert house.log()[-1] == f"Pruned: 10 snapshots kept, 20 dropped, {outcome.bytes_freed} bytes freed"
    with Repository.open(house.folder) as repository:
        held = {one.signed.decoded().number for one in repository.commits(0, 100) if not one.retired}
        assert held == outcome.plan.kept
        for number in held:
            assert listed(repository, number) == client.committed[number]
            for record in client.committed[number].values():
                if record.version_id != NO_VERSION:
                    assert content(repository, record.version_id) == client.contents[record.version_id]
    again = house.prune(NOW + 60, keep_days=10)
    assert (again.plan.dropped, len(again.plan.kept)) == (set(), 10)
    assert db.rows("SELECT * FROM snapshot_dropping") == []


def test_storms_are_remembered_after_the_sweep_took_away_what_they_were_counted_from(house: House) -> None:
    house.history(*range(30, 0, -1), storms=(8,))
    db, machine = house.control.db, house.control.machine
    first = house.prune(keep_days=0)
    assert first.plan.kept == {7, *range(24, 31)}
    assert statistics.changes_of(db, machine.id)[7] == SnapshotChange(8, 200, 180)
    assert house.prune(NOW + DAY, keep_days=0).plan.kept == first.plan.kept


def test_an_accepted_clock_prunes_and_ends_the_alarms(house: House) -> None:
    house.history(20, 19, 18, 17, 16, 15, 14, 13, 12, 1)
    db = house.control.db
    clock.note(db, Reading(NOW - 60 * DAY, "other boot", 5.0))
    assert house.prune(keep_days=0).plan.alarm
    assert house.prune(keep_days=0, accept_clock=True).plan.dropped == {1, 2, 3}
    assert alarms.every(db) == []
    assert house.prune(NOW + DAY).plan.alarm is None


def test_the_floor_survives_a_prune_a_day_whatever_is_asked(house: House) -> None:
    house.history(*range(12, 0, -1))
    policy = replace(house.control.ours.retention, floor_days=5)
    contracts.edit(house.control.db, house.control.ours, Changes(retention=policy))
    for day in range(4):
        assert house.prune(NOW + day * DAY, keep_days=0).plan.kept == {8, 9, 10, 11, 12}
