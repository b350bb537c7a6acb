"""One machine: its facts, its last backups, what may be done to it."""

from __future__ import annotations

import re
from typing import Final

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from appliance.control import machines
from appliance.control.machines import Machine
from appliance.errors import NotFoundError
from webui import context
from webui.gate import EVERYONE, allow

blueprint = Blueprint("machines", __name__)
_ID: Final = re.compile(r"[0-9a-f]{32}")


def of_address(machine: str) -> Machine:
    """The machine that an address names by its whole id, if it lies in the reader's scope; NotFoundError otherwise."""
    # The command line takes a name or the beginning of an id; an address must not.
    if not _ID.fullmatch(machine):
        raise NotFoundError("an address names a machine by its whole id")
    return machines.find(context.db(), context.scope(), machine)


@blueprint.get("/machines/<machine>")
@allow(EVERYONE)
def detail(machine: str) -> ResponseReturnValue:
    """One machine. `machine` is its id in hex."""
    found = of_address(machine)
    return render_template("base.html", title=found.name)
