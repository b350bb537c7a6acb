"""Lost telephones, decided on by who stands above: the request, the reasons to be careful, yes or no.

Approving opens a way in, so it asks for a code; refusing only closes one.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import account_list, lost_devices
from appliance.control.lost_devices import LostDevice
from appliance.errors import NotFoundError
from webui import context, people
from webui.forms import CodeForm, confirmed, has_grant, spend
from webui.gate import MANAGERS, allow

blueprint = Blueprint("account_requests", __name__)

APPROVE: Final = "device.approve"


def _waiting(request_id: str) -> LostDevice:
    for found in lost_devices.waiting(context.db(), context.me(), context.now()):
        if found.id == request_id:
            return found
    raise NotFoundError("this request was decided on already, has expired, or is not yours to decide")


@blueprint.route("/accounts/requests/<request_id>", methods=["GET", "POST"])
@allow(MANAGERS)
def decide(request_id: str) -> ResponseReturnValue:
    """Approve or refuse."""
    found, form, db, me, now = _waiting(request_id), CodeForm(), context.db(), context.me(), context.now()
    if form.validate_on_submit():
        if request.form.get("decision") == "refuse":
            with db.write():
                lost_devices.refuse(db, me, request_id, now)
                people.note("device.refuse", found.account)
            flash(_("La demande de %(email)s est refusée.", email=found.account.email), "info")
            return redirect(url_for("accounts.index"), 303)
        if confirmed(form, APPROVE, request_id):
            with db.write():
                if not spend(APPROVE, request_id):
                    abort(409)
                lost_devices.approve(db, me, request_id, now)
                people.note("device.approve", found.account)
            email = found.account.email
            flash(_("%(email)s va recevoir un lien pour relier un autre téléphone.", email=email), "success")
            return redirect(url_for("accounts.index"), 303)
    return render_template(
        "accounts/request.html",
        title=_("Téléphone perdu"),
        found=found,
        row=account_list.one(db, context.full_scope(), found.account.id),
        form=form,
        granted=has_grant(APPROVE, request_id),
    )
