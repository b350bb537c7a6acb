"""What may be done to a contract: pause and resume it, ask for its deletion and take that back, hand out codes.

Each act is one transaction with its line in the audit log. A deletion waits seven days whoever asks, and asks for a
code; taking one back does not. A customer chooses which mails they get, and nothing else.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext

from appliance import enrolment_codes
from appliance.control import acts, contract_cards, contracts, deletions, enrol_tokens, machines
from appliance.control.accounts import Role
from appliance.control.contracts import Changes, Contract, Notify
from appliance.control.deletions import Deletion, Kind
from appliance.control.machines import Machine
from appliance.errors import NotFoundError, PausedError
from webui import context, formats
from webui.contracts import keep_code, of_address, waiting_deletions
from webui.forms import CodeForm, confirmed, has_grant, spend
from webui.gate import MANAGERS, allow
from webui.rendering import safe_next

blueprint = Blueprint("contract_acts", __name__)

DELETE: Final = "contract.delete"


def _back(contract_id: str) -> ResponseReturnValue:
    return redirect(safe_next(request.form.get("next")) or url_for("contracts.detail", contract_id=contract_id), 303)


@blueprint.route("/contracts/<contract_id>/pause", methods=["GET", "POST"])
@allow(MANAGERS)
def pause(contract_id: str) -> ResponseReturnValue:
    """What a pause means, and the pause."""
    contract = of_address(contract_id)
    if request.method == "GET":
        card = contract_cards.one(context.db(), context.scope(), contract_id, context.now())
        return render_template("contracts/pause.html", contract=contract, card=card)
    db = context.db()
    with db.write():
        before = of_address(contract_id)
        if not before.paused:
            after = contracts.pause(db, before)
            _note_state("contract.pause", before, after)
    flash(
        _(
            "Le contrat de %(client)s est en pause : ses sauvegardes sont refusées, ses restaurations continuent.",
            client=contract.client_id,
        ),
        "warning",
    )
    return redirect(url_for("contracts.detail", contract_id=contract.id), 303)


def _note_state(kind: str, before: Contract, after: Contract) -> None:
    now = context.now()
    states = {"before": {"state": str(before.state(now))}, "after": {"state": str(after.state(now))}}
    acts.note(context.db(), context.actor(), kind, after, now=now, **states)


@blueprint.post("/contracts/<contract_id>/resume")
@allow(MANAGERS)
def resume(contract_id: str) -> ResponseReturnValue:
    """Take backups again. A contract that is to be deleted stays so: that is taken back by its own button."""
    db = context.db()
    with db.write():
        before = of_address(contract_id)
        if before.delete_requested_at is not None:
            abort(409)
        after = contracts.resume(db, before, by=context.me().email, now=context.now())
        if before.paused:
            _note_state("contract.resume", before, after)
    flash(_("Le contrat de %(client)s reprend : ses sauvegardes sont acceptées.", client=after.client_id), "success")
    return _back(contract_id)


@blueprint.route("/contracts/<contract_id>/delete", methods=["GET", "POST"])
@allow(MANAGERS)
def delete(contract_id: str) -> ResponseReturnValue:
    """What a deletion does and when, and the request for it."""
    db, now = context.db(), context.now()
    contract = of_address(contract_id)
    card = contract_cards.one(db, context.scope(), contract_id, now)
    form = CodeForm()
    waiting = deletions.of_object(db, context.scope(), Kind.CONTRACT, contract_id)
    if waiting is None and form.validate_on_submit() and confirmed(form, DELETE, contract_id):
        with db.write():
            if not spend(DELETE, contract_id):
                abort(409)
            asked = deletions.request(db, context.scope(), Kind.CONTRACT, contract_id, by=context.me().email, now=now)
            _note_state("contract.delete", contract, of_address(contract_id))
        flash(_deletion_said(asked), "warning")
        return redirect(url_for("contracts.detail", contract_id=contract_id), 303)
    return render_template(
        "contracts/delete.html",
        contract=contract,
        card=card,
        form=form,
        granted=has_grant(DELETE, contract_id),
        waiting=waiting,
        due_at=now + deletions.WAIT_S,
    )


def _deletion_said(asked: Deletion) -> str:
    return str(
        _(
            "La suppression de %(name)s est prévue le %(day)s. D’ici là, elle peut être annulée.",
            name=asked.object_name,
            day=formats.moment(asked.due_at),
        )
    )


@blueprint.post("/deletions/<deletion_id>/cancel")
@allow(MANAGERS)
def cancel(deletion_id: str) -> ResponseReturnValue:
    """Take a deletion of a contract or machine back; a space's is the super-user's."""
    db, now = context.db(), context.now()
    found = [deletion for deletion in waiting_deletions() if deletion.id == deletion_id]
    if not found:
        raise NotFoundError("this deletion was cancelled or carried out already")
    with db.write():
        ended = deletions.cancel(db, context.scope(), deletion_id, by=context.me().email, now=now)
        about = _about(ended)
        acts.note(db, context.actor(), "deletion.cancel", about, now=now)
    flash(_("La suppression de %(name)s est annulée.", name=ended.object_name), "success")
    target = safe_next(request.form.get("next"))
    return redirect(target or url_for("contracts.detail", contract_id=ended.contract_id), 303)


def _about(deletion: Deletion) -> Contract | Machine:
    if deletion.kind is Kind.MACHINE:
        return machines.find(context.db(), context.scope(), deletion.object_id)
    return of_address(deletion.object_id)


@blueprint.post("/contracts/<contract_id>/code")
@allow(MANAGERS)
def new_code(contract_id: str) -> ResponseReturnValue:
    """Another enrolment code, shown once on the contract's page."""
    db, now = context.db(), context.now()
    try:
        with db.write():
            contract = of_address(contract_id)
            code = enrolment_codes.issue(context.home(), db, contract, now)
            acts.note(db, context.actor(), "contract.code", contract, now=now)
    except PausedError:
        flash(_("Ce contrat est en pause et n’accepte pas de machine : reprenez-le d’abord."), "error")
        return redirect(url_for("contracts.detail", contract_id=contract_id), 303)
    keep_code(contract.id, code)
    return redirect(url_for("contracts.detail", contract_id=contract.id, _anchor="code"), 303)


