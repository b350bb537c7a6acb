"""Step-up: the right to do one dangerous thing to one object for five minutes, bought with a fresh one-time code.

A grant belongs to an account, a session, an action and an object, all four; it ends when it is used, with its time
or with its session. Recovery codes buy none, but for the authenticator that takes the place of a lost one: they are for
getting in, and whoever steals a list of them must not be able to destroy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.control import logins
from appliance.control.accounts import Account
from appliance.control.database import Database
from appliance.control.text import one_line
from appliance.errors import NotFoundError

LIFE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What was granted, until `expires_at` (seconds since 1970)."""

    account_id: str
    session_id: str
    action: str
    object_id: str
    expires_at: float


def grant(
    db: Database,
    account: Account,
    session_id: str,
    action: str,
    object_id: str,
    code: str,
    *,
    address: str,
    now: float,
    recovery: bool = False,
) -> Grant:
    """A grant for a right code; OneTimeCodeError, ThrottledError, NotFoundError where the session has ended.

    `recovery`: a recovery code will do. Only for replacing one's own authenticator, behind the password.
    """
    purpose = f"web-stepup {one_line(action, 60)}"
    logins.check_code(db, account, code, address=address, now=now, purpose=purpose, recovery=recovery)
    made = Grant(account.id, session_id, action, object_id, now + LIFE_S)
    with db.write():
        if not db.row("SELECT 1 AS found FROM web_session WHERE id = ? AND account_id = ?", [session_id, account.id]):
            raise NotFoundError("this session has ended: log in again")
        db.execute(
            "INSERT INTO step_up (session_id, account_id, action, object_id, expires_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (session_id, action, object_id) DO UPDATE SET expires_at = excluded.expires_at",
            [session_id, account.id, action, object_id, made.expires_at],
        )
    return made


_THIS: Final = "session_id = ? AND account_id = ? AND action = ? AND object_id = ? AND expires_at > ?"


def holds(db: Database, account_id: str, session_id: str, action: str, object_id: str, now: float) -> bool:
    """Whether there is a grant for exactly this."""
    parameters = [session_id, account_id, action, object_id, now]
    return db.row(f"SELECT 1 AS found FROM step_up WHERE {_THIS}", parameters) is not None


def consume(db: Database, account_id: str, session_id: str, action: str, object_id: str, now: float) -> bool:
    """Whether there was a grant for exactly this; it is gone with this. Belongs into the transaction of the act."""
    with db.write():
        parameters = [session_id, account_id, action, object_id, now]
        return bool(db.execute(f"DELETE FROM step_up WHERE {_THIS}", parameters))
