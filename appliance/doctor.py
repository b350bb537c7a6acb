"""What the appliance stands on, checked one thing at a time: home, databases, keys, disk, repositories, ports, clock.

Rules: a check reports, it never mends; one that fails does not keep the next from running, unless there is nothing
left to look at; the detail says what to do.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance import endpoints, escrow
from appliance.control import alarms, job_table, machines
from appliance.control.database import OLDEST_SQLITE, SAFE_WAL, SQLITE_VERSION, Database
from appliance.control.job_table import Outcome
from appliance.control.migrations import MIGRATIONS
from appliance.control.scope import EVERYTHING
from appliance.escrow import KeyState
from appliance.settings import Home
from appliance.sizes import format_size
from transport.errors import PilulierError

if TYPE_CHECKING:
    from appliance.control.machines import Overview

_FREE_BYTES: Final = 2 * 10**9
_FREE_SHARE: Final = 0.02
_FIRST_SANE_TIME: Final = 1_735_689_600.0
"""2025-01-01: before this program was written."""
_CLOCK_SLACK_S: Final = 300.0
_OVERDUE_S: Final = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def examine(root: Path, now: float) -> list[Check]:
    """All checks, in order. Only the first is made where `root` is no home."""
    try:
        home = Home.open(root)
    except PilulierError as error:
        return [Check("home", False, str(error))]
    checks = [Check("home", True, str(home.root)), _permissions(home)]
    checks += [_guarded(name, look, home) for name, look in (("settings", _settings), ("keys", _keys))]
    checks += [_sqlite_version(), _disk(home)]
    try:
        # Not Database.open, which would bring an older schema up to date.
        with Database(home.control_db) as db:
            checks.append(_database(db))
            overviews = machines.overviews(db, EVERYTHING)
            checks.append(_clock(db, now))
            checks += _alarms(db)
            checks += _jobs(db, now, served=home.is_served())
    except PilulierError as error:
        checks.append(Check("control database", False, str(error)))
        overviews = []
    checks += _repositories(home, overviews)
    checks.append(_guarded("escrow key", _escrow, home))
    checks.append(_guarded("ports", _ports, home))
    return checks


def _guarded(name: str, look: Callable[[Home], Check], home: Home) -> Check:
    try:
        return look(home)
    except PilulierError as error:
        return Check(name, False, str(error))


def _permissions(home: Home) -> Check:
    wrong = []
    for folder in (home.root, home.keys, home.repositories):
        try:
            mode = stat.S_IMODE(folder.stat().st_mode)
        except OSError as error:
            wrong.append(f"{folder} cannot be looked at ({error.strerror})")
            continue
        if mode & 0o077:
            wrong.append(f"{folder} is open to others (mode {mode:04o}): run chmod 700 on it")
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            wrong.append(f"{folder} is not writable by this user")
    return Check("permissions", not wrong, "; ".join(wrong) or "folders are private and writable")


def _settings(home: Home) -> Check:
    settings = endpoints.checked(home.load_settings())
    return Check("settings", True, f"agents at {settings.listen}")


def _keys(home: Home) -> Check:
    home.load_identity()
    home.curve_public()
    return Check("keys", True, "identity and connection keys are readable by their owner only")


def _escrow(home: Home) -> Check:
    known = escrow.listed(home)
    states = {info.state for info in known}
    if KeyState.HALF in states:
        return Check("escrow key", False, "its clear half still lies beside its envelope: run 'escrow protect' again")
    if KeyState.LOCKED in states:
        waiting = "web restores of confided keys wait for 'pilulier escrow unlock'"
        return Check("escrow key", False, f"locked: {waiting}; backups go on")
    if not known:
        return Check("escrow key", True, "made when the service first starts")
    return Check("escrow key", True, ", ".join(sorted(f"{state}" for state in states)))


def _sqlite_version() -> Check:
    note = "" if SQLITE_VERSION >= SAFE_WAL else ", too old for safe write-ahead logs: none is used"
    version = ".".join(map(str, SQLITE_VERSION))
    return Check("sqlite", SQLITE_VERSION >= OLDEST_SQLITE, f"version {version}{note}")


def _disk(home: Home) -> Check:
    usage = shutil.disk_usage(home.repositories)
    enough = usage.free >= max(_FREE_BYTES, usage.total * _FREE_SHARE)
    advice = "" if enough else ": make room, new data is refused on a full disk"
    return Check("disk space", enough, f"{format_size(usage.free)} free of {format_size(usage.total)}{advice}")


def _database(db: Database) -> Check:
    problems = db.integrity_problems()
    if problems:
        return Check("control database", False, f"{db.path} is damaged ({problems[0]}): put it back from a backup")
    version, newest = db.schema_version(), MIGRATIONS[-1].number
    if not 1 <= version <= newest:
        return Check("control database", False, f"{db.path} is of schema {version}, this program knows 1 to {newest}")
    return Check("control database", True, f"sound, schema {version} of {newest}")


def _clock(db: Database, now: float) -> Check:
    latest = db.value(
        "SELECT max(coalesce((SELECT max(received_at) FROM snapshot_statistics), 0), "
        "coalesce((SELECT max(last_seen_at) FROM machine), 0), "
        "coalesce((SELECT max(created_at) FROM account), 0)) AS latest"
    )
    if now < _FIRST_SANE_TIME:
        return Check("clock", False, "the clock is set to a time before this program existed: set it")
    if latest > now + _CLOCK_SLACK_S:
        return Check(
            "clock",
            False,
            f"the clock is {latest - now:.0f} s behind the last thing recorded: check time synchronisation",
        )
    return Check("clock", True, "later than everything recorded")


def _alarms(db: Database) -> Iterator[Check]:
    """One failed check for each thing that is wrong now; an older schema has no alarms to look at."""
    if db.schema_version() < alarms.SCHEMA:
        return
    for alarm in alarms.every(db):
        whose = f" of machine {alarm.machine_id.hex()}" if alarm.machine_id else ""
        since = datetime.fromtimestamp(alarm.first_seen_at, UTC)
        yield Check("alarm", False, f"{alarm.kind}{whose}, since {since:%Y-%m-%d %H:%M} UTC: {alarm.text}")


def _jobs(db: Database, now: float, *, served: bool) -> Iterator[Check]:
    """Jobs that failed last, and, where a service runs, those that nobody does; an older schema has none."""
    if db.schema_version() < job_table.SCHEMA:
        return
    jobs = job_table.every(db)
    failed = [job for job in jobs if job.last is not None and job.last.outcome is Outcome.FAILED]
    overdue = [job for job in jobs if served and job.running_since is None and now - job.next_at > _OVERDUE_S]
    if failed and failed[0].last is not None:
        yield Check("jobs", False, f"{failed[0].name} failed: {failed[0].last.text}; see 'pilulier jobs list'")
    elif overdue:
        yield Check("jobs", False, f"{overdue[0].name} is overdue: is the part 'jobs' of the service running?")
    else:
        yield Check("jobs", True, f"{len(jobs)} known, none failed last" if jobs else "they begin with the service")


def _repositories(home: Home, overviews: list[Overview]) -> Iterator[Check]:
    from appliance.store.repository import Repository

    sound = 0
    for overview in overviews:
        machine = overview.machine
        folder = home.repository(machine.id)
        name = f"repository {machine.name} ({machine.hex})"
        if not folder.is_dir():
            if overview.last_snapshot is not None:
                yield Check(name, False, f"{folder} is missing: mount its disk or put it back")
            continue
        try:
            repository = Repository.open(folder, read_only=True)
            try:
                held = repository.stats().snapshots
            finally:
                repository.close()
        except (PilulierError, OSError) as error:
            yield Check(name, False, f"{error}; see 'pilulier repo check {machine.hex}'")
            continue
        if held < (overview.last_snapshot is not None):
            yield Check(name, False, f"it holds no snapshot though number {overview.last_snapshot} was received")
            continue
        sound += 1
    known = {overview.machine.hex for overview in overviews}
    strangers = sorted(
        entry.name for entry in os.scandir(home.repositories) if entry.is_dir() and entry.name not in known
    )
    if strangers:
        yield Check("repositories", False, f"{len(strangers)} belong to no machine, for instance {strangers[0]}")
    else:
        yield Check("repositories", True, f"{sound} of {len(overviews)} machines have one that opens")


def _ports(home: Home) -> Check:
    addresses = endpoints.remembered(home)
    if home.is_served():
        return Check("ports", True, f"served at {addresses.transport}")
    taken = [str(address) for address in (addresses.transport, addresses.enrolment) if not endpoints.is_free(address)]
    if taken:
        return Check("ports", False, f"{' and '.join(taken)} cannot be listened on: another program may hold it")
    if not (addresses.transport.port and addresses.enrolment.port):
        return Check("ports", True, "chosen when the service first starts")
    return Check("ports", True, f"{addresses.transport} and {addresses.enrolment} are free; the service is not running")
