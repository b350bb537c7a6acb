"""Accounts of people: the list with what waits for a decision, and one account to look at and change.

Who may change whom is `accounts.may_manage`'s to say: an account beside or above is shown without buttons. Invitations
and lost telephones are decided on in rooms of their own.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import account_changes, account_list, accounts, invitations, lost_devices, sessions
from appliance.control.account_list import AccountRow
from appliance.control.accounts import AccountState, Role
from appliance.errors import ConflictError
from webui import context, people
from webui.account_forms import PersonForm
from webui.forms import CodeForm, confirmed, has_grant, say, spend
from webui.gate import MANAGERS, allow
from webui.rendering import ROLE_NAMES

blueprint = Blueprint("accounts", __name__)

EDIT: Final = "account.edit"
STATE: Final = "account.state"
TEXT_LIMIT: Final = 100


def _page() -> int:
    page = request.args.get("page", "")
    return int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1


@blueprint.get("/accounts")
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """Who there is, who is invited, who has lost a telephone."""
    me, db, scope, now = context.me(), context.db(), context.scope(), context.now()
    role, state = request.args.get("role", ""), request.args.get("state", "")
    text = request.args.get("q", "").strip()[:TEXT_LIMIT]
    page = account_list.search(
        db,
        scope,
        text=text,
        role=Role(role) if role in list(Role) else None,
        state=AccountState(state) if state in list(AccountState) else None,
        page=_page(),
    )
    unanswered = invitations.unanswered(db, scope, now)
    return render_template(
        "accounts/index.html",
        title=_("Gestion des comptes"),
        page=page,
        narrowed=bool(text or role or state),
        text=text,
        role=role,
        state=state,
        roles={role: name for role, name in ROLE_NAMES.items() if role is not Role.SUPER or me.role is Role.SUPER},
        states=people.STATES,
        managed={row.account.id for row in page.rows if accounts.may_manage(me, row.account)},
        requests=lost_devices.waiting(db, me, now),
        unanswered=unanswered,
        mine={one.invitation.id for one in unanswered if accounts.may_give(me, one.invitation.role)},
        several_spaces=context.focus() is None and me.role is Role.SUPER,
    )


def _row(account_id: str) -> AccountRow:
    """The account that an address names, if it lies in the reader's scope; NotFoundError otherwise."""
    return account_list.one(context.db(), context.scope(), account_id)


@blueprint.route("/accounts/<account_id>", methods=["GET", "POST"])
@allow(MANAGERS)
def edit(account_id: str) -> ResponseReturnValue:
    """One account, to look at and to change."""
    row, me = _row(account_id), context.me()
    if row.account.id == me.id:
        return redirect(url_for("profile.index"), 303)
    form = None
    if accounts.may_manage(me, row.account):
        was = row.account
        form = PersonForm(
            email=was.email, role=str(was.role), space=was.space_id, contract=was.contract_id, language=was.language
        )
        form.offer()
        if form.validate_on_submit() and confirmed(form, EDIT, account_id) and _changed(form, account_id):
            flash(_("Le compte %(email)s est modifié.", email=form.email.data), "success")
            return redirect(url_for("accounts.edit", account_id=account_id), 303)
    elif request.method == "POST":
        abort(403)
    return render_template(
        "accounts/edit.html",
        title=row.account.email,
        row=row,
        form=form,
        granted=has_grant(EDIT, account_id),
        states=people.STATES,
        live=len(sessions.of_account(context.db(), account_id, context.now())),
    )


def _changed(form: PersonForm, account_id: str) -> bool:
    """Whether it is done; the form says what is in the way."""
    db = context.db()
    try:
        with db.write():
            if not spend(EDIT, account_id):
                abort(409)
            changed = account_changes.edit(
                db, account_id, form.wanted(), by=context.me(), scope=context.scope(), now=context.now()
            )
            before, after = changed.fields()
            if after:
                people.note("account.edit", changed.after, before=before, after=after)
    except ConflictError:
        if form.wanted_role is not Role.SUPER and _is_last_super(account_id):
            say(form.role, _("C’est le dernier super utilisateur actif : ajoutez-en d’abord un autre."))
        else:
            say(form.email, _("Un compte existe déjà pour cette adresse : choisissez-en une autre."))
        return False
    return True


def _is_last_super(account_id: str) -> bool:
    return not lost_devices.someone_above(context.db(), accounts.find(context.db(), account_id))


@blueprint.route("/accounts/<account_id>/<any(disable, enable):act>", methods=["GET", "POST"])
@allow(MANAGERS)
def state(account_id: str, act: str) -> ResponseReturnValue:
    """Let an account log in, or not any more."""
    row, db = _row(account_id), context.db()
    if not accounts.may_manage(context.me(), row.account):
        abort(403)
    wanted = AccountState.DISABLED if act == "disable" else AccountState.ACTIVE
    if row.account.state is wanted:
        return redirect(url_for("accounts.edit", account_id=account_id), 303)
    form, asked = CodeForm(), f"{account_id} {act}"
    if form.validate_on_submit() and confirmed(form, STATE, asked):
        with db.write():
            if not spend(STATE, asked):
                abort(409)
            changed = account_changes.set_state(db, account_id, wanted, by=context.me(), scope=context.scope())
            before, after = changed.fields()
            people.note(
                "account.disable" if act == "disable" else "account.enable", changed.after, before=before, after=after
            )
        email = row.account.email
        if act == "disable":
            flash(_("Le compte %(email)s est désactivé, ses sessions sont fermées.", email=email), "success")
        else:
            flash(_("Le compte %(email)s est réactivé.", email=email), "success")
        return redirect(url_for("accounts.edit", account_id=account_id), 303)
    title = _("Désactiver ce compte") if act == "disable" else _("Réactiver ce compte")
    return render_template(
        "accounts/state.html", title=title, row=row, act=act, form=form, granted=has_grant(STATE, asked)
    )
