"""The job that makes the exports which the web asked for, and removes them when their days are over.

Owns the folder `exports/` of the home. A run that is cut off leaves nothing finished and is done again; one whose
contract is deleted meanwhile loses its row, and its file with the next run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.control import contract_exports, contracts
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.exporting import write_export
from appliance.job_running import JobContext, JobReport
from appliance.settings import Home
from appliance.spool import RESERVE_SHARE
from transport.errors import PilulierError


def file_of(home: Home, export_id: str) -> Path:
    """Where an export is, once it is made."""
    return home.exports / f"{export_id}.tar"


def remove(home: Home, export_id: str) -> bool:
    """Take an export off the disk; whether it was there."""
    path = file_of(home, export_id)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def is_due(context: JobContext) -> bool:
    """Whether there is anything to make or to remove."""
    return bool(
        contract_exports.waiting(context.db)
        or contract_exports.over(context.db, context.now())
        or _strangers(context.home, context.db)
    )


def _strangers(home: Home, db: Database) -> list[Path]:
    """Files that no row names: of contracts that were deleted."""
    if not home.exports.is_dir():
        return []
    known = {row["id"] for row in db.rows("SELECT id FROM contract_export WHERE state IN ('done', 'waiting')")}
    return [path for path in home.exports.iterdir() if path.name.partition(".")[0] not in known]


def _replaced(home: Home, db: Database, new: contract_exports.ContractExport) -> int:
    """The exports of this contract that the new one takes the place of: one at a time is on the disk."""
    former = contract_exports.of_contract(db, EVERYTHING, new.contract_id, 1000)
    gone = [one for one in former if one.state is contract_exports.ExportState.DONE and one.id != new.id]
    for one in gone:
        remove(home, one.id)
        contract_exports.gone(db, one.id)
    return len(gone)


def make_exports(context: JobContext) -> JobReport:
    """Everything that waits, oldest first; and what is over goes."""
    home, db = context.home, context.db
    removed = made = failed = 0
    for one in contract_exports.over(db, context.now()):
        remove(home, one.id)
        contract_exports.gone(db, one.id)
        removed += 1
    for path in _strangers(home, db):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # the catalog's copy of a run that was killed
        else:
            path.unlink(missing_ok=True)
        removed += 1
    for one in contract_exports.waiting(db):
        context.stopping.check()
        home.exports.mkdir(mode=0o700, exist_ok=True)
        contract = contracts.find(db, EVERYTHING, one.contract_id)
        path = file_of(home, one.id)
        # Left whole by a run that was cut off before it could say so; what happened since is not in it.
        path.unlink(missing_ok=True)
        removed += _replaced(home, db, one)
        try:
            write_export(
                home,
                db,
                contract,
                path,
                now=context.now(),
                reserve_share=RESERVE_SHARE,
                check=context.stopping.check,
            )
        except PilulierError as error:
            contract_exports.failed(db, one, str(error), context.now())
            failed += 1
        else:
            contract_exports.done(db, one, contract, path.stat().st_size, context.now())
            made += 1
    return JobReport(f"{made} exports made, {failed} failed, {removed} removed", bool(failed))
