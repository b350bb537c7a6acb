"""`pilulier machine settings`, `backup`, `accept`: what is wanted of a machine's agent."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from transport.errors import UsageError

if TYPE_CHECKING:
    from appliance.control.machine_settings import MachineSettings, Wanted
    from transport.schedule import Schedule


def register(actions: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers below `machine`."""
    for name, text, function in (
        ("settings", "show or change what its agent is to back up, and when", settings),
        ("backup", "ask its agent for a backup now; a running agent begins within a minute", backup),
        ("accept", "say that what it backs up was made smaller on purpose: ends that alert", accept),
    ):
        parser = actions.add_parser(name, parents=[common], allow_abbrev=False, help=text, description=text + ".")
        parser.add_argument("machine", metavar="M", help="its id, the beginning of it, or its name")
        if function is settings:
            parser.add_argument("--include", metavar="PATH", action="append", help="back this up (instead of before)")
            parser.add_argument("--exclude", metavar="RULE", action="append", help="leave this out; needs --include")
            parser.add_argument("--time", metavar="HH:MM", action="append", help="back up at this time, or several")
            parser.add_argument("--days", metavar="DAYS", help="on these days only: mon,tue,… (default: every day)")
            parser.add_argument(
                "--continuous", choices=("on", "off"), help="follow changes as they happen, beside the times"
            )
            parser.add_argument("--language", metavar="LANG", help="fr, en or de")
            parser.add_argument(
                "--leave",
                choices=("selection", "schedule", "language"),
                action="append",
                default=[],
                help="leave this to the machine again",
            )
            parser.add_argument("--impose", action="store_true", help="send again what the machine changed since")
        parser.set_defaults(run=function)


def settings(invocation: Invocation) -> int:
    """`machine settings M`: shows them, after a change where options ask for one."""
    from appliance.control import machine_settings, machines
    from appliance.control.scope import EVERYTHING

    arguments = invocation.arguments
    with invocation.database() as db, db.write():
        machine = machines.find(db, EVERYTHING, arguments.machine)
        found = machine_settings.get(db, EVERYTHING, machine.id)
        before, wanted = found.wanted, _wanted(arguments, found.wanted)
        if wanted != before or arguments.impose:
            by, now = audited.actor().email, invocation.now()
            found = machine_settings.save(db, EVERYTHING, machine.id, wanted, by, now, impose=arguments.impose)
            change = {"before": _values(before), "after": _values(found.wanted)}
            audited.note(invocation, db, "machine.settings", machine, **change)
    _show(invocation, machine.name, found)
    return 0


def _wanted(arguments: argparse.Namespace, before: Wanted) -> Wanted:
    """What is wanted after the options; UsageError where they do not go together."""
    from appliance.control.machine_settings import Wanted, checked_rules
    from transport.schedule import DAYS, Schedule

    if arguments.exclude and not arguments.include:
        raise UsageError("--exclude needs --include: a selection is given as a whole")
    if arguments.days and not arguments.time:
        raise UsageError("--days needs --time: a schedule is given as a whole")
    selection, schedule, language = before.selection, before.schedule, before.language
    if arguments.include:
        selection = checked_rules(arguments.include, arguments.exclude or ())
    if arguments.time or arguments.continuous:
        before_that = schedule or Schedule()
        times, days = before_that.times, before_that.days
        if arguments.time:
            times, days = arguments.time, arguments.days.split(",") if arguments.days else list(DAYS)
        follow = arguments.continuous == "on" if arguments.continuous else before_that.continuous
        schedule = Schedule.of(times, days, continuous=follow)
    if arguments.language:
        language = arguments.language
    return Wanted(
        None if "selection" in arguments.leave else selection,
        None if "schedule" in arguments.leave else schedule,
        None if "language" in arguments.leave else language,
    )


def _values(wanted: Wanted) -> dict[str, object]:
    """What the audit log and scripts read."""
    return {
        "include": None if wanted.selection is None else list(wanted.selection.include),
        "exclude": None if wanted.selection is None else list(wanted.selection.exclude),
        "times": None if wanted.schedule is None else wanted.schedule.times,
        "days": None if wanted.schedule is None else wanted.schedule.days,
        "continuous": None if wanted.schedule is None else wanted.schedule.continuous,
        "language": wanted.language,
    }


def _show(invocation: Invocation, name: str, found: MachineSettings) -> None:
    wanted, report = found.wanted, found.report
    invocation.document(
        {
            "machine": found.machine_id.hex(),
            "version": found.version,
            "state": str(found.sync),
            **_values(wanted),
            "report": None
            if report is None
            else {
                "at": iso_time(report.at),
                "version": report.version,
                "outcome": str(report.outcome),
                "reason": report.reason,
                "remote_allowed": report.remote_allowed,
                "times": report.schedule.times,
                "days": report.schedule.days,
                "continuous": report.schedule.continuous,
                "language": report.language,
                "included": report.includes,
                "excluded": report.excludes,
                "next_run": iso_time(report.next_run_at),
                "shrunk_at": iso_time(report.shrunk_at),
            },
        }
    )
    rules = wanted.selection
    facts: list[tuple[str, object]] = [
        ("machine", f"{name} ({found.machine_id.hex()})"),
        ("settings", f"version {found.version}, {found.sync}" if found.version else "nothing is set from here"),
        ("included", "left to the machine" if rules is None else ", ".join(rules.include)),
        ("excluded", "left to the machine" if rules is None else ", ".join(rules.exclude) or "nothing"),
        ("times", "left to the machine" if wanted.schedule is None else _when(wanted.schedule)),
        ("language", wanted.language or "the contract's"),
    ]
    if report is None:
        facts.append(("the machine says", "nothing yet"))
    else:
        facts += [
            ("the machine says", f"{report.includes} included, {report.excludes} excluded ({people_time(report.at)})"),
            ("its times", f"{_when(report.schedule)}; next backup: {people_time(report.next_run_at)}"),
            ("from here", "allowed" if report.remote_allowed else "refused by the machine's owner"),
        ]
        if report.reason:
            facts.append(("remark", report.reason))
        if report.shrunk_at is not None:
            facts.append(("alert", f"what it backs up was made smaller, {people_time(report.shrunk_at)}"))
    invocation.facts(facts)


def _when(schedule: Schedule) -> str:
    words = [*schedule.times, *(["changes as they happen"] if schedule.continuous else [])]
    return ", ".join(words) or "no time: nothing starts by itself"


def backup(invocation: Invocation) -> int:
    """`machine backup M`."""
    from appliance.control import backup_requests, machines
    from appliance.control.scope import EVERYTHING

    with invocation.database() as db, db.write():
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
        request = backup_requests.ask(db, EVERYTHING, machine.id, audited.actor().email, invocation.now())
        audited.note(invocation, db, "machine.backup", machine)
    invocation.document({"machine": machine.hex, "request": request.number, "state": str(request.state)})
    invocation.say(f"Machine {machine.name} is asked for a backup: its agent, if it runs, begins within a minute.")
    return 0


def accept(invocation: Invocation) -> int:
    """`machine accept M`."""
    from appliance.control import machine_settings, machines
    from appliance.control.scope import EVERYTHING

    with invocation.database() as db, db.write():
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
        audited.note(invocation, db, "machine.accept", machine)
        machine_settings.accept_selection(db, EVERYTHING, machine.id)
    invocation.document({"machine": machine.hex})
    invocation.say(f"What machine {machine.name} backs up now is as it should be.")
    return 0
