"""Réglages → Webhooks: which addresses of a space's software are told of what, and what they were told.

The secret that signs is shown once, on the page that follows the making. What may be an address is
`appliance.webhook_sending`'s to say; here it is said beside the field, in the reader's language. An admin sets their
own space, a super-user the one in focus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Blueprint, flash, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import SelectMultipleField, StringField
from wtforms.fields import SelectChoice

from appliance import webhook_sending
from appliance.control import audit
from appliance.control import webhooks as table
from appliance.control.spaces import Space
from appliance.control.webhooks import Delivery, Event, NewWebhook, Webhook
from appliance.webhook_sending import NotPublicError, NotTakenError, TargetRefusedError
from transport.errors import UsageError
from webui import context, settings
from webui.forms import Form, required, say
from webui.gate import MANAGERS, allow
from webui.states import Look

blueprint = Blueprint("webhooks", __name__)
_FRESH: Final = "webhook-secret"
"""In the cookie, from the making of a webhook to the page that shows its secret."""
DELIVERIES_SHOWN: Final = 10
EVENTS: Final = {
    Event.SNAPSHOT: (_l("Sauvegarde terminée"), _l("à chaque sauvegarde complète")),
    Event.FAILED: (_l("Échec"), _l("une alerte d’échec s’ouvre")),
    Event.LATE: (_l("Retard"), _l("une alerte de retard s’ouvre")),
    Event.OVER_QUOTA: (_l("Espace dépassé"), _l("un contrat dépasse son espace alloué")),
    Event.RESTORE: (_l("Sauvegardes ouvertes"), _l("quelqu’un ouvre les sauvegardes d’une machine")),
    Event.RESTORED: (_l("Restauration terminée"), _l("un envoi vers une machine y est restauré")),
}
_TEST: Final = _l("Essai")
_WAITING: Final = Look("busy", _l("En attente"), "hourglass-split")
_AGAIN: Final = Look("warning", _l("Nouvel essai prévu"), "arrow-repeat")
_TAKEN: Final = Look("ok", _l("Reçu"), "check-circle-fill")
_GIVEN_UP: Final = Look("failed", _l("Abandonné"), "x-octagon-fill")


class WebhookForm(Form):
    """A webhook to be."""

    url = StringField(
        _l("Adresse"),
        validators=[required()],
        render_kw={
            **{"type": "url", "maxlength": str(table.URL_LIMIT), "placeholder": "https://logiciel.example/pilulier"},
            **{"autocomplete": "off", "spellcheck": "false"},
        },
    )
    events = SelectMultipleField(
        _l("Événements"), choices=[SelectChoice(str(one), words[0]) for one, words in EVENTS.items()]
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One webhook as the page shows it."""

    webhook: Webhook
    deliveries: list[Delivery]


def look_of(one: Delivery) -> Look:
    """How far a delivery is."""
    if one.sent_at is not None:
        return _TAKEN
    if one.given_up_at is not None:
        return _GIVEN_UP
    return _AGAIN if one.attempts else _WAITING


def event_word(event: str) -> str:
    """What an event is called."""
    return str(EVENTS[Event(event)][0] if event in set(Event) else _TEST)


def _rows() -> list[Row]:
    db, scope = context.db(), context.scope()
    return [
        Row(one, table.deliveries(db, scope, one.id, limit=DELIVERIES_SHOWN)) for one in table.every(db, scope)
    ]


@blueprint.route("/settings/webhooks", methods=["GET", "POST"])
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """The webhooks of the space with what they were told, and making one."""
    of = settings.space()
    if of is None:
        return settings.choose("webhooks")
    form = WebhookForm(events=[str(Event.SNAPSHOT), str(Event.FAILED), str(Event.LATE)])
    if form.validate_on_submit() and _chosen(form) and _public(form):
        made = _create(form, of)
        if made is not None:
            session[_FRESH] = made.secret
            return redirect(url_for("webhooks.index", _anchor="secret"), 303)
    fresh = session.pop(_FRESH, "")
    return render_template(
        "settings/webhooks.html",
        title=_("Réglages"),
        here_tab="webhooks",
        space=of,
        form=form,
        rows=_rows(),
        fresh=fresh,
        full=len(_rows()) >= table.LIMIT,
        limit=table.LIMIT,
        EVENTS=EVENTS,
        look_of=look_of,
        event_word=event_word,
    )


