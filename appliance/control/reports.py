"""Statistics as pages, charts and invoices read them: backups by day, series of days, what a month is billed from.

Days are those of a given time zone; a window is half open, from `since` to before `until`, seconds since 1970.
Volumes of days and months carry on: a machine that was off for a week still had its last complete snapshot.
Figures are what agents counted; nothing is decided from them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final

import msgspec

from appliance.control.contracts import ContractState
from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from transport.errors import UsageError
from transport.messages import BackupFigures

PAGE_LIMIT: Final = 1000
_BATCH: Final = 500
_FIGURES: Final = BackupFigures.__struct_fields__


@dataclass(frozen=True, slots=True)
class Window:
    """What to look at: a time, and optionally one space, contract or machine (which narrow a scope, never widen)."""

    since: float
    until: float
    space_id: str | None = None
    contract_id: str | None = None
    machine_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup. `received_at` by the appliance's clock; version, platform and pid as of that backup if known."""

    machine_id: bytes
    machine_name: str
    contract_id: str
    client_id: str
    space_id: str
    number: int
    received_at: float
    complete: bool
    figures: BackupFigures
    agent_version: str
    platform: str
    pid: int | None

    @property
    def ratio(self) -> float | None:
        """Transfer / source; None where the source is empty."""
        return self.figures.bytes_sent / self.figures.bytes_source if self.figures.bytes_source else None


@dataclass(frozen=True, slots=True)
class Day:
    """The backups of one day, newest first; the first and last day of a page may go on beside it."""

    date: date
    rows: list[Backup]


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Days, newest first; `next` is the cursor of the page after, "" on the last."""

    days: list[Day]
    next: str


@dataclass(frozen=True, slots=True)
class Point:
    """One day of a chart. `bytes_source` is the volume held that day; `ratio` is transfer / source of its backups."""

    day: date
    bytes_sent: int
    bytes_source: int
    ratio: float | None
    seconds: float
    transfer_seconds: float
    backups: int


@dataclass(frozen=True, slots=True)
class MonthlyRow:
    """A contract's month. Volumes are source bytes of latest complete snapshots: at its end, and at its peak."""

    space_id: str
    space_name: str
    contract_id: str
    client_id: str
    email: str
    allocated_bytes: int
    machines: int
    source_bytes: int
    peak_bytes: int
    peak_date: date | None
    backups: int
    first_backup: float | None
    last_backup: float | None
    start_date: date
    end_date: date | None
    state: ContractState


_BACKUP: Final = (
    "figures.machine_id, machine.name AS machine_name, contract.id AS contract_id, contract.client_id, "
    "contract.space_id, figures.number, figures.received_at, figures.complete, "
    + ", ".join(f"figures.{name}" for name in _FIGURES)
    + ", coalesce(used.agent_version, machine.agent_version) AS agent_version, "
    "coalesce(used.platform, machine.platform) AS platform, used.pid"
)
_FROM: Final = (
    "snapshot_statistics AS figures JOIN machine ON machine.id = figures.machine_id "
    "JOIN contract ON contract.id = machine.contract_id "
)
_USED: Final = (
    "LEFT JOIN snapshot_configuration AS used ON used.machine_id = figures.machine_id AND used.number = figures.number "
)


def _places(scope: Scope, window: Window) -> tuple[str, list[object]]:
    """The scope and the window's narrowing, as SQL over machine and contract."""
    where = condition(scope)
    sql, parameters = [where.sql], list[object](where.parameters)
    for column, value in (
        ("contract.space_id", window.space_id),
        ("contract.id", window.contract_id),
        ("machine.id", window.machine_id),
    ):
        if value is not None:
            sql.append(f"{column} = ?")
            parameters.append(value)
    return " AND ".join(sql), parameters


def _backup(row: dict[str, Any]) -> Backup:
    figures = msgspec.convert({name: row.pop(name) for name in _FIGURES}, BackupFigures)
    row["complete"] = bool(row["complete"])
    return Backup(**row, figures=figures)


def _cursor(text: str) -> tuple[float, bytes, int]:
    """A cursor out of an address: UsageError for what none of our pages gave out."""
    try:
        at, machine, number = text.split("_")
        return float.fromhex(at), bytes.fromhex(machine), int(number)
    except (ValueError, OverflowError):
        raise UsageError("this page's address is damaged: begin at the first page") from None


