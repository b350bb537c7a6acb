"""The long work of the night over all repositories: prunes by each contract's policy, reads everything again in turn.

Rules: a repository that is busy or damaged is told and does not hold up the next; between two portions of work it is
asked whether to stop; what was not done this night goes first in the next. A machine whose last change looks like
ransomware is not pruned until somebody has acknowledged that. Reading again is idle I/O, at a bounded rate, and so
spread that every byte has its turn within `SCRUB_DAYS`; an alarm says when that cannot be kept.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance import metrics, notices, pruning
from appliance.control import alarms, alert_table, clock, machine_logs, machines
from appliance.control.database import Database
from appliance.control.machines import Machine
from appliance.control.scope import EVERYTHING
from appliance.job_running import JobContext, JobReport, JobStoppedError
from appliance.sizes import format_size
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.scrub import ScrubReport, ScrubState, scrub, scrub_state
from transport.errors import PilulierError

SCRUB_DAYS: Final = 30
"""Every byte is read again within so many days."""
SCRUB_AGAIN_DAYS: Final = 25
"""A repository is due again after so many, so that a few nights may go wrong."""
SCRUB_RATE_BYTES_S: Final = 50e6
SCRUB_NIGHT_S: Final = 4 * 3600.0
"""How long one night's reading goes on at most."""
BUSY_AGAIN_S: Final = 2 * 3600.0
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class _Problem:
    machine: Machine
    text: str


def _present(context: JobContext) -> list[Machine]:
    """The machines that have a repository, revoked ones too: their backups are kept as promised."""
    found = [overview.machine for overview in machines.overviews(context.db, EVERYTHING)]
    return [machine for machine in found if context.home.repository(machine.id).is_dir()]


def _told(done: str, problems: list[_Problem]) -> str:
    if not problems:
        return done
    first = problems[0]
    return f"{done}; {len(problems)} not, the first of them {first.machine.name}: {first.text}"


def prune_all(context: JobContext) -> JobReport:
    """Prune every machine by its contract's policy, compaction included."""
    pruned = dropped = freed = frozen = 0
    problems: list[_Problem] = []
    for machine in _present(context):
        context.stopping.check()
        if alert_table.pruning_is_frozen(context.db, machine.id):
            frozen += 1
            continue
        try:
            outcome = pruning.prune_machine(
                context.home, context.db, machine, clock.read(context.now()), progress=context.stopping.check
            )
        except PilulierError as error:
            problems.append(_Problem(machine, str(error)))
            continue
        if outcome.plan.alarm is not None:
            problems.append(_Problem(machine, f"nothing is dropped, because {outcome.plan.alarm}"))
            continue
        pruned += 1
        dropped += len(outcome.plan.dropped)
        freed += outcome.bytes_freed
    text = f"{pruned} machines pruned, {dropped} snapshots dropped, {format_size(freed)} freed"
    if frozen:
        text += f", {frozen} left alone until their alert of a suspicious change is acknowledged"
    return JobReport(_told(text, problems), bool(problems), BUSY_AGAIN_S if problems else None)


@dataclass(frozen=True, slots=True)
class Turn:
    """A repository in the rotation."""

    machine: Machine
    state: ScrubState


def rotation(turns: list[Turn], now_ms: int) -> list[Turn]:
    """Who is read this night, in this order: those begun, then those whose last full reading is longest ago. Pure."""
    due = [
        turn
        for turn in turns
        if turn.state.started_ms or now_ms - turn.state.finished_ms >= SCRUB_AGAIN_DAYS * _DAY_MS
    ]
    due.sort(key=lambda turn: (not turn.state.started_ms, turn.state.finished_ms, turn.machine.id))
    return due


