"""Logs of machines."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("logs", __name__)


@blueprint.get("/logs")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Logs of machines."""
    return render_template("base.html", title=_("Logs"))
