"""A calendar of some months in which some days have something: weeks of days, for the pages that choose one. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Day(Generic[_T]):
    """One day of a month's grid; `holds` is what there is on it. None where the grid has a gap."""

    date: date
    holds: tuple[_T, ...]


@dataclass(frozen=True, slots=True)
class Month(Generic[_T]):
    """A month as weeks of seven, Monday first."""

    first: date
    weeks: tuple[tuple[Day[_T] | None, ...], ...]


def months(held: Mapping[date, tuple[_T, ...]], last: date, days: int) -> list[Month[_T]]:
    """The months that the `days` up to `last` lie in, newest first, with what is held on their days."""
    first = last - timedelta(days=days - 1)
    result: list[Month[_T]] = []
    at = last.replace(day=1)
    while at >= first.replace(day=1):
        weeks = calendar.Calendar().monthdatescalendar(at.year, at.month)
        result.append(
            Month(
                at,
                tuple(
                    tuple(Day(day, held.get(day, ())) if day.month == at.month else None for day in week)
                    for week in weeks
                ),
            )
        )
        at = (at - timedelta(days=1)).replace(day=1)
    return result
