"""Deletions that wait: of a contract, a machine or a space, seven days, announced by mail and cancellable.

Rule: nothing is destroyed before `due`, whoever asked, so that a stolen account cannot destroy. A contract is paused
while it waits; a machine and the contracts of a space go on as before, since stopping backups is a harm of its own.
Carrying out what is due is for whoever calls `due`; `mark_done` says, and mails, that it happened. Rows outlive their
objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control import outbox
from appliance.control.database import Database, new_id
from appliance.control.scope import Everything, Scope, condition, over, over_space
from appliance.control.text import one_line
from appliance.errors import ConflictError, NotFoundError

WAIT_S: Final = 7 * 86400.0


class Kind(StrEnum):
    """What is to be deleted."""

    CONTRACT = "contract"
    MACHINE = "machine"
    SPACE = "space"


class Outcome(StrEnum):
    """How far it is."""

    WAITING = "waiting"
    CANCELLED = "cancelled"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Deletion:
    """One request. `object_id` of a machine is its id in hex; `contract_id` is None for a space. Times in seconds."""

    id: str
    kind: Kind
    object_id: str
    object_name: str
    space_id: str
    contract_id: str | None
    requested_by: str
    requested_at: float
    due_at: float
    was_paused: bool
    outcome: Outcome
    ended_by: str | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class _Object:
    name: str
    space_id: str
    contract_id: str | None
    paused: bool


def _deletion(row: dict[str, Any]) -> Deletion:
    return Deletion(
        **{
            **row,
            "kind": Kind(row["kind"]),
            "outcome": Outcome(row["outcome"]),
            "was_paused": bool(row["was_paused"]),
        }
    )


def _object(db: Database, scope: Scope, kind: Kind, object_id: str) -> _Object:
    """What is to go, if it lies in the scope; whole spaces are for those who see everything."""
    contract = condition(scope)
    row: dict[str, Any] | None = None
    if kind is Kind.CONTRACT:
        row = db.row(
            "SELECT client_id AS name, space_id, id AS contract_id, state = 'paused' AS paused FROM contract "
            f"WHERE id = ? AND {contract.sql}",
            [object_id, *contract.parameters],
        )
    elif kind is Kind.MACHINE:
        row = db.row(
            "SELECT machine.name, contract.space_id, contract.id AS contract_id, 0 AS paused FROM machine "
            f"JOIN contract ON contract.id = machine.contract_id WHERE lower(hex(machine.id)) = ? AND {contract.sql}",
            [object_id, *contract.parameters],
        )
    elif isinstance(scope, Everything):
        space = over_space(scope)
        row = db.row(
            f"SELECT name, id AS space_id, NULL AS contract_id, 0 AS paused FROM space WHERE id = ? AND {space.sql}",
            [object_id, *space.parameters],
        )
    if row is None:
        raise NotFoundError(f"there is no {kind} {one_line(object_id, 60)!r} here")
    return _Object(row["name"], row["space_id"], row["contract_id"], bool(row["paused"]))


def request(db: Database, scope: Scope, kind: Kind, object_id: str, *, by: str, now: float) -> Deletion:
    """Ask for a deletion in seven days; ConflictError where it is asked for already."""
    with db.write():
        found = _object(db, scope, kind, object_id)
        if of_object(db, scope, kind, object_id) is not None:
            raise ConflictError(f"{kind} {found.name} is to be deleted already: its request can be cancelled")
        deletion = Deletion(
            id=new_id("d"),
            kind=kind,
            object_id=object_id,
            object_name=found.name,
            space_id=found.space_id,
            contract_id=found.contract_id,
            requested_by=one_line(by, 254),
            requested_at=now,
            due_at=now + WAIT_S,
            was_paused=found.paused,
            outcome=Outcome.WAITING,
            ended_by=None,
            ended_at=None,
        )
        db.insert(
            "deletion",
            {
                "id": deletion.id,
                "kind": str(kind),
                "object_id": object_id,
                "object_name": found.name,
                "space_id": found.space_id,
                "contract_id": found.contract_id,
                "requested_by": deletion.requested_by,
                "requested_at": now,
                "due_at": deletion.due_at,
                "was_paused": int(found.paused),
            },
        )
        if kind is Kind.CONTRACT:
            db.update("contract", object_id, {"state": "paused", "delete_requested_at": now})
        _announce(db, deletion, outbox.DELETION_REQUESTED, by, now)
        return deletion


def cancel(db: Database, scope: Scope, deletion_id: str, *, by: str, now: float) -> Deletion:
    """Take a request back: a contract returns to the state it was in. NotFoundError where none waits under this id."""
    with db.write():
        deletion = _waiting(db, scope, deletion_id)
        _end(db, deletion, Outcome.CANCELLED, by, now)
        if deletion.kind is Kind.CONTRACT:
            state = "paused" if deletion.was_paused else "active"
            db.update("contract", deletion.object_id, {"state": state, "delete_requested_at": None})
        _announce(db, deletion, outbox.DELETION_CANCELLED, by, now)
        return _reread(db, deletion.id)


def _waiting(db: Database, scope: Scope, deletion_id: str) -> Deletion:
    for deletion in _select(db, scope, "outcome = 'waiting' AND id = ?", [deletion_id]):
        return deletion
    raise NotFoundError("this deletion was cancelled or carried out already")


def _end(db: Database, deletion: Deletion, outcome: Outcome, by: str, now: float) -> None:
    db.update("deletion", deletion.id, {"outcome": str(outcome), "ended_by": one_line(by, 254), "ended_at": now})


def _reread(db: Database, deletion_id: str) -> Deletion:
    row = db.row("SELECT * FROM deletion WHERE id = ?", [deletion_id])
    assert row is not None
    return _deletion(row)


def _select(db: Database, scope: Scope, sql: str, parameters: list[object]) -> list[Deletion]:
    where = over(scope, space="deletion.space_id", contract="deletion.contract_id")
    rows = db.rows(
        f"SELECT * FROM deletion WHERE {sql} AND {where.sql} ORDER BY due_at, id", [*parameters, *where.parameters]
    )
    return [_deletion(row) for row in rows]


def pending(db: Database, scope: Scope) -> list[Deletion]:
    """What waits in a scope, next due first."""
    return _select(db, scope, "outcome = 'waiting'", [])


def of_object(db: Database, scope: Scope, kind: Kind, object_id: str) -> Deletion | None:
    """The waiting deletion of one thing."""
    found = _select(db, scope, "outcome = 'waiting' AND kind = ? AND object_id = ?", [str(kind), object_id])
    return found[0] if found else None


def due(db: Database, now: float) -> list[Deletion]:
    """What has waited long enough, in every space."""
    return [_deletion(row) for row in db.rows(
        "SELECT * FROM deletion WHERE outcome = 'waiting' AND due_at <= ? ORDER BY due_at, id", [now]
    )]  # fmt: skip


def mark_done(db: Database, deletion_id: str, now: float) -> Deletion:
    """It was carried out. ConflictError before its time, NotFoundError where it was cancelled meanwhile."""
    with db.write():
        row = db.row("SELECT * FROM deletion WHERE id = ? AND outcome = 'waiting'", [deletion_id])
        if row is None:
            raise NotFoundError("this deletion was cancelled or carried out already")
        deletion = _deletion(row)
        if now < deletion.due_at:
            raise ConflictError(f"the deletion of {deletion.kind} {deletion.object_name} is not due yet")
        _end(db, deletion, Outcome.DONE, "pilulier", now)
        # While the accounts that are told, and perhaps go with it, are still there.
        _announce(db, deletion, outbox.DELETION_DONE, "pilulier", now)
        return _reread(db, deletion_id)


def forget(db: Database, kind: Kind, object_id: str, *, by: str, now: float) -> None:
    """The thing is gone by another way (an empty contract is deleted at once): its request ends with it."""
    with db.write():
        row = db.row(
            "SELECT * FROM deletion WHERE outcome = 'waiting' AND kind = ? AND object_id = ?", [str(kind), object_id]
        )
        if row is not None:
            _end(db, _deletion(row), Outcome.DONE, by, now)


def _announce(db: Database, deletion: Deletion, kind: str, by: str, now: float) -> None:
    """To those who look after the space, to the contract's people, and for a space to the super-users."""
    people = db.rows(
        "SELECT email, language FROM account WHERE state = 'active' AND (contract_id = ? "
        "OR (role = 'admin' AND space_id = ?) OR (role = 'super' AND ? = 'space')) ORDER BY email",
        [deletion.contract_id, deletion.space_id, str(deletion.kind)],
    )
    languages = {row["email"]: row["language"] for row in people}
    contract = db.row("SELECT email FROM contract WHERE id = ?", [deletion.contract_id])
    if contract is not None:
        own = db.value("SELECT language FROM space_settings WHERE space_id = ?", [deletion.space_id])
        languages.setdefault(contract["email"], own or "fr")
    for email, language in languages.items():
        outbox.add(
            db,
            recipient=email,
            kind=kind,
            language=language,
            space_id=deletion.space_id,
            fields={
                "what": str(deletion.kind),
                "name": deletion.object_name,
                "by": one_line(by, 254),
                "due_at": deletion.due_at,
            },
            now=now,
        )
