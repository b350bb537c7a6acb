"""Backups under way."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("running", __name__)


@blueprint.get("/running")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Backups under way."""
    return render_template("base.html", title=_("Sauvegardes en cours"))
