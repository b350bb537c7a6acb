"""One's own account: language, password, authenticator, recovery codes, sessions.

What changes how one gets in asks for the password or a code again: whoever finds a browser left open must not be able
to keep the account. New recovery codes stand in the one answer to the form, which is why it is a page and no redirect.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext
from wtforms import PasswordField, SelectField, StringField
from wtforms.fields import SelectChoice
from wtforms.validators import Length

from appliance.control import account_list, accounts, logins, lost_devices, password_resets, recovery_codes, sessions
from appliance.control.accounts import NewTotp
from appliance.errors import LoginError, NotFoundError, OneTimeCodeError, ThrottledError
from webui import context, formats, people
from webui.forms import CodeForm, Form, confirmed, has_grant, required, say, spend, too_many
from webui.gate import EVERYONE, allow
from webui.invitation import FIRST_CODE_KEYS
from webui.passwords import NewPassword
from webui.qr_codes import qr_code
from webui.translation import COOKIE

blueprint = Blueprint("profile", __name__)

PASSWORD: Final = "account.password"
DEVICE: Final = "account.device"
CODES: Final = "account.codes"


class LanguageForm(Form):
    """Of pages and mails."""

    language = SelectField(
        _l("Langue des pages et des e-mails"), choices=[SelectChoice(*one) for one in formats.LANGUAGES.items()]
    )


def _current() -> PasswordField:
    return PasswordField(
        _l("Mot de passe actuel"),
        validators=[required(), Length(max=1024)],
        render_kw={"autocomplete": "current-password", "autofocus": True},
    )


class PasswordForm(NewPassword, CodeForm):
    """The old one, the new one twice, a code."""

    current = _current()


class DeviceForm(CodeForm):
    """Who asks for another authenticator: the password, and a code of the present one or a recovery code."""

    current = _current()
    code = StringField(
        _l("Code à 6 chiffres de l’application actuelle, ou un code de secours"),
        validators=[Length(max=40)],
        render_kw={"autocomplete": "one-time-code", "maxlength": "40", "spellcheck": "false"},
    )


class FirstCodeForm(Form):
    """The first code of the new authenticator."""

    code = StringField(
        _l("Code à 6 chiffres affiché par l’application"),
        validators=[required(), Length(max=20)],
        render_kw=FIRST_CODE_KEYS,
    )


@blueprint.get("/profile")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """All of it at a glance."""
    me = context.me()
    live = sessions.of_account(context.db(), me.id, context.now())
    return render_template(
        "profile/index.html",
        title=_("Mon compte"),
        row=account_list.one(context.db(), context.full_scope(), me.id),
        form=LanguageForm(language=me.language),
        sessions=live,
        own=context.my_session().id,
        browsers={session.id: people.browser_name(session.user_agent) for session in live},
        telephones={session.id for session in live if people.is_telephone(session.user_agent)},
    )


@blueprint.post("/profile/language")
@allow(EVERYONE)
def language() -> ResponseReturnValue:
    """Speak another language, in pages and mails."""
    form, me = LanguageForm(), context.me()
    answer = redirect(url_for("profile.index"), 303)
    if form.validate_on_submit() and form.language.data != me.language:
        with context.db().write():
            changed = accounts.set_language(context.db(), me, form.language.data)
            people.note("account.language", me, before={"language": me.language}, after={"language": changed.language})
        # So that the login page speaks it too, once this session is over.
        answer.set_cookie(
            COOKIE, form.language.data, max_age=365 * 86400, httponly=True, samesite="Lax",
            secure=context.appliance().secure,
        )  # fmt: skip
    return answer


def _knows_password(form: PasswordForm | DeviceForm) -> bool:
    """Whether the present password was typed right; the form says otherwise. Counted as at login."""
    try:
        logins.check_password(
            context.db(), context.me().email, form.current.data, address=context.address(), now=context.now()
        )
    except LoginError:
        say(form.current, _("Ce mot de passe n’est pas le bon."))
        return False
    except ThrottledError as error:
        say(form.current, too_many(error))
        return False
    return True


@blueprint.route("/profile/password", methods=["GET", "POST"])
@allow(EVERYONE)
def password() -> ResponseReturnValue:
    """Choose another password."""
    form, me = PasswordForm(), context.me()
    if form.validate_on_submit() and _knows_password(form) and confirmed(form, PASSWORD, me.id):
        with context.db().write():
            if not spend(PASSWORD, me.id):
                abort(409)
            password_resets.change(context.db(), me, form.password.data, context.now(), context.my_session().id)
            people.note("account.password", me)
        flash(_("Votre mot de passe est changé ; vos autres sessions sont fermées."), "success")
        return redirect(url_for("profile.index"), 303)
    granted = has_grant(PASSWORD, me.id)
    return render_template("profile/password.html", title=_("Changer de mot de passe"), form=form, granted=granted)


@blueprint.route("/profile/device", methods=["GET", "POST"])
@allow(EVERYONE)
def device() -> ResponseReturnValue:
    """Put another authenticator in the place of the present one."""
    me = context.me()
    totp = accounts.pending_totp(context.db(), me) if has_grant(DEVICE, me.id) else None
    if totp is not None:
        return _enrol(totp)
    form = DeviceForm()
    if form.validate_on_submit() and _knows_password(form) and confirmed(form, DEVICE, me.id, recovery=True):
        accounts.begin_totp(context.db(), me)
        return redirect(url_for("profile.device"), 303)
    return render_template(
        "profile/device.html", title=_("Changer de téléphone"), form=form, granted=has_grant(DEVICE, me.id)
    )


def _enrol(totp: NewTotp) -> ResponseReturnValue:
    form, me = FirstCodeForm(), context.me()
    if form.validate_on_submit():
        try:
            with context.db().write():
                if not spend(DEVICE, me.id):
                    abort(409)
                codes = lost_devices.confirm(context.db(), me, form.code.data, context.now(), context.my_session().id)
                people.note("device.replace", me)
        except OneTimeCodeError:
            say(form.code, _("Ce code n’est pas celui que l’application affiche en ce moment : retapez-le."))
        else:
            return render_template("profile/codes.html", title=_("Vos codes de secours"), codes=codes)
    picture = qr_code(totp.uri, _("Code QR de votre compte pour l’application d’authentification"))
    return render_template(
        "profile/enrol.html", title=_("Relier un nouveau téléphone"), form=form, totp=totp, picture=picture
    )


@blueprint.route("/profile/recovery-codes", methods=["GET", "POST"])
@allow(EVERYONE)
def codes() -> ResponseReturnValue:
    """Ten new recovery codes."""
    form, me = CodeForm(), context.me()
    if form.validate_on_submit() and confirmed(form, CODES, me.id):
        with context.db().write():
            if not spend(CODES, me.id):
                abort(409)
            new = recovery_codes.renew(context.db(), me.id, context.now())
            people.note("account.recovery-codes", me)
        return render_template("profile/codes.html", title=_("Vos codes de secours"), codes=new)
    return render_template(
        "profile/renew.html",
        title=_("Renouveler les codes de secours"),
        form=form,
        granted=has_grant(CODES, me.id),
        left=recovery_codes.left(context.db(), me.id),
    )


@blueprint.post("/profile/sessions/<session_id>/end")
@allow(EVERYONE)
def end(session_id: str) -> ResponseReturnValue:
    """End one of one's sessions."""
    me = context.me()
    try:
        with context.db().write():
            sessions.end_own(context.db(), me.id, session_id)
            people.note("account.sessions", me, after={"sessions": 1})
    except NotFoundError:
        flash(_("Cette session était déjà fermée."), "info")
    else:
        flash(_("La session est fermée."), "success")
    return redirect(url_for("profile.index", _anchor="sessions"), 303)


@blueprint.post("/profile/sessions/end-others")
@allow(EVERYONE)
def end_others() -> ResponseReturnValue:
    """End all of one's sessions but this one."""
    me = context.me()
    with context.db().write():
        ended = sessions.end_all(context.db(), me.id, context.my_session().id)
        people.note("account.sessions", me, after={"sessions": ended})
    flash(ngettext("%(num)d session fermée.", "%(num)d sessions fermées.", ended), "success")
    return redirect(url_for("profile.index", _anchor="sessions"), 303)
