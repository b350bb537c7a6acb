"""One machine: its facts, its last backups and log lines, what the web wants of it.

Reads only; `machine_acts` and `machine_settings` change. What the agent says of itself is shown as its word.
"""

from __future__ import annotations

import re
from typing import Final

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l

from appliance.control import (
    audit,
    backup_requests,
    contracts,
    control_room,
    deletions,
    deliveries,
    machine_keys,
    machine_logs,
    machine_settings,
    machines,
    running,
    site_copies,
    statistics,
)
from appliance.control.accounts import Role
from appliance.control.backup_requests import RequestState
from appliance.control.control_room import RoomRow
from appliance.control.deletions import Kind
from appliance.control.deliveries import Delivery
from appliance.control.machine_settings import Sync
from appliance.control.machines import Machine
from appliance.errors import NotFoundError
from webui import context
from webui.gate import EVERYONE, allow
from webui.states import DELIVERIES, Look

blueprint = Blueprint("machines", __name__)

_ID: Final = re.compile(r"[0-9a-f]{32}")
BACKUPS: Final = 10
LINES: Final = 8
DELIVERIES_SHOWN: Final = 10
SYNCS: Final = {
    Sync.NOTHING: Look("none", _l("La machine décide"), "pc-display"),
    Sync.WAITING: Look("busy", _l("En attente de la machine"), "hourglass-split"),
    Sync.APPLIED: Look("ok", _l("Appliqué"), "check-circle-fill"),
    Sync.CHANGED_LOCALLY: Look("warn", _l("Modifié sur la machine"), "pencil-square"),
    Sync.REFUSED: Look("warn", _l("Refusé par le client"), "slash-circle"),
    Sync.INVALID: Look("bad", _l("Incompris par la machine"), "x-octagon-fill"),
}
REQUESTS: Final = {
    RequestState.WAITING: _l("demandée, en attente de la machine"),
    RequestState.TAKEN: _l("prise en compte par la machine"),
    RequestState.REFUSED: _l("refusée par la machine"),
    RequestState.EXPIRED: _l("oubliée : la machine ne s’est pas connectée à temps"),
}
DAY_NAMES: Final = (
    *(_l("lundi"), _l("mardi"), _l("mercredi"), _l("jeudi")),
    *(_l("vendredi"), _l("samedi"), _l("dimanche")),
)


def of_address(machine: str) -> Machine:
    """The machine that an address names by its whole id, if it lies in the reader's scope; NotFoundError otherwise."""
    # The command line takes a name or the beginning of an id; an address must not.
    if not _ID.fullmatch(machine):
        raise NotFoundError("an address names a machine by its whole id")
    return machines.find(context.db(), context.scope(), machine)


def room_row(machine: Machine) -> RoomRow:
    """The machine as the control room sees it; NotFoundError where it has just gone."""
    now = context.now()
    ids = running.ids(context.home().running_file, now)
    row = control_room.find(context.db(), context.scope(), now, machine.id, ids)
    if row is None:
        raise NotFoundError("this machine is gone")
    return row


def _sent(machine: Machine) -> list[Delivery]:
    """The newest deliveries to a machine, and of its files to others, newest first."""
    db, scope, now = context.db(), context.scope(), context.now()
    found = deliveries.of_machine(db, scope, machine.id, now, limit=DELIVERIES_SHOWN)
    found += deliveries.from_machine(db, scope, machine.id, now, limit=DELIVERIES_SHOWN)
    return sorted(found, key=lambda one: -one.created_at)[:DELIVERIES_SHOWN]


@blueprint.get("/machines/<machine>")
@allow(EVERYONE)
def detail(machine: str) -> ResponseReturnValue:
    """One machine. `machine` is its id in hex."""
    db, scope, now = context.db(), context.scope(), context.now()
    found = of_address(machine)
    return render_template(
        "machines/detail.html",
        machine=found,
        row=room_row(found),
        contract=contracts.find(db, scope, found.contract_id),
        backups=statistics.of_machine(db, found.id, BACKUPS),
        lines=list(reversed(machine_logs.of_machine(db, found.id, LINES))),
        settings=machine_settings.get(db, scope, found.id),
        asked=backup_requests.get(db, scope, found.id, now),
        deletion=deletions.of_object(db, scope, Kind.MACHINE, found.hex),
        key=machine_keys.find(db, scope, found.id),
        recovered=next(iter(audit.search(db, scope, kind="machine.recover", text=found.hex, limit=1).acts), None),
        is_customer=context.me().role is Role.CUSTOMER,
        sent=_sent(found),
        copies=site_copies.of_machine(db, found.id),
        DELIVERIES=DELIVERIES,
        SYNCS=SYNCS,
        REQUESTS=REQUESTS,
        DAY_NAMES=DAY_NAMES,
    )
