"""The box itself."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import OPERATORS, allow

blueprint = Blueprint("system", __name__)


@blueprint.get("/system")
@allow(OPERATORS)
def index() -> ResponseReturnValue:
    """The box itself."""
    return render_template("base.html", title=_("Super utilisateur"))
