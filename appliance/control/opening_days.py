"""Opening days: on which days of the week a pharmacy works, and since when a machine without a backup is late.

Hours count on open days only, from midnight to midnight in France, so that a day of the clock change has 23 or 25 of
them. Who is closed on some day of the week is closed on public holidays too; who is open every day stays so. Days are
written as `mon,tue,…`, in the order of the week. Pure: the time is given.

*Why only the holidays of the whole country?* Alsace, Moselle and the overseas departments have some of their own: there
a machine may be told as late a day early, which nobody misses; the other way round a real silence would stay untold.
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import holidays

from transport.errors import UsageError

ZONE: Final = ZoneInfo("Europe/Paris")
_NAMES: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY: Final = ",".join(_NAMES)


def checked(text: str) -> str:
    """The days of `mon-sat` or `mon,wed-fri`, written out in order; UsageError for anything else."""
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in _NAMES or (last or first) not in _NAMES or part.endswith("-"):
            raise UsageError(f"{text!r} are no opening days: give for instance mon-sat, or tue,thu-sat")
        start, end = _NAMES.index(first), _NAMES.index(last or first)
        # sat-mon goes over the end of the week.
        found.update(day % 7 for day in range(start, end + (8 if end < start else 1)))
    return ",".join(_NAMES[day] for day in sorted(found))


def late_before(open_days: str, late_hours: int, now: float) -> float:
    """The moment before which a last backup is late: more than `late_hours` open hours lie between. Since 1970."""
    left = late_hours * 3600.0
    if open_days == EVERY_DAY:
        return now - left
    weekdays = {_NAMES.index(name) for name in open_days.split(",")}
    day = datetime.fromtimestamp(now, UTC).astimezone(ZONE).date()
    end = now
    while True:
        start = _begins(day)
        if day.weekday() in weekdays and day not in public_holidays(day.year):
            # Strictly: where nothing is left at the start of a day, closed days before it are in time too.
            if left < end - start:
                return end - left
            left -= end - start
        day, end = day - timedelta(days=1), start


@functools.cache
def public_holidays(year: int) -> frozenset[date]:
    """The days of a year on which all of France is closed."""
    return frozenset(holidays.country_holidays("FR", years=year))


def _begins(day: date) -> float:
    return datetime.combine(day, time.min, ZONE).timestamp()
