"""Sending a restore to its machine: what was ticked, a code, and then the machine's owner decides there.

No key and no file travels from here: the page writes down what its machine may restore once, by itself, into a new
folder (`appliance.control.deliveries`). A machine whose key is private can be sent a whole backup, since nothing needs
to be opened for that.
"""

from __future__ import annotations

import hashlib
from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import SelectField
from wtforms.fields import SelectChoice

from appliance.control import acts, crossings, deliveries
from appliance.control.deliveries import Chosen, Delivery
from appliance.control.machines import Machine, MachineState
from appliance.errors import ConflictError, ThrottledError
from appliance.opening.clients import OpeningError
from appliance.opening.sending import Parcel, parcel
from transport.errors import UsageError
from webui import context
from webui.contracts import of_address as of_contract_address
from webui.forms import CodeForm, confirmed, has_grant, say, spend
from webui.gate import EVERYONE, MANAGERS, allow
from webui.machines import of_address, room_row
from webui.restore import seat_of, shown, trouble

blueprint = Blueprint("sending", __name__)
ACTION: Final = "restore.send"
CROSSINGS: Final = "contract.crossings"
PATHS_SHOWN: Final = 50
DAYS: Final = round(deliveries.LIFE_S / 86400)


class SendForm(CodeForm):
    """To which machine, where there is a choice."""

    target = SelectField(_l("Vers"), validate_choice=False, default="")


def _bound(machine: Machine, what: Parcel, target: Machine | None = None) -> str:
    """What a code is typed for: this selection of this snapshot, for this machine."""
    ids = b"".join(sorted(what.chosen.paths))
    where = f":{target.hex}" if target is not None else ""
    return f"{machine.hex}:{what.snapshot}:{hashlib.sha256(ids).hexdigest()[:16]}{where}"


def _detail(machine: Machine) -> ResponseReturnValue:
    return redirect(url_for("machines.detail", machine=machine.hex, _anchor="deliveries"), 303)


@blueprint.route("/machines/<machine>/restore/send", methods=["GET", "POST"])
@allow(EVERYONE)
def send(machine: str) -> ResponseReturnValue:
    """Envoyer vers la machine: what is ticked, and a code for exactly that."""
    seat = seat_of(machine)
    ticked = seat.opened.basket.ticked(seat.snapshot.number)
    if not ticked:
        flash(_("Cochez d’abord ce qui est à restaurer."), "warning")
        return seat.browse()
    if seat.machine.state is not MachineState.ACTIVE:
        flash(_("Cette machine est révoquée : rien ne peut lui être envoyé."), "error")
        return seat.browse()
    try:
        what = parcel(seat.opened, seat.snapshot, ticked)
    except OpeningError as error:
        flash(trouble(error), "danger")
        return seat.browse()
    except UsageError:
        flash(_("Une partie de la liste n’est pas dans cette sauvegarde : refaites-la."), "warning")
        return seat.browse()
    form = SendForm()
    others = {one.hex: one for one in _others(seat.machine)}
    form.target.choices = [
        SelectChoice("", _("%(name)s, la machine d’origine", name=seat.machine.name)),
        *(SelectChoice(address, one.name) for address, one in others.items()),
    ]
    target = others.get(form.target.data or "")
    bound = _bound(seat.machine, what, target)
    if form.validate_on_submit():
        if form.target.data and target is None:
            say(form.target, _("Choisissez une machine de la liste."))
        elif confirmed(form, ACTION, bound):
            sent = _send(seat.machine, what, target)
            if sent is not None:
                seat.opened.basket.untick(seat.snapshot.number, None)
                return _detail(target or seat.machine)
            return seat.browse()
    return render_template(
        "restore/send.html",
        machine=seat.machine,
        form=form,
        others=others,
        granted=has_grant(ACTION, bound),
        what=what,
        paths=[shown(path) for path in ticked[:PATHS_SHOWN]],
        more=max(0, len(ticked) - PATHS_SHOWN),
        days=DAYS,
        back=url_for("restore.browse", machine=seat.machine.hex, snapshot=what.snapshot),
    )


def _others(machine: Machine) -> list[Machine]:
    """The machines of the contract that the reader may send this one's files to."""
    return crossings.targets(context.db(), context.scope(), machine) if context.is_manager() else []


