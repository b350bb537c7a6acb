"""What a space's admin decides once for all its contracts: language, thresholds of alerts, retention of new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.control import opening_days
from appliance.control.accounts import checked_language
from appliance.control.database import Database
from appliance.store.upkeep.retention import Policy
from transport.errors import UsageError


@dataclass(frozen=True, slots=True)
class SpaceSettings:
    """Thresholds: hours without a complete backup until late, days before an end date, percent of files ended."""

    language: str = "fr"
    late_hours: int = 36
    expiring_days: int = 30
    suspicious_percent: int = 40
    keep_days: int = 90
    floor_days: int = 7
    open_days: str = opening_days.EVERY_DAY
    tell_admins: bool = False
    """Whether failed, silent and never saved machines are mailed to the space's admins too."""


DEFAULT: Final = SpaceSettings()
_LIMITS: Final = {
    "late_hours": (1, 24 * 365, "hours until late"),
    "expiring_days": (0, 365, "days before an end date"),
    "suspicious_percent": (1, 100, "percent of files"),
}


def of_space(db: Database, space_id: str | None) -> SpaceSettings:
    """A space's settings; the defaults where it has none."""
    row = db.row(
        "SELECT language, late_hours, expiring_days, suspicious_percent, keep_days, floor_days, open_days, "
        "tell_admins FROM space_settings WHERE space_id = ?",
        [space_id],
    )
    return DEFAULT if row is None else SpaceSettings(**{**row, "tell_admins": bool(row["tell_admins"])})


def save(db: Database, space_id: str, settings: SpaceSettings, now: float) -> SpaceSettings:
    """Change them all; UsageError that names what is out of range. Contracts that exist keep their retention."""
    checked_language(settings.language)
    for name, (least, most, what) in _LIMITS.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise UsageError(f"{value} {what} are out of range: give {least} to {most}")
    policy = Policy(keep_days=settings.keep_days, floor_days=settings.floor_days)
    if policy.floor_days > policy.keep_days:
        raise UsageError(
            f"a floor of {policy.floor_days} days is more than the {policy.keep_days} days that are kept: "
            "keep more days or promise fewer"
        )
    values: dict[str, object] = {
        "language": settings.language,
        "late_hours": settings.late_hours,
        "expiring_days": settings.expiring_days,
        "suspicious_percent": settings.suspicious_percent,
        "keep_days": settings.keep_days,
        "floor_days": settings.floor_days,
        "open_days": opening_days.checked(settings.open_days),
        "tell_admins": settings.tell_admins,
        "updated_at": now,
    }
    with db.write():
        db.execute("DELETE FROM space_settings WHERE space_id = ?", [space_id])
        db.insert("space_settings", {"space_id": space_id, **values})
    return settings
