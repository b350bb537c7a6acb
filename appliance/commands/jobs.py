"""`pilulier jobs`: what is done by itself, when, how it went; and to do one now."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time

if TYPE_CHECKING:
    from appliance.control.job_table import Run

_EXIT_FAILED = 1
_EXIT_WARNINGS = 3


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    jobs = commands.add_parser(
        "jobs",
        parents=[common],
        allow_abbrev=False,
        help="work that happens by itself: list, run, work",
        description="Work that happens by itself: prunes, reading again, alerts, mails and the like.",
    )
    actions = jobs.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "list", parents=[common], allow_abbrev=False, help="all jobs, when they are due and how they went last"
    )
    parser.set_defaults(run=show)
    parser = actions.add_parser(
        "run",
        parents=[common],
        allow_abbrev=False,
        help="do one now",
        description="Do one job now, in this process, whether or not a service runs. Exit code 1 where it failed, "
        "3 where it was done with warnings.",
    )
    parser.add_argument("job", metavar="NAME", help="its name, see 'pilulier jobs list'")
    parser.set_defaults(run=run)
    parser = actions.add_parser(
        "work",
        parents=[common],
        allow_abbrev=False,
        help="do what is due until SIGTERM; a part of 'pilulier serve'",
        description="Do what is due until SIGTERM. 'pilulier serve' starts this by itself; under systemd it is a "
        "unit of its own.",
    )
    parser.set_defaults(run=work)


def _run_document(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "outcome": str(run.outcome),
        "text": run.text,
        "started_at": iso_time(run.started_at),
        "ended_at": iso_time(run.ended_at),
        "asked_by": run.asked_by or None,
    }


def show(invocation: Invocation) -> int:
    """`jobs list`."""
    from appliance import job_kinds
    from appliance.control import job_table

    with invocation.database() as db:
        known = {job.name: job for job in job_table.every(db)}
    rows = []
    documents = []
    for kind in job_kinds.KINDS.values():
        job = known.get(kind.name)
        last = job.last if job else None
        running = job.running_since if job else None
        documents.append(
            {
                "job": kind.name,
                "about": kind.about,
                "schedule": str(kind.schedule),
                "next_at": iso_time(job.next_at) if job else None,
                "asked_at": iso_time(job.asked_at) if job else None,
                "running_since": iso_time(running),
                "last": _run_document(last),
            }
        )
        if running is not None:
            due = f"running since {people_time(running)}"
        else:
            due = people_time(job.next_at) if job else "with the service"
        rows.append(
            [
                kind.name,
                kind.schedule,
                due,
                people_time(last.ended_at) if last else "never",
                f"{last.outcome}: {last.text}" if last else "",
            ]
        )
    invocation.document(documents)
    invocation.table(["job", "schedule", "next", "last", "outcome"], rows, "")
    return 0


def run(invocation: Invocation) -> int:
    """`jobs run NAME`."""
    from appliance import job_kinds, job_running
    from appliance.control import audit
    from appliance.control.job_table import Outcome

    kind = job_kinds.find(invocation.arguments.job)
    home = invocation.home()
    with invocation.database(home) as db:
        audit.write(
            db,
            audited.actor(),
            "job.start",
            now=invocation.now(),
            object_kind="job",
            object_id=kind.name,
            object_name=kind.name,
        )
    ended = job_running.run_job(home, kind, by=audited.who(), now=invocation.now)
    invocation.document({"job": kind.name} | (_run_document(ended) or {}))
    invocation.say(f"{kind.name}: {ended.outcome}. {ended.text[:1].upper()}{ended.text[1:]}.")
    return {Outcome.DONE: 0, Outcome.WARNINGS: _EXIT_WARNINGS}.get(ended.outcome, _EXIT_FAILED)


def work(invocation: Invocation) -> int:
    """`jobs work`: returns when a signal ends it."""
    from appliance import jobs, parts, service

    home = invocation.home()
    invocation.database(home).close()
    service.log_to_stderr()
    jobs.work(home, on_ready=lambda: parts.say_ready(sys.stdout))
    return 0
