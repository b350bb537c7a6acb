"""The outbox: mails that are to be sent, written in the transaction of what they tell about.

A mail is a kind and its fields; texts, theme and delivery are for whoever sends. `secret` holds what only the
mail may say, a link's token, and is emptied once it has left or was given up. Kinds are short words; a new one needs a
template. Delivery holds a lease on the row: a sender that died is followed by another, under the same message id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.text import checked_email, one_line
from appliance.errors import NotFoundError

INVITATION: Final = "invitation"
PASSWORD_RESET: Final = "password-reset"
PASSWORD_CHANGED: Final = "password-changed"
DEVICE_REQUESTED: Final = "device-requested"
DEVICE_TO_APPROVE: Final = "device-to-approve"
DEVICE_APPROVED: Final = "device-approved"
DEVICE_REFUSED: Final = "device-refused"
DEVICE_CHANGED: Final = "device-changed"
RECOVERY_CODE_USED: Final = "recovery-code-used"
DELETION_REQUESTED: Final = "deletion-requested"
DELETION_CANCELLED: Final = "deletion-cancelled"
DELETION_DONE: Final = "deletion-done"
EXPORT_REQUESTED: Final = "export-requested"
EXPORT_DONE: Final = "export-done"
NEW_ADDRESS: Final = "new-address"
"""A login from where this account has not been before."""
EMAIL_CHANGED: Final = "email-changed"
"""To the former address: someone above gave the account another one."""
RESTORE_OPENED: Final = "restore-opened"
RESTORE_DONE: Final = "restore-done"
"""What was sent to a machine stands there."""
KEY_CHANGED: Final = "key-changed"
MACHINE_RECOVERED: Final = "machine-recovered"
SYNTHESIS: Final = "synthesis"
DIGEST: Final = "digest"
"""Several alerts in one mail."""
TEST: Final = "test"
BACKUP_FAILED: Final = "backup-failed"
BACKUP_WARNINGS: Final = "backup-warnings"
MACHINE_SILENT: Final = "machine-silent"
NEVER_BACKED_UP: Final = "never-backed-up"
SUSPICIOUS_CHANGE: Final = "suspicious-change"
DAMAGE_FOUND: Final = "damage-found"
SELECTION_SHRUNK: Final = "selection-shrunk"
ONSITE_MISSING: Final = "onsite-missing"
CONTRACT_OVER_QUOTA: Final = "contract-over-quota"
SPACE_OVER_QUOTA: Final = "space-over-quota"
CONTRACT_EXPIRING: Final = "contract-expiring"
CONTRACT_EXPIRED: Final = "contract-expired"
APPLIANCE_ALARM: Final = "appliance-alarm"

LEASE_S: Final = 300.0
"""Longer than sending one mail may take, whatever the server does."""
GIVE_UP_S: Final = 3 * 86400.0
"""A mail that no server took for so long is given up, as mail servers do among themselves (RFC 5321, 4.5.4.1)."""
_PAUSES_S: Final = (60.0, 300.0, 900.0, 3600.0, 4 * 3600.0)

Scalar = str | int | float | bool | None
Value = Scalar | Sequence[Mapping[str, Scalar]]
"""A fact, or the rows of a table."""


class MailState(StrEnum):
    """How far a mail is."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given-up"


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. Times in seconds since 1970; `last_error` is why it has not left yet. Its repr shows no secret."""

    id: int
    recipient: str
    kind: str
    language: str
    space_id: str | None
    fields: Mapping[str, Value]
    created_at: float
    sent_at: float | None
    secret: str | None = field(default=None, repr=False)
    message_id: str | None = None
    attempts: int = 0
    next_at: float = 0.0
    lease_until: float = 0.0
    last_error: str = ""
    given_up_at: float | None = None

    @property
    def state(self) -> MailState:
        """How far it is."""
        if self.sent_at is not None:
            return MailState.SENT
        return MailState.WAITING if self.given_up_at is None else MailState.GIVEN_UP


@dataclass(frozen=True, slots=True)
class Counts:
    """Mails by state; `oldest_at` is when the oldest that waits was written."""

    waiting: int
    sent: int
    given_up: int
    oldest_at: float | None


def add(
    db: Database,
    *,
    recipient: str,
    kind: str,
    language: str,
    fields: Mapping[str, Value],
    now: float,
    space_id: str | None = None,
    secret: str | None = None,
    not_before: float = 0.0,
) -> int:
    """Put a mail in, to leave at `not_before` at the earliest; its number. UsageError for no address."""
    with db.write():
        db.insert(
            "outbox",
            {
                "recipient": checked_email(recipient),
                "kind": kind,
                "language": language,
                "space_id": space_id,
                "fields": json.dumps(dict(fields), ensure_ascii=False, sort_keys=True),
                "secret": secret,
                "created_at": now,
                "next_at": not_before,
            },
        )
        return int(db.value("SELECT last_insert_rowid() AS id"))


def _mail(row: dict[str, Any]) -> Mail:
    return Mail(**{**row, "fields": json.loads(row["fields"])})


_WAITING_SQL: Final = "sent_at IS NULL AND given_up_at IS NULL"


def pending(db: Database, limit: int = 100) -> list[Mail]:
    """Mails that have not left, oldest first."""
    return [_mail(row) for row in db.rows(f"SELECT * FROM outbox WHERE {_WAITING_SQL} ORDER BY id LIMIT ?", [limit])]


def recent(db: Database, limit: int = 200) -> list[Mail]:
    """The newest mails, sent or not, newest first, without their secrets: for the super-user's page."""
    columns = (
        "id, recipient, kind, language, space_id, fields, created_at, sent_at, message_id, attempts, next_at, "
        "lease_until, last_error, given_up_at"
    )
    return [_mail(row) for row in db.rows(f"SELECT {columns} FROM outbox ORDER BY id DESC LIMIT ?", [limit])]


