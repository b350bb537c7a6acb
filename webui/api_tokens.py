"""Réglages → API: the tokens of a space, made and revoked, and the readable page of what they open.

A token is shown once, on the page that follows its making. Making one asks for a code, since it opens what its maker
sees for a long time; revoking does not: it must be quick. An admin sets their own space, a super-user the one in focus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import SelectField, SelectMultipleField, StringField
from wtforms.fields import SelectChoice
from wtforms.validators import Length

from appliance.control import api_tokens, audit
from appliance.control.api_tokens import ApiToken, NewApiToken, Permission, TokenState
from appliance.control.spaces import Space
from appliance.errors import ConflictError
from transport.errors import UsageError
from webui import context, settings
from webui.api import reading
from webui.forms import CodeForm, confirmed, has_grant, required, say, spend
from webui.gate import MANAGERS, allow

blueprint = Blueprint("api_tokens", __name__)

CREATE: Final = "api-token.create"
_FRESH: Final = "api-token"
"""In the cookie, from the making of a token to the page that shows it."""
PERMISSIONS: Final = {
    Permission.READ: (_l("Lire"), _l("contrats, machines, sauvegardes, statistiques, journaux, alertes")),
    Permission.WRITE: (_l("Modifier"), _l("créer et modifier des contrats, enrôler, régler, lancer une sauvegarde")),
    Permission.DELETE: (
        _l("Supprimer"),
        _l("demander une suppression (sept jours), révoquer une machine ou la changer de contrat"),
    ),
    Permission.RESTORE: (_l("Restaurer"), _l("ouvrir des sauvegardes, avec en plus le code d’une personne")),
    Permission.AUDIT: (_l("Lire le journal d’audit"), _l("qui a fait quoi dans l’espace")),
}
STATES: Final = {
    TokenState.LIVE: ("ok", _l("Actif"), "check-circle-fill"),
    TokenState.EXPIRED: ("late", _l("Expiré"), "clock-history"),
    TokenState.REVOKED: ("revoked", _l("Révoqué"), "slash-circle"),
}
_LIVES: Final = (
    SelectChoice("30", _l("30 jours")),
    SelectChoice("90", _l("90 jours")),
    SelectChoice("365", _l("1 an")),
    SelectChoice("730", _l("2 ans")),
)


class TokenForm(CodeForm):
    """A token to be."""

    name = StringField(
        _l("Nom du programme"),
        validators=[required(), Length(max=api_tokens.NAME_LIMIT)],
        render_kw={"maxlength": str(api_tokens.NAME_LIMIT), "autocomplete": "off"},
    )
    permissions = SelectMultipleField(
        _l("Droits"), choices=[SelectChoice(str(one), words[0]) for one, words in PERMISSIONS.items()]
    )
    days = SelectField(_l("Durée de validité"), choices=list(_LIVES))


@dataclass(frozen=True, slots=True)
class Row:
    """One token as the page shows it."""

    token: ApiToken
    state: TokenState

    @property
    def live(self) -> bool:
        """Whether it opens something."""
        return self.state is TokenState.LIVE


def _rows() -> list[Row]:
    """The live ones first, each kind the newest first."""
    now = context.now()
    found = [Row(one, one.state(now)) for one in api_tokens.every(context.db(), context.scope())]
    return sorted(found, key=lambda row: not row.live)


def _fresh() -> str:
    """The secret of a token that was just made, once."""
    found = session.pop(_FRESH, None)
    return found if isinstance(found, str) else ""


@blueprint.route("/settings/api", methods=["GET", "POST"])
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """The tokens of the space, and making one."""
    of = settings.space()
    if of is None:
        return settings.choose("api")
    form = TokenForm(permissions=[str(Permission.READ)], days="365")
    if form.validate_on_submit() and _chosen(form) and confirmed(form, CREATE, of.id):
        made = _create(form, of)
        if made is not None:
            session[_FRESH] = made.text
            return redirect(url_for("api_tokens.index", _anchor="token"), 303)
    return render_template(
        "settings/api.html",
        title=_("Réglages"),
        here_tab="api",
        space=of,
        form=form,
        rows=_rows(),
        fresh=_fresh(),
        granted=has_grant(CREATE, of.id),
        PERMISSIONS=PERMISSIONS,
        STATES=STATES,
    )


def _chosen(form: TokenForm) -> bool:
    if form.permissions.data:
        return True
    say(form.permissions, _("Cochez au moins un droit : sans cela, le jeton n’ouvre rien."))
    return False


def _create(form: TokenForm, of: Space) -> NewApiToken | None:
    """The token; None where something is said beside a field."""
    db, now = context.db(), context.now()
    try:
        with db.write():
            made = api_tokens.create(
                db,
                space_id=of.id,
                name=form.name.data,
                permissions=[Permission(word) for word in form.permissions.data],
                days=int(form.days.data),
                by=context.me().email,
                now=now,
            )
            if not spend(CREATE, of.id):
                abort(409)
            told = {"permissions": sorted(made.token.permissions), "expires_at": made.token.expires_at}
            _note("api-token.create", made.token, {"after": told})
    except ConflictError:
        say(form.name, _("Un jeton actif porte déjà ce nom : choisissez-en un autre, ou révoquez-le."))
        return None
    except UsageError:
        say(form.name, _("Un nom sur une ligne ; au plus %(limit)s jetons par espace.", limit=api_tokens.LIVE_LIMIT))
        return None
    return made


def _note(kind: str, token: ApiToken, values: dict[str, Any]) -> None:
    audit.write(
        context.db(),
        context.actor(),
        kind,
        now=context.now(),
        object_kind="api-token",
        object_id=token.id,
        object_name=f"{token.name} ({token.prefix})",
        space_id=token.space_id,
        **values,
    )


@blueprint.post("/settings/api/<api_token_id>/revoke")
@allow(MANAGERS)
def revoke(api_token_id: str) -> ResponseReturnValue:
    """End a token at once."""
    db = context.db()
    with db.write():
        before = api_tokens.find(db, context.scope(), api_token_id)
        after = api_tokens.revoke(db, context.scope(), api_token_id, by=context.me().email, now=context.now())
        if before.revoked_at is None:
            _note("api-token.revoke", after, {})
    flash(_("Le jeton %(name)s est révoqué : il n’ouvre plus rien.", name=after.name), "success")
    return redirect(url_for("api_tokens.index"), 303)


@blueprint.get("/settings/api/reference")
@allow(MANAGERS)
def reference() -> ResponseReturnValue:
    """The API as people read it, from the document that programs read."""
    return render_template(
        "settings/api_reference.html",
        title=_("Référence de l’API"),
        here_tab="api",
        chapters=reading.chapters(),
        parts=reading.parts(),
    )
