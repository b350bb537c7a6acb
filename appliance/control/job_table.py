"""The record of jobs: when each is due, who asked for it, who runs it now, how its runs ended.

Rules: a run holds a lease that it renews; a lease that ran out belongs to nobody, and its run is closed as
interrupted by whoever looks next (`reconcile`), after which the job is due at once. Claiming is one transaction, so of
two processes exactly one runs a job. Jobs must bear being run again after any interruption. Knows neither what jobs
do nor what wakes them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.text import one_line
from appliance.errors import ConflictError, NotFoundError

SCHEMA: Final = 5
"""The first version of the database that has these tables."""
LEASE_S: Final = 120.0
RENEW_S: Final = 30.0
KEPT_RUNS: Final = 200
"""Of each job."""
_TEXT_LIMIT: Final = 1000


class Outcome(StrEnum):
    """How a run ended, or that it has not."""

    RUNNING = "running"
    DONE = "done"
    WARNINGS = "warnings"
    FAILED = "failed"
    STOPPED = "stopped"
    """The service was stopped meanwhile; the rest is done when the job is next due, which is at once."""
    INTERRUPTED = "interrupted"
    """Its process vanished."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times in seconds since 1970; `asked_by` is empty where the clock started it."""

    id: int
    name: str
    started_at: float
    ended_at: float | None
    outcome: Outcome
    text: str
    asked_by: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a page shows it. `last` is its newest ended run, `running_since` None while it rests."""

    name: str
    next_at: float
    asked_at: float | None
    asked_by: str
    running_since: float | None
    last: Run | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a job, until its lease runs out. `owner` tells one claim from another."""

    name: str
    owner: str
    run_id: int


def know(db: Database, name: str, first_at: float) -> None:
    """Make sure that a job has its row; the time of one that has it stays."""
    if db.row("SELECT 1 AS found FROM job WHERE name = ?", [name]) is None:
        with db.write():
            db.execute("INSERT INTO job (name, next_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", [name, first_at])


def _run(row: dict[str, Any]) -> Run:
    return Run(**{**row, "outcome": Outcome(row["outcome"])})


_RUN: Final = "id, name, started_at, ended_at, outcome, text, asked_by"


def every(db: Database) -> list[Job]:
    """All jobs by name."""
    runs = {
        row["name"]: _run(row)
        for row in db.rows(
            f"SELECT {_RUN} FROM job_run WHERE id IN "
            "(SELECT max(id) FROM job_run WHERE outcome != 'running' GROUP BY name)"
        )
    }
    rows = db.rows(
        "SELECT job.name, next_at, asked_at, job.asked_by, job_run.started_at AS running_since FROM job "
        "LEFT JOIN job_run ON job_run.id = job.run_id ORDER BY job.name"
    )
    return [Job(**row, last=runs.get(row["name"])) for row in rows]


def find(db: Database, name: str) -> Job:
    """One job; NotFoundError where there is none of this name."""
    for job in every(db):
        if job.name == name:
            return job
    raise NotFoundError(f"there is no job {one_line(name, 40)!r}: see 'pilulier jobs list'")


def history(db: Database, name: str, limit: int = 50) -> list[Run]:
    """A job's runs, newest first."""
    return [_run(row) for row in db.rows(
        f"SELECT {_RUN} FROM job_run WHERE name = ? ORDER BY id DESC LIMIT ?", [name, limit]
    )]  # fmt: skip


def ask(db: Database, name: str, *, by: str, now: float) -> Job:
    """Ask for a run as soon as may be, once, however often it is asked; NotFoundError where there is no such job."""
    with db.write():
        db.execute(
            "UPDATE job SET asked_at = ?, asked_by = ? WHERE name = ? AND asked_at IS NULL",
            [now, one_line(by, 254), name],
        )
        return find(db, name)


def skip(db: Database, name: str, next_at: float) -> None:
    """There is nothing to do for a job that is due and that nobody asked for or runs: it is due again at `next_at`."""
    with db.write():
        db.execute(
            "UPDATE job SET next_at = ? WHERE name = ? AND owner IS NULL AND asked_at IS NULL", [next_at, name]
        )


