"""What the disk of the repositories held, an hour apart, and when it will be full at that pace.

The forecast is a straight line through the readings of the last fortnight (least squares): backups and prunes make the
free space go up and down by the day, and two points would only show that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.control.database import Database

HOUR_S: Final = 3600.0
KEPT_S: Final = 90 * 86400.0
FORECAST_S: Final = 14 * 86400.0
LEAST_S: Final = 3 * 86400.0
"""A pace is told from so long a stretch of readings at least."""
HORIZON_S: Final = 365 * 86400.0
"""Further away than this a straight line says nothing."""


@dataclass(frozen=True, slots=True)
class DiskReading:
    """One look at the disk; `at` in seconds since 1970."""

    at: float
    free_bytes: int
    total_bytes: int

    @property
    def used_percent(self) -> int:
        """0 to 100, rounded up: 99.5 % used is not 99."""
        return -(-100 * (self.total_bytes - self.free_bytes) // self.total_bytes) if self.total_bytes else 100


def note(db: Database, reading: DiskReading) -> bool:
    """Keep a reading, unless one was kept within the hour; whether it was kept."""
    newest = db.value("SELECT max(at) AS at FROM disk_reading")
    if newest is not None and newest <= reading.at < newest + HOUR_S:
        return False
    with db.write():
        db.execute("DELETE FROM disk_reading WHERE at < ? OR at >= ?", [reading.at - KEPT_S, reading.at])
        db.insert(
            "disk_reading",
            {"at": reading.at, "free_bytes": reading.free_bytes, "total_bytes": reading.total_bytes},
        )
    return True


def since(db: Database, at: float) -> list[DiskReading]:
    """Readings from a time on, oldest first."""
    rows = db.rows("SELECT at, free_bytes, total_bytes FROM disk_reading WHERE at >= ? ORDER BY at", [at])
    return [DiskReading(**row) for row in rows]


def full_at(readings: Sequence[DiskReading]) -> float | None:
    """When nothing will be free at the pace of these readings (oldest first); None where that is not in sight. Pure."""
    if len(readings) < 2 or readings[-1].at - readings[0].at < LEAST_S:
        return None
    mean_at = sum(one.at for one in readings) / len(readings)
    mean_free = sum(one.free_bytes for one in readings) / len(readings)
    spread = sum((one.at - mean_at) ** 2 for one in readings)
    slope = sum((one.at - mean_at) * (one.free_bytes - mean_free) for one in readings) / spread
    if slope >= 0:
        return None
    at = mean_at - mean_free / slope
    newest = readings[-1].at
    return max(at, newest) if at - newest <= HORIZON_S else None
