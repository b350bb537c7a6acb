"""`pilulier repo prune`, `hold` and `release`: what goes, why, and what must not. None of it needs a key."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from appliance.sizes import format_size
from transport.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from appliance.control.database import Database
    from appliance.control.machines import Machine
    from appliance.pruning import PruneOutcome

_EXIT_FAILED = 1
_EXIT_WARNINGS = 3
_MACHINE = "its id, the beginning of it, or its name"


def register(actions: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers below `repo`."""
    parser = actions.add_parser(
        "prune",
        parents=[common],
        allow_abbrev=False,
        help="drop old snapshots as the contract says, and free their space",
        description="Drop the snapshots that the contract's retention lets go, and free their space. The newest "
        "snapshot, held ones and the contract's floor stay whatever is asked. Nothing is dropped while the clock "
        "of this appliance looks wrong (exit code 1).",
    )
    parser.add_argument("machine", metavar="M", help=_MACHINE)
    parser.add_argument("--keep-days", metavar="N", help="keep all of the last N days, this once (default: contract's)")
    parser.add_argument("--dry-run", action="store_true", help="say what would go and why; change nothing")
    parser.add_argument(
        "--accept-clock", action="store_true", help="the clock is right, though it went back or far forward"
    )
    parser.set_defaults(run=prune)

    parser = actions.add_parser(
        "hold", parents=[common], allow_abbrev=False, help="forbid to drop one snapshot until it is released"
    )
    parser.add_argument("machine", metavar="M", help=_MACHINE)
    parser.add_argument("snapshot", metavar="N", help="the snapshot's number")
    parser.add_argument("--reason", required=True, metavar="R", help="why, for whoever finds it held")
    parser.set_defaults(run=hold)

    parser = actions.add_parser(
        "release", parents=[common], allow_abbrev=False, help="let a held snapshot go the way of the others"
    )
    parser.add_argument("machine", metavar="M", help=_MACHINE)
    parser.add_argument("snapshot", metavar="N", help="the snapshot's number")
    parser.set_defaults(run=release)


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UsageError(f"{what} {text!r} is not a number, 0 or more")
    return int(text)


def _find(invocation: Invocation, db: Database) -> Machine:
    from appliance.control import machines
    from appliance.control.scope import EVERYTHING

    return machines.find(db, EVERYTHING, invocation.arguments.machine)


def prune(invocation: Invocation) -> int:
    """`repo prune M`: exit code 1 where the clock cannot be believed."""
    from appliance import pruning
    from appliance.control import alert_table, clock

    arguments = invocation.arguments
    keep_days = None if arguments.keep_days is None else _number(arguments.keep_days, "--keep-days")
    home = invocation.home()
    with invocation.database(home) as db:
        machine = _find(invocation, db)
        if not arguments.dry_run and alert_table.pruning_is_frozen(db, machine.id):
            raise RefusedError(
                f"nothing of {machine.name} is dropped while its suspicious change waits for somebody: look at it and "
                "acknowledge the alert first, see 'pilulier alerts list'"
            )
        outcome = pruning.prune_machine(
            home,
            db,
            machine,
            clock.read(invocation.now()),
            keep_days=keep_days,
            dry_run=arguments.dry_run,
            accept_clock=arguments.accept_clock,
            by=audited.actor(),
            progress=None if invocation.wants_json else invocation.note,
        )
    _show(invocation, outcome)
    if outcome.plan.alarm is not None:
        invocation.note(
            f"nothing is dropped, because {outcome.plan.alarm}; set the clock right, or, if it is, "
            "say so with --accept-clock"
        )
        return _EXIT_FAILED
    if outcome.report is None:
        return 0
    for pack in outcome.report.packs_kept:
        invocation.note(f"pack {pack.number} could not be written anew: {pack.reason}")
    if not outcome.report.finished:
        invocation.note("damage was being mended meanwhile: run this again to free the rest")
    return 0 if outcome.report.finished and not outcome.report.packs_kept else _EXIT_WARNINGS


def _show(invocation: Invocation, outcome: PruneOutcome) -> None:
    from appliance.store.upkeep.retention import Drop

    plan = outcome.plan
    invocation.document(
        {
            "snapshots_kept": len(plan.kept),
            "snapshots_dropped": len(plan.dropped),
            "bytes_freed": outcome.bytes_freed,
            "bytes_in_quarantine": outcome.report.bytes_in_quarantine if outcome.report else 0,
            "bytes_dead_left": outcome.report.bytes_dead_left if outcome.report else 0,
            "dry_run": outcome.dry_run,
            "keep_days": outcome.policy.keep_days,
            "floor_days": outcome.policy.floor_days,
            "alarm": plan.alarm,
            "reasons": [
                {
                    "snapshot": one.number,
                    "time": iso_time(one.received_ms / 1000),
                    "action": "drop" if isinstance(one.action, Drop) else "keep",
                    "reason": one.action.reason,
                }
                for one in plan.decisions
            ],
        }
    )
    invocation.table(
        ["snapshot", "received", "action", "reason"],
        [
            [
                one.number,
                people_time(one.received_ms / 1000),
                "drop" if isinstance(one.action, Drop) else "keep",
                one.action.reason,
            ]
            for one in plan.decisions
        ],
        "There is no snapshot yet.",
    )
    if outcome.dry_run:
        invocation.say(f"{len(plan.kept)} snapshots would be kept, {len(plan.dropped)} dropped.")
    elif outcome.report is not None:
        freed = format_size(outcome.bytes_freed)
        invocation.say(f"{len(plan.kept)} snapshots kept, {len(plan.dropped)} dropped, {freed} freed.")
        if outcome.report.bytes_in_quarantine:
            waiting = format_size(outcome.report.bytes_in_quarantine)
            invocation.say(f"{waiting} of old packs stay on disk in quarantine, until a prune a day from now.")
        if outcome.report.bytes_dead_left:
            left = format_size(outcome.report.bytes_dead_left)
            invocation.say(f"{left} that nothing needs stay in packs that are not worth writing anew yet.")


def hold(invocation: Invocation) -> int:
    """`repo hold M N --reason R`."""
    from appliance import pruning

    arguments = invocation.arguments
    number = _number(arguments.snapshot, "snapshot")
    home = invocation.home()
    with invocation.database(home) as db:
        machine = _find(invocation, db)
        made = pruning.hold_snapshot(
            home, db, machine, number, reason=arguments.reason, held_by=audited.who(), now=invocation.now()
        )
        audited.note(invocation, db, "repo.hold", machine, after={"snapshot": number, "reason": made.reason})
    invocation.document(
        {
            "machine": machine.hex,
            "snapshot": number,
            "held": True,
            "reason": made.reason,
            "by": made.held_by,
            "at": iso_time(made.at),
        }
    )
    invocation.say(f"Snapshot {number} of {machine.name} is held: no prune drops it until it is released.")
    return 0


def release(invocation: Invocation) -> int:
    """`repo release M N`."""
    from appliance.control import holds

    number = _number(invocation.arguments.snapshot, "snapshot")
    with invocation.database() as db, db.write():
        machine = _find(invocation, db)
        held = holds.of_machine(db, machine.id).get(number)
        holds.release(db, machine.id, number)
        before = {"snapshot": number, "reason": held.reason if held else "", "by": held.held_by if held else ""}
        audited.note(invocation, db, "repo.release", machine, before=before)
    invocation.document({"machine": machine.hex, "snapshot": number, "held": False})
    invocation.say(f"Snapshot {number} of {machine.name} goes the way of the others from now on.")
    return 0
