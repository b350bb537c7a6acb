"""Deliveries: what somebody sent to a machine to be restored there, and what became of it.

Rules: a delivery grants its machine one restore of one selection of one snapshot, and nothing else. It waits for the
machine's owner, who says yes or no on the machine itself; it may be begun again until it was reported done, so that a
line that breaks loses nothing; after `LIFE_S` it is over. So many may wait at a time. What lands where is the
machine's matter: there is no column for a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.scope import EVERYTHING, Scope, condition
from appliance.control.text import one_line
from appliance.errors import ConflictError, NotFoundError, ThrottledError
from transport.messages import DELIVERIES_LIMIT
from transport.messages_deliveries import DELIVERED_PATHS_LIMIT
from transport.names import ID_BYTES, PathId

LIFE_S: Final = 7 * 86400.0
WAITING_LIMIT: Final = 20
"""Of one machine, waiting or under way."""
assert WAITING_LIMIT <= DELIVERIES_LIMIT


class DeliveryState(StrEnum):
    """How far a delivery is."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Begun and not brought to its end: it may be begun again."""
    REFUSED = "refused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Nobody wanted it, or brought it to its end, in time. Stands in no row: time makes it so."""


OPEN: Final = (DeliveryState.WAITING, DeliveryState.ACCEPTED, DeliveryState.RUNNING, DeliveryState.FAILED)
"""What may still go on; FAILED as well, until it expires."""
_OPEN_SQL: Final = "state IN ('waiting', 'accepted', 'running', 'failed')"
BEGINNABLE: Final = (DeliveryState.ACCEPTED, DeliveryState.RUNNING, DeliveryState.FAILED)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was selected: path ids with all below, none for everything; and the folders on the way to them."""

    paths: tuple[PathId, ...] = ()
    above: tuple[PathId, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery. Times in seconds since 1970; `files` and `size_bytes` as measured when it was sent, 0 unknown;
    the counts of what was done are the agent's word."""

    machine_id: bytes
    number: int
    snapshot: int
    snapshot_at: float
    files: int
    size_bytes: int
    account_id: str
    sent_by: str
    created_at: float
    expires_at: float
    state: DeliveryState
    answered_at: float | None
    began_at: float | None
    ended_at: float | None
    files_done: int
    bytes_done: int
    errors: int
    reason: str
    machine_name: str
    source_id: bytes | None = None
    """The machine whose files these are; None where it is the same."""
    source_name: str = ""

    @property
    def owner(self) -> bytes:
        """The machine whose snapshot it is."""
        return self.source_id or self.machine_id

    @property
    def is_open(self) -> bool:
        """Whether it may still go on."""
        return self.state in OPEN


_COLUMNS: Final = (
    "delivery.machine_id, delivery.number, delivery.snapshot, delivery.snapshot_at, delivery.files, "
    "delivery.size_bytes, delivery.account_id, delivery.sent_by, delivery.created_at, delivery.expires_at, "
    "delivery.state, delivery.answered_at, delivery.began_at, delivery.ended_at, delivery.files_done, "
    "delivery.bytes_done, delivery.errors, delivery.reason, delivery.parcel_error, delivery.source_id, "
    "machine.name AS machine_name, "
    "coalesce((SELECT name FROM machine AS source WHERE source.id = delivery.source_id), '') AS source_name"
)
_FROM: Final = "FROM delivery JOIN machine ON machine.id = delivery.machine_id"


def _delivery(row: dict[str, Any], now: float) -> Delivery:
    state, sealing = DeliveryState(row["state"]), row.pop("parcel_error")
    if state is DeliveryState.ACCEPTED and sealing:
        state, row["reason"] = DeliveryState.FAILED, sealing
    if state in OPEN and now >= row["expires_at"]:
        state = DeliveryState.EXPIRED
    return Delivery(**{**row, "state": state})


def _ids(data: bytes) -> tuple[PathId, ...]:
    return tuple(PathId(data[at : at + ID_BYTES]) for at in range(0, len(data), ID_BYTES))


def send(
    db: Database,
    machine_id: bytes,
    chosen: Chosen,
    *,
    snapshot: int,
    snapshot_at: float,
    files: int,
    size_bytes: int,
    account_id: str,
    by: str,
    now: float,
    source_id: bytes | None = None,
) -> Delivery:
    """Write down that this selection is to be restored by its machine, or by another (`machine_id`) than the one whose
    files they are (`source_id`: whether that may be is `crossings`' to say); ThrottledError where too many wait there,
    ConflictError where a selection has more parts than a delivery takes."""
    if len(chosen.paths) + len(chosen.above) > DELIVERED_PATHS_LIMIT:
        raise ConflictError(f"a delivery has {DELIVERED_PATHS_LIMIT} paths at most: select folders instead of files")
    with db.write():
        waiting = db.value(
            f"SELECT count(*) FROM delivery WHERE machine_id = ? AND {_OPEN_SQL} AND expires_at > ?", [machine_id, now]
        )
        if waiting >= WAITING_LIMIT:
            raise ThrottledError(f"{waiting} deliveries wait on this machine already: have them answered first")
        number = db.value("SELECT coalesce(max(number), 0) + 1 FROM delivery WHERE machine_id = ?", [machine_id])
        db.insert(
            "delivery",
            {
                "machine_id": machine_id,
                "number": number,
                "snapshot": snapshot,
                "snapshot_at": snapshot_at,
                "paths": b"".join(chosen.paths),
                "above": b"".join(chosen.above),
                "files": files,
                "size_bytes": size_bytes,
                "source_id": source_id,
                "account_id": account_id,
                "sent_by": one_line(by, 254),
                "created_at": now,
                "expires_at": now + LIFE_S,
                "state": "waiting",
            },
        )
        return find(db, EVERYTHING, machine_id, number, now)


