"""The daily synthesis of each contract: every machine's last day, and the head code that a person keeps by it.

Once a day and contract, however often it is run; a mail and the note that it was written are one transaction. Paused
contracts, those without machines and those that want warnings only get none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from appliance import notices
from appliance.control import contracts, control_room, outbox
from appliance.control.contracts import Contract, Notify
from appliance.control.control_room import RoomRow, State
from appliance.control.database import Database
from appliance.control.outbox import Scalar, Value
from appliance.control.scope import EVERYTHING
from appliance.job_running import JobContext, JobReport
from appliance.settings import Home
from appliance.store.repository import Repository
from transport.commits import head_code
from transport.errors import PilulierError

DAY_S: Final = 86400.0

log = logging.getLogger("pilulier.synthesis")


def tell_all(context: JobContext) -> JobReport:
    """Write the syntheses of today that are not written yet."""
    now = context.now()
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    rows: dict[str, list[RoomRow]] = {}
    for row in control_room.rows(context.db, EVERYTHING, now):
        if row.state is not State.REVOKED:
            rows.setdefault(row.contract_id, []).append(row)
    told = written = 0
    for contract in contracts.every(context.db, EVERYTHING):
        context.stopping.check()
        name = f"synthesis:{contract.id}"
        if contract.paused or contract.notify is not Notify.ALL or contract.id not in rows:
            continue
        if (notices.cursor(context.db, name) or 0.0) >= midnight:
            continue
        fields = fields_of(context.home, context.db, contract, rows[contract.id], now)
        with context.db.write():
            for person in notices.contract_people(context.db, contract.id):
                outbox.add(
                    context.db,
                    recipient=person.email,
                    kind=outbox.SYNTHESIS,
                    language=person.language,
                    space_id=contract.space_id,
                    fields=fields,
                    now=now,
                )
                written += 1
            notices.set_cursor(context.db, name, now)
        told += 1
    return JobReport(f"{told} contracts told in {written} mails")


def fields_of(home: Home, db: Database, contract: Contract, rows: list[RoomRow], now: float) -> dict[str, Value]:
    """The facts of one contract's mail."""
    machines: list[Mapping[str, Scalar]] = []
    for row in sorted(rows, key=lambda row: row.name.lower()):
        figures = db.row(
            "SELECT bytes_sent, files_full, files_delta FROM snapshot_statistics WHERE machine_id = ? AND number = ?",
            [row.machine_id, row.last_number],
        )
        machines.append(
            {
                "name": row.name,
                "state": _state(row, now),
                "good_at": row.good_at,
                "source_bytes": row.bytes_source if row.good_at is not None else None,
                "sent_bytes": figures["bytes_sent"] if figures else None,
                "files_full": figures["files_full"] if figures else 0,
                "files_delta": figures["files_delta"] if figures else 0,
                "head": _head(home, row),
            }
        )
    used = contracts.used_bytes(db, contract.id)
    return {
        "client": contract.client_id,
        "contract": contract.id,
        "contract_email": contract.email,
        "used_bytes": used,
        "allocated_bytes": contract.allocated_bytes,
        "used_percent": min(100 * used // contract.allocated_bytes, 10**6) if contract.allocated_bytes else 0,
        "end_date": contract.end_date.isoformat() if contract.end_date else None,
        "machines": machines,
        "complete": sum(machine["state"] == "complete" for machine in machines),
        "started": sum(machine["state"] == "started" for machine in machines),
    }


def _state(row: RoomRow, now: float) -> str:
    if row.good_at is not None and now - row.good_at <= DAY_S:
        return "complete"
    return "started" if row.last_at is not None and now - row.last_at <= DAY_S else "none"


def _head(home: Home, row: RoomRow) -> str:
    """The code of the newest commit; empty where there is none to read."""
    folder = home.repository(row.machine_id)
    if row.last_number is None or not folder.is_dir():
        return ""
    try:
        with Repository.open(folder, read_only=True) as repository:
            found = repository.commits(row.last_number - 1, 1000)
    except PilulierError as error:
        log.warning("the head of machine %s cannot be read: %s", row.hex, error)
        return ""
    return head_code(found[-1].signed.hash()) if found else ""
