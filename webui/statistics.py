"""Statistics by day, and their charts."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("statistics", __name__)


@blueprint.get("/statistics")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Statistics by day, and their charts."""
    return render_template("base.html", title=_("Statistiques"))