def of_machine(
    db: Database, scope: Scope, machine_id: bytes, now: float, *, limit: int = 20, before: int | None = None
) -> list[Delivery]:
    """The newest deliveries to a machine in scope, newest first, from under number `before` on."""
    where = condition(scope)
    rows = db.rows(
        f"SELECT {_COLUMNS} {_FROM} JOIN contract ON contract.id = machine.contract_id "
        f"WHERE delivery.machine_id = ? AND delivery.number < ? AND {where.sql} ORDER BY delivery.number DESC LIMIT ?",
        [machine_id, 2**62 if before is None else before, *where.parameters, limit],
    )
    return [_delivery(row, now) for row in rows]


def from_machine(db: Database, scope: Scope, machine_id: bytes, now: float, *, limit: int = 20) -> list[Delivery]:
    """The newest deliveries of a machine's files to other machines, newest first."""
    where = condition(scope)
    rows = db.rows(
        f"SELECT {_COLUMNS} {_FROM} JOIN contract ON contract.id = machine.contract_id "
        f"WHERE delivery.source_id = ? AND {where.sql} ORDER BY delivery.id DESC LIMIT ?",
        [machine_id, *where.parameters, limit],
    )
    return [_delivery(row, now) for row in rows]


def find(db: Database, scope: Scope, machine_id: bytes, number: int, now: float) -> Delivery:
    """One delivery to a machine in scope; NotFoundError otherwise."""
    where = condition(scope)
    row = db.row(
        f"SELECT {_COLUMNS} {_FROM} JOIN contract ON contract.id = machine.contract_id "
        f"WHERE delivery.machine_id = ? AND delivery.number = ? AND {where.sql}",
        [machine_id, min(number, 2**62), *where.parameters],
    )
    if row is None:
        raise NotFoundError(f"there is no delivery {number} for this machine")
    return _delivery(row, now)


def open_ones(db: Database, machine_id: bytes, now: float) -> list[Delivery]:
    """What waits or is under way on a machine, oldest first."""
    rows = db.rows(
        f"SELECT {_COLUMNS} {_FROM} WHERE machine_id = ? AND delivery.{_OPEN_SQL} AND expires_at > ? "
        "ORDER BY number LIMIT ?",
        [machine_id, now, DELIVERIES_LIMIT],
    )
    return [_delivery(row, now) for row in rows]


def chosen(db: Database, machine_id: bytes, number: int) -> Chosen:
    """What was selected for a delivery; NotFoundError where there is none."""
    row = db.row("SELECT paths, above FROM delivery WHERE machine_id = ? AND number = ?", [machine_id, number])
    if row is None:
        raise NotFoundError(f"there is no delivery {number} for this machine")
    return Chosen(_ids(row["paths"]), _ids(row["above"]))


def answer(db: Database, machine_id: bytes, number: int, *, accepted: bool, now: float) -> Delivery:
    """The owner's word; the same word twice is one. ConflictError where it is too late for it."""
    with db.write():
        found = find(db, EVERYTHING, machine_id, number, now)
        if accepted and found.state in BEGINNABLE:
            return found
        if not accepted and found.state is DeliveryState.REFUSED:
            return found
        takes = (DeliveryState.WAITING,) if accepted else OPEN
        if found.state not in takes:
            raise ConflictError(f"delivery {number} is {found.state}: it waits for no answer any more")
        return _changed(db, found, now, state="accepted" if accepted else "refused", answered_at=now)


def began(db: Database, machine_id: bytes, number: int, now: float) -> Delivery:
    """It is being restored; ConflictError unless its owner accepted it and it is not over."""
    with db.write():
        found = find(db, EVERYTHING, machine_id, number, now)
        if found.state not in BEGINNABLE:
            raise ConflictError(f"delivery {number} is {found.state}: accept it first, or ask for another")
        return _changed(db, found, now, state="running", began_at=found.began_at or now, reason="")


def report(
    db: Database, machine_id: bytes, number: int, *, done: bool, files: int, size: int, errors: int, reason: str,
    now: float,
) -> Delivery:  # fmt: skip
    """What became of it, as its agent says; ConflictError where it was not begun."""
    with db.write():
        found = find(db, EVERYTHING, machine_id, number, now)
        if found.began_at is None or found.state is DeliveryState.REFUSED:
            raise ConflictError(f"delivery {number} is {found.state}: it was never begun")
        if found.state in (DeliveryState.DONE, DeliveryState.CANCELLED):
            return found  # what was taken back does not come to life again because its agent says how far it was
        counts = {"files_done": files, "bytes_done": size, "errors": errors, "reason": one_line(reason, 300)}
        return _changed(db, found, now, state="done" if done else "failed", ended_at=now, **counts)


def cancel(db: Database, scope: Scope, machine_id: bytes, number: int, now: float) -> Delivery:
    """Take back what nobody has brought to its end; ConflictError where it is over."""
    with db.write():
        found = find(db, scope, machine_id, number, now)
        if not found.is_open:
            raise ConflictError(f"delivery {number} is {found.state}: there is nothing to take back")
        return _changed(db, found, now, state="cancelled", ended_at=now)


def _changed(db: Database, delivery: Delivery, now: float, **values: object) -> Delivery:
    columns = ", ".join(f"{name} = ?" for name in values)
    db.execute(
        f"UPDATE delivery SET {columns} WHERE machine_id = ? AND number = ?",
        [*values.values(), delivery.machine_id, delivery.number],
    )
    return find(db, EVERYTHING, delivery.machine_id, delivery.number, now)
