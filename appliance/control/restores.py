"""Who may open a machine's backups, and who did: an account, its one-time code, its right to the contract.

The decision, the accepted time step and the log of the attempt are one IMMEDIATE transaction: of two uses of
one code at the same moment exactly one wins. All ways to fail, but throttling, read alike, so that a stolen
PC cannot learn which accounts exist. Whether the machine is active is the service's to check, on each message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control import accounts, contracts, machines, throttling, two_factor
from appliance.control.accounts import Account, AccountState
from appliance.control.database import Database
from appliance.control.scope import covers
from appliance.control.text import one_line
from appliance.control.throttling import Attempt, Outcome
from appliance.control.two_factor import Reason, Rejected
from appliance.errors import OneTimeCodeError, ThrottledError

_NOT_ACCEPTED: Final = (
    "this account and one-time code do not open this machine's backups: "
    "check the e-mail address, and type a new code from the authenticator (each works once)"
)
_NOBODY_SECRET: Final = "A" * 32
"""Checked in place of an unknown account's, so that both take the same time; its outcome is ignored."""


class Purpose(StrEnum):
    """What a one-time code was asked for."""

    RESTORE = "restore"
    RESYNC = "resync"
    RECOVER = "recover"
    SEND = "send"
    """A restore that the machine is to make: it is opened, and told of, when that begins."""


@dataclass(frozen=True, slots=True)
class Opening:
    """An accepted code: who opened which machine's backups, when, for what."""

    at: float
    purpose: str
    email: str
    machine_id: bytes


def verify_restore_code(
    db: Database,
    account_email: str,
    code: str,
    machine: bytes,
    now: float,
    purpose: Purpose = Purpose.RESTORE,
) -> Account:
    """The account, once its code is used up and the opening is written down.

    `machine` is a machine id. ThrottledError after too many wrong codes, OneTimeCodeError for everything else
    (both RefusedError); either way the attempt is logged durably.
    """
    email = one_line(account_email, 254).lower()
    with db.write():
        wait_s = throttling.refusal_s(db, email, machine, now)
        account = None
        if wait_s > 0:
            outcome = Outcome.THROTTLED
        else:
            account = _find(db, email)
            outcome = _decide(db, account, code, machine, now)
        throttling.log(db, Attempt(now, str(purpose), email, machine, outcome))
        if outcome is Outcome.ACCEPTED and purpose is not Purpose.SEND:
            db.insert("restore_opening", {"at": now, "purpose": str(purpose), "email": email, "machine_id": machine})
    # Raised only now: an exception inside the transaction would take the log back with it.
    if outcome is Outcome.THROTTLED:
        minutes = math.ceil(wait_s / 60)
        raise ThrottledError(f"too many wrong codes: try again in {minutes} minute{'s' if minutes != 1 else ''}")
    if outcome is not Outcome.ACCEPTED or account is None:
        raise OneTimeCodeError(_NOT_ACCEPTED)
    return account


def record(db: Database, email: str, machine: bytes, now: float) -> None:
    """Write down that a machine's backups were opened after a step-up of its own, in the web or for a delivery; mails
    follow from it."""
    with db.write():
        db.insert(
            "restore_opening", {"at": now, "purpose": str(Purpose.RESTORE), "email": email, "machine_id": machine}
        )


def _find(db: Database, email: str) -> Account | None:
    row: dict[str, Any] | None = db.row("SELECT id FROM account WHERE email = ?", [email])
    return accounts.find(db, row["id"]) if row else None


def _decide(db: Database, account: Account | None, code: str, machine: bytes, now: float) -> Outcome:
    if account is None or account.state is not AccountState.ACTIVE:
        two_factor.verify(_NOBODY_SECRET, code, now, 0)
        return Outcome.UNKNOWN_ACCOUNT
    # Used up even where the right is missing: the code has been shown to this machine.
    match accounts.take_code(db, account, code, now):
        case Rejected(Reason.USED):
            return Outcome.USED
        case Rejected():
            return Outcome.WRONG
    if not machines.exists(db, machine):
        return Outcome.NOT_ALLOWED
    contract = contracts.of_machine(db, machine)
    if not covers(accounts.scope_of(account), space_id=contract.space_id, contract_id=contract.id):
        return Outcome.NOT_ALLOWED
    return Outcome.ACCEPTED


def may_still_restore(db: Database, account_id: str, machine: bytes) -> bool:
    """Whether the account that opened a restore is still active and in charge of the machine."""
    if db.row("SELECT id FROM account WHERE id = ?", [account_id]) is None or not machines.exists(db, machine):
        return False
    account, contract = accounts.find(db, account_id), contracts.of_machine(db, machine)
    active = account.state is AccountState.ACTIVE
    return active and covers(accounts.scope_of(account), space_id=contract.space_id, contract_id=contract.id)


def openings(db: Database, since: float) -> list[Opening]:
    """Restore openings from `since` on, oldest first."""
    rows = db.rows(
        "SELECT at, purpose, email, machine_id FROM restore_opening WHERE at >= ? ORDER BY id LIMIT 10000", [since]
    )
    return [Opening(**row) for row in rows]
