"""One's own account."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webui.gate import EVERYONE, allow

blueprint = Blueprint("profile", __name__)


@blueprint.get("/profile")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """One's own account."""
    return render_template("base.html", title=_("Mon compte"))
