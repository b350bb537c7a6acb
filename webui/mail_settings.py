"""Settings about mails: how each looks in the space's theme, and by which server they leave.

The pages belong to the blueprint of settings. Whoever chooses the mail server reads the links that open accounts, so
that asks for a code. The server's password is written, never shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flask import Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, PasswordField, SelectField, StringField, ValidationError
from wtforms.fields import SelectChoice
from wtforms.validators import Length

from appliance.control import audit, space_settings, themes
from appliance.control.text import checked_email
from appliance.mail import settings as mails_leave
from appliance.mail.delivery import MailRefusedError, MailServerError, send_test
from appliance.settings import MailSettings
from transport.errors import UsageError
from webui import context, formats, mail_previews, mail_words, settings
from webui.fields import CountField
from webui.forms import CodeForm, Form, confirmed, has_grant, required, say, spend
from webui.gate import MANAGERS, OPERATORS, allow
from webui.mail_previews import Preview
from webui.settings import space

blueprint = settings.blueprint
SET: Final = "mail.set"
_APPLIANCE: Final = "appliance"
_PLAIN: Final = ("host", "port", "security", "user", "sender", "sender_name")
_SOME_SENDER: Final = "sender@example.org"
_HOURS: Final = [SelectChoice(str(hour), f"{hour:02d} h") for hour in range(24)]
SECURITY: Final = (
    SelectChoice("starttls", _l("STARTTLS (port 587)")),
    SelectChoice("tls", _l("TLS dès la connexion (port 465)")),
    SelectChoice("none", _l("Aucun, serveur de cette machine seulement")),
)


def _preview(kind: str) -> Preview:
    of = space()
    theme = themes.of_space(context.db(), of.id if of else None)
    logo = themes.logo(context.db(), of.id) if of and theme.has_logo else None
    sender = mails_leave.sender(context.home().load_settings())
    return mail_previews.preview(kind, _language(), theme, logo, sender, now=context.now())


def _language() -> str:
    chosen = request.args.get("language", "")
    of = space()
    return (
        chosen if chosen in formats.LANGUAGES else space_settings.of_space(context.db(), of.id if of else None).language
    )


@blueprint.get("/settings/mails")
@allow(MANAGERS)
def mails() -> ResponseReturnValue:
    """A mail of each kind as it looks, one at a time."""
    kind = request.args.get("kind", "")
    kind = kind if kind in mail_previews.SAMPLES else next(iter(mail_previews.SAMPLES))
    return render_template(
        "settings/mails.html",
        title=_("Réglages"),
        here_tab="mails",
        space=space(),
        kind=kind,
        kinds=[(one, mail_words.kind_word(one)) for one in mail_previews.SAMPLES],
        chosen_language=_language(),
        preview=_preview(kind),
    )


@blueprint.get("/settings/mails/<kind>")
@allow(MANAGERS)
def mail(kind: str) -> ResponseReturnValue:
    """The mail itself, for a frame in which nothing of it can do anything (`headers.SANDBOXED`)."""
    return Response(_preview(kind).html, mimetype="text/html")


class SendingForm(CodeForm):
    """By which server mails leave."""

    host = StringField(_l("Serveur SMTP"), validators=[Length(max=253)], render_kw={"spellcheck": "false"})
    port = CountField(_l("Port"))
    security = SelectField(_l("Chiffrement"), choices=list(SECURITY))
    user = StringField(
        _l("Identifiant"), validators=[Length(max=254)], render_kw={"autocomplete": "off", "spellcheck": "false"}
    )
    password = PasswordField(
        _l("Mot de passe"),
        render_kw={"autocomplete": "new-password"},
    )
    forget = BooleanField(_l("Effacer le mot de passe enregistré"))
    sender = StringField(
        _l("Adresse d’expéditeur"), validators=[Length(max=254)], render_kw={"type": "email", "spellcheck": "false"}
    )
    sender_name = StringField(_l("Nom d’expéditeur"), validators=[Length(max=80)])
    public_url = StringField(
        _l("Adresse publique de cette interface"), validators=[Length(max=300)], render_kw={"type": "url"}
    )
    quiet_from = SelectField(_l("De"), choices=_HOURS)
    quiet_until = SelectField(_l("À"), choices=_HOURS)

    def validate_password(self, field: Any) -> None:
        """One line that the file of the password can hold."""
        typed = field.data or ""
        if len(typed.encode()) > mails_leave.PASSWORD_LIMIT or any(ord(letter) < 32 for letter in typed):
            raise ValidationError(_("Ce mot de passe ne tient pas sur une ligne : retapez-le."))

    def settings(self, old: MailSettings) -> MailSettings:
        """What was typed; what this form does not know stays."""
        return mails_leave.changed(
            old,
            host=(self.host.data or "").strip(),
            port=self.port.data or 0,
            security=self.security.data,
            user=(self.user.data or "").strip(),
            sender=(self.sender.data or "").strip(),
            sender_name=(self.sender_name.data or "").strip(),
            quiet_from=int(self.quiet_from.data),
            quiet_until=int(self.quiet_until.data),
        )

    def check(self, new: MailSettings) -> bool:
        """Whether mails could leave by it; what keeps them from it is said beside the field."""
        if not new.host:
            return self._works(self.public_url, lambda: mails_leave.checked_url(self.public_url.data or ""), _URL)
        some = MailSettings(host=new.host, sender=_SOME_SENDER)
        tried = [
            self._works(self.host, lambda: mails_leave.checked(some), _HOST),
            self._works(
                self.port,
                lambda: mails_leave.checked(MailSettings(host="x", sender=_SOME_SENDER, port=new.port)),
                _PORT,
            ),
            self._works(self.sender, lambda: checked_email(new.sender), _SENDER),
            self._works(self.public_url, lambda: mails_leave.checked_url(self.public_url.data or ""), _URL),
        ]
        if tried[0]:
            unsafe = mails_leave.changed(some, security=new.security)
            tried.append(self._works(self.security, lambda: mails_leave.checked(unsafe), _UNSAFE))
        if all(tried):
            # What is left are names that no line may hold.
            tried.append(self._works(self.sender_name, lambda: mails_leave.checked(new), _LINE))
        return all(tried)

    @staticmethod
    def _works(field: Any, attempt: Callable[[], object], sentence: Any) -> bool:
        try:
            attempt()
        except UsageError:
            say(field, str(sentence))
            return False
        return True


_HOST: Final = _l("Écrivez le nom ou l’adresse d’un serveur, par exemple smtp.example.org.")
_PORT: Final = _l("Un port est un nombre de 1 à 65535 : 587, 465 ou 25 le plus souvent.")
_SENDER: Final = _l("Écrivez l’adresse e-mail dont viendront les messages.")
_URL: Final = _l("Écrivez une adresse de la forme https://sauvegarde.example.org : les liens des e-mails en partent.")
_UNSAFE: Final = _l("Les e-mails contiennent des liens qui ouvrent des comptes : choisissez STARTTLS ou TLS.")
_LINE: Final = _l("Ce texte contient des caractères qui ne s’affichent pas : retapez-le.")


class TryForm(Form):
    """Whom to send a test message."""

    recipient = StringField(
        _l("Envoyer un message d’essai à"), validators=[required(), Length(max=254)], render_kw={"type": "email"}
    )


def _sending(form: SendingForm, attempt: TryForm, *, failure: str = "") -> str:
    known = context.home().load_settings()
    return render_template(
        "settings/sending.html",
        title=_("Envoi des e-mails"),
        here_tab="sending",
        form=form,
        attempt=attempt,
        failure=failure,
        sends=bool(known.mail.host),
        has_password=mails_leave.has_password(context.home()),
        granted=has_grant(SET, _APPLIANCE),
    )


def _filled(formdata: Any = None) -> SendingForm:
    known = context.home().load_settings()
    mail = known.mail
    values: dict[str, object] = {name: getattr(mail, name) for name in _PLAIN} | {"public_url": known.public_url}
    values |= {"quiet_from": str(mail.quiet_from), "quiet_until": str(mail.quiet_until)}
    return SendingForm(data=values) if formdata is None else SendingForm(formdata=formdata or None, data=values)


@blueprint.route("/settings/sending", methods=["GET", "POST"])
@allow(OPERATORS)
def sending() -> ResponseReturnValue:
    """The mail server, for the whole appliance."""
    form = _filled()
    home = context.home()
    if form.validate_on_submit():
        before = home.load_settings()
        new = form.settings(before.mail)
        if form.check(new) and confirmed(form, SET, _APPLIANCE):
            typed = form.password.data or ""
            with context.db().write():
                spend(SET, _APPLIANCE)
                saved = mails_leave.save(home, new, public_url=form.public_url.data or "")
                if typed or form.forget.data:
                    mails_leave.save_password(home, typed)
                audit.write(
                    context.db(),
                    context.actor(),
                    "mail.set",
                    now=context.now(),
                    object_kind=_APPLIANCE,
                    before=mails_leave.shown(before),
                    after=mails_leave.shown(saved)
                    | {"password": "changed" if typed else "removed" if form.forget.data else "as before"},
                )
            flash(_("L’envoi des e-mails est réglé. Envoyez un message d’essai pour vous en assurer."), "success")
            return redirect(url_for("settings.sending"), 303)
    return _sending(form, TryForm(formdata=None, recipient=context.me().email))


@blueprint.post("/settings/sending/test")
@allow(OPERATORS)
def try_sending() -> ResponseReturnValue:
    """Send a message now, and say at once whether it left."""
    attempt = TryForm()
    if not attempt.validate():
        return _sending(_filled({}), attempt)
    try:
        recipient = checked_email(attempt.recipient.data)
    except UsageError:
        say(attempt.recipient, _("Cette adresse e-mail n’en est pas une."))
        return _sending(_filled({}), attempt)
    failure = ""
    try:
        send_test(context.home(), context.db(), recipient, formats.language(), now=context.appliance().clock)
    except (MailServerError, MailRefusedError) as error:
        failure = str(error)
    audit.write(
        context.db(),
        context.actor(),
        "mail.test",
        now=context.now(),
        object_kind=_APPLIANCE,
        after={"recipient": recipient, "sent": not failure},
    )
    if failure:
        return _sending(_filled({}), attempt, failure=failure)
    flash(_("Le message d’essai est parti vers %(recipient)s.", recipient=recipient), "success")
    return redirect(url_for("settings.sending"), 303)
