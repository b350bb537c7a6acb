"""`pilulier repo rebuild`: the catalog made anew from packs alone. Needs no key."""

from __future__ import annotations

import argparse
import time

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation
from appliance.errors import NotFoundError

_EXIT_FAILED = 1
_SHOWN = 50


def register(actions: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser below `repo`."""
    parser = actions.add_parser(
        "rebuild",
        parents=[common],
        allow_abbrev=False,
        help="make the catalog anew from the packs alone",
        description="Make the catalog anew from the packs, compare it with the present one, and put it in its place if "
        "they differ; the old one is kept as catalog.sqlite.old. Exit code 1 where the packs themselves have gaps.",
    )
    parser.add_argument("machine", metavar="M", help="its id, the beginning of it, or its name")
    parser.set_defaults(run=rebuild)


def rebuild(invocation: Invocation) -> int:
    """`repo rebuild M`."""
    from appliance.control import machines
    from appliance.control.scope import EVERYTHING
    from appliance.store.upkeep.rebuilding import rebuild as rebuild_repository

    home = invocation.home()
    with invocation.database(home) as db:
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
        folder = home.repository(machine.id)
        if not folder.is_dir():
            raise NotFoundError(f"{folder} is missing: mount its disk, or wait for the first backup of {machine.name}")
        audited.note(invocation, db, "repo.rebuild", machine)
    report = rebuild_repository(folder, now_ms=int(time.time() * 1000))
    invocation.document(
        {
            "ok": report.ok,
            "records_read": report.records_read,
            "bytes_read": report.bytes_read,
            "snapshots": report.snapshots,
            "segments": report.segments,
            "replaced": report.replaced,
            "differences": report.differences,
        }
    )
    invocation.say(
        f"{report.records_read} records read: {report.snapshots} snapshots, {report.segments} segments. "
        + ("The rebuilt catalog is in its place." if report.replaced else "The catalog was right; nothing was changed.")
    )
    for text in report.differences[:_SHOWN]:
        invocation.say(f"- {text}")
    if len(report.differences) > _SHOWN:
        invocation.say(f"- and {len(report.differences) - _SHOWN} more")
    return 0 if report.ok else _EXIT_FAILED
