"""Carrying out deletions that are due: repositories leave the disk, rows leave the database, a certificate stays.

Order, so that a crash anywhere is finished by the next run: the machine is revoked; its folder is renamed aside and
removed, under the turn of the writer, so that nobody writes meanwhile; then, in one transaction, the deletion is
marked, its certificate is signed and written, with a line in the audit log, and every row that hangs on the object
goes, wrapped keys included. What hangs on it is read from the foreign keys of the database itself, so that a table that
comes later is not forgotten. A clock that cannot be believed deletes nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from appliance import export_job
from appliance.control import audit, certificates, clock, contract_exports, deletions, machine_keys, machines
from appliance.control.certificates import DestroyedKey, ErasedMachine, Statement
from appliance.control.clock import Reading
from appliance.control.contracts import Escrow
from appliance.control.database import Database
from appliance.control.deletions import Deletion, Kind
from appliance.control.scope import EVERYTHING
from appliance.errors import ControlDatabaseError
from appliance.settings import Home
from appliance.store.layout import Layout
from appliance.store.turns import MaintenanceTurn, WriterTurn
from appliance.store.upkeep.clock import Suspect
from transport.errors import PilulierError
from transport.keys import SigningKey

WAIT_S: Final = 60.0
"""How long a turn at a repository is waited for."""
ASIDE: Final = ".deleted"
"""What a repository's folder is called between its renaming and its removal."""


