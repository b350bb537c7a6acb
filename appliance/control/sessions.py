"""Server-side sessions of people who logged in with both factors.

Rules: the token is 256 random bits, kept here as a hash only; a session ends after 30 minutes without a request and
4 hours in all, at logout, and when the account's password, role, address or state changes; a copied cookie is dead
from then on. Sessions that have ended are rows that are gone, and their step-up grants with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from appliance.control import tokens
from appliance.control.database import Database, new_id
from appliance.control.text import one_line
from appliance.errors import NotFoundError

IDLE_S: Final = 30 * 60.0
LIFE_S: Final = 4 * 3600.0
TOUCH_S: Final = 60.0
"""Last seen is written at most this often: each write is an fsync, and makes the transport reload its directory."""
_PURPOSE: Final = "session"
_COLUMNS: Final = (
    "web_session.id, web_session.account_id, web_session.created_at, web_session.last_seen_at, web_session.address, "
    "web_session.user_agent"
)


@dataclass(frozen=True, slots=True)
class Session:
    """One login. Times in seconds since 1970; `id` names it in pages and grants nothing."""

    id: str
    account_id: str
    created_at: float
    last_seen_at: float
    address: str
    user_agent: str

    @property
    def expires_at(self) -> float:
        """When it ends at the latest."""
        return self.created_at + LIFE_S


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session with its token, which only the cookie holds. Its repr does not show it."""

    session: Session
    token: str

    def __repr__(self) -> str:
        return f"NewSession({self.session.id}, …)"


def open(db: Database, account_id: str, *, address: str, user_agent: str, now: float) -> NewSession:
    """A new session; the caller has checked password and code."""
    token = tokens.new_token()
    session = Session(new_id("w"), account_id, now, now, one_line(address, 64), one_line(user_agent, 300))
    with db.write():
        db.insert(
            "web_session",
            {
                "id": session.id,
                "token_sha256": tokens.digest(_PURPOSE, token),
                "account_id": account_id,
                "created_at": now,
                "last_seen_at": now,
                "address": session.address,
                "user_agent": session.user_agent,
            },
        )
    return NewSession(session, token)


def find(db: Database, token: str, now: float, *, touch: bool = True) -> Session | None:
    """The live session of a token; None where it is unknown, over, or its account is disabled.

    It is noted as seen, unless `touch` is off: for what a page asks by itself while nobody sits before it.
    """
    row = db.row(
        f"SELECT {_COLUMNS} FROM web_session JOIN account ON account.id = web_session.account_id "
        "WHERE web_session.token_sha256 = ? AND account.state = 'active'",
        [tokens.digest(_PURPOSE, token)],
    )
    if row is None:
        return None
    session = Session(**row)
    if not _alive(session, now):
        end(db, session.id)
        return None
    if not touch or now - session.last_seen_at < TOUCH_S:
        return session
    with db.write():
        # Where it was ended in this moment, no row changes and the next request learns it.
        db.execute("UPDATE web_session SET last_seen_at = ? WHERE id = ?", [now, session.id])
    return session


def _alive(session: Session, now: float) -> bool:
    # The touch lags by up to TOUCH_S: idle time is counted from what is stored, so never too long.
    return now - session.last_seen_at < IDLE_S and now < session.expires_at


def end(db: Database, session_id: str) -> None:
    """Logout; harmless where it has ended already."""
    with db.write():
        db.execute("DELETE FROM web_session WHERE id = ?", [session_id])


def end_all(db: Database, account_id: str, keep: str | None = None) -> int:
    """End the account's sessions but `keep`, and logins that wait for a code; the number of sessions ended."""
    with db.write():
        db.execute("DELETE FROM pending_login WHERE account_id = ?", [account_id])
        return db.execute("DELETE FROM web_session WHERE account_id = ? AND id IS NOT ?", [account_id, keep])


def of_account(db: Database, account_id: str, now: float) -> list[Session]:
    """The account's live sessions, last seen first."""
    rows: list[dict[str, Any]] = db.rows(
        f"SELECT {_COLUMNS} FROM web_session WHERE account_id = ? ORDER BY last_seen_at DESC, id", [account_id]
    )
    return [session for row in rows if _alive(session := Session(**row), now)]


def end_own(db: Database, account_id: str, session_id: str) -> None:
    """End one of the account's sessions; NotFoundError where it is another's or none."""
    with db.write():
        if not db.execute("DELETE FROM web_session WHERE id = ? AND account_id = ?", [session_id, account_id]):
            raise NotFoundError("this session has ended already")


def sweep(db: Database, now: float) -> int:
    """Remove what is over; the number of sessions removed."""
    with db.write():
        db.execute("DELETE FROM pending_login WHERE expires_at <= ?", [now])
        db.execute("DELETE FROM step_up WHERE expires_at <= ?", [now])
        return db.execute(
            "DELETE FROM web_session WHERE last_seen_at <= ? OR created_at <= ?", [now - IDLE_S, now - LIFE_S]
        )
