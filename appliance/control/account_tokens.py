"""Links that let an existing account's person go on: a forgotten password, a lost authenticator.

Rules: stored hashed, good once and for 48 hours, each for one purpose; a newer one replaces the older. A disabled
account's links lead nowhere. What a link allows is said by `password_resets` and `lost_devices`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from appliance.control import accounts, tokens
from appliance.control.accounts import Account
from appliance.control.database import Database
from appliance.errors import NotFoundError

LIFE_S: Final = 48 * 3600.0
_GONE: Final = "this link was used, has expired or was replaced by a newer one: ask for another one"


class Purpose(StrEnum):
    """What a link is for."""

    PASSWORD = "password"
    DEVICE = "device"


def _digest(purpose: Purpose, token: str) -> bytes:
    return tokens.digest(f"account-{purpose}", token)


def issue(db: Database, account_id: str, purpose: Purpose, now: float) -> str:
    """A new token; open ones of the same purpose stop working."""
    token = tokens.new_token()
    with db.write():
        revoke(db, account_id, purpose, now)
        db.insert(
            "account_token",
            {
                "token_sha256": _digest(purpose, token),
                "purpose": str(purpose),
                "account_id": account_id,
                "created_at": now,
                "expires_at": now + LIFE_S,
            },
        )
    return token


def revoke(db: Database, account_id: str, purpose: Purpose, now: float) -> None:
    """Make the account's open links of a purpose worthless. Their rows stay, to be counted."""
    with db.write():
        db.execute(
            "UPDATE account_token SET used_at = ? WHERE account_id = ? AND purpose = ? AND used_at IS NULL",
            [now, account_id, str(purpose)],
        )


def issued_since(db: Database, account_id: str, purpose: Purpose, since: float) -> int:
    """How many links of a purpose the account was sent since then."""
    return int(
        db.value(
            "SELECT count(*) AS n FROM account_token WHERE account_id = ? AND purpose = ? AND created_at > ?",
            [account_id, str(purpose), since],
        )
    )


def find(db: Database, purpose: Purpose, token: str, now: float) -> Account:
    """Whose link it is; NotFoundError where it is unknown, of another purpose, used or expired."""
    row = db.row(
        "SELECT account_id FROM account_token JOIN account ON account.id = account_token.account_id "
        "WHERE token_sha256 = ? AND purpose = ? AND used_at IS NULL AND expires_at > ? AND account.state = 'active'",
        [_digest(purpose, token), str(purpose), now],
    )
    if row is None:
        raise NotFoundError(_GONE)
    return accounts.find(db, row["account_id"])


def use(db: Database, purpose: Purpose, token: str, now: float) -> Account:
    """As `find`, once: the link is used up with this, in the caller's transaction."""
    with db.write():
        account = find(db, purpose, token, now)
        db.execute("UPDATE account_token SET used_at = ? WHERE token_sha256 = ?", [now, _digest(purpose, token)])
        return account
