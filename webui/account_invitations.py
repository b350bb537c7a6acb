"""Invitations to accounts: sent, sent again, withdrawn, by who stands above what they lead to.

A link grants an account, so making one asks for a code, and it is shown once: mail may not be set up yet. The token is
in that one page and in the mail, nowhere else, which is why the form is answered by a page and not by a redirect.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import accounts, audit, contracts, invitations, space_settings
from appliance.control.accounts import LANGUAGES, Role
from appliance.control.invitations import Invitation, NewInvitation
from appliance.errors import ConflictError, NotFoundError
from webui import context
from webui.account_forms import PersonForm
from webui.forms import CodeForm, confirmed, has_grant, say, spend
from webui.gate import MANAGERS, allow

blueprint = Blueprint("account_invitations", __name__)

INVITE: Final = "account.invite"
NEW: Final = "new"
"""The object of the step-up: a slip in the address must not cost another code."""


def _note(kind: str, invitation: Invitation) -> None:
    audit.write(
        context.db(),
        context.actor(),
        kind,
        now=context.now(),
        object_kind="invitation",
        object_id=invitation.id,
        object_name=invitation.email,
        space_id=invitations.space_of(context.db(), invitation),
        contract_id=invitation.contract_id,
        after={"role": str(invitation.role), "email": invitation.email},
    )


def _first_choice() -> PersonForm:
    """The form with what the address proposes: a contract's page leads here for its customer."""
    contract, role, space = request.args.get("contract", ""), request.args.get("role", ""), context.focus()
    me = context.me()
    language = space_settings.of_space(context.db(), space or me.space_id).language
    if contract:
        try:
            found = contracts.find(context.db(), context.scope(), contract)
            role, language = Role.CUSTOMER, space_settings.of_space(context.db(), found.space_id).language
        except NotFoundError:
            contract = ""
    if role not in list(Role):
        role = Role.CUSTOMER
    return PersonForm(
        role=str(role),
        contract=contract,
        space=space or me.space_id or "",
        language=language if language in LANGUAGES else LANGUAGES[0],
    )


@blueprint.route("/accounts/invite", methods=["GET", "POST"])
@allow(MANAGERS)
def invite() -> ResponseReturnValue:
    """Invite somebody."""
    form = _first_choice()
    form.offer()
    if form.validate_on_submit() and confirmed(form, INVITE, NEW):
        new = _invited(form)
        if new is not None:
            return _shown(new)
    return render_template(
        "accounts/invite.html", title=_("Inviter une personne"), form=form, granted=has_grant(INVITE, NEW)
    )


def _invited(form: PersonForm) -> NewInvitation | None:
    """The invitation; None where the form says what is in the way."""
    wanted, db = form.wanted(), context.db()
    try:
        with db.write():
            if not spend(INVITE, NEW):
                abort(409)
            new = invitations.invite(
                db,
                email=wanted.email,
                role=wanted.role,
                by=context.me(),
                now=context.now(),
                space_id=wanted.space_id,
                contract_id=wanted.contract_id,
                language=wanted.language,
            )
            _note("account.invite", new.invitation)
    except ConflictError:
        say(form.email, _("Un compte existe déjà pour cette adresse."))
        return None
    return new


def _shown(new: NewInvitation) -> ResponseReturnValue:
    return render_template(
        "accounts/invited.html",
        title=_("Invitation envoyée"),
        invitation=new.invitation,
        link=url_for("invitation.accept", token=new.token, _external=True, _method="GET"),
    )


def _mine(invitation_id: str) -> Invitation:
    """The invitation that an address names, in the reader's scope and below them."""
    found = invitations.of_id(context.db(), context.scope(), invitation_id).invitation
    if not accounts.may_give(context.me(), found.role):
        abort(403)
    return found


@blueprint.route("/accounts/invitations/<invitation_id>/resend", methods=["GET", "POST"])
@allow(MANAGERS)
def resend(invitation_id: str) -> ResponseReturnValue:
    """Send an invitation again, under a new link."""
    found, form, db = _mine(invitation_id), CodeForm(), context.db()
    if form.validate_on_submit() and confirmed(form, INVITE, invitation_id):
        try:
            with db.write():
                if not spend(INVITE, invitation_id):
                    abort(409)
                new = invitations.renew(db, context.scope(), invitation_id, by=context.me(), now=context.now())
                _note("account.invite", new.invitation)
        except ConflictError:
            flash(_("%(email)s a déjà un compte : l’invitation n’a plus lieu d’être.", email=found.email), "info")
            return redirect(url_for("accounts.index"), 303)
        return _shown(new)
    return render_template(
        "accounts/resend.html",
        title=_("Renvoyer l’invitation"),
        invitation=found,
        form=form,
        granted=has_grant(INVITE, invitation_id),
    )


@blueprint.post("/accounts/invitations/<invitation_id>/withdraw")
@allow(MANAGERS)
def withdraw(invitation_id: str) -> ResponseReturnValue:
    """Make an invitation's link worthless."""
    db = context.db()
    _mine(invitation_id)
    with db.write():
        gone = invitations.withdraw(db, context.scope(), invitation_id, by=context.me())
        _note("account.invite-cancel", gone)
    flash(_("L’invitation de %(email)s est retirée : son lien ne mène plus nulle part.", email=gone.email), "success")
    return redirect(url_for("accounts.index"), 303)
