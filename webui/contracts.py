"""Contracts as cards, and one contract with its machines."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import contract_cards
from webui import context
from webui.gate import EVERYONE, allow

blueprint = Blueprint("contracts", __name__)


@blueprint.get("/contracts")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Contracts as cards."""
    return render_template("base.html", title=_("Gestion des contrats"))


@blueprint.get("/contracts/<contract_id>")
@allow(EVERYONE)
def detail(contract_id: str) -> ResponseReturnValue:
    """One contract."""
    card = contract_cards.one(context.db(), context.scope(), contract_id, context.now())
    return render_template("base.html", title=card.client_id)
