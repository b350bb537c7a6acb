"""Accounts of people."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import MANAGERS, allow

blueprint = Blueprint("accounts", __name__)


@blueprint.get("/accounts")
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """Accounts of people."""
    return render_template("base.html", title=_("Gestion des comptes"))