def night_bytes(turns: list[Turn]) -> int:
    """How much one night reads at least, so that all is read in `SCRUB_AGAIN_DAYS` nights. Pure."""
    return -(-sum(turn.state.bytes_there for turn in turns) // SCRUB_AGAIN_DAYS)


def scrub_in_turn(
    context: JobContext,
    *,
    rate_bytes_s: float = SCRUB_RATE_BYTES_S,
    monotonic: Callable[[], float],
) -> JobReport:
    """Read on where last night stopped, until this night's share is read or its time is over."""
    problems: list[_Problem] = []
    turns: list[Turn] = []
    for machine in _present(context):
        try:
            turns.append(Turn(machine, scrub_state(context.home.repository(machine.id))))
        except PilulierError as error:
            problems.append(_Problem(machine, str(error)))
    share = night_bytes(turns)
    began = monotonic()
    read = done = damaged = 0
    for turn in rotation(turns, int(context.now() * 1000)):
        left_s = SCRUB_NIGHT_S - (monotonic() - began)
        if left_s <= 0 or (read >= share and not turn.state.started_ms):
            break
        context.stopping.check()
        try:
            report = _scrub_idle(context, turn.machine, rate_bytes_s, left_s)
        except PilulierError as error:
            problems.append(_Problem(turn.machine, str(error)))
            continue
        read += report.bytes_read
        done += report.finished
        damaged += bool(report.damage)
        tell_damage(context.db, turn.machine, report, context.now())
    _tell_late(context, [_again(context, turn) for turn in turns])
    text = f"{format_size(read)} read again, {done} repositories to their end"
    if damaged:
        text += f", {damaged} with damage"
    return JobReport(_told(text, problems), bool(problems or damaged))


def _again(context: JobContext, turn: Turn) -> Turn:
    """The same turn as it stands after the night."""
    try:
        return Turn(turn.machine, scrub_state(context.home.repository(turn.machine.id)))
    except PilulierError:
        return turn  # told above, or when it is its turn


def tell_damage(db: Database, machine: Machine, report: ScrubReport, now: float) -> None:
    """An alarm while damage is known, and a line in the machine's log; over when nothing is damaged any more."""
    if not report.damage:
        if report.finished:
            alarms.end(db, alarms.DAMAGE, machine.id)
        return
    snapshots = {number for found in report.damage for number in found.impact.snapshots}
    files = sum(found.impact.files for found in report.damage)
    text = f"{len(report.damage)} damaged records: {files} files in {len(snapshots)} snapshots need them"
    alarms.sound(db, alarms.DAMAGE, text, now=now, machine_id=machine.id)
    machine_logs.add(db, machine.id, level="warning", module="scrub", text=text, now=now)


def _tell_late(context: JobContext, turns: list[Turn]) -> None:
    now = context.now()
    # A repository that was never read to its end counts from the day its machine came.
    since = [max(turn.state.finished_ms / 1000, turn.machine.created_at) for turn in turns]
    late = sum(now - at > SCRUB_DAYS * 86400 for at in since)
    notices.set_cursor(context.db, metrics.SCRUB_CURSOR, min(since, default=now))
    if late:
        text = (
            f"{late} repositories were not read again within {SCRUB_DAYS} days: the nightly reading is too short or "
            "too slow for what is stored"
        )
        alarms.sound(context.db, alarms.SCRUB_LATE, text, now=now)
    else:
        alarms.end(context.db, alarms.SCRUB_LATE)


def _scrub_idle(context: JobContext, machine: Machine, rate_bytes_s: float, limit_s: float) -> ScrubReport:
    """One scrub in a thread of its own, which alone gets the idle class: it is never taken back."""
    found: list[ScrubReport | PilulierError | JobStoppedError] = []

    def work() -> None:
        _make_idle()
        try:
            with Access(context.home.repository(machine.id)) as access:
                found.append(
                    scrub(
                        access,
                        now_ms=lambda: int(context.now() * 1000),
                        rate_bytes_s=rate_bytes_s,
                        limit_s=limit_s,
                        progress=context.stopping.check,
                        pause=context.stopping.pause,
                    )
                )
        except (PilulierError, JobStoppedError) as error:
            found.append(error)

    thread = threading.Thread(target=work, name=f"scrub {machine.hex}")
    thread.start()
    thread.join()
    if not found:
        raise RuntimeError(f"the scrub of {machine.hex} ended without a word")
    outcome = found[0]
    if isinstance(outcome, ScrubReport):
        return outcome
    raise outcome


def _make_idle() -> None:
    """Let this thread's disk access wait for everybody else's (ioprio_set(2), by way of util-linux's program)."""
    program = shutil.which("ionice")
    if program is not None:
        subprocess.run(
            [program, "--class", "3", "--pid", str(threading.get_native_id())], check=False, capture_output=True
        )
