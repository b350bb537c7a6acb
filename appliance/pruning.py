"""Pruning one machine's repository: gather what is known, let the policy decide, carry it out, write it down.

Called by the command line and by whatever runs nightly. Decides nothing itself: `store.upkeep.retention` does, from the
appliance's own clock and its own counts, and carrying a plan out has no choices left. Needs no key and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from appliance.control import (
    alarms,
    audit,
    clock,
    configurations,
    contracts,
    holds,
    machine_logs,
    observations,
    statistics,
)
from appliance.control.audit import Actor
from appliance.control.clock import Reading
from appliance.control.database import Database
from appliance.control.holds import Hold
from appliance.control.machines import Machine
from appliance.errors import NotFoundError
from appliance.settings import Home
from appliance.store.repository import Repository
from appliance.store.upkeep.changes import SnapshotChange, snapshot_changes
from appliance.store.upkeep.clock import ClockWitness, Sound
from appliance.store.upkeep.prune import PruneReport, prune
from appliance.store.upkeep.retention import Candidate, Policy, RetentionPlan, is_calm, plan_retention

_COMMITS_PER_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot as its repository tells it."""

    number: int
    received_ms: int
    complete: bool
    retired: bool


@dataclass(frozen=True, slots=True)
class PruneOutcome:
    """What was decided, and what carrying it out did: None for a dry run, or where the clock is not believed."""

    plan: RetentionPlan
    policy: Policy
    dry_run: bool
    report: PruneReport | None = None

    @property
    def bytes_freed(self) -> int:
        """Dead bytes taken out of packs, those in quarantine included."""
        return self.report.bytes_freed if self.report else 0


@dataclass(frozen=True, slots=True)
class _Gathered:
    folder: Path
    stored: tuple[Stored, ...]
    changes: tuple[SnapshotChange, ...]
    fresh: tuple[SnapshotChange, ...]
    """Those of the changes that the control database does not know yet."""
    suspicious: frozenset[int]
    """Snapshots with which a touched decoy was told."""


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Which snapshots an operator holds, and which continuous mode made. Whoever lies about the latter thins out their
    own snapshots, of which the newest of each day stays."""

    held: frozenset[int]
    continuous: frozenset[int]


def prune_machine(
    home: Home,
    db: Database,
    machine: Machine,
    reading: Reading,
    *,
    keep_days: int | None = None,
    dry_run: bool = False,
    accept_clock: bool = False,
    by: Actor = audit.SYSTEM,
    progress: Callable[[str], None] | None = None,
) -> PruneOutcome:
    """Drop what the contract's policy lets go at `reading`; `keep_days` replaces the contract's own, this once.

    The floor stays the contract's. With `dry_run` nothing is changed anywhere. `accept_clock` is an operator's word
    that the clock is right. What goes, and `by` whom, stands in the audit log before it goes. NotFoundError without a
    repository, UsageError for days out of range, StoreError (busy, damaged, disk failed) from the repository.
    """
    policy = contracts.of_machine(db, machine.id).retention
    if keep_days is not None:
        policy = replace(policy, keep_days=keep_days)
    gathered = _gather(home, db, machine)
    now_ms = int(reading.at * 1000)
    witness = clock.witness(db, reading)
    if dry_run:
        witness = replace(witness, accepted=accept_clock)
        return PruneOutcome(_plan(gathered, _kinds(db, machine), policy, now_ms, witness), policy, True)
    if accept_clock:
        with db.write():
            witness = clock.accept(db, reading)
            audit.write(db, by, "clock.accept", now=reading.at)
    # The counts first: what is dropped below takes away what they stand on.
    statistics.record_changes(db, machine.id, gathered.fresh)
    with db.write():
        plan = _plan(gathered, _kinds(db, machine), policy, now_ms, witness)
        if plan.alarm is not None:
            _raise_alarm(db, machine, plan.alarm, reading)
            return PruneOutcome(plan, policy, False)
        clock.note(db, reading)
        alarms.end(db, alarms.CLOCK, machine.id)
        dropped = holds.announce(db, machine.id, plan.dropped)
        if dropped or by != audit.SYSTEM:  # a nightly prune that drops nothing is no act
            _write_down(db, by, machine, dropped, len(plan.kept), policy, reading.at)
    try:
        # Also with nothing to drop: what an earlier prune that was cut off left behind is swept and freed then.
        report = prune(gathered.folder, dropped, now_ms=now_ms, progress=progress)
    finally:
        holds.done(db, machine.id)
    text = f"Pruned: {len(plan.kept)} snapshots kept, {len(dropped)} dropped, {report.bytes_freed} bytes freed"
    machine_logs.add(db, machine.id, level="info", module="prune", text=text, now=reading.at)
    return PruneOutcome(plan, policy, False, report)


def _write_down(
    db: Database, by: Actor, machine: Machine, dropped: Iterable[int], kept: int, policy: Policy, now: float
) -> None:
    """The audit log's line about a prune."""
    audit.write(
        db,
        by,
        "repo.prune",
        now=now,
        object_kind="machine",
        object_id=machine.hex,
        object_name=machine.name,
        space_id=contracts.of_machine(db, machine.id).space_id,
        contract_id=machine.contract_id,
        after={"dropped": sorted(dropped), "kept": kept, "keep_days": policy.keep_days},
    )


