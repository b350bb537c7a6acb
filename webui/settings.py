"""Settings of a space."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import MANAGERS, allow

blueprint = Blueprint("settings", __name__)


@blueprint.get("/settings")
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """Settings of a space."""
    return render_template("base.html", title=_("Réglages"))
