"""When a machine backs up by itself: times of day on days of the week, in the machine's own local time, and whether
it follows changes as they happen.

Both ends need the noun: the web sets one, the agent keeps to it. Holds no clock and plans nothing. One spelling for
each schedule: times and days ascending, without doubles, so that equal schedules are equal values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from transport.errors import UsageError

TIMES_LIMIT: Final = 24
"""Times a day at most."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY: Final = tuple(range(7))
_TIME: Final = re.compile(r"([01]?[0-9]|2[0-3])[:h]([0-5][0-9])")

Minute = Annotated[int, Meta(ge=0, le=1439)]
"""Minutes since local midnight."""
Weekday = Annotated[int, Meta(ge=0, le=6)]
"""0 is Monday, as in `datetime.date.weekday`."""


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Times of day, and the days on which they count. Without times, and not continuous, nothing runs by itself.

    Defaults are left out where it is written: an agent that knows no continuous mode reads all but that.
    """

    minutes: Annotated[tuple[Minute, ...], Meta(max_length=TIMES_LIMIT)] = ()
    weekdays: Annotated[tuple[Weekday, ...], Meta(min_length=1, max_length=7)] = EVERY_DAY
    continuous: bool = False
    """Changes are watched, and a snapshot follows them: on every day, at any hour, beside the times."""

    def __post_init__(self) -> None:
        for name, values in (("minutes", self.minutes), ("weekdays", self.weekdays)):
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} of a schedule must ascend without doubles: {values}")

    @classmethod
    def of(cls, times: Iterable[str], days: Iterable[str] = DAYS, *, continuous: bool = False) -> Schedule:
        """The schedule that people write as `12:30` and `mon`, in any order; UsageError names what makes no sense."""
        minutes = sorted({minute_of(time) for time in times})
        if len(minutes) > TIMES_LIMIT:
            raise UsageError(f"{len(minutes)} times a day are more than {TIMES_LIMIT}: give fewer")
        weekdays = sorted({weekday_of(day) for day in days})
        if not weekdays:
            raise UsageError("no day of the week is chosen: choose at least one")
        return cls(tuple(minutes), tuple(weekdays), continuous)

    @property
    def times(self) -> list[str]:
        """The times as `HH:MM`."""
        return [time_of(minute) for minute in self.minutes]

    @property
    def days(self) -> list[str]:
        """The days as `mon` to `sun`."""
        return [DAYS[day] for day in self.weekdays]


def minute_of(text: str) -> int:
    """Minutes since midnight of `12:30` (or `12h30`); UsageError otherwise."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text.strip()[:40]!r} is not a time of day like 12:30")
    return int(match[1]) * 60 + int(match[2])


def time_of(minute: int) -> str:
    """`HH:MM` of minutes since midnight."""
    return f"{minute // 60:02}:{minute % 60:02}"


def weekday_of(text: str) -> int:
    """0 for `mon` to 6 for `sun`; UsageError otherwise."""
    name = text.strip().lower()
    if name not in DAYS:
        raise UsageError(f"{text.strip()[:40]!r} is not a day of the week: give {', '.join(DAYS)}")
    return DAYS.index(name)
