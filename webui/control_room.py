"""The control room: the state of every machine at a glance."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("control_room", __name__)


@blueprint.get("/")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """The control room: the state of every machine at a glance."""
    return render_template("base.html", title=_("Salle de contrôle"))
