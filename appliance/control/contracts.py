"""Contracts: one customer, its allocated space, its machine quota, its dates and its state.

Rules: neither an end date that has passed nor more volume than allocated stops a backup; only a pause does, and
restores go on even then. "Used" counts the source volume of each machine's latest complete snapshot, never history.
Deleting a contract that has machines only asks for it: data outlives a mistaken command by seven days and more.
What a contract keeps is never less than its floor, and its floor is changed here and nowhere else. Tokens of
enrolment codes live here as SHA-256 only; the code itself is shown once and kept nowhere.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final

from appliance.control import deletions, opening_days
from appliance.control.database import Database, new_id
from appliance.control.scope import EVERYTHING, Scope, condition
from appliance.control.text import checked_email, checked_line
from appliance.errors import ConflictError, NotFoundError, PausedError
from appliance.store.upkeep.retention import Policy
from transport.enrolment import TOKEN_BYTES
from transport.errors import UsageError

TOKEN_LIFE_S: Final = 7 * 86400.0
DEFAULT_ALLOCATED_BYTES: Final = 50 * 10**9
DEFAULT_MACHINE_QUOTA: Final = 5
_ALLOCATED_LIMIT: Final = 2**53
_QUOTA_LIMIT: Final = 100_000


class Escrow(StrEnum):
    """Who can open a machine's key besides the customer: see design, keys."""

    CONFIDED = "confided"
    PRIVATE = "private"


class Notify(StrEnum):
    """Which mails about its backups a contract's people want. Warnings include failures."""

    ALL = "all"
    WARNINGS = "warnings"
    FAILURES = "failures"


class ContractState(StrEnum):
    """What a contract's people are shown. Expired is derived from the end date and blocks nothing."""

    ACTIVE = "active"
    PAUSED = "paused"
    EXPIRED = "expired"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Contract:
    """One customer. Dates are inclusive, in UTC; times in seconds since 1970.

    `late_hours` and `open_days` None: the space's.
    """

    id: str
    space_id: str
    client_id: str
    email: str
    allocated_bytes: int
    machine_quota: int
    created_at: float
    start_date: date
    end_date: date | None
    escrow: Escrow
    paused: bool
    delete_requested_at: float | None
    retention: Policy = field(default_factory=Policy)
    notify: Notify = Notify.ALL
    late_hours: int | None = None
    open_days: str | None = None

    def state(self, now: float) -> ContractState:
        """The state to show at time `now`; a pause or deletion outranks the end date."""
        if self.delete_requested_at is not None:
            return ContractState.DELETING
        if self.paused:
            return ContractState.PAUSED
        if self.end_date is not None and datetime.fromtimestamp(now, UTC).date() > self.end_date:
            return ContractState.EXPIRED
        return ContractState.ACTIVE


@dataclass(frozen=True, slots=True)
class Usage:
    """What a contract has: active machines, all machines, and the source bytes of their latest complete snapshots."""

    machines_active: int
    machines_total: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change of a contract; None leaves a field as it is."""

    client_id: str | None = None
    email: str | None = None
    allocated_bytes: int | None = None
    machine_quota: int | None = None
    start_date: date | None = None
    end_date: date | None = None
    no_end_date: bool = False
    escrow: Escrow | None = None
    retention: Policy | None = None
    notify: Notify | None = None
    late_hours: int | None = None
    no_late_hours: bool = False
    open_days: str | None = None
    no_open_days: bool = False


@dataclass(frozen=True, slots=True)
class NewToken:
    """A one-time enrolment token, 16 bytes, shown once. Its repr does not show it."""

    token: bytes
    expires_at: float

    def __repr__(self) -> str:
        return f"NewToken(expires_at={self.expires_at})"


_COLUMNS: Final = (
    "contract.id, contract.space_id, contract.client_id, contract.email, contract.allocated_bytes, "
    "contract.machine_quota, contract.created_at, contract.start_date, contract.end_date, contract.escrow, "
    "contract.state, contract.delete_requested_at, contract.keep_days, contract.floor_days, contract.keep_daily, "
    "contract.keep_weekly, contract.keep_monthly, contract.keep_yearly, contract.notify, contract.late_hours, "
    "contract.open_days"
)
_POLICY: Final = ("keep_days", "floor_days", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
LATEST: Final = "(SELECT max(number) FROM snapshot_statistics AS newest WHERE newest.machine_id = machine.id)"
"""SQL: the number of a machine's latest snapshot, beside `machine` in the query."""
LATEST_COMPLETE: Final = (
    "(SELECT max(number) FROM snapshot_statistics AS newest "
    "WHERE newest.machine_id = machine.id AND newest.complete = 1)"
)
"""SQL: the number of a machine's latest complete snapshot, from which its volume counts."""
LATE_HOURS_LIMIT: Final = 24 * 365