def _raise_alarm(db: Database, machine: Machine, text: str, reading: Reading) -> None:
    """One alarm: the appliance's where its clock is wrong by its own witness, else the machine's alone."""
    if isinstance(clock.note(db, reading), Sound):
        alarms.sound(db, alarms.CLOCK, text, now=reading.at, machine_id=machine.id)
    machine_logs.add(
        db, machine.id, level="error", module="prune", text=f"Nothing pruned: {text}", now=reading.at
    )


def _kinds(db: Database, machine: Machine) -> _Kinds:
    return _Kinds(frozenset(holds.of_machine(db, machine.id)), configurations.continuous(db, machine.id))


def _plan(
    gathered: _Gathered, kinds: _Kinds, policy: Policy, now_ms: int, witness: ClockWitness
) -> RetentionPlan:
    calm = judged_calm(gathered.stored, gathered.changes, gathered.suspicious)
    candidates = [
        Candidate(
            number=one.number,
            received_ms=one.received_ms,
            complete=one.complete,
            calm=calm[one.number],
            continuous=one.number in kinds.continuous,
            held=one.number in kinds.held,
            retired=one.retired,
        )
        for one in gathered.stored
    ]
    return plan_retention(candidates, policy, now_ms, witness)


def judged_calm(
    stored: Sequence[Stored], changes: Sequence[SnapshotChange], suspicious: frozenset[int] = frozenset()
) -> dict[int, bool | None]:
    """Whether each snapshot was calm, None where nothing was counted; never one of the `suspicious`.

    A complete snapshot answers for the checkpoints on the way to it: a storm is not smaller for coming in pieces.
    `stored` is in order of numbers.
    """
    known = {change.number: change for change in changes}
    calm: dict[int, bool | None] = {}
    before: int | None = None
    ended = 0
    counted = True
    for one in stored:
        change = known.get(one.number)
        if change is None:
            counted = False
        else:
            before = change.entries_before if before is None else before
            ended += change.entries_ended
        calm[one.number] = is_calm(before or 0, ended) if counted else None
        if one.number in suspicious:
            calm[one.number] = False
        if one.complete:
            before, ended, counted = None, 0, True
    return calm


def _gather(home: Home, db: Database, machine: Machine) -> _Gathered:
    folder = repository_folder(home, machine)
    known = statistics.changes_of(db, machine.id)
    fresh = snapshot_changes(folder, known[-1].number if known else 0)
    # The commits last: a snapshot made since then has no count yet, which is better than a count without a snapshot.
    stored = tuple(stored_snapshots(folder))
    suspicious = observations.suspicious_snapshots(db, machine.id)
    return _Gathered(folder, stored, (*known, *fresh), tuple(fresh), suspicious)


def repository_folder(home: Home, machine: Machine) -> Path:
    """Where the machine's repository is; NotFoundError where it is not."""
    folder = home.repository(machine.id)
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is missing: mount its disk, or wait for the first backup of {machine.name}")
    return folder


def stored_snapshots(folder: Path) -> list[Stored]:
    """Every snapshot there ever was in a repository, by number."""
    found: list[Stored] = []
    with Repository.open(folder, read_only=True) as repository:
        while True:
            after = found[-1].number if found else 0
            page = repository.commits(after, _COMMITS_PER_PAGE)
            for commit in page:
                record = commit.signed.decoded()
                found.append(Stored(record.number, commit.received_ms, record.complete, commit.retired))
            if len(page) < _COMMITS_PER_PAGE:
                return found


def hold_snapshot(
    home: Home, db: Database, machine: Machine, number: int, *, reason: str, held_by: str, now: float
) -> Hold:
    """Forbid to drop a snapshot; NotFoundError where the repository does not hold it, ConflictError while it goes."""
    folder = repository_folder(home, machine)
    hold = holds.add(db, machine.id, number, reason=reason, held_by=held_by, now=now)
    # Looked up only now that no prune can begin to drop it: the other way round it could be gone in between.
    if not any(one.number == number and not one.retired for one in stored_snapshots(folder)):
        holds.release(db, machine.id, number)
        raise NotFoundError(
            f"{machine.name} has no snapshot {number} (any more): 'pilulier repo prune {machine.hex} --dry-run' "
            "lists what it has"
        )
    return hold
