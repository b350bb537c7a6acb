"""Deliveries from one machine of a contract to another: whether that may be, and how far its parcel is.

Rules: off until an admin says otherwise for the contract; between machines of one contract, both active, from one whose
key is confided; sent by a manager who still is one when it is sealed. The parcel is sealed once, for a key that the
receiving machine made for this delivery after its owner had said yes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.control import accounts, contracts, machine_keys, machines
from appliance.control.accounts import AccountState, Role
from appliance.control.contracts import Contract, Escrow
from appliance.control.database import Database
from appliance.control.deliveries import BEGINNABLE, Delivery, find
from appliance.control.machines import Machine, MachineState
from appliance.control.scope import EVERYTHING, Scope, condition, covers
from appliance.errors import ConflictError, NotFoundError
from transport.names import VaultId
from transport.parcels import Wrapping


class Why(StrEnum):
    """Why a parcel is not sealed."""

    APART = "apart"
    FORBIDDEN = "forbidden"
    REVOKED = "revoked"
    OVER = "over"
    SENDER = "sender"
    ROOM = "room"
    LARGE = "large"
    UNREADABLE = "unreadable"


SENTENCES: Final = {
    Why.APART: "the two machines do not belong to one contract any more",
    Why.FORBIDDEN: "the contract does not allow its machines to be sent each other's files",
    Why.REVOKED: "the receiving machine was revoked",
    Why.OVER: "the delivery is over",
    Why.SENDER: "whoever sent it does not manage this contract any more",
    Why.ROOM: "the appliance has no room for it beside what waits already and the backups",
    Why.LARGE: "it is larger than it was measured to be",
    Why.UNREADABLE: "the backups could not be opened or read on the appliance",
}
"""As commands and machines are told; pages have words of their own."""


class NotSealableError(ConflictError):
    """A parcel may not, or cannot, be sealed now."""

    def __init__(self, why: Why) -> None:
        super().__init__(SENTENCES[why])
        self.why = why


@dataclass(frozen=True, slots=True)
class Wanted:
    """A parcel that is to be sealed: the delivery, both machines, and the receiving key with its signature."""

    delivery: Delivery
    source: Machine
    target: Machine
    key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """How far a parcel is: nothing yet, why not, or its wrapping and the number of its chunks."""

    wrapping: Wrapping | None
    chunks: int
    why: Why | None


def allowed(db: Database, contract_id: str) -> bool:
    """Whether the machines of a contract may be sent each other's files."""
    return bool(db.value("SELECT crossings FROM contract WHERE id = ?", [contract_id]))


def allow(db: Database, contract: Contract, *, allowed: bool) -> None:
    """Say whether they may; what waits stays, and is refused when it would be sealed."""
    with db.write():
        db.execute("UPDATE contract SET crossings = ? WHERE id = ?", [int(allowed), contract.id])


def targets(db: Database, scope: Scope, source: Machine) -> list[Machine]:
    """The machines that may be sent this machine's files, by name; none where that is not allowed."""
    where = condition(scope)
    rows = db.rows(
        "SELECT machine.id FROM machine JOIN contract ON contract.id = machine.contract_id "
        "WHERE contract.id = ? AND contract.crossings = 1 AND machine.state = 'active' AND machine.id <> ? "
        f"AND {where.sql} ORDER BY machine.name",
        [source.contract_id, source.id, *where.parameters],
    )
    if not rows or not _confided(db, source.id):
        return []
    return [machines.get(db, row["id"]) for row in rows]


def _confided(db: Database, machine_id: bytes) -> bool:
    held = machine_keys.find(db, EVERYTHING, machine_id)
    return held is not None and held.mode is Escrow.CONFIDED


def keep_key(db: Database, machine_id: bytes, number: int, key: bytes, signature: bytes) -> None:
    """The receiving machine's key for a delivery that it accepted; a new one makes what was sealed before worthless."""
    with db.write():
        db.execute(
            "UPDATE delivery SET receiving_key = ?, receiving_signature = ?, envelope = NULL, parcel_vault = NULL, "
            "parcel_chunks = 0, parcel_error = '' WHERE machine_id = ? AND number = ? AND source_id IS NOT NULL",
            [key, signature, machine_id, number],
        )


