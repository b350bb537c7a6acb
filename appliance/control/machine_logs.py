"""The log of each machine: lines its agent sent or the service wrote about it.

Text comes from customers' PCs: it is cut to one line without control characters on the way in, so that no line
can pretend to be another or drive a terminal. Each machine keeps its newest lines only; a chatty one cannot
push out another's. The newest error stands beside the machine, for pages that show thousands of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.control.database import Database
from appliance.control.text import one_line

KEPT_LINES: Final = 20_000
LEVELS: Final = ("debug", "info", "warning", "error")
_TRIM_EVERY: Final = 500
_TEXT_LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a machine's log, `at` seconds since 1970 by the appliance's clock."""

    at: float
    level: str
    module: str
    text: str


def add(db: Database, machine_id: bytes, *, level: str, module: str, text: str, now: float) -> None:
    """Write one line; an unknown level counts as info."""
    add_many(db, machine_id, [LogEntry(now, level, module, text)])


def add_many(db: Database, machine_id: bytes, entries: Iterable[LogEntry]) -> None:
    """Write lines in one transaction: each transaction is an fsync, a line alone is dear."""
    with db.write():
        for entry in entries:
            level = entry.level.lower()
            db.insert(
                "machine_log",
                {
                    "machine_id": machine_id,
                    "at": entry.at,
                    "level": level if level in LEVELS else "info",
                    "module": one_line(entry.module, 40),
                    "text": one_line(entry.text, _TEXT_LIMIT),
                },
            )
            if level == "error":
                db.execute(
                    "UPDATE machine SET last_error_at = ?, last_error = ? WHERE id = ?",
                    [entry.at, one_line(entry.text, _TEXT_LIMIT), machine_id],
                )
            if db.value("SELECT last_insert_rowid() AS id") % _TRIM_EVERY == 0:
                _trim(db, machine_id)


def _trim(db: Database, machine_id: bytes) -> None:
    db.execute(
        "DELETE FROM machine_log WHERE machine_id = ? AND id <= "
        "(SELECT id FROM machine_log WHERE machine_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        [machine_id, machine_id, KEPT_LINES],
    )


def of_machine(db: Database, machine_id: bytes, limit: int = 200) -> list[LogEntry]:
    """A machine's newest lines, oldest of them first."""
    rows = db.rows(
        "SELECT at, level, module, text FROM machine_log WHERE machine_id = ? ORDER BY id DESC LIMIT ?",
        [machine_id, limit],
    )
    return [LogEntry(**row) for row in reversed(rows)]
