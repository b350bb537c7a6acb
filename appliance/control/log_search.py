"""The logs of machines as a page reads them: filtered, newest first, with a cursor for what is older and what is new.

Cursors are numbers of lines, which only grow. Text was made safe on its way in (see `machine_logs`). A question about
one machine or contract reads its lines by their index; any other reads at most `SCAN_LINES` of all lines for a page,
since thousands of machines have tens of millions of them, and says so where it stopped for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.scope import OneContract, Scope, condition

PAGE_LIMIT: Final = 1000
SCAN_LINES: Final = 200_000


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What to show; None and empty mean all. `since` is included, `until` is not, in seconds since 1970."""

    machine_id: bytes | None = None
    contract_id: str | None = None
    space_id: str | None = None
    levels: frozenset[str] = frozenset()
    text: str = ""
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class MachineLine:
    """One line of one machine's log."""

    id: int
    at: float
    level: str
    module: str
    text: str
    machine_id: bytes
    machine_name: str
    contract_id: str
    client_id: str


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines, newest first; `next` leads to older ones (None at the end), `newest` is where a live tail begins.

    `stopped`: so many lines were looked at that the rest waits for the next page, which there may be few or none of.
    """

    lines: list[MachineLine]
    next: int | None
    newest: int
    stopped: bool = False


_COLUMNS: Final = (
    "machine_log.id, machine_log.at, machine_log.level, machine_log.module, machine_log.text, "
    "machine.id AS machine_id, machine.name AS machine_name, contract.id AS contract_id, contract.client_id"
)
_WIDE: Final = (
    f"SELECT {_COLUMNS} FROM machine_log JOIN machine ON machine.id = machine_log.machine_id "
    "JOIN contract ON contract.id = machine.contract_id"
)
# CROSS JOIN keeps the order: few machines first, then each one's lines by their index. Left to itself SQLite would
# rather walk the lines of everybody than sort those of a contract.
_NARROW: Final = (
    f"SELECT {_COLUMNS} FROM contract JOIN machine ON machine.contract_id = contract.id "
    "CROSS JOIN machine_log INDEXED BY machine_log_machine ON machine_log.machine_id = machine.id"
)


def _where(scope: Scope, chosen: LogFilter) -> tuple[str, list[object]]:
    where = condition(scope)
    sql, parameters = [where.sql], list[object](where.parameters)
    for comparison, value in (
        ("machine_log.machine_id = ?", chosen.machine_id),
        ("contract.id = ?", chosen.contract_id),
        ("contract.space_id = ?", chosen.space_id),
        ("machine_log.at >= ?", chosen.since),
        ("machine_log.at < ?", chosen.until),
    ):
        if value is not None:
            sql.append(comparison)
            parameters.append(value)
    if chosen.levels:
        sql.append(f"machine_log.level IN ({', '.join('?' * len(chosen.levels))})")
        parameters += sorted(chosen.levels)
    if chosen.text.strip():
        sql.append("instr(lower(machine_log.module || ' ' || machine_log.text), lower(?)) > 0")
        parameters.append(chosen.text.strip())
    return " AND ".join(sql), parameters


def _lines(rows: list[dict[str, Any]]) -> list[MachineLine]:
    return [MachineLine(**row) for row in rows]


def _is_narrow(scope: Scope, chosen: LogFilter) -> bool:
    return chosen.machine_id is not None or chosen.contract_id is not None or isinstance(scope, OneContract)


def newest_line(db: Database) -> int:
    """The number of the newest line of all; 0 where there is none."""
    return int(db.value("SELECT coalesce(max(id), 0) AS n FROM machine_log"))


def _bounds(db: Database, chosen: LogFilter, before: int) -> tuple[int, int]:
    """The oldest line that the chosen time lets in, and the first that is too new."""
    if chosen.since is None and chosen.until is None:
        row = db.row("SELECT coalesce(min(id), 0) AS oldest FROM machine_log")
        return (row["oldest"] if row else 0), before
    row = db.row(
        "SELECT coalesce(min(id), 0) AS oldest, coalesce(max(id), 0) AS newest FROM machine_log "
        "WHERE at >= ? AND at < ?",
        [chosen.since if chosen.since is not None else -1e15, chosen.until if chosen.until is not None else 1e15],
    )
    return (row["oldest"], min(before, row["newest"] + 1)) if row else (0, before)


def search(db: Database, scope: Scope, chosen: LogFilter, *, before: int | None = None, limit: int = 200) -> LogPage:
    """A page of the lines in a scope, older than line `before`."""
    limit = max(1, min(limit, PAGE_LIMIT))
    sql, parameters = _where(scope, chosen)
    end = newest_line(db) + 1 if before is None else before
    if _is_narrow(scope, chosen):
        select, oldest, lowest = _NARROW, 0, 0
    else:
        select = _WIDE
        oldest, end = _bounds(db, chosen, end)
        lowest = max(oldest, end - SCAN_LINES)
    found = _lines(
        db.rows(
            f"{select} WHERE {sql} AND machine_log.id >= ? AND machine_log.id < ? ORDER BY machine_log.id DESC LIMIT ?",
            [*parameters, lowest, end, limit + 1],
        )
    )
    lines = found[:limit]
    newest = lines[0].id if lines else newest_line(db)
    if len(found) > limit:
        return LogPage(lines, lines[-1].id, newest)
    stopped = lowest > oldest
    return LogPage(lines, lowest if stopped else None, newest, stopped)


def every(db: Database, scope: Scope, chosen: LogFilter, most: int) -> Iterator[MachineLine]:
    """The lines in a scope, newest first, at most so many, in short statements so that writers get through."""
    before: int | None = None
    while most > 0:
        page = search(db, scope, chosen, before=before, limit=min(most, PAGE_LIMIT))
        yield from page.lines
        most -= len(page.lines)
        before = page.next
        if before is None:
            return


def tail(db: Database, scope: Scope, chosen: LogFilter, after: int, limit: int = 200) -> list[MachineLine]:
    """Lines in a scope that are newer than line `after`, oldest first."""
    sql, parameters = _where(scope, chosen)
    return _lines(
        db.rows(
            f"{_NARROW if _is_narrow(scope, chosen) else _WIDE} WHERE {sql} AND machine_log.id > ? "
            "ORDER BY machine_log.id LIMIT ?",
            [*parameters, after, max(1, min(limit, PAGE_LIMIT))],
        )
    )
