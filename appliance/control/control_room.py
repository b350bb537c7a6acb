"""The control room: the state of every machine in a scope, from one query.

A machine's state, in this order: revoked; running; never (no snapshot at all); failed (its log has an error since
its last complete backup, or the newest snapshot stayed incomplete and is late); late (no complete backup for the
contract's hours on opening days, else its space's); warning (the last complete backup had some); ok. An incomplete
snapshot in time is a first upload on its way, not a failure. Volumes count latest complete snapshots only.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control import opening_days, space_settings
from appliance.control.contracts import LATEST, LATEST_COMPLETE
from appliance.control.database import Database
from appliance.control.scope import Scope, condition

DAY_S: Final = 86400.0


class State(StrEnum):
    """How a machine stands, worst first."""

    FAILED = "failed"
    LATE = "late"
    NEVER = "never"
    WARNING = "warning"
    RUNNING = "running"
    OK = "ok"
    REVOKED = "revoked"


_RANK: Final = {state: rank for rank, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class RoomRow:
    """One machine. `last_*` is its newest snapshot, `good_*` its newest complete one; None before the first.

    `used_bytes` and `allocated_bytes` are its contract's; `bytes_source` its own share. Times in seconds since 1970.
    """

    machine_id: bytes
    name: str
    machine_state: str
    contract_id: str
    client_id: str
    space_id: str
    space_name: str
    state: State
    last_number: int | None
    last_at: float | None
    last_complete: bool | None
    warnings: int
    good_number: int | None
    good_at: float | None
    bytes_source: int
    used_bytes: int
    allocated_bytes: int
    last_seen_at: float | None
    last_error_at: float | None
    last_error: str
    agent_version: str
    platform: str
    language: str | None
    created_at: float
    late_hours: int
    delete_due_at: float | None

    @property
    def hex(self) -> str:
        """The machine's id as addresses spell it."""
        return self.machine_id.hex()


@dataclass(frozen=True, slots=True)
class Counts:
    """Machines by state."""

    ok: int
    running: int
    late: int
    warning: int
    failed: int
    never: int
    revoked: int
    total: int


@dataclass(frozen=True, slots=True)
class LastDay:
    """The last 24 hours of a scope: snapshots, how many complete, of how many machines, bytes, warnings, errors."""

    backups: int
    complete: int
    machines: int
    bytes_sent: int
    bytes_source: int
    warnings: int
    errors: int


@dataclass(frozen=True, slots=True)
class Customer:
    """A contract with its machines, worst first; `worst` is the state of the first."""

    contract_id: str
    client_id: str
    space_name: str
    used_bytes: int
    allocated_bytes: int
    worst: State
    machines: list[RoomRow]

    @property
    def over_quota(self) -> bool:
        """Whether more is used than allocated."""
        return self.used_bytes > self.allocated_bytes


@dataclass(frozen=True, slots=True)
class SpaceVolume:
    """What the contracts of a space use and were allocated, those without machines too."""

    space_id: str
    space_name: str
    contracts: int
    used_bytes: int
    allocated_bytes: int

    @property
    def ratio(self) -> float | None:
        """Used of allocated; None where nothing is allocated."""
        return self.used_bytes / self.allocated_bytes if self.allocated_bytes else None


_QUERY: Final = f"""
SELECT machine.id AS machine_id, machine.name, machine.state AS machine_state, machine.contract_id,
    contract.client_id, contract.space_id, space.name AS space_name,
    newest.number AS last_number, newest.received_at AS last_at, newest.complete AS last_complete,
    coalesce(good.warnings, 0) AS warnings, good.number AS good_number, good.received_at AS good_at,
    coalesce(good.bytes_source, 0) AS bytes_source, contract.allocated_bytes, contract.email,
    machine.last_seen_at, machine.last_error_at, machine.last_error,
    machine.agent_version, machine.platform, machine.language, machine.created_at,
    coalesce(contract.late_hours, space_settings.late_hours, {space_settings.DEFAULT.late_hours}) AS late_hours,
    coalesce(contract.open_days, space_settings.open_days, '{opening_days.EVERY_DAY}') AS open_days,
    deletion.due_at AS delete_due_at
FROM machine
JOIN contract ON contract.id = machine.contract_id
JOIN space ON space.id = contract.space_id
LEFT JOIN space_settings ON space_settings.space_id = contract.space_id
LEFT JOIN snapshot_statistics AS newest ON newest.machine_id = machine.id AND newest.number = {LATEST}
LEFT JOIN snapshot_statistics AS good ON good.machine_id = machine.id AND good.number = {LATEST_COMPLETE}
LEFT JOIN deletion ON deletion.kind = 'machine' AND deletion.object_id = lower(hex(machine.id))
    AND deletion.outcome = 'waiting'
"""


def state_of(
    *,
    revoked: bool,
    running: bool,
    last_at: float | None,
    good_at: float | None,
    last_error_at: float | None,
    warnings: int,
    late_before: float,
) -> State:
    """The state that these facts make; `late_before` is from `opening_days`. Pure."""
    if revoked:
        return State.REVOKED
    if running:
        return State.RUNNING
    if last_error_at is not None and last_error_at > (good_at or 0.0):
        return State.FAILED
    if last_at is None:
        return State.NEVER
    # Before the first complete backup, what is on its way counts as a sign of life.
    since = good_at if good_at is not None else last_at
    if since < late_before:
        return State.FAILED if last_at > since else State.LATE
    return State.WARNING if warnings else State.OK