def rows(
    db: Database, scope: Scope, window: Window, *, cursor: str = "", limit: int = 100, zone: tzinfo = UTC
) -> ReportPage:
    """A page of backups, newest first, grouped by day; `cursor` is `next` of the page before."""
    limit = max(1, min(limit, PAGE_LIMIT))
    found = _select(db, scope, window, cursor, limit + 1)
    more, found = len(found) > limit, found[:limit]
    days = [
        Day(day, list(group))
        for day, group in itertools.groupby(found, lambda row: datetime.fromtimestamp(row.received_at, zone).date())
    ]
    return ReportPage(days, _cursor_after(found[-1]) if more else "")


def _cursor_after(row: Backup) -> str:
    # Hexadecimal, since a decimal float may come back as its neighbour and lose or repeat a row.
    return f"{row.received_at.hex()}_{row.machine_id.hex()}_{row.number}"


def _select(db: Database, scope: Scope, window: Window, cursor: str, limit: int) -> list[Backup]:
    sql, parameters = _places(scope, window)
    if cursor:
        at, machine_id, number = _cursor(cursor)
        sql += " AND figures.received_at <= ? AND (figures.received_at, figures.machine_id, figures.number) < (?, ?, ?)"
        parameters += [at, at, machine_id, number]
    return [
        _backup(row)
        for row in db.rows(
            f"SELECT {_BACKUP} FROM {_FROM} {_USED} "
            f"WHERE figures.received_at >= ? AND figures.received_at < ? AND {sql} "
            "ORDER BY figures.received_at DESC, figures.machine_id DESC, figures.number DESC LIMIT ?",
            [window.since, window.until, *parameters, limit],
        )
    ]


def export(db: Database, scope: Scope, window: Window) -> Iterator[Backup]:
    """All backups of a window, newest first, in short statements so that writers get through."""
    cursor = ""
    while found := _select(db, scope, window, cursor, _BATCH):
        yield from found
        cursor = _cursor_after(found[-1])


@dataclass(slots=True)
class _DaySum:
    sent: int = 0
    source: int = 0
    seconds: float = 0.0
    transfer: float = 0.0
    backups: int = 0


def series(db: Database, scope: Scope, window: Window, zone: tzinfo = UTC) -> list[Point]:
    """One point a day, oldest first, from the first day with something to show to the last of the window."""
    sql, parameters = _places(scope, window)
    found = db.rows(
        "SELECT figures.machine_id, figures.received_at, figures.complete, figures.bytes_sent, figures.bytes_source, "
        f"figures.seconds, figures.transfer_seconds FROM {_FROM} "
        f"WHERE figures.received_at >= ? AND figures.received_at < ? AND {sql} ORDER BY figures.received_at",
        [window.since, window.until, *parameters],
    )
    held = _held_before(db, sql, parameters, window.since)
    if not found and not held:
        return []
    first = window.since if held else found[0]["received_at"]
    last = min(window.until - 1e-3, found[-1]["received_at"]) if found else window.since
    sums: dict[date, _DaySum] = {}
    volumes: dict[date, int] = {}
    volume = sum(held.values())
    for row in found:
        day = datetime.fromtimestamp(row["received_at"], zone).date()
        one = sums.setdefault(day, _DaySum())
        one.sent += row["bytes_sent"]
        one.source += row["bytes_source"]
        one.seconds += row["seconds"]
        one.transfer += row["transfer_seconds"]
        one.backups += 1
        if row["complete"]:
            volume += row["bytes_source"] - held.get(row["machine_id"], 0)
            held[row["machine_id"]] = row["bytes_source"]
        volumes[day] = volume
    points = []
    day, end = datetime.fromtimestamp(first, zone).date(), datetime.fromtimestamp(last, zone).date()
    carried = sum(_held_before(db, sql, parameters, window.since).values())
    while day <= end:
        carried = volumes.get(day, carried)
        one = sums.get(day, _DaySum())
        ratio = one.sent / one.source if one.source else None
        points.append(Point(day, one.sent, carried, ratio, one.seconds, one.transfer, one.backups))
        day += timedelta(days=1)
    return points


