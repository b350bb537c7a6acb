"""Settings of a space: how it looks, when its alerts sound, what new contracts keep, its language.

An admin sets their own space, a super-user the one in focus. Which values can work is `appliance`'s to say; here they
are said beside the field, in the reader's language. Every change leaves a line in the audit log with both sides.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, FileField, SelectField, StringField, ValidationError
from wtforms.fields import SelectChoice
from wtforms.validators import Length

from appliance.control import audit, space_settings, spaces, themes
from appliance.control.scope import OneSpace
from appliance.control.space_settings import SpaceSettings
from appliance.control.spaces import Space
from appliance.control.themes import CONTRAST, DARK, WHITE, Theme
from appliance.store.upkeep.retention import LONGEST_DAYS, MINIMUM_FLOOR_DAYS
from transport.errors import UsageError
from webui import context, formats
from webui.fields import CountField
from webui.forms import Form, required, say
from webui.gate import MANAGERS, allow
from webui.states import opening_choices

blueprint = Blueprint("settings", __name__)
_LOGO_ACCEPTS: Final = "image/png,image/jpeg,image/gif,image/webp,image/bmp"


def space() -> Space | None:
    """The space to set: an admin's own, a super-user's focus; None where a super-user looks at all of them."""
    scope = context.scope()
    return spaces.find(context.db(), scope.space_id) if isinstance(scope, OneSpace) else None


def choose(here_tab: str) -> ResponseReturnValue:
    """What a super-user sees who looks at all spaces: which one to set."""
    return render_template(
        "settings/choose.html", title=_("Réglages"), here_tab=here_tab, spaces=spaces.every(context.db())
    )


def note(kind: str, of: Space, before: dict[str, Any], after: dict[str, Any]) -> None:
    """A line with the fields that differ, in the transaction of the change; none where nothing does."""
    names = [name for name in after if before.get(name) != after[name]]
    if names:
        audit.write(
            context.db(),
            context.actor(),
            kind,
            now=context.now(),
            object_kind="space",
            object_id=of.id,
            object_name=of.name,
            space_id=of.id,
            before={name: before.get(name) for name in names},
            after={name: after[name] for name in names},
        )


def contrast_text(one: str, other: str) -> str:
    """A contrast with one decimal, cut and not rounded: 4.49 must not read as enough."""
    return str(formats.decimal(math.floor(themes.contrast(one, other) * 10) / 10, 1))


def darkened(colour: str) -> str:
    """The colour, mixed with as little black as makes it readable on white."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    for step in range(1, 41):
        mixed = "#" + "".join(f"{round(part * (1 - step / 40)):02x}" for part in parts)
        if themes.contrast(mixed, WHITE) >= CONTRAST:
            return mixed
    return themes.BLACK


def _colour(field: Any) -> str:
    try:
        return themes.checked_colour(field.data or "", "the colour")
    except UsageError:
        raise ValidationError(_("Écrivez la couleur sous la forme #0f4c5c.")) from None


class ThemeForm(Form):
    """How the space looks, but for its logo."""

    product_name = StringField(_l("Nom du produit"), validators=[required(), Length(max=60)])
    colour = StringField(_l("Couleur des bandeaux"), validators=[required()], render_kw={"type": "color"})
    accent = StringField(_l("Couleur des liens et boutons"), validators=[required()], render_kw={"type": "color"})
    support_line = StringField(_l("Ligne d’assistance"), validators=[Length(max=200)])

    def validate_product_name(self, field: Any) -> None:
        """More than blanks."""
        if not (field.data or "").strip():
            raise ValidationError(_("À remplir."))

    def validate_colour(self, field: Any) -> None:
        """Any colour: what is written on it is black or white, whichever reads better."""
        _colour(field)

    def validate_accent(self, field: Any) -> None:
        """Dark enough to be read on white."""
        colour = _colour(field)
        if themes.contrast(colour, WHITE) < CONTRAST:
            raise ValidationError(
                _(
                    "Trop claire pour être lue sur fond blanc : contraste %(found)s, il en faut %(needed)s. "
                    "Par exemple %(example)s.",
                    found=contrast_text(colour, WHITE),
                    needed=formats.decimal(CONTRAST, 1),
                    example=darkened(colour),
                )
            )


class LogoForm(Form):
    """A picture to take as the logo."""

    logo = FileField(_l("Logo (PNG ou JPEG, 2 Mo au plus)"), render_kw={"accept": _LOGO_ACCEPTS})


def _shown(theme: Theme, form: ThemeForm) -> Theme:
    """The theme with what was typed, as far as it is colours: for the preview."""
    chosen = {}
    for name in ("colour", "accent"):
        try:
            chosen[name] = themes.checked_colour(getattr(form, name).data or "", name)
        except UsageError:
            chosen[name] = getattr(theme, name)
    typed = (form.product_name.data or "").strip() or theme.product_name
    return Theme(theme.space_id, typed, chosen["colour"], chosen["accent"], theme.support_line, theme.logo_digest)


def _appearance(of: Space, form: ThemeForm, logo: LogoForm) -> str:
    theme = themes.of_space(context.db(), of.id)
    shown = _shown(theme, form)
    return render_template(
        "settings/appearance.html",
        title=_("Réglages"),
        here_tab="appearance",
        space=of,
        form=form,
        logo=logo,
        current=theme,
        shown=shown,
        dark=DARK,
        text_on=themes.text_on,
        contrasts=(contrast_text(shown.accent, WHITE), contrast_text(shown.accent_on_dark, DARK)),
    )


