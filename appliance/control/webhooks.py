"""Webhooks of a space: where to, for which events; and what they are still to be told.

What is to be told is written by triggers (`webhook_schema`). A delivery is taken by one worker at a time, put off with
growing pauses and given up after a day. The secret that signs is kept as it is, since signing needs it, and is shown
once.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control.database import Database, new_id
from appliance.control.scope import Scope, over
from appliance.control.text import one_line
from appliance.errors import NotFoundError
from transport.errors import UsageError

LIMIT: Final = 10
"""Webhooks of a space at most."""
URL_LIMIT: Final = 500
GIVE_UP_S: Final = 86400.0
LEASE_S: Final = 120.0
"""Longer than an attempt may last: until then a delivery is one worker's."""
_PAUSES_S: Final = (60.0, 300.0, 900.0, 3600.0, 3 * 3600.0)
KEPT_S: Final = 30 * 86400.0


class Event(StrEnum):
    """What a webhook may be told."""

    SNAPSHOT = "snapshot"
    """A backup is complete."""
    FAILED = "failed"
    LATE = "late"
    OVER_QUOTA = "over-quota"
    RESTORE = "restore"
    """Somebody opened a machine's backups."""
    RESTORED = "restored"
    """What was sent to a machine stands there."""


TEST: Final = "test"
"""Told when somebody asks for it, to no event's webhook in particular."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook, without its secret. Times in seconds since 1970."""

    id: str
    space_id: str
    url: str
    events: frozenset[Event]
    created_by: str
    created_at: float
    paused: bool = False
    """It is told nothing: what happens meanwhile is not kept for it."""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook with its secret, shown once. Its repr does not show it."""

    webhook: Webhook
    secret: str

    def __repr__(self) -> str:
        return f"NewWebhook({self.webhook.id})"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something a webhook was, or is to be, told."""

    id: int
    webhook_id: str
    event: str
    body: str
    created_at: float
    attempts: int
    next_at: float
    sent_at: float | None
    given_up_at: float | None
    last_error: str


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery to make now: where to, and what signs it. Its repr shows no secret."""

    delivery: Delivery
    url: str
    secret: str

    def __repr__(self) -> str:
        return f"Due({self.delivery.id})"


_COLUMNS: Final = "id, space_id, url, events, paused_events, created_by, created_at"


_SAID: Final = ("event", "at", "space_id", "contract_id", "client_id", "machine_id", "machine_name")
_SAID_OF_SOME: Final = ("snapshot", "sent_bytes", "source_bytes", "warnings", "alert", "account")


def _delivery(row: dict[str, Any]) -> Delivery:
    """The body is the same each time it is made: a second attempt says what the first did."""
    said = {name: row[name] for name in _SAID} | {n: row[n] for n in _SAID_OF_SOME if row[n] is not None}
    names = ("id", "webhook_id", "event", "attempts", "next_at", "sent_at", "given_up_at", "last_error")
    known = {name: row[name] for name in names}
    return Delivery(**known, created_at=row["at"], body=json.dumps(said, ensure_ascii=False))


def _webhook(row: dict[str, Any]) -> Webhook:
    resting = row.pop("paused_events")
    events = frozenset(Event(word) for word in (resting or row["events"]).split())
    return Webhook(**{**row, "events": events, "paused": resting is not None})


def create(db: Database, *, space_id: str, url: str, events: Iterable[Event], by: str, now: float) -> NewWebhook:
    """A new webhook; the address was checked by the caller. UsageError without events, or for one too many."""
    wanted = sorted({Event(one) for one in events})
    if not wanted:
        raise UsageError("a webhook without an event is told nothing: give it at least one")
    made = Webhook(new_id("w"), space_id, url, frozenset(wanted), one_line(by, 254), now)
    secret = secrets.token_urlsafe(32)
    with db.write():
        if db.value("SELECT count(*) AS n FROM webhook WHERE space_id = ?", [space_id]) >= LIMIT:
            raise UsageError(f"this space has {LIMIT} webhooks already: remove one first")
        # Spaces around each event: the triggers look for whole words.
        db.insert("webhook", {"id": made.id, "space_id": space_id, "url": url, "events": f" {' '.join(wanted)} ",
                              "secret": secret, "created_by": made.created_by, "created_at": now})  # fmt: skip
    return NewWebhook(made, secret)


def every(db: Database, scope: Scope) -> list[Webhook]:
    """The webhooks in a scope, oldest first."""
    where = over(scope, space="webhook.space_id", contract="NULL")
    rows = db.rows(f"SELECT {_COLUMNS} FROM webhook WHERE {where.sql} ORDER BY created_at, id", where.parameters)
    return [_webhook(row) for row in rows]


def find(db: Database, scope: Scope, webhook_id: str) -> Webhook:
    """One webhook in a scope; NotFoundError otherwise."""
    for one in every(db, scope):
        if one.id == webhook_id:
            return one
    raise NotFoundError("there is no such webhook here")


def remove(db: Database, scope: Scope, webhook_id: str) -> Webhook:
    """Take it away, with what it was still to be told."""
    with db.write():
        found = find(db, scope, webhook_id)
        db.execute("DELETE FROM webhook WHERE id = ?", [found.id])
        return found


def rest(db: Database, scope: Scope, webhook_id: str, *, paused: bool) -> Webhook:
    """Let it rest, or wake it. What it was to be told before waits meanwhile; what happens meanwhile is not kept."""
    with db.write():
        found = find(db, scope, webhook_id)
        if paused and not found.paused:
            db.execute("UPDATE webhook SET paused_events = events, events = ' ' WHERE id = ?", [found.id])
        elif not paused and found.paused:
            db.execute("UPDATE webhook SET events = paused_events, paused_events = NULL WHERE id = ?", [found.id])
        return find(db, scope, webhook_id)


def ask_test(db: Database, scope: Scope, webhook_id: str, now: float) -> Webhook:
    """Tell it a word that means nothing, so that somebody sees whether it arrives. One such word waits at a time."""
    with db.write():
        found = find(db, scope, webhook_id)
        waiting = f"webhook_id = ? AND event = ? AND {_OPEN}"
        if db.row(f"SELECT 1 AS found FROM webhook_delivery WHERE {waiting}", [found.id, TEST]) is None:
            db.insert(
                "webhook_delivery",
                {
                    "webhook_id": found.id,
                    "event": TEST,
                    "at": now,
                    "space_id": found.space_id,
                    "contract_id": "",
                    "client_id": "",
                    "machine_name": "",
                },
            )
        return found


def deliveries(
    db: Database, scope: Scope, webhook_id: str, *, before: int | None = None, limit: int = 100
) -> list[Delivery]:
    """What a webhook in scope was told, newest first, from under number `before` on."""
    find(db, scope, webhook_id)
    rows = db.rows(
        "SELECT * FROM webhook_delivery WHERE webhook_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
        [webhook_id, 2**62 if before is None else before, limit],
    )
    return [_delivery(row) for row in rows]


_OPEN: Final = "sent_at IS NULL AND given_up_at IS NULL"
_WAITING: Final = (
    f"{_OPEN} AND next_at <= ? AND webhook_id IN (SELECT id FROM webhook WHERE paused_events IS NULL)"
)


def anything_due(db: Database, now: float) -> bool:
    """Whether something could be told now."""
    return db.row(f"SELECT 1 AS found FROM webhook_delivery WHERE {_WAITING} LIMIT 1", [now]) is not None


def claim(db: Database, now: float, without: frozenset[str] = frozenset()) -> Due | None:
    """The next delivery to make, to none of the webhooks `without`, ours for `LEASE_S`; None where nothing is due."""
    others = f"webhook_id NOT IN ({', '.join('?' * len(without))})"
    with db.write():
        row = db.row(
            f"SELECT id FROM webhook_delivery WHERE {_WAITING} AND {others} ORDER BY next_at, id LIMIT 1",
            [now, *without],
        )
        if row is None:
            return None
        db.execute(
            "UPDATE webhook_delivery SET attempts = attempts + 1, next_at = ? WHERE id = ?", [now + LEASE_S, row["id"]]
        )
        taken = db.row("SELECT * FROM webhook_delivery WHERE id = ?", [row["id"]])
        assert taken is not None
        where = db.row("SELECT url, secret FROM webhook WHERE id = ?", [taken["webhook_id"]])
        assert where is not None
        return Due(_delivery(taken), where["url"], where["secret"])


def mark_sent(db: Database, delivery: Delivery, now: float) -> None:
    """It was taken; what is older than a month goes on the way."""
    with db.write():
        db.execute("UPDATE webhook_delivery SET sent_at = ?, last_error = '' WHERE id = ?", [now, delivery.id])
        db.execute("DELETE FROM webhook_delivery WHERE coalesce(sent_at, given_up_at) < ?", [now - KEPT_S])


def put_off(db: Database, delivery: Delivery, reason: str, now: float) -> bool:
    """It was not taken: try again after a pause that grows; whether it is given up instead."""
    over_now = now - delivery.created_at >= GIVE_UP_S
    pause_s = _PAUSES_S[min(max(delivery.attempts, 1), len(_PAUSES_S)) - 1]
    with db.write():
        db.execute(
            "UPDATE webhook_delivery SET next_at = ?, given_up_at = ?, last_error = ? WHERE id = ?",
            [now + pause_s, now if over_now else None, one_line(reason, 300), delivery.id],
        )
    return over_now
