"""An invited person's way in: a password, an authenticator that proves itself, ten recovery codes shown once.

No account exists before the first code was typed. The recovery codes stand in the one answer to the form and nowhere
else, which is why this form, unlike others, is answered by a page and not by a redirect.
"""

from __future__ import annotations

from flask import Blueprint, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import PasswordField, StringField
from wtforms.validators import Length

from appliance.control import invitations
from appliance.control.invitations import Accepted
from appliance.errors import ConflictError, NotFoundError, OneTimeCodeError
from webui import context, links, people
from webui.forms import Form, required, say
from webui.links import Link
from webui.passwords import NewPassword
from webui.qr_codes import qr_code

blueprint = Blueprint("invitation", __name__)

FIRST_CODE_KEYS = {
    "inputmode": "numeric",
    "autocomplete": "one-time-code",
    "maxlength": "10",
    "spellcheck": "false",
}


class AcceptForm(NewPassword, Form):
    """A password and the first code of a new authenticator."""

    password = PasswordField(
        _l("Mot de passe"), validators=[required()], render_kw={"autocomplete": "new-password", "autofocus": True}
    )
    code = StringField(
        _l("Code à 6 chiffres affiché par l’application"),
        validators=[required(), Length(max=20)],
        render_kw=FIRST_CODE_KEYS,
    )


@blueprint.get("/invitation/<token>")
@blueprint.route("/invitation", methods=["GET", "POST"])
def accept(token: str | None = None) -> ResponseReturnValue:
    """Make the account that a link invites to."""
    if token is not None:
        return links.keep(Link.INVITATION, token, url_for("invitation.accept"))
    token = links.kept(Link.INVITATION)
    try:
        invitation = invitations.find(context.db(), token, context.now())
        totp = invitations.totp_of(context.db(), token, context.now())
    except NotFoundError:
        return links.gone(Link.INVITATION)
    context.show_theme_of(invitations.space_of(context.db(), invitation))
    form = AcceptForm()
    if form.validate_on_submit():
        made = _made(form, token)
        if made is not None:
            links.used()
            return render_template(
                "invitation/done.html", account=made.account, codes=made.recovery_codes, next=url_for("login.password")
            )
    picture = qr_code(totp.uri, _("Code QR de votre compte pour l’application d’authentification"))
    return render_template("invitation/accept.html", form=form, invitation=invitation, totp=totp, picture=picture)


def _made(form: AcceptForm, token: str) -> Accepted | None:
    """The account; None where the form says what is wrong."""
    try:
        with context.db().write():
            made = invitations.accept(
                context.db(), token, password=form.password.data, code=form.code.data, now=context.now()
            )
            people.note("account.add", made.account, by=made.account, after={"role": str(made.account.role)})
    except OneTimeCodeError:
        say(form.code, _("Ce code n’est pas celui que l’application affiche en ce moment : retapez-le."))
        return None
    except ConflictError:
        say(form.password, _("Un compte existe déjà pour cette adresse : connectez-vous avec son mot de passe."))
        return None
    return made
