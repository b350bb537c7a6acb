"""Exports of contracts that the web asks for: what waits, what can be fetched, until when.

Rules: one at a time for a contract; made by a job, kept for KEPT_DAYS, then its file goes and the row says so. Asking
and the end are mailed to the contract's people and the space's admins: what leaves the house is no secret among those
whose it is. Wrapped keys never go this way. Files are `appliance.export_job`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control import outbox
from appliance.control.contracts import Contract
from appliance.control.database import Database, new_id
from appliance.control.scope import Scope, condition
from appliance.control.text import one_line
from appliance.errors import ConflictError, NotFoundError

KEPT_DAYS: Final = 7
KEPT_S: Final = KEPT_DAYS * 86400.0


class ExportState(StrEnum):
    """How far it is. A run that is cut off leaves it waiting."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class ContractExport:
    """One request. Times in seconds since 1970."""

    id: str
    contract_id: str
    requested_by: str
    requested_at: float
    state: ExportState
    reason: str
    size_bytes: int
    ended_at: float | None
    expires_at: float | None


def _export(row: dict[str, Any]) -> ContractExport:
    return ContractExport(**{**row, "state": ExportState(row["state"])})


def ask(db: Database, contract: Contract, *, by: str, now: float) -> ContractExport:
    """Ask for an export; ConflictError where one waits already."""
    with db.write():
        if db.row("SELECT id FROM contract_export WHERE contract_id = ? AND state = 'waiting'", [contract.id]):
            raise ConflictError(f"an export of {contract.client_id} is being made already: wait for it")
        export_id = new_id("x")
        db.insert(
            "contract_export",
            {
                "id": export_id,
                "contract_id": contract.id,
                "requested_by": one_line(by, 254),
                "requested_at": now,
                "state": str(ExportState.WAITING),
            },
        )
        _announce(db, contract, outbox.EXPORT_REQUESTED, {"by": one_line(by, 254)}, now)
        return _reread(db, export_id)


def _reread(db: Database, export_id: str) -> ContractExport:
    row = db.row("SELECT * FROM contract_export WHERE id = ?", [export_id])
    assert row is not None
    return _export(row)


def of_contract(db: Database, scope: Scope, contract_id: str, limit: int = 20) -> list[ContractExport]:
    """Those of a contract in scope, newest first."""
    where = condition(scope)
    rows = db.rows(
        "SELECT made.* FROM contract_export AS made JOIN contract ON contract.id = made.contract_id "
        f"WHERE contract.id = ? AND {where.sql} ORDER BY requested_at DESC, made.id LIMIT ?",
        [contract_id, *where.parameters, limit],
    )
    return [_export(row) for row in rows]


def find(db: Database, scope: Scope, contract_id: str, export_id: str) -> ContractExport:
    """One of a contract in scope; NotFoundError otherwise."""
    for one in of_contract(db, scope, contract_id, 1000):
        if one.id == export_id:
            return one
    raise NotFoundError(f"there is no export {one_line(export_id, 60)!r} of this contract")


def waiting(db: Database) -> list[ContractExport]:
    """What is to be made, oldest first, in every space."""
    rows = db.rows("SELECT * FROM contract_export WHERE state = 'waiting' ORDER BY requested_at, id")
    return [_export(row) for row in rows]


def over(db: Database, now: float) -> list[ContractExport]:
    """Those whose days are over and whose file is to go."""
    rows = db.rows("SELECT * FROM contract_export WHERE state = 'done' AND expires_at <= ? ORDER BY id", [now])
    return [_export(row) for row in rows]


def done(db: Database, export: ContractExport, contract: Contract, size_bytes: int, now: float) -> None:
    """It can be fetched from now on."""
    with db.write():
        expires = now + KEPT_S
        db.update(
            "contract_export",
            export.id,
            {"state": str(ExportState.DONE), "size_bytes": size_bytes, "ended_at": now, "expires_at": expires},
        )
        fields: dict[str, outbox.Scalar] = {"by": export.requested_by, "size_bytes": size_bytes, "expires_at": expires}
        _announce(db, contract, outbox.EXPORT_DONE, fields, now)


def failed(db: Database, export: ContractExport, reason: str, now: float) -> None:
    """It could not be made."""
    with db.write():
        change = {"state": str(ExportState.FAILED), "reason": one_line(reason, 500), "ended_at": now}
        db.update("contract_export", export.id, change)


def gone(db: Database, export_id: str) -> None:
    """Its file is no more."""
    with db.write():
        db.update("contract_export", export_id, {"state": str(ExportState.GONE)})


def _announce(db: Database, contract: Contract, kind: str, fields: Mapping[str, outbox.Scalar], now: float) -> None:
    """To the contract's people and the space's admins."""
    people = db.rows(
        "SELECT email, language FROM account WHERE state = 'active' AND (contract_id = ? "
        "OR (role = 'admin' AND space_id = ?)) ORDER BY email",
        [contract.id, contract.space_id],
    )
    languages = {row["email"]: row["language"] for row in people}
    own = db.value("SELECT language FROM space_settings WHERE space_id = ?", [contract.space_id])
    languages.setdefault(contract.email, own or "fr")
    for email, language in languages.items():
        outbox.add(
            db,
            recipient=email,
            kind=kind,
            language=language,
            space_id=contract.space_id,
            fields={"client": contract.client_id, "contract": contract.id, **fields},
            now=now,
        )
