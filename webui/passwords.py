"""Getting in for the first time, and again: invitations, forgotten passwords, lost authenticators."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

blueprint = Blueprint("password", __name__)
invitation = Blueprint("invitation", __name__)
device = Blueprint("device", __name__)


@blueprint.get("/password/forgotten")
def forgotten() -> ResponseReturnValue:
    """Ask for a link by mail."""
    return render_template("base.html")