@dataclass(frozen=True, slots=True)
class Erased:
    """A repository that left the disk."""

    machine: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Carried:
    """A deletion that was carried out."""

    deletion: Deletion
    repositories: tuple[Erased, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A deletion that could not be carried out yet, and why."""

    deletion: Deletion
    reason: str


def carry_out_due(home: Home, db: Database, reading: Reading) -> list[Carried | Refused]:
    """Everything that is due, each for itself: one that is refused does not hold up the next."""
    due = deletions.due(db, reading.at)
    if not due:
        return []
    verdict = clock.note(db, reading)
    if isinstance(verdict, Suspect):
        return [Refused(one, f"the clock cannot be believed ({verdict.text})") for one in due]
    done: list[Carried | Refused] = []
    for one in due:
        try:
            done.append(carry_out(home, db, one, reading.at))
        except (PilulierError, OSError) as error:
            done.append(Refused(one, str(error)))
    return done


def carry_out(home: Home, db: Database, deletion: Deletion, now: float) -> Carried:
    """One deletion; BusyRepositoryError, OSError or ConflictError where it cannot be, and it stays due."""
    ids = _machines(db, deletion)
    for machine_id in ids:
        machines.revoke(db, machines.get(db, machine_id))
    identity = home.load_identity()
    exports = _erase_exports(home, db, deletion)
    repositories = [found for machine_id in ids if (found := erase_repository(home, machine_id)) is not None]
    with db.write():
        # First: who is told of it is read from rows that go below; and one cancelled meanwhile is an error here.
        done = deletions.mark_done(db, deletion.id, now)
        certificates.issue(db, identity, done, _statement(home, db, identity, done, ids, repositories, exports, now))
        for machine_id in ids:
            deletions.forget(db, Kind.MACHINE, machine_id.hex(), by="pilulier", now=now)
            db.execute("DELETE FROM alarm WHERE machine = ?", [machine_id])
            db.execute("DELETE FROM alert WHERE machine_id = ?", [machine_id])
        table, key = _row_of(deletion)
        if deletion.kind is not Kind.MACHINE:
            column = "contract_id" if deletion.kind is Kind.CONTRACT else "space_id"
            db.execute(f"DELETE FROM alert WHERE {column} = ?", [key])
        rows = erase_rows(db, table, "id", key)
        audit.write(
            db,
            audit.SYSTEM,
            "deletion.carried-out",
            now=now,
            object_kind=str(deletion.kind),
            object_id=deletion.object_id,
            object_name=deletion.object_name,
            space_id=deletion.space_id,
            contract_id=deletion.contract_id,
            before={"requested_by": deletion.requested_by, "requested_at": deletion.requested_at},
            after={
                "repositories": [
                    {"machine": one.machine, "files": one.files, "bytes": one.bytes} for one in repositories
                ],
                "machines": [machine_id.hex() for machine_id in ids],
                "rows": rows,
                "certificate": deletion.id,
            },
        )
    return Carried(done, tuple(repositories), rows)


def _statement(
    home: Home,
    db: Database,
    identity: SigningKey,
    deletion: Deletion,
    ids: list[bytes],
    repositories: list[Erased],
    exports: int,
    now: float,
) -> Statement:
    """What is certified, read while the keys are still there."""
    erased = {one.machine: one for one in repositories}
    found = []
    for machine_id in ids:
        machine, held = machines.get(db, machine_id), machine_keys.find(db, EVERYTHING, machine_id)
        key = None
        if held is not None:
            digest = hashlib.sha256(held.envelope).hexdigest()
            mode: Literal["confided", "private"] = "confided" if held.mode is Escrow.CONFIDED else "private"
            key = DestroyedKey(mode, digest, (held.escrow_key or b"").hex())
        one = erased.get(machine.hex)
        found.append(ErasedMachine(machine.hex, machine.name, key, one.files if one else 0, one.bytes if one else 0))
    days = home.load_settings().safety_days
    return Statement(
        certificate=deletion.id,
        kind=deletion.kind.value,
        object=deletion.object_id,
        name=deletion.object_name,
        requested_by=deletion.requested_by,
        requested_at=int(deletion.requested_at),
        erased_at=int(now),
        machines=found,
        exports=exports,
        copies_kept_days=days,
        # The copy of the night before goes with the first nightly job after its days.
        copies_gone_at=int(now) + (days + 1) * 86400,
        identity=identity.public.hex(),
    )


def _erase_exports(home: Home, db: Database, deletion: Deletion) -> int:
    """Exports that lie here go with what they hold: those of the contract, or of a machine's, or of the space's."""
    column = "contract.space_id" if deletion.kind is Kind.SPACE else "contract.id"
    rows = db.rows(
        "SELECT made.id FROM contract_export AS made JOIN contract ON contract.id = made.contract_id "
        f"WHERE {column} = ? AND made.state = 'done'",
        [deletion.space_id if deletion.kind is Kind.SPACE else deletion.contract_id],
    )
    gone = 0
    for row in rows:
        gone += export_job.remove(home, row["id"])
        contract_exports.gone(db, row["id"])
    return gone


def _row_of(deletion: Deletion) -> tuple[str, object]:
    if deletion.kind is Kind.MACHINE:
        return "machine", bytes.fromhex(deletion.object_id)
    return str(deletion.kind), deletion.object_id


def _machines(db: Database, deletion: Deletion) -> list[bytes]:
    column = {Kind.MACHINE: "machine.id", Kind.CONTRACT: "contract.id", Kind.SPACE: "contract.space_id"}[deletion.kind]
    rows = db.rows(
        f"SELECT machine.id FROM machine JOIN contract ON contract.id = machine.contract_id WHERE {column} = ?",
        [_row_of(deletion)[1]],
    )
    return [row["id"] for row in rows]


def erase_repository(home: Home, machine_id: bytes) -> Erased | None:
    """Take a machine's repository off the disk; None where there is none. BusyRepositoryError where it is in use."""
    folder = home.repository(machine_id)
    aside = folder.with_name(folder.name + ASIDE)
    files = size = 0
    if folder.is_dir():
        layout = Layout(folder)
        maintenance = MaintenanceTurn(layout)
        try:
            writer = WriterTurn(layout, wait_s=WAIT_S)
            try:
                # A rest of an earlier run is in the way of the rename.
                _remove(aside)
                folder.rename(aside)
                _sync_folder(folder.parent)
            finally:
                writer.close()
        finally:
            maintenance.close()
    elif not aside.is_dir():
        return None
    for at, _, names in os.walk(aside):
        for name in names:
            files += 1
            size += os.lstat(os.path.join(at, name)).st_size
    _remove(aside)
    return Erased(machine_id.hex(), files, size)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Child:
    """A column of a table that points at a column of another."""

    table: str
    column: str
    target: str


def _children(db: Database, table: str) -> list[_Child]:
    rows = db.rows(
        'SELECT child.name AS child, link."from" AS source, link."to" AS target FROM sqlite_master AS child, '
        "pragma_foreign_key_list(child.name) AS link WHERE child.type = 'table' AND link.\"table\" = ?",
        [table],
    )
    found = []
    for row in rows:
        # A key that names no column points at the primary key, which is `id` in every table here.
        found.append(_Child(row["child"], row["source"], row["target"] or "id"))
    return found


def erase_rows(db: Database, table: str, column: str, value: object, depth: int = 0) -> int:
    """Remove the rows where `column` is `value`, and before them all that points at them; how many in all."""
    if depth > 8:
        raise ControlDatabaseError(f"the foreign keys of {table} go in a circle: nothing was deleted")
    removed = 0
    for child in _children(db, table):
        targets: list[dict[str, Any]] = db.rows(
            f"SELECT DISTINCT {child.target} AS target FROM {table} WHERE {column} = ?", [value]
        )
        for row in targets:
            removed += erase_rows(db, child.table, child.column, row["target"], depth + 1)
    return removed + db.execute(f"DELETE FROM {table} WHERE {column} = ?", [value])