def _held_before(db: Database, sql: str, parameters: list[object], at: float) -> dict[bytes, int]:
    """The source bytes of each machine's latest complete snapshot before `at`."""
    found = db.rows(
        # SQLite takes the other columns from the row of the maximum.
        "SELECT figures.machine_id, max(figures.number) AS number, figures.bytes_source FROM "
        f"{_FROM} WHERE figures.complete = 1 AND figures.received_at < ? AND {sql} GROUP BY figures.machine_id",
        [at, *parameters],
    )
    return {row["machine_id"]: row["bytes_source"] for row in found}


@dataclass(slots=True)
class _Month:
    held: dict[bytes, int]
    volume: int = 0
    peak: int = 0
    peak_date: date | None = None
    backups: int = 0
    first: float | None = None
    last: float | None = None


def monthly(db: Database, scope: Scope, year: int, month: int, space_id: str | None = None) -> list[MonthlyRow]:
    """What a month (in UTC) is billed from: every contract in scope, by space and client."""
    first_day = date(year, month, 1)
    since = datetime(year, month, 1, tzinfo=UTC).timestamp()
    until = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()
    sql, parameters = _places(scope, Window(since, until, space_id))
    months: dict[str, _Month] = {}
    contract_of = {
        row["id"]: row["contract_id"]
        for row in db.rows(
            "SELECT machine.id, machine.contract_id FROM machine "
            f"JOIN contract ON contract.id = machine.contract_id WHERE {sql} AND machine.created_at < ?",
            [*parameters, until],
        )
    }
    for machine_id, volume in _held_before(db, sql, parameters, since).items():
        state = months.setdefault(contract_of[machine_id], _Month({}))
        state.held[machine_id] = volume
        state.volume += volume
    for state in months.values():
        state.peak, state.peak_date = state.volume, first_day if state.volume else None
    for row in db.rows(
        f"SELECT figures.machine_id, figures.received_at, figures.complete, figures.bytes_source FROM {_FROM} "
        f"WHERE figures.received_at >= ? AND figures.received_at < ? AND {sql} ORDER BY figures.received_at",
        [since, until, *parameters],
    ):
        state = months.setdefault(contract_of[row["machine_id"]], _Month({}))
        state.backups += 1
        state.first = state.first if state.first is not None else row["received_at"]
        state.last = row["received_at"]
        if row["complete"]:
            state.volume += row["bytes_source"] - state.held.get(row["machine_id"], 0)
            state.held[row["machine_id"]] = row["bytes_source"]
            if state.volume > state.peak:
                state.peak = state.volume
                state.peak_date = datetime.fromtimestamp(row["received_at"], UTC).date()
    present: dict[str, int] = {}
    for contract_id in contract_of.values():
        present[contract_id] = present.get(contract_id, 0) + 1
    where = condition(scope)
    return [
        _monthly(row, months.get(row["id"], _Month({})), present.get(row["id"], 0), until)
        for row in db.rows(
            "SELECT contract.id, contract.space_id, space.name AS space_name, contract.client_id, contract.email, "
            "contract.allocated_bytes, contract.start_date, contract.end_date, contract.state, "
            "contract.delete_requested_at FROM contract JOIN space ON space.id = contract.space_id "
            f"WHERE {where.sql} AND (? IS NULL OR contract.space_id = ?) AND contract.created_at < ? "
            "ORDER BY space.name, contract.client_id, contract.id",
            [*where.parameters, space_id, space_id, until],
        )
    ]


def _monthly(row: dict[str, Any], month: _Month, machines: int, until: float) -> MonthlyRow:
    end = date.fromisoformat(row["end_date"]) if row["end_date"] else None
    if row["delete_requested_at"] is not None:
        state = ContractState.DELETING
    elif row["state"] == "paused":
        state = ContractState.PAUSED
    elif end is not None and end < datetime.fromtimestamp(until - 1, UTC).date():
        state = ContractState.EXPIRED
    else:
        state = ContractState.ACTIVE
    return MonthlyRow(
        space_id=row["space_id"],
        space_name=row["space_name"],
        contract_id=row["id"],
        client_id=row["client_id"],
        email=row["email"],
        allocated_bytes=row["allocated_bytes"],
        machines=machines,
        source_bytes=month.volume,
        peak_bytes=month.peak,
        peak_date=month.peak_date,
        backups=month.backups,
        first_backup=month.first,
        last_backup=month.last,
        start_date=date.fromisoformat(row["start_date"]),
        end_date=end,
        state=state,
    )
