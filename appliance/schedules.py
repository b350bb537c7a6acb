"""When work is due again. Pure: no clock is read.

Times of day are those of the appliance's own time zone; a day on which that hour does not exist (summer time) counts
from what the zone makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

QUIET_S: Final = 3600.0
"""Nightly work of a new appliance waits so long at least: nobody's first hour is spent on it."""


@dataclass(frozen=True, slots=True)
class Every:
    """Again so many seconds after the last time."""

    seconds: float

    def after(self, at: float, zone: tzinfo | None = None) -> float:
        """The next time after `at`, seconds since 1970."""
        return at + self.seconds

    def first(self, now: float, zone: tzinfo | None = None) -> float:
        """The first time, on an appliance that learns of the job at `now`."""
        return now + min(self.seconds, 60.0)

    def __str__(self) -> str:
        minutes = round(self.seconds / 60)
        return f"every {minutes} min" if minutes < 60 else f"every {minutes // 60} h"


@dataclass(frozen=True, slots=True)
class Daily:
    """Once a day at a time of day."""

    hour: int
    minute: int = 0

    def after(self, at: float, zone: tzinfo | None = None) -> float:
        """The next time strictly after `at`, seconds since 1970; `zone` None is the appliance's own."""
        local = datetime.fromtimestamp(at, zone)
        due = local.replace(hour=self.hour, minute=self.minute, second=0, microsecond=0)
        while due.timestamp() <= at:
            due += timedelta(days=1)
        return due.timestamp()

    def first(self, now: float, zone: tzinfo | None = None) -> float:
        """The first time that is not within an appliance's first hour."""
        return self.after(now + QUIET_S, zone)

    def __str__(self) -> str:
        return f"daily at {self.hour:02}:{self.minute:02}"


Schedule = Every | Daily