def sealed(db: Database, machine_id: bytes, number: int) -> Sealed:
    """How far a delivery's parcel is; NotFoundError where there is no such delivery."""
    row = db.row(
        "SELECT envelope, parcel_vault, parcel_chunks, parcel_error FROM delivery WHERE machine_id = ? AND number = ? "
        "AND source_id IS NOT NULL",
        [machine_id, number],
    )
    if row is None:
        raise NotFoundError(f"there is no delivery {number} of another machine's files here")
    wrapping = None if row["envelope"] is None else Wrapping(row["envelope"], VaultId(row["parcel_vault"]))
    return Sealed(wrapping, row["parcel_chunks"], Why(row["parcel_error"]) if row["parcel_error"] else None)


_TO_SEAL: Final = (
    "FROM delivery WHERE source_id IS NOT NULL AND receiving_key IS NOT NULL AND envelope IS NULL "
    "AND parcel_error = '' AND state IN ('accepted', 'running', 'failed') AND expires_at > ?"
)


def any_to_seal(db: Database, now: float) -> bool:
    """Whether a parcel waits to be sealed."""
    return db.row(f"SELECT 1 AS found {_TO_SEAL} LIMIT 1", [now]) is not None


def to_seal(db: Database, now: float) -> Wanted | None:
    """The next parcel to seal; None where none waits."""
    columns = "machine_id, number, source_id, receiving_key, receiving_signature"
    row = db.row(f"SELECT {columns} {_TO_SEAL} ORDER BY id LIMIT 1", [now])
    if row is None:
        return None
    return Wanted(
        find(db, EVERYTHING, row["machine_id"], row["number"], now),
        machines.get(db, row["source_id"]),
        machines.get(db, row["machine_id"]),
        row["receiving_key"],
        row["receiving_signature"],
    )


def check(db: Database, wanted: Wanted, now: float) -> None:
    """NotSealableError where it may not be any more."""
    check_still(db, wanted.delivery)
    if find(db, EVERYTHING, wanted.target.id, wanted.delivery.number, now).state not in BEGINNABLE:
        raise NotSealableError(Why.OVER)


def check_still(db: Database, delivery: Delivery) -> None:
    """NotSealableError where what was allowed when it was sent is not allowed any more: asked when a parcel is sealed,
    and again when it is fetched, days later perhaps."""
    assert delivery.source_id is not None
    source, target = machines.get(db, delivery.source_id), machines.get(db, delivery.machine_id)
    if source.contract_id != target.contract_id:
        raise NotSealableError(Why.APART)
    if not allowed(db, source.contract_id):
        raise NotSealableError(Why.FORBIDDEN)
    if target.state is not MachineState.ACTIVE:
        raise NotSealableError(Why.REVOKED)
    if not _is_manager(db, delivery.account_id, source):
        raise NotSealableError(Why.SENDER)


def _is_manager(db: Database, account_id: str, machine: Machine) -> bool:
    if db.row("SELECT id FROM account WHERE id = ?", [account_id]) is None:
        return False
    account, contract = accounts.find(db, account_id), contracts.of_machine(db, machine.id)
    may = account.state is AccountState.ACTIVE and account.role in (Role.SUPER, Role.ADMIN)
    return may and covers(accounts.scope_of(account), space_id=contract.space_id, contract_id=contract.id)


def was_sealed(db: Database, wanted: Wanted, wrapping: Wrapping, chunks: int) -> bool:
    """The parcel is whole; False where another key came meanwhile, so that it is worthless."""
    with db.write():
        return bool(
            db.execute(
                "UPDATE delivery SET envelope = ?, parcel_vault = ?, parcel_chunks = ? "
                "WHERE machine_id = ? AND number = ? AND receiving_key = ?",
                [wrapping.envelope, wrapping.vault, chunks, wanted.target.id, wanted.delivery.number, wanted.key],
            )
        )


def was_not_sealed(db: Database, wanted: Wanted, why: Why) -> None:
    """It cannot be."""
    with db.write():
        db.execute(
            "UPDATE delivery SET parcel_error = ? WHERE machine_id = ? AND number = ?",
            [str(why), wanted.target.id, wanted.delivery.number],
        )


def still_open(db: Database, machine_id: bytes, number: int, now: float) -> bool:
    """Whether a parcel in the spool may still be fetched."""
    try:
        return find(db, EVERYTHING, machine_id, number, now).state in BEGINNABLE
    except NotFoundError:
        return False
