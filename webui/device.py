"""A lost telephone: asking for another authenticator at the login, and enrolling it by the link of a mail.

Never around the second factor: who asks has typed the password just before, someone above approves, and the link asks
for the password again before it shows anything. The new recovery codes stand in the one answer to the form.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import PasswordField, StringField
from wtforms.validators import Length

from appliance.control import accounts, lost_devices, recovery_codes
from appliance.control.accounts import Account, NewTotp
from appliance.errors import LoginError, NotFoundError, OneTimeCodeError, ThrottledError
from webui import context, links, login, people
from webui.forms import Form, required, say, too_many
from webui.invitation import FIRST_CODE_KEYS
from webui.links import Link
from webui.qr_codes import qr_code

blueprint = Blueprint("device", __name__)
PROOF: Final = "device-proof"


class RequestForm(Form):
    """Nothing to type: the password was right a moment ago."""


class ProveForm(Form):
    """The password once more."""

    password = PasswordField(
        _l("Mot de passe"),
        validators=[required(), Length(max=1024)],
        render_kw={"autocomplete": "current-password", "autofocus": True},
    )


class FirstCodeForm(Form):
    """The first code of the new authenticator."""

    code = StringField(
        _l("Code à 6 chiffres affiché par l’application"),
        validators=[required(), Length(max=20)],
        render_kw=FIRST_CODE_KEYS,
    )


@blueprint.route("/login/lost-device", methods=["GET", "POST"])
def request() -> ResponseReturnValue:
    """Ask for another authenticator, between the two steps of a login."""
    account = login.waiting_account()
    if account is None:
        return redirect(url_for("login.password"), 303)
    context.show_theme_of(accounts.space_of(context.db(), account))
    form = RequestForm()
    if form.validate_on_submit():
        with context.db().write():
            if lost_devices.of_account(context.db(), account, context.now()) is None:
                lost_devices.request(context.db(), account, address=context.address(), now=context.now())
                people.note("device.request", account, by=account)
        return redirect(url_for("device.request"), 303)
    return render_template(
        "device/request.html",
        form=form,
        account=account,
        asked=lost_devices.of_account(context.db(), account, context.now()),
        someone_above=lost_devices.someone_above(context.db(), account),
        codes_left=recovery_codes.left(context.db(), account.id),
    )


@blueprint.get("/device/<token>")
@blueprint.route("/device", methods=["GET", "POST"])
def replace(token: str | None = None) -> ResponseReturnValue:
    """Enrol another authenticator, by the link of a mail."""
    if token is not None:
        return links.keep(Link.DEVICE, token, url_for("device.replace"))
    token = links.kept(Link.DEVICE)
    try:
        account = lost_devices.find(context.db(), token, context.now())
    except NotFoundError:
        return links.gone(Link.DEVICE)
    context.show_theme_of(accounts.space_of(context.db(), account))
    try:
        totp = lost_devices.totp_of(context.db(), token, str(session.get(PROOF, "")), context.now())
    except LoginError:
        return _prove(account, token)
    return _enrol(account, token, totp)


def _prove(account: Account, token: str) -> ResponseReturnValue:
    form = ProveForm()
    if form.validate_on_submit():
        try:
            proof = lost_devices.prove(
                context.db(), token, form.password.data, address=context.address(), now=context.now()
            )
        except LoginError:
            say(form.password, _("Ce mot de passe n’est pas le bon."))
        except ThrottledError as error:
            say(form.password, too_many(error))
        else:
            session[PROOF] = proof
            return redirect(url_for("device.replace"), 303)
    return render_template("device/prove.html", form=form, account=account)


def _enrol(account: Account, token: str, totp: NewTotp) -> ResponseReturnValue:
    form = FirstCodeForm()
    if form.validate_on_submit():
        try:
            with context.db().write():
                codes = lost_devices.finish(
                    context.db(), token, str(session.get(PROOF, "")), form.code.data, context.now()
                )
                people.note("device.replace", account, by=account)
        except OneTimeCodeError:
            say(form.code, _("Ce code n’est pas celui que l’application affiche en ce moment : retapez-le."))
        else:
            links.used()
            return render_template("invitation/done.html", account=account, codes=codes, next=url_for("login.password"))
    picture = qr_code(totp.uri, _("Code QR de votre compte pour l’application d’authentification"))
    return render_template("device/enrol.html", form=form, account=account, totp=totp, picture=picture)
