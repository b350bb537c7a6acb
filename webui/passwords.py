"""Forgotten passwords: a page to ask for a link by mail, and the page that the link leads to.

The answer to a request is the same for every address. The link changes the password and nothing else: the code of the
authenticator is asked for next, at the login.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import PasswordField, StringField, ValidationError
from wtforms.validators import Length

from appliance.control import accounts, password_resets
from appliance.control.passwords import MAXIMUM_BYTES, MINIMUM_LETTERS
from appliance.errors import NotFoundError, ThrottledError
from webui import context, links, people
from webui.forms import Form, required, say, too_many
from webui.links import Link

blueprint = Blueprint("password", __name__)

EMAIL_KEYS: Final = {"type": "email", "autocomplete": "username", "spellcheck": "false", "maxlength": "254"}
_NEW: Final = {"autocomplete": "new-password"}


class ForgottenForm(Form):
    """Who forgot."""

    email = StringField(
        _l("Adresse e-mail"), validators=[required(), Length(max=254)], render_kw={**EMAIL_KEYS, "autofocus": True}
    )


class NewPassword:
    """Two fields for a password that is chosen: mixed into the forms that need them."""

    password = PasswordField(_l("Nouveau mot de passe"), validators=[required()], render_kw=_NEW)
    again = PasswordField(_l("Le même, encore une fois"), validators=[required()], render_kw=_NEW)

    def validate_password(self, field: Any) -> None:
        """Long enough, and not too long to be hashed."""
        if len(field.data) < MINIMUM_LETTERS:
            raise ValidationError(_("Au moins %(count)s caractères.", count=MINIMUM_LETTERS))
        if len(field.data.encode()) > MAXIMUM_BYTES:
            raise ValidationError(_("Ce mot de passe est trop long : choisissez-en un plus court."))

    def validate_again(self, field: Any) -> None:
        """Typed alike."""
        if field.data != self.password.data:
            raise ValidationError(_("Les deux mots de passe diffèrent : retapez-les."))


class ChooseForm(NewPassword, Form):
    """The new one."""


@blueprint.route("/password/forgotten", methods=["GET", "POST"])
def forgotten() -> ResponseReturnValue:
    """Ask for a link by mail."""
    form = ForgottenForm()
    if form.validate_on_submit():
        try:
            password_resets.request(context.db(), form.email.data, address=context.address(), now=context.now())
        except ThrottledError as error:
            say(form.email, too_many(error))
        else:
            return redirect(url_for("password.forgotten", sent=1), 303)
    return render_template("passwords/forgotten.html", form=form, sent="sent" in request.args)


@blueprint.get("/password/<token>")
@blueprint.route("/password", methods=["GET", "POST"])
def choose(token: str | None = None) -> ResponseReturnValue:
    """Choose another password, by the link of a mail."""
    if token is not None:
        return links.keep(Link.PASSWORD, token, url_for("password.choose"))
    token = links.kept(Link.PASSWORD)
    try:
        account = password_resets.find(context.db(), token, context.now())
    except NotFoundError:
        return links.gone(Link.PASSWORD)
    context.show_theme_of(accounts.space_of(context.db(), account))
    form = ChooseForm()
    if form.validate_on_submit():
        with context.db().write():
            # NotFoundError where another tab was quicker: the page of what is not there says enough.
            password_resets.reset(context.db(), token, form.password.data, context.now())
            people.note("account.password", account, by=account, after={"by": "link"})
        links.used()
        flash(_("Votre mot de passe est changé : connectez-vous."), "success")
        return redirect(url_for("login.password"), 303)
    return render_template("passwords/choose.html", form=form, account=account)
