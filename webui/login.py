"""Logging in and out: address and password, then a code; the language for those who are not in yet.

Parses, calls `logins`, renders. Between the two steps the cookie holds a token that opens nothing but the second.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_login import login_user, logout_user
from wtforms import PasswordField, StringField
from wtforms.validators import Length

from appliance.control import accounts, audit, logins, sessions
from appliance.control.accounts import LANGUAGES, Account
from appliance.errors import LoginError, OneTimeCodeError, ThrottledError
from webui import context, people
from webui.context import Person
from webui.forms import Form, required, say, too_many
from webui.gate import EVERYONE, allow
from webui.rendering import safe_next
from webui.translation import COOKIE

blueprint = Blueprint("login", __name__)
PENDING: Final = "pending"
NEXT: Final = "next"
_YEAR_S: Final = 365 * 86400


class PasswordForm(Form):
    """The first step."""

    email = StringField(
        _l("Adresse e-mail"),
        validators=[required(), Length(max=254)],
        render_kw={"type": "email", "autocomplete": "username", "autofocus": True, "spellcheck": "false"},
    )
    password = PasswordField(
        _l("Mot de passe"),
        validators=[required(), Length(max=1024)],
        render_kw={"autocomplete": "current-password"},
    )


class SecondStepForm(Form):
    """The second step: six digits, or a recovery code."""

    code = StringField(
        _l("Code à 6 chiffres"),
        validators=[required(), Length(max=40)],
        render_kw={
            "inputmode": "numeric",
            "autocomplete": "one-time-code",
            "autofocus": True,
            "maxlength": "40",
            "spellcheck": "false",
        },
    )


@blueprint.route("/login", methods=["GET", "POST"])
def password() -> ResponseReturnValue:
    """Address and password."""
    if context.person() is not None:
        return redirect(safe_next(request.args.get("next")) or url_for("control_room.index"), 303)
    form = PasswordForm()
    if request.method == "GET":
        session[NEXT] = safe_next(request.args.get("next"))
    if form.validate_on_submit():
        try:
            waiting = logins.check_password(
                context.db(), form.email.data, form.password.data, address=context.address(), now=context.now()
            )
        except LoginError:
            say(form.password, _("Adresse ou mot de passe incorrect."))
        except ThrottledError as error:
            say(form.password, too_many(error))
        else:
            session[PENDING] = waiting.token
            return redirect(url_for("login.code"), 303)
    return render_template("login/password.html", form=form)


def waiting_account() -> Account | None:
    """Who typed the right password in this browser within the last ten minutes and has not typed the code yet."""
    token = session.get(PENDING)
    account = logins.pending(context.db(), token, context.now()) if isinstance(token, str) else None
    if account is None:
        session.pop(PENDING, None)
    return account


@blueprint.route("/login/code", methods=["GET", "POST"])
def code() -> ResponseReturnValue:
    """The authenticator's code, or a recovery code."""
    account = waiting_account()
    if account is None:
        return redirect(url_for("login.password"), 303)
    token = str(session[PENDING])
    context.show_theme_of(accounts.space_of(context.db(), account))
    form = SecondStepForm()
    if form.validate_on_submit():
        try:
            new = logins.finish(
                context.db(),
                token,
                form.code.data,
                address=context.address(),
                user_agent=request.user_agent.string,
                now=context.now(),
            )
        except OneTimeCodeError:
            say(form.code, _("Ce code n’est pas le bon, ou il a déjà servi : attendez le suivant."))
        except ThrottledError as error:
            say(form.code, too_many(error))
        except LoginError:
            return redirect(url_for("login.password"), 303)
        else:
            return _enter(account, Person(account, new.session, new.token))
    return render_template("login/code.html", form=form, account=account)


def _enter(account: Account, who: Person) -> ResponseReturnValue:
    target = safe_next(session.get(NEXT)) or url_for("control_room.index")
    # Nothing of the stranger's cookie goes on, its CSRF token included.
    session.clear()
    login_user(who)
    audit.write(
        context.db(),
        audit.actor_of(account, context.address()),
        "login",
        now=context.now(),
        object_kind="account",
        object_id=account.id,
        object_name=account.email,
        space_id=accounts.space_of(context.db(), account),
        contract_id=account.contract_id,
    )
    return redirect(target, 303)


@blueprint.post("/logout")
@allow(EVERYONE)
def leave() -> ResponseReturnValue:
    """End the session, here and for every copy of its cookie."""
    with context.db().write():
        people.note("logout", context.me())
        sessions.end(context.db(), context.my_session().id)
    context.appliance().openers.end_session(context.my_session().id)
    logout_user()
    session.clear()
    return redirect(url_for("login.password"), 303)


@blueprint.post("/language")
def language() -> ResponseReturnValue:
    """Speak another language: kept with the account, or in a cookie for who is not in yet."""
    chosen = request.form.get("language", "")
    answer = redirect(safe_next(request.form.get("next")) or url_for("login.password"), 303)
    if chosen not in LANGUAGES:
        return answer
    who = context.person()
    if who is not None and who.account.language != chosen:
        with context.db().write():
            accounts.set_language(context.db(), who.account, chosen)
            people.note(
                "account.language", who.account, before={"language": who.account.language}, after={"language": chosen}
            )
    answer.set_cookie(COOKIE, chosen, max_age=_YEAR_S, httponly=True, samesite="Lax", secure=context.appliance().secure)
    return answer
