"""Machines and what may be done to them."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("machines", __name__)


@blueprint.get("/machines")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Machines and what may be done to them."""
    return render_template("base.html", title=_("Machines"))
