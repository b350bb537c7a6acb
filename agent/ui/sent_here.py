"""Restores that somebody sent to this machine from the web interface: what each would bring, wanted or not."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from agent import deliveries, receiving
from agent.enrolling import enrolled
from agent.ui.disk_tree import shown_name
from agent.ui.failures import explained
from agent.ui.machine import this
from agent.ui.restoring import Order
from transport import messages as m
from transport.errors import UsageError

blueprint = Blueprint("sent_here", __name__, url_prefix="/restore/sent")


def _find(number: int) -> m.Delivery:
    for one in receiving.waiting(this().home):
        if one.number == number:
            return one
    abort(404)


@blueprint.get("/<int:number>")
def show(number: int) -> ResponseReturnValue:
    """What it would bring, by the names in this machine's own backup."""
    machine = this()
    offer = _find(number)
    try:
        content = deliveries.content(enrolled(machine.home), number)
    except UsageError:
        abort(404)  # taken back meanwhile
    return render_template(
        "restores/sent.html",
        offer=offer,
        content=content,
        names=[shown_name(name) for name in content.names],
        folder=str(receiving.base_folder(machine.home)),
    )


@blueprint.post("/<int:number>/accept")
def accept(number: int) -> ResponseReturnValue:
    """The person wants it: it lands in a new folder of its own."""
    machine = this()
    offer = _find(number)
    if machine.under_way() is not None or not machine.restores.begin(Order(offer.snapshot, (), None, delivery=number)):
        flash(explained("busy"), "warning")
        return redirect(url_for(".show", number=number), 303)
    return redirect(url_for("restores.index"), 303)


@blueprint.post("/<int:number>/refuse")
def refuse(number: int) -> ResponseReturnValue:
    """The person does not want it."""
    machine = this()
    _find(number)
    deliveries.refuse(enrolled(machine.home), number)
    flash(_("Restauration refusée : qui l’a envoyée le verra."), "info")
    return redirect(url_for("restores.index"), 303)
