"""Forgotten passwords: a link by mail to choose another one. The second factor stays as it is and is asked for next.

Rule: a request answers the same, and nothing, whether or not the account exists, and writes the same once to the disk;
an account gets three mails an hour at most, so that nobody's mailbox is filled by a stranger, and one network address
asks only so often, so that nobody writes to a whole list of people.
"""

from __future__ import annotations

from typing import Final

from appliance.control import account_tokens, accounts, outbox, throttling
from appliance.control.account_tokens import Purpose
from appliance.control.accounts import Account, AccountState
from appliance.control.database import Database
from appliance.control.text import one_line
from appliance.control.throttling import Attempt, Outcome
from appliance.errors import NotFoundError, ThrottledError

MAILS_AN_HOUR: Final = 3
ASKED_AN_HOUR: Final = 30
"""From one network address: people of one practice, and some that mistype."""
PURPOSE: Final = "web-forgotten"
"""Under which requests are written down. Their outcome is never "accepted": it must not clear other counts."""


def request(db: Database, email: str, *, address: str, now: float) -> None:
    """Mail a link to the account of this address, if there is one; `address` is where the request came from.

    ThrottledError where that address has asked too often; it says nothing of the account.
    """
    email, address = one_line(email, 254).lower(), one_line(address, 64)
    with db.write():
        times = _asked(db, address, now)
        wait_s = times[-1] + 3600 - now if len(times) >= ASKED_AN_HOUR else 0.0
        outcome = Outcome.THROTTLED if wait_s > 0 else Outcome.ASKED
        throttling.log(db, Attempt(now, PURPOSE, email, None, outcome, address))
        if wait_s <= 0:
            _mail(db, email, address, now)
    if wait_s > 0:
        raise ThrottledError("too many links were asked for from this address: try again later", wait_s)


def _asked(db: Database, address: str, now: float) -> list[float]:
    rows = db.rows(
        "SELECT at FROM attempt WHERE address = ? AND at > ? AND at <= ? AND purpose = ? AND outcome = ? "
        "ORDER BY at DESC LIMIT ?",
        [address, now - 3600, now, PURPOSE, str(Outcome.ASKED), ASKED_AN_HOUR],
    )
    return [row["at"] for row in rows]


def _mail(db: Database, email: str, address: str, now: float) -> None:
    try:
        account = accounts.find(db, email)
    except NotFoundError:
        return
    # `find` takes ids too; a link is asked for by address alone.
    if account.state is not AccountState.ACTIVE or account.email != email:
        return
    with db.write():
        if account_tokens.issued_since(db, account.id, Purpose.PASSWORD, now - 3600) >= MAILS_AN_HOUR:
            return
        token = account_tokens.issue(db, account.id, Purpose.PASSWORD, now)
        outbox.add(
            db,
            recipient=account.email,
            kind=outbox.PASSWORD_RESET,
            language=account.language,
            space_id=accounts.space_of(db, account),
            fields={"address": address, "expires_at": now + account_tokens.LIFE_S},
            secret=token,
            now=now,
        )


def find(db: Database, token: str, now: float) -> Account:
    """Whose link it is; NotFoundError where it leads nowhere any more."""
    return account_tokens.find(db, Purpose.PASSWORD, token, now)


def reset(db: Database, token: str, password: str, now: float) -> Account:
    """Set another password and end all sessions; UsageError (too weak) leaves the link as it was."""
    with db.write():
        account = account_tokens.use(db, Purpose.PASSWORD, token, now)
        change(db, account, password, now)
    return account


def change(db: Database, account: Account, password: str, now: float, keep_session: str | None = None) -> None:
    """Set another password, end the sessions but one and tell the person; UsageError where it is too weak."""
    with db.write():
        accounts.set_password(db, account, password, keep_session)
        # Links that were asked for with the former password in mind, perhaps by somebody else, are over too.
        account_tokens.revoke(db, account.id, Purpose.PASSWORD, now)
        outbox.add(
            db,
            recipient=account.email,
            kind=outbox.PASSWORD_CHANGED,
            language=account.language,
            space_id=accounts.space_of(db, account),
            fields={},
            now=now,
        )