@blueprint.post("/contracts/<contract_id>/codes/withdraw")
@allow(MANAGERS)
def withdraw_codes(contract_id: str) -> ResponseReturnValue:
    """Make the codes that wait worthless: one was sent to the wrong person, say."""
    db, now = context.db(), context.now()
    with db.write():
        contract = of_address(contract_id)
        count = enrol_tokens.withdraw(db, context.scope(), contract.id, now)
        if count:
            acts.note(db, context.actor(), "contract.codes-withdraw", contract, now=now, before={"codes": count})
    flash(
        ngettext("%(num)s code ne vaut plus rien.", "%(num)s codes ne valent plus rien.", count)
        if count
        else _("Aucun code n’attendait."),
        "success",
    )
    return redirect(url_for("contracts.detail", contract_id=contract.id, _anchor="code"), 303)


@blueprint.post("/contracts/<contract_id>/notify")
@allow(MANAGERS | {Role.CUSTOMER})
def notify(contract_id: str) -> ResponseReturnValue:
    """Which mails the contract's people get: the customer's own choice, or a manager's."""
    db, now = context.db(), context.now()
    with db.write():
        before = of_address(contract_id)
        chosen = request.form.get("notify", "")
        if chosen not in list(Notify):
            abort(400)
        after = contracts.edit(db, before, Changes(notify=Notify(chosen)))
        old, new = acts.changed(before, after)
        if new:
            acts.note(db, context.actor(), "contract.edit", after, now=now, before=old, after=new)
    flash(_("Votre choix de messages est enregistré."), "success")
    return _back(contract_id)
