"""Attempts with one-time codes: every one is written down, and too many wrong ones close the door for a while.

Rule: five wrong codes within 15 minutes, by one account's address or by one machine, and nothing is checked
for 15 minutes after the last of them. A right code clears the account's count, never the machine's: a stolen
PC with one valid account must not win free guesses at others. Refused attempts are logged and do not prolong
the refusal. An address counts whether or not an account exists under it, so that the answer tells nothing.

Passwords typed in the web interface are counted apart, mostly by network address: a stranger who guesses at a
pharmacist's password must not close the pharmacist's restores.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.control.database import Database

ATTEMPTS: Final = 5
PASSWORDS_FROM_ADDRESS: Final = 20
"""Wrong passwords from one network address: a practice behind one address has several people who mistype."""
PASSWORDS_FOR_ACCOUNT: Final = 50
"""Wrong passwords for one account from anywhere: above what a person does, far under what guessing needs."""
PASSWORD: Final = "web-password"
"""The purpose under which passwords are counted."""
LOGIN: Final = "web-login"
"""The purpose of the code that completes a login."""
WINDOW_S: Final = 15 * 60.0
_CLOCK_SLACK_S: Final = 60.0
"""Rows from later than this after `now` were written before the clock was set back; they lock nobody out."""


class Outcome(StrEnum):
    """How an attempt ended."""

    ACCEPTED = "accepted"
    WRONG = "wrong"
    USED = "used"
    UNKNOWN_ACCOUNT = "unknown-account"
    NOT_ALLOWED = "not-allowed"
    THROTTLED = "throttled"
    ASKED = "asked"
    """Nothing was tried: a link by mail was asked for."""


_WRONG = (Outcome.WRONG, Outcome.USED, Outcome.UNKNOWN_ACCOUNT, Outcome.NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as logged. `machine_id` is None where none took part (web login)."""

    at: float
    purpose: str
    email: str
    machine_id: bytes | None
    outcome: Outcome
    address: str = ""


def blocked_until(wrong_times: list[float], attempts: int = ATTEMPTS) -> float:
    """When the door opens again, from the times of wrong attempts, newest first; 0 where it is open. Pure."""
    if len(wrong_times) < attempts or wrong_times[0] - wrong_times[attempts - 1] > WINDOW_S:
        return 0.0
    return wrong_times[0] + WINDOW_S


def refusal_s(db: Database, email: str, machine_id: bytes | None, now: float) -> float:
    """Seconds for which attempts by this address or machine are refused; 0 where they are not."""
    marks = ", ".join("?" * len(_WRONG))
    outcomes = [str(outcome) for outcome in _WRONG]
    since, until = now - 2 * WINDOW_S, now + _CLOCK_SLACK_S
    by_account = db.rows(
        f"SELECT at FROM attempt WHERE email = ? AND at > ? AND at <= ? AND outcome IN ({marks}) "
        f"AND purpose != '{PASSWORD}' AND id > coalesce((SELECT max(id) FROM attempt WHERE email = ? "
        f"AND outcome = 'accepted' AND purpose != '{PASSWORD}'), 0) ORDER BY at DESC LIMIT {ATTEMPTS}",
        [email, since, until, *outcomes, email],
    )
    by_machine = db.rows(
        f"SELECT at FROM attempt WHERE machine_id = ? AND at > ? AND at <= ? AND outcome IN ({marks}) "
        f"ORDER BY at DESC LIMIT {ATTEMPTS}",
        [machine_id, since, until, *outcomes],
    )
    end = max(blocked_until([row["at"] for row in by_account]), blocked_until([row["at"] for row in by_machine]))
    return max(0.0, end - now)


def password_refusal_s(db: Database, email: str, address: str, now: float) -> float:
    """Seconds for which passwords for this account from this address are not looked at; 0 where they are.

    Five wrong ones of this account from this address, or many from the address or for the account. A right password
    clears the first count only.
    """
    span = [PASSWORD, str(Outcome.WRONG), now - 2 * WINDOW_S, now + _CLOCK_SLACK_S]
    wrong = "SELECT at FROM attempt WHERE purpose = ? AND outcome = ? AND at > ? AND at <= ?"
    here = db.rows(
        f"{wrong} AND email = ? AND address = ? AND id > coalesce((SELECT max(id) FROM attempt WHERE email = ? "
        f"AND address = ? AND purpose = '{PASSWORD}' AND outcome = 'accepted'), 0) ORDER BY at DESC LIMIT {ATTEMPTS}",
        [*span, email, address, email, address],
    )
    end = blocked_until([row["at"] for row in here])
    for column, value, limit in (("address", address, PASSWORDS_FROM_ADDRESS), ("email", email, PASSWORDS_FOR_ACCOUNT)):
        rows = db.rows(f"{wrong} AND {column} = ? ORDER BY at DESC LIMIT {limit}", [*span, value])
        end = max(end, blocked_until([row["at"] for row in rows], limit))
    return max(0.0, end - now)


def log(db: Database, attempt: Attempt) -> int:
    """Write an attempt down, inside the transaction that decides on it; its number."""
    db.insert(
        "attempt",
        {
            "at": attempt.at,
            "purpose": attempt.purpose,
            "email": attempt.email,
            "machine_id": attempt.machine_id,
            "outcome": str(attempt.outcome),
            "address": attempt.address,
        },
    )
    return int(db.value("SELECT last_insert_rowid()"))


def clear_charge(db: Database, number: int) -> None:
    """An attempt that was charged as wrong before it was looked at was right."""
    db.update("attempt", str(number), {"outcome": str(Outcome.ACCEPTED)})


def recent(db: Database, since: float) -> list[Attempt]:
    """Attempts from `since` on, oldest first."""
    rows = db.rows(
        "SELECT at, purpose, email, machine_id, outcome, address FROM attempt WHERE at >= ? ORDER BY id LIMIT 10000",
        [since],
    )
    return [Attempt(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows]
