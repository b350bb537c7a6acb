"""`run`, `schedule`, `remote`, `status`: the service and what it goes by; and what is told of a backup that failed."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime

import msgspec

from agent import __version__, diary, journal, surroundings
from agent.bookkeeping import next_run
from agent.commands import Row, iso, show
from agent.enrolling import Enrolled, enrolled
from agent.errors import BusyError
from agent.knocking import knock, service_runs
from agent.remote_settings import allowed, chosen_here
from agent.settings import AgentHome, Settings, change_settings, load_settings
from agent.state import read_state, write_failure
from agent.system.zone import LocalZone
from transport.errors import PilulierError, UsageError
from transport.schedule import DAYS, Schedule, weekday_of


def run_service(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`run`: until SIGTERM or SIGINT."""
    from agent import service

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    stopper = service.Stopper()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopper.stop())

    def ready(machine: Enrolled, following: float | None) -> None:
        settings = machine.settings
        line = {
            "event": "ready",
            "machine": settings.machine.hex(),
            "name": settings.name,
            "pid": os.getpid(),
            "next_run": _iso(following),
        }
        print(json.dumps(line, ensure_ascii=False), flush=True)

    return service.run(home, stopper, ready)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else iso(int(seconds * 1000))


def _local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, LocalZone()()).strftime("%Y-%m-%d %H:%M")


def schedule(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`schedule show`, `set`, `continuous`, `off`."""
    if options.scheduling != "show":

        def chosen(before: Schedule) -> Schedule:
            if options.scheduling == "off":
                return Schedule()
            if options.scheduling == "continuous":
                return msgspec.structs.replace(before, continuous=options.following == "on")
            return Schedule.of(options.times, days_of(options.days), continuous=before.continuous)

        change_settings(home, lambda settings: chosen_here(settings, schedule=chosen(settings.schedule)))
        knock(home)
    settings = load_settings(home)
    following = next_run(home, settings, time.time(), LocalZone()())
    times = settings.schedule.times
    document: Row = {
        "times": times,
        "days": settings.schedule.days,
        "continuous": settings.schedule.continuous,
        "set_by": "appliance" if settings.remote.schedule_version else "machine",
        "next_run": _iso(following),
    }
    lines = [f"Backups start at {', '.join(times)}, {_days_text(settings.schedule)}."] if times else []
    if settings.schedule.continuous:
        lines.append("A snapshot follows changes as they happen, within a minute.")
    show(as_json, document, "\n".join(filter(None, [*lines, _following(home, settings, following)])))
    return 0


def _days_text(chosen: Schedule) -> str:
    """`every day`, `mon-sat`, or the days one by one."""
    days = chosen.weekdays
    if len(days) == len(DAYS):
        return "every day"
    if len(days) > 2 and days[-1] - days[0] == len(days) - 1:
        return f"{DAYS[days[0]]}-{DAYS[days[-1]]}"
    return ", ".join(chosen.days)


def days_of(text: str) -> list[str]:
    """The days in `mon-fri` or `mon,wed,sat`; UsageError otherwise."""
    days: list[str] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not dash:
            days.append(part)
            continue
        begin, end = weekday_of(first), weekday_of(last)
        if end < begin:
            raise UsageError(f"{part.strip()!r} goes backwards: give the days one by one, like sat,sun,mon")
        days += DAYS[begin : end + 1]
    return days


def _following(home: AgentHome, settings: Settings, following: float | None) -> str:
    if following is not None and following <= time.time():
        waiting = surroundings.holding(settings.limits)
        return f"A backup is due and waits: {waiting}." if waiting else "A backup is due and begins as soon as it can."
    if following is not None:
        return f"Next: {_local(following)}."
    if not settings.has_source:
        return "Nothing is selected: pilulier-agent select include PATH"
    if settings.schedule.continuous and service_runs(home):
        return ""
    if not settings.schedule.minutes and not settings.schedule.continuous:
        return "No backup starts by itself: pilulier-agent schedule set HH:MM changes that."
    return "The service does not run now, so nothing starts: pilulier-agent run"


def remote(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`remote show`, `allow`, `refuse`."""
    if options.remoting != "show":
        change_settings(home, lambda settings: allowed(settings, options.remoting == "allow"))
        knock(home)
    state = load_settings(home).remote
    words = "may" if state.allowed else "may not"
    lines = [f"The appliance {words} set what is backed up and when, and start backups. Commands it can never set."]
    if state.answered:
        lines.append(f"Its settings {state.answered}: {state.outcome}{f'; {state.reason}' if state.reason else ''}.")
    show(
        as_json,
        {
            "allowed": state.allowed,
            "version": state.answered,
            "outcome": state.outcome,
            "reason": state.reason,
            "applied": state.applied,
        },
        "\n".join(lines),
    )
    return 0


def status(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`status`: where this machine stands. Asks no appliance."""
    settings = enrolled(home).settings
    state = read_state(home)
    following = next_run(home, settings, time.time(), LocalZone()())
    failed = f"The last backup failed, {_local(state.error_at_ms / 1000)}: {state.error}" if state.error else ""
    lines = [
        f"{settings.name} (contract {settings.contract}) backs up to {', '.join(settings.appliance.endpoints)}.",
        f"Last snapshot: {state.snapshot}, {_local(state.at_ms / 1000)}." if state.snapshot else "No snapshot yet.",
        failed,
        _following(home, settings, following),
        "A backup is running now." if state.running else "",
    ]
    show(
        as_json,
        {
            "machine": settings.machine.hex(),
            "name": settings.name,
            "contract": settings.contract,
            "appliance": list(settings.appliance.endpoints),
            "last_snapshot": state.snapshot or None,
            "last_snapshot_at": iso(state.at_ms) if state.at_ms else None,
            "last_error": state.error or None,
            "last_error_at": iso(state.error_at_ms) if state.error else None,
            "next_run": _iso(following),
            "running": state.running,
            "service": service_runs(home),
            "remote": settings.remote.allowed,
            "key_mode": settings.key_mode,
            "version": __version__,
        },
        "\n".join(line for line in lines if line),
    )
    return 0


@contextlib.contextmanager
def told_if_failed(home: AgentHome, started_by: str) -> Iterator[None]:
    """A backup that fails is noted on the machine and told to the appliance, now or when it can be reached again.

    One that ran into another leaves that one's news alone, unless the service has to know.
    """
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service that ends asks its child to
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        _failed(home, error, started_by)
        raise
    finally:
        signal.signal(signal.SIGTERM, former)


def _failed(home: AgentHome, error: BaseException, started_by: str) -> None:
    code = error.code if isinstance(error, PilulierError) else type(error).__name__
    busy = isinstance(error, BusyError)
    if not home.config.exists() or (busy and started_by == "manual"):
        return
    now = time.time()
    interrupted = isinstance(error, KeyboardInterrupt)
    write_failure(home, "it was stopped" if interrupted else str(error), code, int(now * 1000))
    if busy:
        return
    diary.backup_failed(home, started_by, error)
    text = f"Backup failed: {journal.reason_of(error)}"
    level = "warning" if interrupted else "error"
    if isinstance(error, PilulierError) and error.exit_code == 5 or interrupted:
        journal.keep(home, level, "backup", text)
        knock(home)
        return
    with contextlib.suppress(PilulierError, OSError):
        journal.tell(home, enrolled(home).client(), level, "backup", text)