def _contract(row: dict[str, Any]) -> Contract:
    return Contract(
        id=row["id"],
        space_id=row["space_id"],
        client_id=row["client_id"],
        email=row["email"],
        allocated_bytes=row["allocated_bytes"],
        machine_quota=row["machine_quota"],
        created_at=row["created_at"],
        start_date=date.fromisoformat(row["start_date"]),
        end_date=date.fromisoformat(row["end_date"]) if row["end_date"] else None,
        escrow=Escrow(row["escrow"]),
        paused=row["state"] == "paused",
        delete_requested_at=row["delete_requested_at"],
        retention=Policy(**{name: row[name] for name in _POLICY}),
        notify=Notify(row["notify"]),
        late_hours=row["late_hours"],
        open_days=row["open_days"],
    )


def _policy_columns(policy: Policy) -> dict[str, object]:
    """UsageError for a contract that promises more days than it keeps."""
    if policy.floor_days > policy.keep_days:
        raise UsageError(
            f"a floor of {policy.floor_days} days is more than the {policy.keep_days} days that are kept: "
            "give a higher --keep-days or a lower --floor-days"
        )
    return {name: getattr(policy, name) for name in _POLICY}


def _check(allocated_bytes: int, machine_quota: int) -> None:
    if not 0 <= allocated_bytes <= _ALLOCATED_LIMIT:
        raise UsageError(f"an allocated space of {allocated_bytes} bytes is out of range: give 0 to {_ALLOCATED_LIMIT}")
    if not 0 <= machine_quota <= _QUOTA_LIMIT:
        raise UsageError(f"a quota of {machine_quota} machines is out of range: give 0 to {_QUOTA_LIMIT}")


def _check_order(start: date | None, end: date | None) -> None:
    """Only dates given together can be a slip: an end in the past alone makes an expired contract, which is allowed."""
    if start is not None and end is not None and end < start:
        raise UsageError(f"the end date {end} lies before the start date {start}: give a later one")


def add(
    db: Database,
    *,
    space_id: str,
    client_id: str,
    email: str,
    now: float,
    allocated_bytes: int = DEFAULT_ALLOCATED_BYTES,
    machine_quota: int = DEFAULT_MACHINE_QUOTA,
    start_date: date | None = None,
    end_date: date | None = None,
    escrow: Escrow = Escrow.CONFIDED,
    retention: Policy | None = None,
) -> Contract:
    """A new active contract. Two contracts may share a client id: a customer may have two."""
    today = datetime.fromtimestamp(now, UTC).date()
    start = start_date or (min(today, end_date) if end_date else today)
    _check(allocated_bytes, machine_quota)
    _check_order(start_date, end_date)
    contract = Contract(
        id=new_id("c"),
        space_id=space_id,
        client_id=checked_line(client_id, "the client id", 100),
        email=checked_email(email),
        allocated_bytes=allocated_bytes,
        machine_quota=machine_quota,
        created_at=now,
        start_date=start,
        end_date=end_date,
        escrow=escrow,
        paused=False,
        delete_requested_at=None,
        retention=retention or Policy(),
    )
    with db.write():
        if not db.row("SELECT id FROM space WHERE id = ?", [space_id]):
            raise NotFoundError(f"there is no space {space_id!r}: see 'pilulier space list'")
        db.insert(
            "contract",
            {
                "id": contract.id,
                "space_id": space_id,
                "client_id": contract.client_id,
                "email": contract.email,
                "allocated_bytes": allocated_bytes,
                "machine_quota": machine_quota,
                "created_at": now,
                "start_date": start.isoformat(),
                "end_date": end_date.isoformat() if end_date else None,
                "escrow": str(escrow),
                "state": "active",
                "delete_requested_at": None,
                **_policy_columns(contract.retention),
            },
        )
    return contract


