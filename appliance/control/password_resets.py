"""Forgotten passwords: a link by mail to choose another one. The second factor stays as it is and is asked for next.

Rule: a request answers the same, and nothing, whether or not the account exists; an account gets three mails an
hour at most, so that nobody's mailbox is filled by a stranger.
"""

from __future__ import annotations

from typing import Final

from appliance.control import account_tokens, accounts, outbox
from appliance.control.account_tokens import Purpose
from appliance.control.accounts import Account, AccountState
from appliance.control.database import Database
from appliance.control.text import one_line
from appliance.errors import NotFoundError

MAILS_AN_HOUR: Final = 3


def request(db: Database, email: str, *, address: str, now: float) -> None:
    """Mail a link to the account of this address, if there is one; `address` is where the request came from."""
    try:
        account = accounts.find(db, one_line(email, 254).lower())
    except NotFoundError:
        return
    if account.state is not AccountState.ACTIVE or account.id == email:
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
            fields={"address": one_line(address, 64), "expires_at": now + account_tokens.LIFE_S},
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
        accounts.set_password(db, account, password)
        outbox.add(
            db,
            recipient=account.email,
            kind=outbox.PASSWORD_CHANGED,
            language=account.language,
            space_id=accounts.space_of(db, account),
            fields={},
            now=now,
        )
    return account
