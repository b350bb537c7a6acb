"""Backups asked for from the appliance: one request a machine, which its running agent takes up within a minute.

Rules: one request waits at a time, another may follow after `GAP_S`; a paused contract, a revoked machine and a
machine that refuses remote settings get none; what waited for `EXPIRES_S` is forgotten, so that a PC which comes back
after a holiday is not surprised. An agent answers once and knows a number that it has heard before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.control import machine_settings
from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.control.text import one_line
from appliance.errors import NotFoundError, PausedError, RemoteRefusedError, ThrottledError
from transport.errors import RefusedError

GAP_S: Final = 300.0
EXPIRES_S: Final = 86400.0


class RequestState(StrEnum):
    """How far a request is."""

    WAITING = "waiting"
    TAKEN = "taken"
    """The agent has begun, or was backing up already."""
    REFUSED = "refused"
    EXPIRED = "expired"
    """Nobody took it up in time."""


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """The newest request for a machine. Times in seconds since 1970; `reason` is the agent's where it refused."""

    machine_id: bytes
    number: int
    requested_by: str
    requested_at: float
    state: RequestState
    answered_at: float | None
    reason: str


def get(db: Database, scope: Scope, machine_id: bytes, now: float) -> BackupRequest | None:
    """The newest request for a machine in scope; None where there is none or the machine lies outside of it."""
    where = condition(scope)
    row = db.row(
        "SELECT request.machine_id, request.number, request.requested_by, request.requested_at, request.state, "
        "request.answered_at, request.reason FROM backup_request AS request "
        "JOIN machine ON machine.id = request.machine_id JOIN contract ON contract.id = machine.contract_id "
        f"WHERE request.machine_id = ? AND {where.sql}",
        [machine_id, *where.parameters],
    )
    if row is None:
        return None
    state = RequestState(row["state"])
    if state is RequestState.WAITING and not still_waits(row["requested_at"], now):
        state = RequestState.EXPIRED
    return BackupRequest(**{**row, "state": state})


def still_waits(requested_at: float, now: float) -> bool:
    """Whether a request is young enough to be taken up. Pure."""
    return now - requested_at <= EXPIRES_S


def ask(db: Database, scope: Scope, machine_id: bytes, by: str, now: float) -> BackupRequest:
    """Ask a machine in scope for a backup now; a request that waits already is returned as it is.

    NotFoundError, PausedError, RemoteRefusedError, RefusedError (revoked), ThrottledError.
    """
    with db.write():
        where = condition(scope)
        row = db.row(
            "SELECT machine.state AS machine_state, machine.name, contract.state, contract.client_id FROM machine "
            f"JOIN contract ON contract.id = machine.contract_id WHERE machine.id = ? AND {where.sql}",
            [machine_id, *where.parameters],
        )
        if row is None:
            raise NotFoundError(f"there is no machine {machine_id.hex()}: see 'pilulier machine list'")
        if row["machine_state"] != "active":
            raise RefusedError(f"machine {row['name']} was revoked: it backs up no more")
        if row["state"] == "paused":
            raise PausedError(f"contract {row['client_id']} is paused: resume it before asking for a backup")
        if not machine_settings.get(db, scope, machine_id).remote_allowed:
            raise RemoteRefusedError(
                f"machine {row['name']} does not take orders from here, as its owner chose: start the backup on it"
            )
        former = get(db, scope, machine_id, now)
        if former is not None:
            if former.state is RequestState.WAITING:
                return former
            # A request from the future was written before the clock was set back: it must not close the door.
            since_s = now - former.requested_at
            if 0 <= since_s < GAP_S and former.state is not RequestState.EXPIRED:
                raise ThrottledError(
                    f"a backup of {row['name']} was asked for {since_s:.0f} s ago: ask again in {GAP_S - since_s:.0f} s"
                )
        request = BackupRequest(
            machine_id,
            former.number + 1 if former else 1,
            one_line(by, 254),
            now,
            RequestState.WAITING,
            None,
            "",
        )
        db.execute("DELETE FROM backup_request WHERE machine_id = ?", [machine_id])
        db.insert(
            "backup_request",
            {
                "machine_id": machine_id,
                "number": request.number,
                "requested_by": request.requested_by,
                "requested_at": now,
                "state": "waiting",
            },
        )
        return request


def answer(db: Database, machine_id: bytes, number: int, *, taken: bool, reason: str, now: float) -> None:
    """The agent of this very machine took the request, or refused it; harmless where it waits no longer."""
    with db.write():
        db.execute(
            "UPDATE backup_request SET state = ?, answered_at = ?, reason = ? "
            "WHERE machine_id = ? AND number = ? AND state = 'waiting'",
            ["taken" if taken else "refused", now, one_line(reason, 500), machine_id, number],
        )
