"""Statistics: one row per snapshot, as the agent counted it and the appliance received it.

Shown and billed from, never decided from: an agent may lie about its own figures. Recording the same snapshot
again replaces its row, so that a service that died between commit and row may simply repeat itself. Beside them
stands what the appliance counted itself: how many entries each snapshot ended, from which calm is judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.control import clock
from appliance.control.database import Database
from appliance.store.upkeep.changes import SnapshotChange
from transport.messages import BackupFigures

_FIGURES: Final = BackupFigures.__struct_fields__


@dataclass(frozen=True, slots=True)
class SnapshotStatistics:
    """One snapshot of one machine. `received_at` is the appliance's clock, seconds since 1970."""

    machine_id: bytes
    number: int
    received_at: float
    complete: bool
    figures: BackupFigures


def record(db: Database, machine_id: bytes, number: int, *, complete: bool, figures: BackupFigures, now: float) -> None:
    """Write a snapshot's row; a snapshot recorded before keeps the time it was first received."""
    columns = ("machine_id", "number", "received_at", "complete", *_FIGURES)
    updates = ", ".join(f"{name} = excluded.{name}" for name in ("complete", *_FIGURES))
    with db.write():
        db.execute(
            f"INSERT INTO snapshot_statistics ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
            f"ON CONFLICT (machine_id, number) DO UPDATE SET {updates}",
            [machine_id, number, now, int(complete), *(_storable(getattr(figures, name)) for name in _FIGURES)],
        )
        clock.note(db, clock.read(now))


def _storable(figure: int | float) -> int | float:
    """The figure; 0 for what no honest agent sends (SQLite keeps NaN as NULL, and sums of infinity stay infinite)."""
    return figure if math.isfinite(figure) and figure >= 0 else 0.0


def _statistics(row: dict[str, Any]) -> SnapshotStatistics:
    return SnapshotStatistics(
        machine_id=row["machine_id"],
        number=row["number"],
        received_at=row["received_at"],
        complete=bool(row["complete"]),
        figures=msgspec.convert({name: row[name] for name in _FIGURES}, BackupFigures),
    )


def of_machine(db: Database, machine_id: bytes, limit: int = 1000) -> list[SnapshotStatistics]:
    """A machine's snapshots, newest first."""
    rows = db.rows(
        "SELECT * FROM snapshot_statistics WHERE machine_id = ? ORDER BY number DESC LIMIT ?", [machine_id, limit]
    )
    return [_statistics(row) for row in rows]


def latest(db: Database, machine_id: bytes) -> SnapshotStatistics | None:
    """A machine's newest snapshot, None before the first."""
    found = of_machine(db, machine_id, 1)
    return found[0] if found else None


def record_changes(db: Database, machine_id: bytes, changes: Iterable[SnapshotChange]) -> None:
    """Keep what was counted; the first count of a snapshot stands, since a sweep lowers later ones."""
    with db.write():
        for change in changes:
            db.execute(
                "INSERT INTO snapshot_change (machine_id, number, entries_before, entries_ended) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (machine_id, number) DO NOTHING",
                [machine_id, change.number, change.entries_before, change.entries_ended],
            )


def changes_of(db: Database, machine_id: bytes) -> list[SnapshotChange]:
    """What was counted for a machine's snapshots, oldest first."""
    rows = db.rows(
        "SELECT number, entries_before, entries_ended FROM snapshot_change WHERE machine_id = ? ORDER BY number",
        [machine_id],
    )
    return [SnapshotChange(**row) for row in rows]
