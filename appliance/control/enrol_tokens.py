"""Enrolment tokens that wait for a machine: how many, until when; and taking them back.

The tokens themselves are not here, their digests are: what waits can be counted and withdrawn, never shown again.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.control.database import Database
from appliance.control.scope import Scope, condition


@dataclass(frozen=True, slots=True)
class WaitingToken:
    """One code that still enrols a machine. Times in seconds since 1970."""

    created_at: float
    expires_at: float


def waiting(db: Database, scope: Scope, contract_id: str, now: float) -> list[WaitingToken]:
    """The unused codes of a contract in scope that have not expired, the next to expire first."""
    where = condition(scope)
    rows = db.rows(
        "SELECT enrol_token.created_at, enrol_token.expires_at FROM enrol_token "
        "JOIN contract ON contract.id = enrol_token.contract_id "
        f"WHERE contract.id = ? AND used_at IS NULL AND expires_at > ? AND {where.sql} ORDER BY expires_at",
        [contract_id, now, *where.parameters],
    )
    return [WaitingToken(**row) for row in rows]


def withdraw(db: Database, scope: Scope, contract_id: str, now: float) -> int:
    """Make the waiting codes of a contract in scope worthless; how many there were."""
    with db.write():
        count = len(waiting(db, scope, contract_id, now))
        if count:
            db.execute(
                "DELETE FROM enrol_token WHERE contract_id = ? AND used_at IS NULL AND expires_at > ?",
                [contract_id, now],
            )
        return count