def every(db: Database, scope: Scope) -> list[Contract]:
    """The contracts in a scope, oldest first."""
    where = condition(scope)
    rows = db.rows(f"SELECT {_COLUMNS} FROM contract WHERE {where.sql} ORDER BY created_at, rowid", where.parameters)
    return [_contract(row) for row in rows]


def find(db: Database, scope: Scope, id_or_client: str) -> Contract:
    """The contract with this id, or the only one with this client id; NotFoundError or ConflictError otherwise."""
    where = condition(scope)
    rows = db.rows(
        f"SELECT {_COLUMNS} FROM contract WHERE (id = ? OR client_id = ?) AND {where.sql} ORDER BY id = ? DESC LIMIT 2",
        [id_or_client, id_or_client, *where.parameters, id_or_client],
    )
    if not rows:
        raise NotFoundError(f"there is no contract {id_or_client!r}: see 'pilulier contract list'")
    if len(rows) > 1 and rows[0]["id"] != id_or_client:
        raise ConflictError(f"several contracts have client id {id_or_client!r}: give the contract's own id")
    return _contract(rows[0])


def of_machine(db: Database, machine_id: bytes) -> Contract:
    """The contract a machine belongs to; NotFoundError where there is no such machine."""
    row = db.row(
        f"SELECT {_COLUMNS} FROM contract JOIN machine ON machine.contract_id = contract.id WHERE machine.id = ?",
        [machine_id],
    )
    if row is None:
        raise NotFoundError(f"there is no machine {machine_id.hex()}: see 'pilulier machine list'")
    return _contract(row)


def used_bytes(db: Database, contract_id: str) -> int:
    """Source bytes of the latest complete snapshot of each of the contract's machines, revoked ones included."""
    return usage(db, contract_id).used_bytes


def usage(db: Database, contract_id: str) -> Usage:
    """Machines and volume of one contract."""
    # total(), not sum(): agents count their own bytes, and a sum past 2**63 would be an error for the whole contract.
    row = db.row(
        "SELECT coalesce(sum(machine.state = 'active'), 0) AS machines_active, count(*) AS machines_total, "
        "CAST(total(latest.bytes_source) AS INTEGER) AS used_bytes FROM machine "
        "LEFT JOIN snapshot_statistics AS latest "
        f"ON latest.machine_id = machine.id AND latest.number = {LATEST_COMPLETE} WHERE machine.contract_id = ?",
        [contract_id],
    )
    assert row is not None
    return Usage(**row)


