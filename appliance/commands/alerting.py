"""`pilulier alerts`: what is wrong, since when, who answers for it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from transport.errors import UsageError

if TYPE_CHECKING:
    from appliance.control.alert_table import LivingAlert


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    alerts = commands.add_parser(
        "alerts",
        parents=[common],
        allow_abbrev=False,
        help="what is wrong: list, acknowledge",
        description="What is wrong with machines, contracts and the appliance itself.",
    )
    actions = alerts.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser("list", parents=[common], allow_abbrev=False, help="what is not resolved yet")
    parser.add_argument("--history", action="store_true", help="the newest hundred, resolved ones too")
    parser.set_defaults(run=show)
    parser = actions.add_parser(
        "acknowledge",
        parents=[common],
        allow_abbrev=False,
        help="answer for one; lets a frozen machine be pruned again",
        description="Say that somebody has seen an alert and answers for it. A machine whose suspicious change is "
        "acknowledged is pruned again.",
    )
    parser.add_argument("number", metavar="N", help="its number, see 'pilulier alerts list'")
    parser.set_defaults(run=acknowledge)


def _document(one: LivingAlert) -> dict[str, Any]:
    return {
        "alert": one.id,
        "kind": str(one.alert.kind),
        "state": str(one.state),
        "machine": one.alert.machine_id.hex() if one.alert.machine_id else None,
        "name": one.alert.machine_name or None,
        "contract": one.alert.contract_id or None,
        "reason": _reason(one),
        "opened_at": iso_time(one.opened_at),
        "acknowledged_at": iso_time(one.acknowledged_at),
        "acknowledged_by": one.acknowledged_by,
        "resolved_at": iso_time(one.resolved_at),
    }


def _reason(one: LivingAlert) -> str:
    from appliance.control.machine_alerts import reason_of

    return reason_of(one.alert)


def show(invocation: Invocation) -> int:
    """`alerts list`."""
    from appliance.control import alert_table
    from appliance.control.scope import EVERYTHING

    with invocation.database() as db:
        read = alert_table.history if invocation.arguments.history else alert_table.living
        found = read(db, EVERYTHING)
    invocation.document([_document(one) for one in found])
    invocation.table(
        ["alert", "since", "state", "client", "machine", "what"],
        [
            [one.id, people_time(one.opened_at), one.state, one.alert.client_id, one.alert.machine_name, _reason(one)]
            for one in found
        ],
        "Nothing is wrong.",
    )
    return 0


def acknowledge(invocation: Invocation) -> int:
    """`alerts acknowledge N`."""
    from appliance.control import alert_table, audit
    from appliance.control.scope import EVERYTHING

    text = invocation.arguments.number
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise UsageError(f"{text!r} is not the number of an alert: see 'pilulier alerts list'")
    with invocation.database() as db, db.write():
        now = invocation.now()
        done = alert_table.acknowledge(db, EVERYTHING, int(text), by=audited.who(), now=now)
        audit.write(
            db,
            audited.actor(),
            "alert.acknowledge",
            now=now,
            object_kind=str(done.alert.kind),
            object_id=str(done.id),
            object_name=done.alert.machine_name or done.alert.client_id,
            space_id=done.alert.space_id or None,
            contract_id=done.alert.contract_id or None,
        )
    invocation.document(_document(done))
    invocation.say(f"Alert {done.id} is acknowledged by {done.acknowledged_by}.")
    return 0
