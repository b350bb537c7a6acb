"""Statistics: one row per snapshot, as the agent counted it and the appliance received it.

Shown and billed from, never decided from: an agent may lie about its own figures. Recording the same snapshot
again replaces its row, so that a service that died between commit and row may simply repeat itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.control.database import Database
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
