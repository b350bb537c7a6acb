"""The configuration that each backup used, as its hello and its commit say it.

The selection itself never reaches the appliance in clear: its digest and the number of its rules do, by which a change
of it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.control.text import one_line
from appliance.errors import NotFoundError
from transport.messages import UsedConfiguration


@dataclass(frozen=True, slots=True)
class MachineConfiguration:
    """What one backup ran with. `selection` is the SHA-256 of the selection, hex; `pid` is 0 where unknown.

    `used` says what started it, its schedule, the number of its rules and its limits; None of an agent that did not
    say.
    """

    agent_version: str
    platform: str
    pid: int
    selection: str
    retention_floor_days: int
    key_epoch: int
    used: UsedConfiguration | None = None


def record(db: Database, machine_id: bytes, number: int, configuration: MachineConfiguration) -> None:
    """Keep what a snapshot was made with; recorded again, the first stands."""
    with db.write():
        db.execute(
            "INSERT INTO snapshot_configuration "
            "(machine_id, number, agent_version, platform, pid, selection, retention_floor_days, key_epoch, used) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (machine_id, number) DO NOTHING",
            [
                machine_id,
                number,
                one_line(configuration.agent_version, 100),
                one_line(configuration.platform, 200),
                max(0, min(configuration.pid, 2**31)),
                bytes.fromhex(configuration.selection),
                configuration.retention_floor_days,
                configuration.key_epoch,
                None if configuration.used is None else msgspec.json.encode(configuration.used).decode(),
            ],
        )


def continuous(db: Database, machine_id: bytes) -> frozenset[int]:
    """The machine's snapshots that continuous mode made: their number, not their content, is the agent's word."""
    rows = db.rows(
        "SELECT number FROM snapshot_configuration "
        "WHERE machine_id = ? AND json_extract(used, '$.started_by') = 'continuous'",
        [machine_id],
    )
    return frozenset(row["number"] for row in rows)


def find(db: Database, scope: Scope, machine_id: bytes, number: int) -> MachineConfiguration:
    """What a snapshot of a machine in scope was made with; NotFoundError where it is not known."""
    where = condition(scope)
    row = db.row(
        "SELECT used.agent_version, used.platform, used.pid, lower(hex(used.selection)) AS selection, "
        "used.retention_floor_days, used.key_epoch, used.used FROM snapshot_configuration AS used "
        "JOIN machine ON machine.id = used.machine_id JOIN contract ON contract.id = machine.contract_id "
        f"WHERE used.machine_id = ? AND used.number = ? AND {where.sql}",
        [machine_id, number, *where.parameters],
    )
    if row is None:
        raise NotFoundError(f"the configuration of snapshot {number} is not known")
    if row["used"] is not None:
        row["used"] = msgspec.json.decode(row["used"], type=UsedConfiguration)
    return MachineConfiguration(**row)
