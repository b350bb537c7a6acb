"""Contracts as cards."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("contracts", __name__)


@blueprint.get("/contracts")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Contracts as cards."""
    return render_template("base.html", title=_("Gestion des contrats"))
