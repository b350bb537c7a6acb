"""The outbox: mails that are to be sent, written in the transaction of what they tell about.

A mail is a kind and its fields; texts, theme and delivery are for whoever sends. `secret` holds what only the
mail may say, a link's token, and is emptied once it has left. Kinds are short words; a new one needs a template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.text import checked_email

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
NEW_ADDRESS: Final = "new-address"
"""A login from where this account has not been before."""
EMAIL_CHANGED: Final = "email-changed"
"""To the former address: someone above gave the account another one."""

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. Times in seconds since 1970. Its repr does not show the secret."""

    id: int
    recipient: str
    kind: str
    language: str
    space_id: str | None
    fields: Mapping[str, Value]
    created_at: float
    sent_at: float | None
    secret: str | None = field(default=None, repr=False)


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
) -> int:
    """Put a mail in; its number. UsageError for a recipient that is no address."""
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
            },
        )
        return int(db.value("SELECT last_insert_rowid() AS id"))


def _mail(row: dict[str, Any]) -> Mail:
    return Mail(**{**row, "fields": json.loads(row["fields"])})


def pending(db: Database, limit: int = 100) -> list[Mail]:
    """Mails that have not left, oldest first."""
    return [_mail(row) for row in db.rows("SELECT * FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT ?", [limit])]


def recent(db: Database, limit: int = 200) -> list[Mail]:
    """The newest mails, sent or not, newest first, without their secrets: for the super-user's page."""
    columns = "id, recipient, kind, language, space_id, fields, created_at, sent_at"
    return [_mail(row) for row in db.rows(f"SELECT {columns} FROM outbox ORDER BY id DESC LIMIT ?", [limit])]


def mark_sent(db: Database, mail_id: int, now: float) -> None:
    """The mail has left: what it alone may say is forgotten here."""
    with db.write():
        db.execute("UPDATE outbox SET sent_at = ?, secret = NULL WHERE id = ?", [now, mail_id])
