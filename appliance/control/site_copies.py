"""Copies on site: what each machine last told of its own, and which are missing.

A machine's word about a disk that the appliance never sees; it is shown as that. Rule: disks that alternate in one
place are one copy for the alert, whichever of them was written last, since one of them is always in a drawer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.control.text import one_line
from transport.messages_onsite import CopiesReport

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class SiteCopy:
    """One copy as its machine told of it. Times in seconds since 1970."""

    machine_id: bytes
    copy_id: bytes
    name: str
    place: int
    state: str
    written_at: float | None
    free_bytes: int | None
    warn_days: int
    added_at: float
    told_at: float


@dataclass(frozen=True, slots=True)
class MissingCopy:
    """A place of a machine where no copy was written for longer than its owner wants: its copies' names, since when."""

    machine_id: bytes
    names: tuple[str, ...]
    since: float


def keep(db: Database, machine_id: bytes, report: CopiesReport, now: float) -> None:
    """What a machine tells of its copies, in place of what it told before."""
    with db.write():
        before = {row["copy_id"]: row["added_at"] for row in _rows(db, machine_id)}
        db.execute("DELETE FROM site_copy WHERE machine_id = ?", [machine_id])
        for told in {told.copy: told for told in report.copies}.values():
            db.insert(
                "site_copy",
                {
                    "machine_id": machine_id,
                    "copy_id": told.copy,
                    "name": one_line(told.name, 64),
                    "place": told.place,
                    "state": told.state,
                    # A machine whose clock is ahead must not hush the alert for years.
                    "written_at": min(told.written_ms / 1000, now) if told.written_ms else None,
                    "free_bytes": told.free_bytes if told.free_bytes >= 0 else None,
                    "warn_days": report.warn_days,
                    "added_at": before.get(told.copy, now),
                    "told_at": now,
                },
            )


def _rows(db: Database, machine_id: bytes) -> list[dict[str, Any]]:
    return list(db.rows("SELECT * FROM site_copy WHERE machine_id = ? ORDER BY place, name", [machine_id]))


def of_machine(db: Database, machine_id: bytes) -> list[SiteCopy]:
    """A machine's copies, by place and name. The caller has seen that the machine is in scope."""
    return [SiteCopy(**row) for row in _rows(db, machine_id)]


def missing(db: Database, scope: Scope, now: float) -> list[MissingCopy]:
    """Every place in a scope where no copy was written for as many days as its owner said."""
    where = condition(scope)
    rows = db.rows(
        "SELECT site_copy.* FROM site_copy JOIN machine ON machine.id = site_copy.machine_id "
        f"JOIN contract ON contract.id = machine.contract_id WHERE {where.sql} ORDER BY machine_id, place, name",
        where.parameters,
    )
    places: dict[tuple[bytes, int], list[SiteCopy]] = {}
    for row in rows:
        copy = SiteCopy(**row)
        places.setdefault((copy.machine_id, copy.place), []).append(copy)
    return [gap for copies in places.values() if (gap := missed(copies, now)) is not None]


def missed(copies: Iterable[SiteCopy], now: float) -> MissingCopy | None:
    """What is missing of the copies of one place. Pure."""
    there = list(copies)
    last = max(copy.written_at if copy.written_at is not None else copy.added_at for copy in there)
    if now - last < there[0].warn_days * DAY_S:
        return None
    return MissingCopy(there[0].machine_id, tuple(copy.name for copy in there), last)