def due(db: Database, now: float) -> list[str]:
    """Jobs to be run now that nobody runs, those asked for first, then the longest overdue."""
    rows = db.rows(
        "SELECT name FROM job WHERE owner IS NULL AND (next_at <= ? OR asked_at IS NOT NULL) "
        "ORDER BY asked_at IS NULL, next_at",
        [now],
    )
    return [row["name"] for row in rows]


def reconcile(db: Database, now: float) -> list[str]:
    """Close the runs whose lease ran out and make their jobs due; the names of these."""
    sql = "SELECT name, run_id FROM job WHERE owner IS NOT NULL AND lease_until <= ?"
    if not db.rows(sql, [now]):
        return []
    with db.write():
        lost = db.rows(sql, [now])
        for row in lost:
            _close(db, row["run_id"], Outcome.INTERRUPTED, "its process ended in the middle", now)
            db.execute(
                "UPDATE job SET owner = NULL, lease_until = NULL, run_id = NULL, next_at = min(next_at, ?) "
                "WHERE name = ?",
                [now, row["name"]],
            )
        return [row["name"] for row in lost]


def claim(db: Database, name: str, *, by: str = "", only_if_due: bool = False, now: float) -> Claim:
    """Begin a run. ConflictError where somebody runs it (or it is not due), NotFoundError where there is no such job.

    `by` is who asked for it; empty takes whoever asked in the table, if anybody did.
    """
    reconcile(db, now)
    with db.write():
        row = db.row("SELECT owner, next_at, asked_by, asked_at FROM job WHERE name = ?", [name])
        if row is None:
            raise NotFoundError(f"there is no job {one_line(name, 40)!r}: see 'pilulier jobs list'")
        if row["owner"] is not None:
            raise ConflictError(f"job {name} is running already: wait for its end")
        if only_if_due and row["next_at"] > now and row["asked_at"] is None:
            raise ConflictError(f"job {name} is not due")
        asked_by = one_line(by, 254) or (row["asked_by"] if row["asked_at"] is not None else "")
        db.insert("job_run", {"name": name, "started_at": now, "outcome": "running", "asked_by": asked_by})
        run_id = int(db.value("SELECT last_insert_rowid() AS id"))
        owner = secrets.token_hex(8)
        db.execute(
            "UPDATE job SET owner = ?, lease_until = ?, run_id = ?, asked_at = NULL, asked_by = '' WHERE name = ?",
            [owner, now + LEASE_S, run_id, name],
        )
        return Claim(name, owner, run_id)


def renew(db: Database, claim: Claim, now: float) -> bool:
    """Hold on to a claim; False where it was lost, since its lease had run out."""
    with db.write():
        changed = db.execute(
            "UPDATE job SET lease_until = ? WHERE name = ? AND owner = ?", [now + LEASE_S, claim.name, claim.owner]
        )
        return bool(changed)


def finish(db: Database, claim: Claim, outcome: Outcome, text: str, *, next_at: float, now: float) -> bool:
    """Write down how a run ended and when the job is due again; False where the claim had been lost."""
    with db.write():
        changed = db.execute(
            "UPDATE job SET owner = NULL, lease_until = NULL, run_id = NULL, next_at = ? WHERE name = ? AND owner = ?",
            [next_at, claim.name, claim.owner],
        )
        if not changed:
            return False
        _close(db, claim.run_id, outcome, text, now)
        db.execute(
            "DELETE FROM job_run WHERE name = ? AND id <= "
            "(SELECT id FROM job_run WHERE name = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            [claim.name, claim.name, KEPT_RUNS],
        )
        return True


def _close(db: Database, run_id: int, outcome: Outcome, text: str, now: float) -> None:
    db.execute(
        "UPDATE job_run SET ended_at = ?, outcome = ?, text = ? WHERE id = ?",
        [now, str(outcome), one_line(text, _TEXT_LIMIT), run_id],
    )
