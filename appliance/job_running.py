"""Running one job: claim it, keep the claim alive, carry it out, write down how it ended.

The same for the command line, the web interface's wish and the clock. An error of a job is its outcome, never this
process's end. A job looks at `Stopping` between two portions of work, so that a service ends within seconds; what it
left undone is due again at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.control import job_table
from appliance.control.database import Database
from appliance.control.job_table import Claim, Outcome, Run
from appliance.schedules import Schedule
from appliance.settings import Home
from transport.errors import PilulierError

RETRY_S: Final = 3600.0
"""A job of the day that failed is tried again within the hour."""

log = logging.getLogger("pilulier.jobs")


class JobStoppedError(Exception):
    """The service is being stopped, or the claim was lost: the job leaves its work where it can be taken up again."""


class Stopping:
    """A flag that jobs look at between two portions of work."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask all that look at it to stop."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def check(self, *_: object) -> None:
        """JobStoppedError where it is time to stop; takes anything, so that it can stand as a progress callback."""
        if self._event.is_set():
            raise JobStoppedError

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the wish to stop: JobStoppedError then."""
        if self._event.wait(seconds):
            raise JobStoppedError


@dataclass(frozen=True, slots=True)
class JobContext:
    """What a job gets to work with. `db` belongs to the job's thread; `now` is the only clock it reads."""

    home: Home
    db: Database
    now: Callable[[], float]
    stopping: Stopping


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a job did, in a sentence for people. `again_s`: due again so soon, where less than the schedule's."""

    text: str
    warnings: bool = False
    again_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobKind:
    """A job: its name, when it is due, what it is for, and how it is done.

    `needed` is asked before a run that the clock starts: False skips it without a trace, since a run costs two fsyncs.
    """

    name: str
    schedule: Schedule
    about: str
    run: Callable[[JobContext], JobReport]
    needed: Callable[[JobContext], bool] | None = None


def run_job(
    home: Home,
    kind: JobKind,
    *,
    by: str = "",
    only_if_due: bool = False,
    now: Callable[[], float],
    stopping: Stopping | None = None,
) -> Run:
    """Run a job to its end; how it ended. ConflictError where it is running already, or not due."""
    stop = stopping or Stopping()
    with Database.open(home.control_db) as db:
        job_table.know(db, kind.name, kind.schedule.first(now()))
        claim = job_table.claim(db, kind.name, by=by, only_if_due=only_if_due, now=now())
        own = Stopping()
        outcome, report = _carry_out(JobContext(home, db, now, own), kind, claim, stop)
        ended = now()
        next_at = _next_at(kind, outcome, report, ended)
        if not job_table.finish(db, claim, outcome, report.text, next_at=next_at, now=ended):
            log.warning("job %s took so long without a sign of life that it was given to another run", kind.name)
        found = next((run for run in job_table.history(db, kind.name) if run.id == claim.run_id), None)
        assert found is not None, "the run that was just written"
        return found


def _next_at(kind: JobKind, outcome: Outcome, report: JobReport, now: float) -> float:
    if outcome is Outcome.STOPPED:
        return now
    due = kind.schedule.after(now)
    if outcome is Outcome.FAILED:
        return min(due, now + RETRY_S)
    return due if report.again_s is None else min(due, now + report.again_s)


def _carry_out(context: JobContext, kind: JobKind, claim: Claim, outer: Stopping) -> tuple[Outcome, JobReport]:
    over = threading.Event()
    keeper = threading.Thread(
        target=_keep, args=(context, claim, outer, over), name=f"lease of {kind.name}", daemon=True
    )
    keeper.start()
    try:
        report = kind.run(context)
        return (Outcome.WARNINGS if report.warnings else Outcome.DONE), report
    except JobStoppedError:
        return Outcome.STOPPED, JobReport("stopped with the service; it goes on from here when that runs again")
    except PilulierError as error:
        return Outcome.FAILED, JobReport(str(error))
    except Exception as error:  # the edge of a job: its failure is an outcome, and the other jobs go on
        log.exception("job %s failed", kind.name)
        return Outcome.FAILED, JobReport(f"something unforeseen went wrong ({type(error).__name__}): see the log")
    finally:
        over.set()
        keeper.join()


_LOOK_S: Final = 0.5


def _keep(context: JobContext, claim: Claim, outer: Stopping, over: threading.Event) -> None:
    """Renew the lease, and hand on the wish to stop; until the job is over."""
    waited = 0.0
    # Opened at the first renewal only: most jobs are over long before.
    while not over.wait(_LOOK_S):
        if outer.is_set():
            context.stopping.set()
        waited += _LOOK_S
        if waited < job_table.RENEW_S:
            continue
        waited = 0.0
        try:
            # A connection of this thread's own.
            with Database.open(context.db.path) as db:
                held = job_table.renew(db, claim, context.now())
        except PilulierError as error:
            log.warning("the lease of job %s could not be renewed: %s", claim.name, error)
            continue
        if not held:
            context.stopping.set()
