"""Machines that ask for attention."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("alerts", __name__)


@blueprint.get("/alerts")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Machines that ask for attention."""
    return render_template("base.html", title=_("Machines en alerte"))