def _send(machine: Machine, what: Parcel, target: Machine | None = None) -> Delivery | None:
    """The delivery; None where it could not be, which a flash has said."""
    db, now = context.db(), context.now()
    try:
        with db.write():
            if not spend(ACTION, _bound(machine, what, target)):
                abort(409)
            sent = deliveries.send(
                db,
                (target or machine).id,
                what.chosen,
                snapshot=what.snapshot,
                snapshot_at=what.received_at,
                files=what.files,
                size_bytes=what.size_bytes,
                account_id=context.me().id,
                by=context.me().email,
                now=now,
                source_id=None if target is None else machine.id,
            )
            told: dict[str, object] = {"delivery": sent.number, "snapshot": what.snapshot}
            told |= {"files": what.files, "size": what.size_bytes}
            if target is not None:
                told |= {"source": machine.name, "target": target.name}
                acts.note(db, context.actor(), "delivery.send", target, now=now, after=told)
            acts.note(db, context.actor(), "delivery.send", machine, now=now, after=told)
    except ThrottledError:
        flash(_("Trop d’envois attendent déjà sur cette machine : faites-les d’abord accepter ou refuser."), "error")
        return None
    except ConflictError:
        flash(_("Cette liste est trop longue pour un envoi : cochez des dossiers entiers."), "error")
        return None
    flash(
        _(
            "Envoyé. Sur %(name)s, l’agent demande maintenant l’accord de son utilisateur : dans la minute, si la "
            "machine est allumée.",
            name=(target or machine).name,
        ),
        "success",
    )
    return sent


@blueprint.route("/machines/<machine>/restore/send-all", methods=["GET", "POST"])
@allow(EVERYONE)
def send_all(machine: str) -> ResponseReturnValue:
    """The whole last complete backup, for which nothing has to be opened: for keys that nobody here has."""
    found = of_address(machine)
    row = room_row(found)
    if row.good_number is None or row.good_at is None or found.state is not MachineState.ACTIVE:
        return redirect(url_for("restore.start", machine=found.hex), 303)
    what = Parcel(row.good_number, row.good_at, Chosen(), 0, row.bytes_source or 0)
    form = CodeForm()
    if form.validate_on_submit() and confirmed(form, ACTION, _bound(found, what)):
        return _detail(found) if _send(found, what) else redirect(url_for("restore.start", machine=found.hex), 303)
    return render_template(
        "restore/send.html",
        machine=found,
        form=form,
        granted=has_grant(ACTION, _bound(found, what)),
        what=what,
        others={},
        paths=[],
        more=0,
        days=DAYS,
        back=url_for("restore.start", machine=found.hex),
    )


@blueprint.route("/contracts/<contract_id>/crossings", methods=["GET", "POST"])
@allow(MANAGERS)
def allow_crossings(contract_id: str) -> ResponseReturnValue:
    """Whether the machines of a contract may be sent each other's files."""
    db = context.db()
    contract = of_contract_address(contract_id)
    now_allowed = crossings.allowed(db, contract.id)
    form = CodeForm()
    if form.validate_on_submit() and confirmed(form, CROSSINGS, contract.id):
        with db.write():
            if not spend(CROSSINGS, contract.id):
                abort(409)
            crossings.allow(db, contract, allowed=not now_allowed)
            sides = {"before": {"crossings": now_allowed}, "after": {"crossings": not now_allowed}}
            acts.note(db, context.actor(), "contract.crossings", contract, now=context.now(), **sides)
        flash(
            _("Les envois entre machines de ce contrat sont interdits.")
            if now_allowed
            else _("Les envois entre machines de ce contrat sont autorisés."),
            "success",
        )
        return redirect(url_for("contracts.detail", contract_id=contract.id), 303)
    granted = has_grant(CROSSINGS, contract.id)
    return render_template(
        "contracts/crossings.html", contract=contract, form=form, granted=granted, allowed=now_allowed
    )


@blueprint.post("/machines/<machine>/deliveries/<int:number>/cancel")
@allow(EVERYONE)
def cancel(machine: str, number: int) -> ResponseReturnValue:
    """Take back what waits."""
    db, now = context.db(), context.now()
    found = of_address(machine)
    try:
        with db.write():
            before = deliveries.find(db, context.scope(), found.id, number, now)
            deliveries.cancel(db, context.scope(), found.id, number, now)
            told = {"before": {"state": str(before.state)}, "after": {"delivery": number, "state": "cancelled"}}
            acts.note(db, context.actor(), "delivery.cancel", found, now=now, **told)
    except ConflictError:
        flash(_("Cet envoi est déjà terminé : il n’y a plus rien à annuler."), "info")
    else:
        flash(_("Envoi annulé."), "success")
    return _detail(found)
