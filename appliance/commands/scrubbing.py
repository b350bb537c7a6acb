"""`pilulier repo scrub`: every byte read again, damage named with what it costs. Needs no key."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation
from appliance.errors import NotFoundError
from appliance.sizes import format_size
from transport.errors import UsageError

if TYPE_CHECKING:
    from appliance.store.upkeep.scrub import DamageFound

_EXIT_FAILED = 1


def register(actions: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser below `repo`."""
    parser = actions.add_parser(
        "scrub",
        parents=[common],
        allow_abbrev=False,
        help="read every byte again, and note damage for the next backup to mend",
        description="Read every record again, beside running backups and from where the last scrub stopped. Damage is "
        "noted with the snapshots and files it touches; the next backup of the machine sends again what it still has. "
        "Exit code 1 where damage is known that is not mended.",
    )
    parser.add_argument("machine", metavar="M", help="its id, the beginning of it, or its name")
    parser.add_argument("--rate", metavar="MB", default="0", help="megabytes a second at most (default: no limit)")
    parser.add_argument("--minutes", metavar="N", default="0", help="stop then; the next scrub goes on from there")
    parser.set_defaults(run=scrub)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"{what} {text!r} is not a number, 0 or more")
    return value


def scrub(invocation: Invocation) -> int:
    """`repo scrub M`."""
    from appliance import nightly
    from appliance.control import machines
    from appliance.control.scope import EVERYTHING
    from appliance.store.upkeep.access import Access
    from appliance.store.upkeep.scrub import scrub as scrub_repository

    rate = _number(invocation.arguments.rate, "--rate") * 1e6
    minutes = _number(invocation.arguments.minutes, "--minutes")
    home = invocation.home()
    with invocation.database(home) as db:
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
        folder = home.repository(machine.id)
        if not folder.is_dir():
            raise NotFoundError(f"{folder} is missing: mount its disk, or wait for the first backup of {machine.name}")
        audited.note(invocation, db, "repo.scrub", machine)
    with Access(folder) as access:
        report = scrub_repository(
            access, now_ms=lambda: int(time.time() * 1000), rate_bytes_s=rate, limit_s=minutes * 60 if minutes else None
        )
    with invocation.database(home) as db:
        nightly.tell_damage(db, machine, report, invocation.now())
    invocation.document(
        {
            "ok": not report.damage,
            "finished": report.finished,
            "records_read": report.records,
            "bytes_read": report.bytes_read,
            "damage": [shown(found) for found in report.damage],
            "well_again": [{"pack": pack, "offset": offset} for pack, offset in report.well_again],
        }
    )
    invocation.say(
        f"{report.records} records read, {format_size(report.bytes_read)}. "
        + ("The whole repository is done." if report.finished else "The next scrub goes on from here.")
    )
    for pack, offset in report.well_again:
        invocation.say(f"{pack} at byte {offset} reads well again: look after this disk")
    invocation.table(
        ["pack", "offset", "kind", "what needs it", "detail"],
        [[one.pack, one.offset, one.kind, one.impact.sentence(), one.detail] for one in report.damage],
        "No damage is known.",
    )
    return _EXIT_FAILED if report.damage else 0


def shown(found: DamageFound) -> dict[str, Any]:
    """Damage as JSON."""
    return {
        "pack": found.pack,
        "offset": found.offset,
        "kind": found.kind,
        "detail": found.detail,
        "snapshots": list(found.impact.snapshots),
        "files": found.impact.files,
    }
