"""Holds: snapshots that an operator forbids to drop, and the word between them and a prune under way.

Rule: a prune announces what it is about to drop in the same transaction in which it reads the holds, so that a
hold is either seen by it or refused. Knows numbers only: whether a snapshot exists is for the caller to look up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from appliance.control.database import Database
from appliance.control.text import checked_line, one_line
from appliance.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True)
class Hold:
    """One held snapshot: why, since when (seconds since 1970) and by whose word."""

    machine_id: bytes
    number: int
    reason: str
    held_by: str
    at: float


def _hold(row: dict[str, Any]) -> Hold:
    return Hold(**row)


def of_machine(db: Database, machine_id: bytes) -> dict[int, Hold]:
    """A machine's holds by snapshot number."""
    rows = db.rows(
        "SELECT machine_id, number, reason, held_by, at FROM snapshot_hold WHERE machine_id = ? ORDER BY number",
        [machine_id],
    )
    return {row["number"]: _hold(row) for row in rows}


def add(db: Database, machine_id: bytes, number: int, *, reason: str, held_by: str, now: float) -> Hold:
    """Hold a snapshot; held again, it has the newer reason. ConflictError while a prune is dropping it."""
    hold = Hold(machine_id, number, checked_line(reason, "the reason", 200), one_line(held_by, 100) or "unknown", now)
    with db.write():
        dropping = db.row(
            "SELECT number FROM snapshot_dropping WHERE machine_id = ? AND number = ?", [machine_id, number]
        )
        if dropping is not None:
            raise ConflictError(
                f"snapshot {number} is being dropped by a prune, too late to hold it; if that prune was cut off, "
                "the next one finishes it"
            )
        db.execute(
            "INSERT INTO snapshot_hold (machine_id, number, reason, held_by, at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (machine_id, number) DO UPDATE SET reason = excluded.reason, held_by = excluded.held_by, "
            "at = excluded.at",
            [machine_id, number, hold.reason, hold.held_by, now],
        )
    return hold


def release(db: Database, machine_id: bytes, number: int) -> None:
    """Let a snapshot go the way of the policy; NotFoundError where it is not held."""
    with db.write():
        gone = db.execute("DELETE FROM snapshot_hold WHERE machine_id = ? AND number = ?", [machine_id, number])
        if not gone:
            raise NotFoundError(f"snapshot {number} is not held: 'pilulier repo prune --dry-run' says which are")


def announce(db: Database, machine_id: bytes, numbers: Iterable[int]) -> frozenset[int]:
    """Those of `numbers` that no hold protects, from now on closed to holds until `done`."""
    with db.write():
        free = frozenset(numbers) - set(of_machine(db, machine_id))
        done(db, machine_id)
        for number in sorted(free):
            db.insert("snapshot_dropping", {"machine_id": machine_id, "number": number})
        return free


def done(db: Database, machine_id: bytes) -> None:
    """The prune is over, or gave up; what one left behind when it was cut off goes too."""
    with db.write():
        db.execute("DELETE FROM snapshot_dropping WHERE machine_id = ?", [machine_id])
