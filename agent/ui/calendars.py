"""The days of the last months on which there are snapshots, as weeks. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from transport.snapshot_reader import Snapshot

DAYS = 90
"""As far back as everything is kept."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day and its snapshots, oldest first."""

    date: date
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True, slots=True)
class Month:
    """A month as weeks of seven, Monday first; None where another month's days would stand."""

    first: date
    weeks: tuple[tuple[Day | None, ...], ...]


def day_of(snapshot: Snapshot, zone: tzinfo) -> date:
    """The local day on which it was made."""
    return datetime.fromtimestamp(snapshot.received_ms / 1000, zone).date()


def months(snapshots: Sequence[Snapshot], today: date, zone: tzinfo) -> list[Month]:
    """The months of the last 90 days, and of older snapshots that are still kept; newest first."""
    held: dict[date, list[Snapshot]] = {}
    for snapshot in snapshots:
        held.setdefault(day_of(snapshot, zone), []).append(snapshot)
    first = min([today - timedelta(days=DAYS - 1), *held])
    result = []
    at = max([today, *held]).replace(day=1)
    while at >= first.replace(day=1):
        weeks = calendar.Calendar().monthdatescalendar(at.year, at.month)
        result.append(
            Month(
                at,
                tuple(
                    tuple(Day(day, tuple(held.get(day, ()))) if day.month == at.month else None for day in week)
                    for week in weeks
                ),
            )
        )
        at = (at - timedelta(days=1)).replace(day=1)
    return result
