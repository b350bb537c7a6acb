"""How much of the line a backup may take, at which hours, and whether it waits for mains and an unmetered network.

Set on this machine alone: no message of the appliance has a field for any of it. Pure: what there is now (hour, power,
network) is asked elsewhere and handed in. Times of day are the machine's own, as in a schedule; a window that ends
before it begins goes on past midnight and belongs to the day it began on.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from transport.errors import UsageError
from transport.schedule import DAYS, EVERY_DAY, Minute, Weekday, time_of

RATE_LEAST: Final = 16_000
"""Bytes a second. A segment of 1 MiB must be through before its line counts as dead, 90 s."""
WINDOWS: Final = 24
_RATE: Final = re.compile(r"([0-9]+(?:[.,][0-9]+)?)\s*([kMG]?)(bit|bits|b|B|o|octets)(?:/s|ps)?", re.ASCII)
_FACTORS: Final = {"": 1, "k": 1000, "M": 1_000_000, "G": 1_000_000_000}

OnCondition = Literal["wait", "run"]
"""What a scheduled backup does: wait until it is over, or run all the same."""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hours in which at most `bytes_per_s` go out. The same start and end is the whole day."""

    start: Minute
    end: Minute
    weekdays: Annotated[tuple[Weekday, ...], Meta(min_length=1, max_length=7)]
    bytes_per_s: Annotated[int, Meta(ge=RATE_LEAST, le=10**12)]

    def covers(self, weekday: int, minute: int) -> bool:
        """Whether a moment of the week lies within it."""
        if self.start < self.end:
            return weekday in self.weekdays and self.start <= minute < self.end
        yesterday = (weekday - 1) % 7
        return (weekday in self.weekdays and minute >= self.start) or (
            self.start > self.end and yesterday in self.weekdays and minute < self.end
        )

    def text(self) -> str:
        """For people."""
        hours = "all day" if self.start == self.end else f"{time_of(self.start)}-{time_of(self.end)}"
        days = ",".join(DAYS[day] for day in self.weekdays)
        if len(self.weekdays) > 2 and self.weekdays[-1] - self.weekdays[0] == len(self.weekdays) - 1:
            days = f"{DAYS[self.weekdays[0]]}-{DAYS[self.weekdays[-1]]}"
        days = "every day" if self.weekdays == EVERY_DAY else days
        return f"{hours}, {days}: at most {rate_text(self.bytes_per_s)}"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. Where windows overlap, the lowest rate counts."""

    windows: Annotated[tuple[Window, ...], Meta(max_length=WINDOWS)] = ()
    restores: bool = False
    """Whether restores keep to the windows as well."""
    on_battery: OnCondition = "wait"
    on_metered: OnCondition = "wait"

    def rate(self, now: float, zone: tzinfo) -> int | None:
        """Bytes a second at this moment; None where nothing limits them."""
        if not self.windows:
            return None
        local = datetime.fromtimestamp(now, zone)
        minute = local.hour * 60 + local.minute
        rates = [one.bytes_per_s for one in self.windows if one.covers(local.weekday(), minute)]
        return min(rates, default=None)

    def with_window(self, window: Window) -> Limits:
        """The limits with a window; it takes the place of one with the same hours and days."""
        hours = (window.start, window.end, window.weekdays)
        kept = [one for one in self.windows if (one.start, one.end, one.weekdays) != hours]
        if len(kept) >= WINDOWS:
            raise UsageError(f"there are {WINDOWS} windows already: pilulier-agent limits clear, then set fewer")
        return msgspec.structs.replace(self, windows=(*kept, window))


def holding(limits: Limits, on_battery: bool | None, metered: bool | None) -> str:
    """Why a scheduled backup waits; empty where it need not. None: the system does not tell, so nothing waits."""
    if on_battery and limits.on_battery == "wait":
        return "the machine runs on its battery"
    if metered and limits.on_metered == "wait":
        return "the network is metered"
    return ""


def rate_of(text: str) -> int:
    """Bytes a second of `2Mbit`, `500 kbit/s`, `250kB`; UsageError otherwise, and for less than `RATE_LEAST`."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text.strip()[:40]!r} is not a rate like 2Mbit, 500kbit or 250kB (a second)")
    bits = match[3] in ("bit", "bits", "b")
    rate = round(float(match[1].replace(",", ".")) * _FACTORS[match[2]] / (8 if bits else 1))
    if not RATE_LEAST <= rate <= 10**12:
        raise UsageError(f"{text.strip()[:40]!r} is out of range: at least {rate_text(RATE_LEAST)}")
    return rate


def rate_text(bytes_per_s: int) -> str:
    """`2 Mbit/s`."""
    bits = bytes_per_s * 8
    for unit, size in (("Gbit/s", 10**9), ("Mbit/s", 10**6)):
        if bits >= size:
            return f"{bits / size:g} {unit}"
    return f"{bits / 1000:g} kbit/s"
