"""Wrapped machine keys, as machines leave them here: one a machine, the newest.

Rules: the envelope's own header says its mode; a contract with private keys takes no confided envelope, so that the
host cannot come to hold what it promised not to; the other way round a machine may be more careful than its contract.
A new envelope takes the place of the old one, whose bytes are gone (secure_delete). Destroying them is what makes a
deleted contract's backups unreadable. Opens nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from appliance.control.contracts import Escrow
from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.errors import KeyModeError, NotFoundError
from transport.escrow import MODE_CONFIDED, escrow_key_of, mode_of

_MODES: Final = {MODE_CONFIDED: Escrow.CONFIDED}


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """What is held of a machine's key. `escrow_key` is None for a passphrase. `received_at` in seconds since 1970."""

    machine_id: bytes
    mode: Escrow
    escrow_key: bytes | None
    envelope: bytes
    received_at: float

    def __repr__(self) -> str:
        return f"WrappedKey({self.machine_id.hex()}, {self.mode})"


def put(db: Database, machine_id: bytes, envelope: bytes, now: float) -> bool:
    """Keep a machine's envelope; whether it differs from the one before.

    SealError for what is no envelope, KeyModeError for a confided one under a contract with private keys.
    """
    mode = _MODES.get(mode_of(envelope), Escrow.PRIVATE)
    escrow_key = escrow_key_of(envelope) if mode is Escrow.CONFIDED else None
    with db.write():
        row = db.row(
            "SELECT contract.escrow, held.envelope_sha256 AS held FROM machine "
            "JOIN contract ON contract.id = machine.contract_id "
            "LEFT JOIN machine_key AS held ON held.machine_id = machine.id WHERE machine.id = ?",
            [machine_id],
        )
        if row is None:
            raise NotFoundError(f"there is no machine {machine_id.hex()}")
        if mode is Escrow.CONFIDED and row["escrow"] == Escrow.PRIVATE:
            raise KeyModeError(
                "this contract keeps private keys, so the appliance takes no confided one: run "
                "pilulier-agent key protect --passphrase-file F on the machine, or have the contract changed"
            )
        digest = hashlib.sha256(envelope).digest()
        if row["held"] == digest:
            return False
        db.execute("DELETE FROM machine_key WHERE machine_id = ?", [machine_id])
        db.insert(
            "machine_key",
            {
                "machine_id": machine_id,
                "mode": str(mode),
                "escrow_key": escrow_key,
                "envelope": envelope,
                "envelope_sha256": digest,
                "received_at": now,
            },
        )
        return True


def find(db: Database, scope: Scope, machine_id: bytes) -> WrappedKey | None:
    """What is held of the key of a machine in scope; None where nothing is, or the machine lies outside."""
    where = condition(scope)
    row = db.row(
        "SELECT held.machine_id, held.mode, held.escrow_key, held.envelope, held.received_at FROM machine_key AS held "
        "JOIN machine ON machine.id = held.machine_id JOIN contract ON contract.id = machine.contract_id "
        f"WHERE held.machine_id = ? AND {where.sql}",
        [machine_id, *where.parameters],
    )
    return None if row is None else WrappedKey(**{**row, "mode": Escrow(row["mode"])})


def modes(db: Database, scope: Scope, contract_id: str) -> dict[bytes, Escrow]:
    """How the keys of a contract's machines are held; machines of which nothing is held are missing."""
    where = condition(scope)
    rows = db.rows(
        "SELECT held.machine_id, held.mode FROM machine_key AS held JOIN machine ON machine.id = held.machine_id "
        f"JOIN contract ON contract.id = machine.contract_id WHERE contract.id = ? AND {where.sql}",
        [contract_id, *where.parameters],
    )
    return {row["machine_id"]: Escrow(row["mode"]) for row in rows}


def escrow_keys_in_use(db: Database) -> dict[bytes, int]:
    """How many envelopes each escrow key opens."""
    rows = db.rows("SELECT escrow_key, count(*) AS n FROM machine_key WHERE escrow_key IS NOT NULL GROUP BY escrow_key")
    return {row["escrow_key"]: row["n"] for row in rows}


def destroy(db: Database, machine_id: bytes) -> bool:
    """Forget what is held of a machine's key; whether there was something."""
    with db.write():
        return bool(db.execute("DELETE FROM machine_key WHERE machine_id = ?", [machine_id]))