def _chosen(form: WebhookForm) -> bool:
    if form.events.data:
        return True
    say(form.events, _("Cochez au moins un événement : sans cela, rien n’est envoyé."))
    return False


def _public(form: WebhookForm) -> bool:
    """Whether the address is one that may be told; a name without an address now may have one later."""
    private = context.home().load_settings().webhooks_private
    url = form.url.data.strip()
    inward = _(
        "Cette adresse mène au réseau privé du serveur (adresse locale, privée ou de lien local). Un webhook ne part "
        "que vers l’internet public, pour que personne ne puisse s’en servir contre ce réseau."
    )
    try:
        parts = urlsplit(webhook_sending.checked_url(url, private=private))
        webhook_sending.resolve(parts.hostname or "", parts.port or 443, private=private)
    except (NotPublicError, TargetRefusedError):
        say(form.url, inward)
        return False
    except NotTakenError:
        flash(_("Ce nom n’a pas d’adresse pour l’instant : vérifiez-le, les envois seront retentés."), "warning")
    except (UsageError, ValueError):
        say(
            form.url,
            _(
                "Donnez une adresse complète comme https://logiciel.example/pilulier : en https, sans identifiant, "
                "sans partie après #, %(limit)s caractères au plus.",
                limit=table.URL_LIMIT,
            ),
        )
        return False
    return True


def _create(form: WebhookForm, of: Space) -> NewWebhook | None:
    """The webhook; None where the space has as many as it may."""
    db, now = context.db(), context.now()
    try:
        with db.write():
            made = table.create(
                db,
                space_id=of.id,
                url=form.url.data.strip(),
                events=[Event(word) for word in form.events.data],
                by=context.me().email,
                now=now,
            )
            _note("webhook.add", made.webhook, {"after": _told(made.webhook)})
    except UsageError:
        say(form.url, _("Cet espace a déjà %(limit)s webhooks : supprimez-en un d’abord.", limit=table.LIMIT))
        return None
    return made


def _told(one: Webhook) -> dict[str, Any]:
    return {"url": one.url, "events": sorted(one.events)}


def _note(kind: str, one: Webhook, values: dict[str, Any]) -> None:
    audit.write(
        context.db(),
        context.actor(),
        kind,
        now=context.now(),
        object_kind="webhook",
        object_id=one.id,
        object_name=one.url,
        space_id=one.space_id,
        **values,
    )


def _back() -> ResponseReturnValue:
    return redirect(url_for("webhooks.index"), 303)


@blueprint.post("/settings/webhooks/<webhook_id>/test")
@allow(MANAGERS)
def test(webhook_id: str) -> ResponseReturnValue:
    """Envoyer un essai: a word that means nothing, told like the others."""
    db = context.db()
    with db.write():
        found = table.ask_test(db, context.scope(), webhook_id, context.now())
        _note("webhook.test", found, {})
    if found.paused:
        flash(_("L’essai attend : il partira quand le webhook sera repris."), "info")
    else:
        flash(_("L’essai part dans la minute : rechargez cette page pour voir s’il a été reçu."), "success")
    return _back()


@blueprint.post("/settings/webhooks/<webhook_id>/pause")
@allow(MANAGERS)
def pause(webhook_id: str) -> ResponseReturnValue:
    """Mettre en pause, or take up again what rests."""
    db = context.db()
    with db.write():
        before = table.find(db, context.scope(), webhook_id)
        after = table.rest(db, context.scope(), webhook_id, paused=not before.paused)
        _note("webhook.pause", after, {"before": {"paused": before.paused}, "after": {"paused": after.paused}})
    flash(_("Le webhook est en pause.") if after.paused else _("Le webhook est repris."), "success")
    return _back()


@blueprint.post("/settings/webhooks/<webhook_id>/remove")
@allow(MANAGERS)
def remove(webhook_id: str) -> ResponseReturnValue:
    """Supprimer, with what it was still to be told."""
    db = context.db()
    with db.write():
        gone = table.remove(db, context.scope(), webhook_id)
        _note("webhook.remove", gone, {"before": _told(gone)})
    flash(_("Le webhook est supprimé."), "success")
    return _back()
