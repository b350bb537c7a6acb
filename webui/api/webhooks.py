"""Webhooks by the API: told where to and of what, taken away, and what they were told.

A program of a vendor sets up its own; the secret that signs is answered once. What may be an address is
`appliance.webhook_sending`'s to say.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta

from appliance import webhook_sending
from appliance.control import api_tokens, audit
from appliance.control import webhooks as table
from appliance.control.webhooks import Event
from webui import context
from webui.api import cursors
from webui.api.contracts import by
from webui.api.nouns import Answer, Asked, Listing, moment, moment_or_none
from webui.api.operations import operation

GROUP: Final = "Webhooks"
READ, WRITE = api_tokens.Permission.READ, api_tokens.Permission.WRITE


class WebhookWanted(Asked, frozen=True, kw_only=True):
    """Where to, by https, and of what."""

    url: Annotated[str, Meta(min_length=9, max_length=table.URL_LIMIT, pattern="^https?://[!-~]+$")]
    events: Annotated[list[Event], Meta(min_length=1, max_length=20)]


class Webhook(Answer, frozen=True, kw_only=True):
    """A webhook, without its secret. One that is paused, in the web interface, is told nothing."""

    id: str
    url: str
    events: list[Event]
    created_by: str
    created_at: datetime
    paused: bool


class NewWebhook(Webhook, frozen=True, kw_only=True):
    """A webhook with the secret that signs what it is told, shown once."""

    secret: str


class Webhooks(Answer, frozen=True, kw_only=True):
    """The webhooks of the space."""

    items: list[Webhook]


class Delivery(Answer, frozen=True, kw_only=True):
    """Something a webhook was, or is to be, told. `body` is what is sent, `number` its Pilulier-Delivery."""

    number: int
    event: str
    body: str
    created_at: datetime
    attempts: int
    sent_at: datetime | None
    given_up_at: datetime | None
    last_error: str


class DeliveryPage(Answer, frozen=True, kw_only=True):
    """Some deliveries, newest first; `next` is the cursor of the page after, null on the last."""

    items: list[Delivery]
    next: str | None


def _shown(one: table.Webhook) -> Webhook:
    return Webhook(
        id=one.id,
        url=one.url,
        events=sorted(one.events),
        created_by=one.created_by,
        created_at=moment(one.created_at),
        paused=one.paused,
    )


def _note(kind: str, one: table.Webhook) -> None:
    told = {"url": one.url, "events": sorted(one.events)}
    audit.write(
        context.db(),
        context.actor(),
        kind,
        now=context.now(),
        object_kind="webhook",
        object_id=one.id,
        object_name=one.url,
        space_id=one.space_id,
        after=told,
    )


@operation("GET", "/webhooks", "List webhooks", group=GROUP, needs_permission=READ, answer=Webhooks)
def list_webhooks() -> Webhooks:
    """Those of the space, oldest first."""
    return Webhooks(items=[_shown(one) for one in table.every(context.db(), context.scope())])


@operation("POST", "/webhooks", "Make a webhook", group=GROUP, needs_permission=WRITE, body=WebhookWanted,
           answer=NewWebhook, status=201, secret=True)  # fmt: skip
def create_webhook(body: WebhookWanted) -> NewWebhook:
    """Told of events by a signed POST, tried again for a day until it answers 2xx. The name must lead to the public
    internet, unless the appliance's settings allow its own network."""
    url = webhook_sending.checked_url(body.url, private=context.home().load_settings().webhooks_private)
    made = table.create(
        context.db(),
        space_id=context.my_token().space_id,
        url=url,
        events=body.events,
        by=by(),
        now=context.now(),
    )
    _note("webhook.add", made.webhook)
    shown = _shown(made.webhook)
    return NewWebhook(
        id=shown.id,
        url=shown.url,
        events=shown.events,
        created_by=shown.created_by,
        created_at=shown.created_at,
        paused=shown.paused,
        secret=made.secret,
    )


@operation("DELETE", "/webhooks/<webhook_id>", "Take a webhook away", group=GROUP, needs_permission=WRITE, status=204)
def remove_webhook(webhook_id: str) -> None:
    """With what it was still to be told."""
    _note("webhook.remove", table.remove(context.db(), context.scope(), webhook_id))


@operation("GET", "/webhooks/<webhook_id>/deliveries", "List what a webhook was told", group=GROUP,
           needs_permission=READ, query=Listing, answer=DeliveryPage)  # fmt: skip
def list_deliveries(webhook_id: str, query: Listing) -> DeliveryPage:
    """Newest first, for a month, with what kept the last attempt from succeeding."""
    before = cursors.number("deliveries", query.cursor)
    found = table.deliveries(context.db(), context.scope(), webhook_id, before=before, limit=query.limit + 1)
    page = found[: query.limit]
    return DeliveryPage(
        items=[
            Delivery(
                number=one.id,
                event=one.event,
                body=one.body,
                created_at=moment(one.created_at),
                attempts=one.attempts,
                sent_at=moment_or_none(one.sent_at),
                given_up_at=moment_or_none(one.given_up_at),
                last_error=one.last_error,
            )
            for one in page
        ],
        next=cursors.encode("deliveries", str(page[-1].id)) if len(found) > query.limit else None,
    )
