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
from appliance.control.scope import OneContract, Scope, condition
from appliance.errors import NotFoundError
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
_BY_MACHINE: Final = (
    "machine JOIN contract ON contract.id = machine.contract_id "
    "CROSS JOIN snapshot_statistics AS figures ON figures.machine_id = machine.id "
)
"""The same tables. CROSS JOIN keeps the order: one stretch of each machine's rows, where the index by time leads to
them one by one; faster where most of what a machine has lies in the window."""
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


def _by_time(scope: Scope, window: Window) -> str:
    """The tables, newest snapshots first: told so for many machines, where reading each one's history costs more."""
    if isinstance(scope, OneContract) or window.contract_id is not None or window.machine_id is not None:
        return _FROM
    return _FROM.replace("AS figures", "AS figures INDEXED BY snapshot_statistics_time", 1)


def _select(db: Database, scope: Scope, window: Window, cursor: str, limit: int) -> list[Backup]:
    sql, parameters = _places(scope, window)
    if cursor:
        at, machine_id, number = _cursor(cursor)
        sql += " AND figures.received_at <= ? AND (figures.received_at, figures.machine_id, figures.number) < (?, ?, ?)"
        parameters += [at, at, machine_id, number]
    return [
        _backup(row)
        for row in db.rows(
            f"SELECT {_BACKUP} FROM {_by_time(scope, window)} {_USED} "
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


def one(db: Database, scope: Scope, machine_id: bytes, number: int) -> Backup:
    """One backup of a machine in scope; NotFoundError otherwise."""
    where = condition(scope)
    row = db.row(
        f"SELECT {_BACKUP} FROM {_FROM} {_USED} WHERE figures.machine_id = ? AND figures.number = ? AND {where.sql}",
        [machine_id, number, *where.parameters],
    )
    if row is None:
        raise NotFoundError(f"there is no snapshot {number} of this machine here")
    return _backup(row)


def allocated(db: Database, scope: Scope, window: Window) -> int:
    """What the contracts that a window looks at are allocated today, in bytes."""
    where = condition(scope)
    return int(
        db.value(
            "SELECT CAST(total(contract.allocated_bytes) AS INTEGER) AS n FROM contract "
            f"WHERE {where.sql} AND (? IS NULL OR contract.space_id = ?) AND (? IS NULL OR contract.id = ?)",
            [*where.parameters, window.space_id, window.space_id, window.contract_id, window.contract_id],
        )
    )


_BUCKET_S: Final = 900
"""Days are made of quarters of an hour: every time zone's offset is a multiple of one."""
_DAY_S: Final = 86400
"""A day in UTC, by which months are counted."""
_LONG_S: Final = 20 * _DAY_S
"""From so long a window on, a chart reads machine by machine."""


def _volumes(scope_sql: str, per: str, bucket_s: int = _BUCKET_S, tables: str = _FROM) -> str:
    """SQL: by how many bytes the volume held changed, per `per` and bucket; parameters: since, until, the scope's.

    Each complete snapshot takes the place of its machine's complete one before, whether or not that lies in the window.
    """
    return (
        f"SELECT {per} AS per, bucket, sum(bytes_source - coalesce(before, "
        "(SELECT older.bytes_source FROM snapshot_statistics AS older WHERE older.machine_id = changes.machine_id "
        "AND older.number < changes.number AND older.complete = 1 ORDER BY older.number DESC LIMIT 1), 0)) AS change "
        "FROM (SELECT figures.machine_id, figures.number, figures.bytes_source, machine.contract_id, "
        f"CAST(figures.received_at / {bucket_s} AS INTEGER) AS bucket, "
        "lag(figures.bytes_source) OVER (PARTITION BY figures.machine_id ORDER BY figures.number) AS before "
        f"FROM {tables} WHERE figures.complete = 1 AND figures.received_at >= ? AND figures.received_at < ? "
        f"AND {scope_sql}) AS changes GROUP BY 1, 2 ORDER BY 2"
    )


def _held_before(db: Database, sql: str, parameters: list[object], at: float) -> dict[str, int]:
    """The source bytes of latest complete snapshots before `at`, by contract."""
    found = db.rows(
        "SELECT contract.id, total((SELECT figures.bytes_source FROM snapshot_statistics AS figures "
        "WHERE figures.machine_id = machine.id AND figures.complete = 1 AND figures.received_at < ? "
        "ORDER BY figures.number DESC LIMIT 1)) AS held FROM machine "
        f"JOIN contract ON contract.id = machine.contract_id WHERE {sql} GROUP BY contract.id",
        [at, *parameters],
    )
    return {row["id"]: int(row["held"]) for row in found if row["held"]}


@dataclass(slots=True)
class _DaySum:
    sent: int = 0
    source: int = 0
    seconds: float = 0.0
    transfer: float = 0.0
    backups: int = 0
    change: int = 0


def series(db: Database, scope: Scope, window: Window, zone: tzinfo = UTC) -> list[Point]:
    """One point a day, oldest first, from the first day with something to show to the last one with a backup."""
    sql, parameters = _places(scope, window)
    bounds = [window.since, window.until, *parameters]
    tables = _BY_MACHINE if window.until - window.since >= _LONG_S else _FROM
    volume = sum(_held_before(db, sql, parameters, window.since).values())
    sums: dict[date, _DaySum] = {}

    def of_bucket(bucket: int) -> _DaySum:
        return sums.setdefault(datetime.fromtimestamp(bucket * _BUCKET_S, zone).date(), _DaySum())

    for row in db.rows(
        f"SELECT CAST(figures.received_at / {_BUCKET_S} AS INTEGER) AS bucket, count(*) AS backups, "
        "CAST(total(figures.bytes_sent) AS INTEGER) AS sent, CAST(total(figures.bytes_source) AS INTEGER) AS source, "
        f"total(figures.seconds) AS seconds, total(figures.transfer_seconds) AS transfer FROM {tables} "
        f"WHERE figures.received_at >= ? AND figures.received_at < ? AND {sql} GROUP BY 1",
        bounds,
    ):
        one = of_bucket(row["bucket"])
        one.sent += row["sent"]
        one.source += row["source"]
        one.seconds += row["seconds"]
        one.transfer += row["transfer"]
        one.backups += row["backups"]
    for row in db.rows(_volumes(sql, "0", tables=tables), bounds):
        of_bucket(row["bucket"]).change += row["change"]
    if not sums:
        return []
    points = []
    day, end = min(sums), max(sums)
    if volume:
        day = min(day, datetime.fromtimestamp(window.since, zone).date())
    while day <= end:
        one = sums.get(day, _DaySum())
        volume += one.change
        ratio = one.sent / one.source if one.source else None
        points.append(Point(day, one.sent, volume, ratio, one.seconds, one.transfer, one.backups))
        day += timedelta(days=1)
    return points


@dataclass(slots=True)
class _Month:
    volume: int = 0
    peak: int = 0
    peak_date: date | None = None
    machines: int = 0
    backups: int = 0
    first: float | None = None
    last: float | None = None


def monthly(db: Database, scope: Scope, year: int, month: int, space_id: str | None = None) -> list[MonthlyRow]:
    """What a month (in UTC) is billed from: every contract in scope, by space and client. UsageError for no month.

    The peak is that of days' ends, and of the volume that the month began with.
    """
    try:
        first_day = date(year, month, 1)
        next_month = date(year + month // 12, month % 12 + 1, 1)
    except ValueError:
        raise UsageError(f"{year}-{month} is not a month") from None
    since, until = (datetime(day.year, day.month, 1, tzinfo=UTC).timestamp() for day in (first_day, next_month))
    sql, parameters = _places(scope, Window(since, until, space_id))
    months: dict[str, _Month] = {
        contract_id: _Month(volume, volume, first_day)
        for contract_id, volume in _held_before(db, sql, parameters, since).items()
    }
    for row in db.rows(
        f"SELECT contract.id, count(*) AS machines FROM machine JOIN contract ON contract.id = machine.contract_id "
        f"WHERE {sql} AND machine.created_at < ? GROUP BY contract.id",
        [*parameters, until],
    ):
        months.setdefault(row["id"], _Month()).machines = row["machines"]
    for row in db.rows(
        "SELECT contract.id, count(*) AS backups, min(figures.received_at) AS first, max(figures.received_at) AS last "
        f"FROM {_BY_MACHINE} WHERE figures.received_at >= ? AND figures.received_at < ? AND {sql} GROUP BY contract.id",
        [since, until, *parameters],
    ):
        one = months.setdefault(row["id"], _Month())
        one.backups, one.first, one.last = row["backups"], row["first"], row["last"]
    for row in db.rows(_volumes(sql, "contract_id", _DAY_S, _BY_MACHINE), [since, until, *parameters]):
        one = months.setdefault(row["per"], _Month())
        one.volume += row["change"]
        if one.volume > one.peak:
            one.peak, one.peak_date = one.volume, datetime.fromtimestamp(row["bucket"] * _DAY_S, UTC).date()
    where = condition(scope)
    return [
        _monthly(row, months.get(row["id"], _Month()), until)
        for row in db.rows(
            "SELECT contract.id, contract.space_id, space.name AS space_name, contract.client_id, contract.email, "
            "contract.allocated_bytes, contract.start_date, contract.end_date, contract.state, "
            "contract.delete_requested_at FROM contract JOIN space ON space.id = contract.space_id "
            f"WHERE {where.sql} AND (? IS NULL OR contract.space_id = ?) AND contract.created_at < ? "
            "ORDER BY space.name, contract.client_id, contract.id",
            [*where.parameters, space_id, space_id, until],
        )
    ]


def _monthly(row: dict[str, Any], month: _Month, until: float) -> MonthlyRow:
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
        machines=month.machines,
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
