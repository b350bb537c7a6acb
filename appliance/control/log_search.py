"""The logs of machines as a page reads them: filtered, newest first, with a cursor for what is older and what is new.

Cursors are numbers of lines, which only grow. Text was made safe on its way in (see `machine_logs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.scope import Scope, condition

PAGE_LIMIT: Final = 1000


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
    """Lines, newest first; `next` leads to older ones (None at the end), `newest` is where a live tail begins."""

    lines: list[MachineLine]
    next: int | None
    newest: int


_SELECT: Final = (
    "SELECT machine_log.id, machine_log.at, machine_log.level, machine_log.module, machine_log.text, "
    "machine.id AS machine_id, machine.name AS machine_name, contract.id AS contract_id, contract.client_id "
    "FROM machine_log JOIN machine ON machine.id = machine_log.machine_id "
    "JOIN contract ON contract.id = machine.contract_id"
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


def search(db: Database, scope: Scope, chosen: LogFilter, *, before: int | None = None, limit: int = 200) -> LogPage:
    """A page of the lines in a scope, older than line `before`."""
    limit = max(1, min(limit, PAGE_LIMIT))
    sql, parameters = _where(scope, chosen)
    found = _lines(
        db.rows(
            f"{_SELECT} WHERE {sql} AND machine_log.id < ? ORDER BY machine_log.id DESC LIMIT ?",
            [*parameters, 2**62 if before is None else before, limit + 1],
        )
    )
    lines = found[:limit]
    newest = lines[0].id if lines else int(db.value("SELECT coalesce(max(id), 0) AS n FROM machine_log"))
    return LogPage(lines, lines[-1].id if len(found) > limit else None, newest)


def tail(db: Database, scope: Scope, chosen: LogFilter, after: int, limit: int = 200) -> list[MachineLine]:
    """Lines in a scope that are newer than line `after`, oldest first."""
    sql, parameters = _where(scope, chosen)
    return _lines(
        db.rows(
            f"{_SELECT} WHERE {sql} AND machine_log.id > ? ORDER BY machine_log.id LIMIT ?",
            [*parameters, after, max(1, min(limit, PAGE_LIMIT))],
        )
    )