def counts(db: Database) -> Counts:
    """How many mails are in each state."""
    row = db.row(
        f"SELECT coalesce(sum({_WAITING_SQL}), 0) AS waiting, coalesce(sum(sent_at IS NOT NULL), 0) AS sent, "
        "coalesce(sum(given_up_at IS NOT NULL), 0) AS given_up, "
        f"min(CASE WHEN {_WAITING_SQL} THEN created_at END) AS oldest_at FROM outbox"
    )
    assert row is not None
    return Counts(**row)


_DUE: Final = f"{_WAITING_SQL} AND next_at <= ? AND lease_until <= ?"


def anything_due(db: Database, now: float) -> bool:
    """Whether a mail could be sent now."""
    return db.row(f"SELECT 1 AS found FROM outbox WHERE {_DUE} LIMIT 1", [now, now]) is not None


def claim(db: Database, message_id: str, now: float) -> Mail | None:
    """The next mail to send, ours until its lease runs out; None where nothing is due.

    `message_id` becomes the mail's own unless it was claimed before: a receiver who gets it twice can tell.
    """
    with db.write():
        row = db.row(f"SELECT id FROM outbox WHERE {_DUE} ORDER BY next_at, id LIMIT 1", [now, now])
        if row is None:
            return None
        db.execute(
            "UPDATE outbox SET lease_until = ?, attempts = attempts + 1, message_id = coalesce(message_id, ?) "
            "WHERE id = ?",
            [now + LEASE_S, message_id, row["id"]],
        )
        claimed = db.row("SELECT * FROM outbox WHERE id = ?", [row["id"]])
        assert claimed is not None
        return _mail(claimed)


def mark_sent(db: Database, mail_id: int, now: float) -> None:
    """The mail has left: what it alone may say is forgotten here."""
    with db.write():
        db.execute(
            "UPDATE outbox SET sent_at = ?, secret = NULL, lease_until = 0, last_error = '' WHERE id = ?",
            [now, mail_id],
        )


def put_off(db: Database, mail: Mail, reason: str, now: float) -> MailState:
    """It could not be sent: try again after a pause that grows, or give up after `GIVE_UP_S`."""
    if now - mail.created_at >= GIVE_UP_S:
        give_up(db, mail.id, reason, now)
        return MailState.GIVEN_UP
    pause_s = _PAUSES_S[min(max(mail.attempts, 1), len(_PAUSES_S)) - 1]
    with db.write():
        db.execute(
            "UPDATE outbox SET lease_until = 0, next_at = ?, last_error = ? WHERE id = ?",
            [now + pause_s, one_line(reason, 300), mail.id],
        )
    return MailState.WAITING


def give_up(db: Database, mail_id: int, reason: str, now: float) -> None:
    """It will not be sent; its secret goes."""
    with db.write():
        db.execute(
            "UPDATE outbox SET given_up_at = ?, secret = NULL, lease_until = 0, last_error = ? WHERE id = ?",
            [now, one_line(reason, 300), mail_id],
        )


def try_now(db: Database, mail_id: int) -> None:
    """Send a waiting mail at the next occasion, whatever its pause; NotFoundError where it does not wait."""
    with db.write():
        if not db.execute(f"UPDATE outbox SET next_at = 0 WHERE id = ? AND {_WAITING_SQL}", [mail_id]):
            raise NotFoundError("this mail has left already, or was given up")


def forget_before(db: Database, before: float) -> int:
    """Remove mails that left or were given up before a time; how many."""
    with db.write():
        return db.execute("DELETE FROM outbox WHERE coalesce(sent_at, given_up_at) < ?", [before])
