"""Logging in to the web interface: address and password, then a one-time code, each throttled and written down.

Rules: every way to fail reads alike and takes alike, so that nobody learns which accounts exist; a password is
charged as wrong before it is looked at, so that parallel guesses cannot outrun the count; between the two steps
stands a token of ten minutes that opens nothing but the second. A recovery code may stand in for the authenticator
here, never in a step-up.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Final

from appliance.control import accounts, login_places, outbox, recovery_codes, sessions, throttling, tokens
from appliance.control.accounts import Account, AccountState
from appliance.control.database import Database
from appliance.control.passwords import MAXIMUM_BYTES, hash_password, verify_password
from appliance.control.sessions import NewSession
from appliance.control.text import one_line
from appliance.control.throttling import Attempt, Outcome
from appliance.control.two_factor import Reason, Rejected
from appliance.errors import LoginError, OneTimeCodeError, ThrottledError

PENDING_S: Final = 600.0
_PURPOSE: Final = "pending-login"
_NOT_OPEN: Final = "this e-mail address and password open no account: check both"
_AGAIN: Final = "this login took too long or was ended: type e-mail address and password again"
_CODE: Final = "this code is not right: type a new one from the authenticator (each works once)"


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """The password was right; `token` leads to the second step until `expires_at`. Its repr does not show it."""

    account: Account
    token: str
    expires_at: float

    def __repr__(self) -> str:
        return f"PendingLogin({self.account.id}, …)"


@cache
def _nobody() -> str:
    """Verified in place of an unknown account's, so that both take the same time."""
    return hash_password("nobody has this password")


def _normalised(email: str) -> str:
    return one_line(unicodedata.normalize("NFC", email), 254).lower()


def _throttled(wait_s: float) -> ThrottledError:
    minutes = math.ceil(wait_s / 60)
    return ThrottledError(
        f"too many wrong attempts: try again in {minutes} minute{'s' if minutes != 1 else ''}", wait_s
    )


def account_of(db: Database, email: str, password: str, *, address: str, now: float) -> Account:
    """The active account that address and password open; LoginError for whatever is wrong, ThrottledError after too
    much of it."""
    email, address = _normalised(email), one_line(address, 64)

    with db.write():
        wait_s = throttling.password_refusal_s(db, email, address, now)
        outcome = Outcome.THROTTLED if wait_s > 0 else Outcome.WRONG
        charged = throttling.log(db, Attempt(now, throttling.PASSWORD, email, None, outcome, address))
    if wait_s > 0:
        raise _throttled(wait_s)
    row = db.row("SELECT id, password_hash FROM account WHERE email = ? AND state = 'active'", [email])
    # Longer ones are nobody's, and hashing them would only cost.
    right = verify_password(
        password if len(password.encode()) <= MAXIMUM_BYTES else "", row["password_hash"] if row else _nobody()
    )
    if row is None or not right:
        raise LoginError(_NOT_OPEN)
    with db.write():
        throttling.clear_charge(db, charged)
        return accounts.find(db, row["id"])


def check_password(db: Database, email: str, password: str, *, address: str, now: float) -> PendingLogin:
    """The first step; LoginError for whatever is wrong, ThrottledError after too much of it."""
    account = account_of(db, email, password, address=address, now=now)
    token = tokens.new_token()
    with db.write():
        db.insert(
            "pending_login",
            {
                "token_sha256": tokens.digest(_PURPOSE, token),
                "account_id": account.id,
                "expires_at": now + PENDING_S,
            },
        )
        return PendingLogin(account, token, now + PENDING_S)


def pending(db: Database, token: str, now: float) -> Account | None:
    """Whose second step a token leads to; None where it is over."""
    row = db.row(
        "SELECT account_id FROM pending_login JOIN account ON account.id = pending_login.account_id "
        "WHERE token_sha256 = ? AND expires_at > ? AND account.state = 'active'",
        [tokens.digest(_PURPOSE, token), now],
    )
    return None if row is None else accounts.find(db, row["account_id"])


def finish(db: Database, token: str, code: str, *, address: str, user_agent: str, now: float) -> NewSession:
    """The second step, with a code of the authenticator or a recovery code; the token is used up by the right one.

    LoginError where the first step is to be done again, OneTimeCodeError, ThrottledError.
    """
    session = None
    with db.write():
        account = pending(db, token, now)
        if account is None:
            raise LoginError(_AGAIN)
        refusal = _take(db, account, code, address=address, now=now, purpose=throttling.LOGIN, recovery=True)
        if refusal is None:
            db.execute("DELETE FROM pending_login WHERE token_sha256 = ?", [tokens.digest(_PURPOSE, token)])
            session = sessions.open(db, account.id, address=address, user_agent=user_agent, now=now)
            login_places.tell_if_new(db, account, session.session, now)
    # Raised only now: an exception inside the transaction would take the log of the attempt back with it.
    if refusal is not None:
        raise refusal
    assert session is not None
    return session


def check_code(
    db: Database,
    account: Account,
    code: str,
    *,
    address: str,
    now: float,
    purpose: str = "web-stepup",
    recovery: bool = False,
) -> None:
    """Nothing, once a fresh code of this account is used up; OneTimeCodeError or ThrottledError otherwise."""
    with db.write():
        refusal = _take(db, account, code, address=address, now=now, purpose=purpose, recovery=recovery)
    if refusal is not None:
        raise refusal


def _take(
    db: Database, account: Account, code: str, *, address: str, now: float, purpose: str, recovery: bool
) -> OneTimeCodeError | ThrottledError | None:
    """Decide, use up and log; the error to raise once that is durable."""
    wait_s = throttling.refusal_s(db, account.email, None, now)
    if wait_s > 0:
        outcome = Outcome.THROTTLED
    elif accounts.find(db, account.id).state is not AccountState.ACTIVE:
        outcome = Outcome.NOT_ALLOWED
    elif recovery and recovery_codes.looks_like_one(code):
        outcome = Outcome.ACCEPTED if recovery_codes.use(db, account.id, code) else Outcome.WRONG
        if outcome is Outcome.ACCEPTED:
            outbox.add(
                db,
                recipient=account.email,
                kind=outbox.RECOVERY_CODE_USED,
                language=account.language,
                fields={"left": recovery_codes.left(db, account.id), "address": one_line(address, 64)},
                now=now,
            )
    else:
        verdict = accounts.take_code(db, account, code, now)
        if isinstance(verdict, Rejected):
            outcome = Outcome.USED if verdict.reason is Reason.USED else Outcome.WRONG
        else:
            outcome = Outcome.ACCEPTED
    throttling.log(db, Attempt(now, purpose, account.email, None, outcome, one_line(address, 64)))
    if outcome is Outcome.ACCEPTED:
        return None
    return _throttled(wait_s) if outcome is Outcome.THROTTLED else OneTimeCodeError(_CODE)
