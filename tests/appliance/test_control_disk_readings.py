"""When the disk will be full: a straight line through what was read, and silence where that says nothing."""

from __future__ import annotations

from pathlib import Path

from appliance.control import disk_readings
from appliance.control.database import Database
from appliance.control.disk_readings import DiskReading, full_at
from appliance.watching import disk_warning

NOW = 1_800_000_000.0
DAY = 86400.0
TB = 10**12


def falling(per_day: int, days: int, free: int = 4 * TB) -> list[DiskReading]:
    """Hourly, with backups that fill by night and prunes that free at noon."""
    return [
        DiskReading(NOW + hour * 3600, free - per_day * hour // 24 - (hour % 24) * 10**9, 10 * TB)
        for hour in range(24 * days)
    ]


def test_the_forecast() -> None:
    found = full_at(falling(TB // 10, 14))
    # 4 TB at 0.1 TB a day are 40 days from the first reading; the daily wave costs half a day.
    assert found is not None and abs(found - (NOW + 40 * DAY)) < 0.5 * DAY
    assert full_at(falling(0, 14)[::24]) is None and full_at(falling(-(10**9), 14)) is None, "it does not fill"
    assert full_at(falling(TB, 2)) is None, "two days say nothing"
    assert full_at([]) is None and full_at(falling(TB, 14)[:1]) is None
    assert full_at(falling(10**9, 14)[::24]) is None, "eleven years are not in sight"


def test_what_is_said() -> None:
    half, nearly = DiskReading(NOW, 5 * TB, 10 * TB), DiskReading(NOW, TB // 2, 10 * TB)
    assert disk_warning(half, None) == "" and disk_warning(half, NOW + 60 * DAY) == ""
    assert disk_warning(nearly, None) == "95 % of the disk is used, 500.0 GB are free"
    assert disk_warning(half, NOW + 20 * DAY).endswith("it is full on 2027-02-04")


def test_one_reading_an_hour_is_kept_and_none_of_the_future(tmp_path: Path) -> None:
    db = Database.create(tmp_path / "control.db")
    assert disk_readings.note(db, DiskReading(NOW, 5, 10))
    assert not disk_readings.note(db, DiskReading(NOW + 3599, 4, 10))
    assert disk_readings.note(db, DiskReading(NOW + 3600, 3, 10))
    # After the clock was set back, what it wrote before does not stand in the way.
    assert disk_readings.note(db, DiskReading(NOW - 50, 6, 10))
    assert [one.free_bytes for one in disk_readings.since(db, 0.0)] == [6]
    assert disk_readings.note(db, DiskReading(NOW + disk_readings.KEPT_S, 2, 10))
    assert [one.free_bytes for one in disk_readings.since(db, 0.0)] == [2]
    assert DiskReading(NOW, 5, 1000).used_percent == 100 and DiskReading(NOW, 0, 0).used_percent == 100