@blueprint.route("/settings", methods=["GET", "POST"])
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """The look of the space."""
    of = space()
    if of is None:
        return choose("appearance")
    theme = themes.of_space(context.db(), of.id)
    form = ThemeForm(obj=theme)
    # A preview saves nothing: the page comes back with what was typed.
    if form.validate_on_submit() and "preview" not in request.form:
        before = asdict(theme)
        try:
            with context.db().write():
                new = themes.save(
                    context.db(),
                    of.id,
                    product_name=form.product_name.data,
                    colour=form.colour.data,
                    accent=form.accent.data,
                    support_line=form.support_line.data or "",
                    now=context.now(),
                )
                note("space.theme", of, before, asdict(new))
        except UsageError:
            # All else was checked above: what is left are characters that no line may hold.
            say(form.product_name, _("Ce texte contient des caractères qui ne s’affichent pas : retapez-le."))
        else:
            flash(_("L’apparence de l’espace est enregistrée."), "success")
            return redirect(url_for("settings.index"), 303)
    return _appearance(of, form, LogoForm(formdata=None))


@blueprint.post("/settings/logo")
@allow(MANAGERS)
def logo() -> ResponseReturnValue:
    """Take an uploaded picture, encoded anew, or do without one."""
    of = space()
    if of is None:
        return redirect(url_for("settings.index"), 303)
    theme = themes.of_space(context.db(), of.id)
    form = LogoForm()
    picture = form.logo.data.read() if form.logo.data else b""
    if "remove" in request.form:
        with context.db().write():
            note("space.logo", of, _logo_of(theme), _logo_of(themes.clear_logo(context.db(), of.id)))
        flash(_("Le logo est retiré."), "success")
        return redirect(url_for("settings.index"), 303)
    if not form.validate():
        return _appearance(of, ThemeForm(formdata=None, obj=theme), form)
    if not picture:
        say(form.logo, _("Choisissez d’abord une image."))
        return _appearance(of, ThemeForm(formdata=None, obj=theme), form)
    try:
        # Decoded before the transaction: a picture may take a while, and writers wait.
        encoded = themes.encoded_anew(picture)
    except UsageError:
        say(
            form.logo,
            _("Cette image n’est pas acceptée : envoyez un PNG ou un JPEG de 2 Mo et 4 millions de pixels au plus."),
        )
        return _appearance(of, ThemeForm(formdata=None, obj=theme), form)
    with context.db().write():
        note(
            "space.logo",
            of,
            _logo_of(theme),
            _logo_of(themes.set_logo(context.db(), of.id, encoded.data, context.now())),
        )
    flash(_("Le logo est enregistré."), "success")
    return redirect(url_for("settings.index"), 303)


def _logo_of(theme: Theme) -> dict[str, Any]:
    return {"logo": theme.logo_digest}


def _between(least: int, most: int) -> Any:
    def check(_form: Any, field: Any) -> None:
        if field.data is None:
            raise ValidationError(_("À remplir."))
        if not least <= field.data <= most:
            raise ValidationError(
                _("Entre %(least)s et %(most)s.", least=formats.count(least), most=formats.count(most))
            )

    return check


class RulesForm(Form):
    """What the space decides for all its contracts."""

    language = SelectField(_l("Langue de l’espace"), choices=[SelectChoice(*one) for one in formats.LANGUAGES.items()])
    late_hours = CountField(_l("En retard après"), validators=[_between(1, 24 * 365)])
    open_days = SelectField(_l("Jours d’ouverture"))
    expiring_days = CountField(_l("Prévenir de la fin d’un contrat"), validators=[_between(0, 365)])
    tell_admins = BooleanField(_l("Prévenir aussi les administrateurs de l’espace de chaque échec"))
    suspicious_percent = CountField(_l("Changements suspects à partir de"), validators=[_between(1, 100)])
    keep_days = CountField(_l("Conservation"), validators=[_between(0, LONGEST_DAYS)])
    floor_days = CountField(_l("Minimum garanti"), validators=[_between(MINIMUM_FLOOR_DAYS, LONGEST_DAYS)])

    def validate_floor_days(self, field: Any) -> None:
        """Not more than is kept."""
        if field.data is not None and self.keep_days.data is not None and field.data > self.keep_days.data:
            raise ValidationError(_("Le minimum garanti dépasse la conservation : gardez plus de jours, ou moins ici."))


@blueprint.route("/settings/rules", methods=["GET", "POST"])
@allow(MANAGERS)
def rules() -> ResponseReturnValue:
    """Language, thresholds of alerts, retention of new contracts."""
    of = space()
    if of is None:
        return choose("rules")
    old = space_settings.of_space(context.db(), of.id)
    form = RulesForm(obj=old)
    form.open_days.choices = opening_choices(old.open_days)
    if form.validate_on_submit():
        new = SpaceSettings(
            form.language.data,
            form.late_hours.data,
            form.expiring_days.data,
            form.suspicious_percent.data,
            form.keep_days.data,
            form.floor_days.data,
            form.open_days.data,
            form.tell_admins.data,
        )
        with context.db().write():
            space_settings.save(context.db(), of.id, new, context.now())
            note("space.settings", of, asdict(old), asdict(new))
        flash(_("Les réglages de l’espace sont enregistrés."), "success")
        return redirect(url_for("settings.rules"), 303)
    return render_template("settings/rules.html", title=_("Réglages"), here_tab="rules", space=of, form=form)
