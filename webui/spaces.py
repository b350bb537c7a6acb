"""Spaces: a reseller's tenants."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import spaces
from webui import context
from webui.gate import OPERATORS, allow
from webui.rendering import safe_next

blueprint = Blueprint("spaces", __name__)


@blueprint.get("/spaces")
@allow(OPERATORS)
def index() -> ResponseReturnValue:
    """Spaces: a reseller's tenants."""
    return render_template("base.html", title=_("Gestion des espaces"))


@blueprint.post("/focus")
@allow(OPERATORS)
def focus() -> ResponseReturnValue:
    """Narrow what the super-user sees to one space, or widen it to all again."""
    chosen = request.form.get("space", "")
    known = {space.id for space in spaces.every(context.db())}
    if chosen in known:
        session[context.FOCUS] = chosen
    else:
        session.pop(context.FOCUS, None)
    return redirect(safe_next(request.form.get("next")) or url_for("control_room.index"), 303)