def _row(row: dict[str, Any], used_bytes: int, late_before: float, running: frozenset[bytes]) -> RoomRow:
    if row["last_complete"] is not None:
        row["last_complete"] = bool(row["last_complete"])
    del row["email"], row["open_days"]
    state = state_of(
        revoked=row["machine_state"] == "revoked",
        running=row["machine_id"] in running,
        last_at=row["last_at"],
        good_at=row["good_at"],
        last_error_at=row["last_error_at"],
        warnings=row["warnings"],
        late_before=late_before,
    )
    return RoomRow(**row, used_bytes=used_bytes, state=state)


def rows(
    db: Database,
    scope: Scope,
    now: float,
    running: frozenset[bytes] = frozenset(),
    *,
    contract_id: str | None = None,
    space_id: str | None = None,
    text: str = "",
    state: State | None = None,
) -> list[RoomRow]:
    """The machines in a scope, worst state first, then by client and name.

    `running` are those with a backup under way (see `running.ids`); `text` is looked for in machine and client.
    """
    where = condition(scope)
    sql, parameters = [where.sql], list[object](where.parameters)
    for column, value in (("contract.id", contract_id), ("contract.space_id", space_id)):
        if value is not None:
            sql.append(f"{column} = ?")
            parameters.append(value)
    wanted = text.strip().lower()
    found = _rows(db, " AND ".join(sql), parameters, now, running, lambda row: wanted in _searched(row))
    if state is not None:
        found = [row for row in found if row.state is state]
    found.sort(key=lambda row: (_RANK[row.state], row.client_id.lower(), row.name.lower(), row.machine_id))
    return found


def _searched(row: dict[str, Any]) -> str:
    return f"{row['name']} {row['client_id']} {row['email']}".lower()


def _rows(
    db: Database,
    sql: str,
    parameters: list[object],
    now: float,
    running: frozenset[bytes],
    wanted: Callable[[dict[str, Any]], bool],
) -> list[RoomRow]:
    """The wanted ones of the machines for which `sql` holds, which must hold for all machines of a contract or none.

    What a contract uses is added up here from its machines: asked of the database it costs as much as all the rest.
    """
    read = db.rows(f"{_QUERY} WHERE {sql}", parameters)
    used: dict[str, int] = {}
    for row in read:
        used[row["contract_id"]] = used.get(row["contract_id"], 0) + row["bytes_source"]
    # Once for each pair of settings, of which there are few: walking back through days is too slow for each machine.
    before = functools.cache(lambda days, hours: opening_days.late_before(days, hours, now))
    return [
        _row(row, used[row["contract_id"]], before(row["open_days"], row["late_hours"]), running)
        for row in read
        if wanted(row)
    ]


def find(
    db: Database, scope: Scope, now: float, machine_id: bytes, running: frozenset[bytes] = frozenset()
) -> RoomRow | None:
    """One machine as the control room shows it; None where it lies outside of the scope."""
    where = condition(scope)
    sql = f"contract.id = (SELECT contract_id FROM machine WHERE id = ?) AND {where.sql}"
    parameters: list[object] = [machine_id, *where.parameters]
    found = _rows(db, sql, parameters, now, running, lambda row: row["machine_id"] == machine_id)
    return found[0] if found else None


def counts(rows: Iterable[RoomRow]) -> Counts:
    """How many machines are in each state."""
    found = collections.Counter(row.state for row in rows)
    return Counts(**{state.value: found[state] for state in State}, total=found.total())


def by_customer(rows: Iterable[RoomRow]) -> list[Customer]:
    """The machines grouped by contract, in the order of `rows`: whose first machine is worse comes first. Pure."""
    groups: dict[str, list[RoomRow]] = {}
    for row in rows:
        groups.setdefault(row.contract_id, []).append(row)
    return [
        Customer(
            *(first.contract_id, first.client_id, first.space_name, first.used_bytes, first.allocated_bytes),
            first.state,
            group,
        )
        for group in groups.values()
        for first in group[:1]
    ]


def volumes(db: Database, scope: Scope, rows: Iterable[RoomRow]) -> list[SpaceVolume]:
    """The spaces in a scope by name; `rows` are all machines in it."""
    used: collections.Counter[str] = collections.Counter()
    for row in rows:
        used[row.space_id] += row.bytes_source
    where = condition(scope)
    return [
        SpaceVolume(row["id"], row["name"], row["contracts"], used[row["id"]], row["allocated"])
        for row in db.rows(
            "SELECT space.id, space.name, count(*) AS contracts, "
            "CAST(total(contract.allocated_bytes) AS INTEGER) AS allocated FROM contract "
            f"JOIN space ON space.id = contract.space_id WHERE {where.sql} GROUP BY space.id ORDER BY space.name",
            where.parameters,
        )
    ]


def last_day(db: Database, scope: Scope, now: float, space_id: str | None = None) -> LastDay:
    """What the last 24 hours brought."""
    where = condition(scope)
    narrowed = f"{where.sql} AND (? IS NULL OR contract.space_id = ?)"
    row = db.row(
        "SELECT count(*) AS backups, coalesce(sum(complete), 0) AS complete, "
        "count(DISTINCT machine.id) AS machines, CAST(total(bytes_sent) AS INTEGER) AS bytes_sent, "
        "CAST(total(bytes_source) AS INTEGER) AS bytes_source, coalesce(sum(warnings), 0) AS warnings "
        "FROM snapshot_statistics AS figures JOIN machine ON machine.id = figures.machine_id "
        f"JOIN contract ON contract.id = machine.contract_id WHERE figures.received_at > ? AND {narrowed}",
        [now - DAY_S, *where.parameters, space_id, space_id],
    )
    errors = db.value(
        "SELECT count(*) AS n FROM machine JOIN contract ON contract.id = machine.contract_id "
        f"WHERE machine.last_error_at > ? AND {narrowed}",
        [now - DAY_S, *where.parameters, space_id, space_id],
    )
    assert row is not None
    return LastDay(**row, errors=int(errors))