def edit(db: Database, contract: Contract, changes: Changes) -> Contract:
    """The contract with its changes written. A quota below the machines present stops further enrolments only."""
    with db.write():
        start = changes.start_date or contract.start_date
        end = None if changes.no_end_date else changes.end_date or contract.end_date
        allocated = contract.allocated_bytes if changes.allocated_bytes is None else changes.allocated_bytes
        quota = contract.machine_quota if changes.machine_quota is None else changes.machine_quota
        _check(allocated, quota)
        _check_order(changes.start_date, changes.end_date)
        late = None if changes.no_late_hours else changes.late_hours or contract.late_hours
        if changes.late_hours is not None and not 1 <= changes.late_hours <= LATE_HOURS_LIMIT:
            raise UsageError(f"{changes.late_hours} hours are out of range: give 1 to {LATE_HOURS_LIMIT}")
        days = contract.open_days if changes.open_days is None else opening_days.checked(changes.open_days)
        client = contract.client_id
        if changes.client_id is not None:
            client = checked_line(changes.client_id, "the client id", 100)
        db.update(
            "contract",
            contract.id,
            {
                "client_id": client,
                "email": contract.email if changes.email is None else checked_email(changes.email),
                "allocated_bytes": allocated,
                "machine_quota": quota,
                "start_date": start.isoformat(),
                "end_date": end.isoformat() if end else None,
                "escrow": str(changes.escrow or contract.escrow),
                "notify": str(changes.notify or contract.notify),
                "late_hours": late,
                "open_days": None if changes.no_open_days else days,
                **_policy_columns(changes.retention or contract.retention),
            },
        )
        return _reread(db, contract.id)


def _reread(db: Database, contract_id: str) -> Contract:
    row = db.row(f"SELECT {_COLUMNS} FROM contract WHERE id = ?", [contract_id])
    if row is None:
        raise NotFoundError(f"there is no contract {contract_id!r}: see 'pilulier contract list'")
    return _contract(row)


def pause(db: Database, contract: Contract) -> Contract:
    """Refuse backups and enrolments from now on; restores go on."""
    with db.write():
        db.update("contract", contract.id, {"state": "paused"})
        return _reread(db, contract.id)


def resume(db: Database, contract: Contract, *, by: str = "resume", now: float | None = None) -> Contract:
    """Take backups again, and take back a request to delete, which `by` is told to have cancelled at `now`."""
    with db.write():
        waiting = deletions.of_object(db, EVERYTHING, deletions.Kind.CONTRACT, contract.id)
        if waiting is not None:
            deletions.cancel(db, EVERYTHING, waiting.id, by=by, now=waiting.requested_at if now is None else now)
        db.update("contract", contract.id, {"state": "active", "delete_requested_at": None})
        return _reread(db, contract.id)


def delete(db: Database, contract: Contract, now: float, by: str = "command line") -> Contract | None:
    """None once the contract, its codes and its customer accounts are gone.

    One that has machines is paused and marked instead, and returned: its deletion is due in seven days, is announced
    by mail and can be taken back. Asked for again, the first request stands.
    """
    with db.write():
        if db.row("SELECT id FROM machine WHERE contract_id = ?", [contract.id]):
            if deletions.of_object(db, EVERYTHING, deletions.Kind.CONTRACT, contract.id) is None:
                deletions.request(db, EVERYTHING, deletions.Kind.CONTRACT, contract.id, by=by, now=now)
            return _reread(db, contract.id)
        deletions.forget(db, deletions.Kind.CONTRACT, contract.id, by=by, now=now)
        db.execute("DELETE FROM contract WHERE id = ?", [contract.id])
    return None


def token_digest(token: bytes) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(b"pilulier/enrol-token/1\0" + token).digest()


def new_token(db: Database, contract: Contract, now: float) -> NewToken:
    """Another enrolment token; PausedError where the contract takes no machine."""
    token = os.urandom(TOKEN_BYTES)
    with db.write():
        if _reread(db, contract.id).paused:
            raise PausedError(f"contract {contract.id} is paused: resume it with 'pilulier contract resume' first")
        # Dead tokens that were never used say nothing worth keeping after a while.
        db.execute("DELETE FROM enrol_token WHERE used_at IS NULL AND expires_at < ?", [now - 90 * 86400])
        db.insert(
            "enrol_token",
            {
                "token_sha256": token_digest(token),
                "contract_id": contract.id,
                "created_at": now,
                "expires_at": now + TOKEN_LIFE_S,
            },
        )
    return NewToken(token, now + TOKEN_LIFE_S)
