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

from appliance.control import acts, deliveries
from appliance.control.deliveries import Chosen, Delivery
from appliance.control.machines import Machine, MachineState
from appliance.errors import ConflictError, ThrottledError
from appliance.opening.clients import OpeningError
from appliance.opening.sending import Parcel, parcel
from transport.errors import UsageError
from webui import context
from webui.forms import CodeForm, confirmed, has_grant, spend
from webui.gate import EVERYONE, allow
from webui.machines import of_address, room_row
from webui.restore import seat_of, shown, trouble

blueprint = Blueprint("sending", __name__)
ACTION: Final = "restore.send"
PATHS_SHOWN: Final = 50
DAYS: Final = round(deliveries.LIFE_S / 86400)


def _bound(machine: Machine, what: Parcel) -> str:
    """What a code is typed for: this selection of this snapshot, for this machine."""
    ids = b"".join(sorted(what.chosen.paths))
    return f"{machine.hex}:{what.snapshot}:{hashlib.sha256(ids).hexdigest()[:16]}"


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
    form = CodeForm()
    if form.validate_on_submit() and confirmed(form, ACTION, _bound(seat.machine, what)):
        sent = _send(seat.machine, what)
        if sent is not None:
            seat.opened.basket.untick(seat.snapshot.number, None)
            return _detail(seat.machine)
        return seat.browse()
    return render_template(
        "restore/send.html",
        machine=seat.machine,
        form=form,
        granted=has_grant(ACTION, _bound(seat.machine, what)),
        what=what,
        paths=[shown(path) for path in ticked[:PATHS_SHOWN]],
        more=max(0, len(ticked) - PATHS_SHOWN),
        days=DAYS,
        back=url_for("restore.browse", machine=seat.machine.hex, snapshot=what.snapshot),
    )


def _send(machine: Machine, what: Parcel) -> Delivery | None:
    """The delivery; None where it could not be, which a flash has said."""
    db, now = context.db(), context.now()
    try:
        with db.write():
            if not spend(ACTION, _bound(machine, what)):
                abort(409)
            sent = deliveries.send(
                db,
                machine.id,
                what.chosen,
                snapshot=what.snapshot,
                snapshot_at=what.received_at,
                files=what.files,
                size_bytes=what.size_bytes,
                account_id=context.me().id,
                by=context.me().email,
                now=now,
            )
            told = {"delivery": sent.number, "snapshot": what.snapshot, "files": what.files, "size": what.size_bytes}
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
            name=machine.name,
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
        paths=[],
        more=0,
        days=DAYS,
        back=url_for("restore.start", machine=found.hex),
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
