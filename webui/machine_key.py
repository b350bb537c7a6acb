"""How a machine's key is kept, and how it is changed: by its owner, on the machine, never from here.

A button that changes keys from the web would be a way for a stolen admin account to play with them; the page says what
the command does and what the appliance holds.
"""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from appliance.control import machine_keys
from webui import context
from webui.gate import EVERYONE, allow
from webui.machines import of_address, room_row

blueprint = Blueprint("machine_key", __name__)


@blueprint.get("/machines/<machine>/key")
@allow(EVERYONE)
def index(machine: str) -> ResponseReturnValue:
    """One machine's key. `machine` is its id in hex."""
    found = of_address(machine)
    held = machine_keys.find(context.db(), context.scope(), found.id)
    return render_template("machines/key.html", machine=found, row=room_row(found), held=held)
