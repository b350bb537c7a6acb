"""When a backup is due: a pure planner over the clock's word, the schedule and its own books.

`look` notes what has become due, `decide` says whether to begin now or what is waited for, `ended` keeps the books.
Rules: one run is owed at most, however many times were missed; it is owed until it is done or given up; nothing that
lies before the books were opened is due. Times are seconds since 1970, so that a summer time or a moved machine
changes when the next one comes and never how often; a clock that was set back by more than `BACKWARDS_S` opens the
books anew, since they would else wait for a time that is years away. Owns no clock, no disk, no thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

import msgspec

from transport.schedule import Schedule

LATE_S: Final = 600.0
"""A start that is later than this was missed."""
BACKWARDS_S: Final = 3600.0
"""Clocks are set back by seconds often, and by up to an hour by hand; the books live with that."""
RETRY_S: Final = (60.0, 900.0, 3600.0)
"""Pauses after a failed run; one more failure and the next scheduled time is waited for."""
UNREACHABLE_S: Final = (60.0, 120.0, 300.0, 600.0, 900.0)
"""Pauses after a run that lost the appliance; the last one for ever."""
BUSY_S: Final = 60.0


class Why(StrEnum):
    """What a run is owed to."""

    SCHEDULED = "scheduled"
    MISSED = "missed"
    ASKED = "asked"
    """Asked for from the appliance."""
    CONTINUOUS = "continuous"
    """Owed to changes (`agent.continuous`), never by these books."""


class Ending(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    """Another run of this machine was going on."""
    STOPPED = "stopped"
    """This service ends: the next one goes on."""


class Owed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run that is due since `since`."""

    why: Why
    since: float


class Books(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the planner remembers. `covered`: scheduled times up to here are dealt with, 0 before the first look."""

    covered: float = 0.0
    owed: Owed | None = None
    failures: int = 0
    """Of the owed run."""
    not_before: float = 0.0
    spread_s: int = 0
    """How long after its time a scheduled run begins, as the appliance said last."""
    heard: int = 0
    """The newest number under which the appliance asked for a backup."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The present moment and the machine's time zone."""

    now: float
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a start depends on beside the time."""

    selected: bool
    reachable: bool
    paused: bool = False
    running: bool = False
    holding: str = ""
    """Why a run that nobody asked for waits (battery, metered network); empty where it need not."""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin now."""

    owed: Owed


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to begin; `until` is None where only a change of conditions helps."""

    until: float | None
    reason: str


def _times(schedule: Schedule, around: float, zone: tzinfo, spread_s: float, days: range) -> Iterator[float]:
    """The scheduled starts on days counted from the one of `around`, in the order of `days`."""
    first = datetime.fromtimestamp(around, zone).date()
    for day in days:
        date = first + timedelta(days=day)
        if date.weekday() not in schedule.weekdays:
            continue
        minutes = schedule.minutes if days.step > 0 else reversed(schedule.minutes)
        for minute in minutes:
            # A time that an hour change skips comes as much later; one that comes twice counts the first time.
            local = datetime(date.year, date.month, date.day, minute // 60, minute % 60, tzinfo=zone)
            yield local.timestamp() + spread_s


def last_due(schedule: Schedule, after: float, clock: Clock, spread_s: float) -> float | None:
    """The newest scheduled start in (after, now]; None where there is none."""
    # Two days ahead: a delay of hours may reach back over midnight, a zone's day may differ from ours by one.
    times = [
        at for at in _times(schedule, clock.now, clock.zone, spread_s, range(1, -10, -1)) if after < at <= clock.now
    ]
    return max(times, default=None)


def next_due(schedule: Schedule, clock: Clock, spread_s: float) -> float | None:
    """The first scheduled start after now; None for a schedule without times."""
    times = [at for at in _times(schedule, clock.now, clock.zone, spread_s, range(-1, 10)) if at > clock.now]
    return min(times, default=None)


def look(books: Books, schedule: Schedule, clock: Clock, *, selected: bool, last_good: float) -> Books:
    """The books with what has become due; `last_good` is when the last complete backup began, 0 where none did."""
    now = clock.now
    anew = books.covered == 0.0 or books.covered - now > BACKWARDS_S
    covered, owed = now if anew else books.covered, books.owed
    failures, not_before = books.failures, min(books.not_before, now + max(*RETRY_S, *UNREACHABLE_S))
    due = last_due(schedule, covered, clock, books.spread_s)
    if due is not None:
        covered, failures, not_before = now, 0, now
        owed = Owed(Why.SCHEDULED if now - due <= LATE_S else Why.MISSED, due)
    if owed is not None and owed.since - now > BACKWARDS_S:
        owed = Owed(owed.why, now)
    if owed is not None and (owed.since <= last_good <= now or not selected):
        owed, failures = None, 0
    return msgspec.structs.replace(books, covered=covered, owed=owed, failures=failures, not_before=not_before)


def decide(books: Books, clock: Clock, conditions: Conditions) -> Start | Wait:
    """Begin, or wait and for what; after `look`."""
    if conditions.running:
        return Wait(None, "a backup is running")
    if books.owed is None:
        return Wait(None, "nothing is due" if conditions.selected else "nothing is selected")
    if conditions.paused:
        return Wait(None, "the contract is paused")
    if not conditions.reachable:
        return Wait(None, "the appliance cannot be reached")
    if clock.now < books.not_before:
        return Wait(books.not_before, "the last try failed")
    if conditions.holding and books.owed.why is not Why.ASKED:
        return Wait(None, conditions.holding)
    return Start(books.owed)


def asked(books: Books, number: int, now: float) -> Books:
    """A backup is asked for from the appliance; a number that was heard before changes nothing."""
    if number <= books.heard:
        return books
    return msgspec.structs.replace(books, owed=Owed(Why.ASKED, now), failures=0, not_before=now, heard=number)


def rescheduled(books: Books, now: float) -> Books:
    """The schedule was changed: what it would have been before now is not due; a run that is owed stays owed."""
    return msgspec.structs.replace(books, covered=now)


def ended(books: Books, ending: Ending, now: float) -> Books:
    """The owed run ended like this."""
    failures = books.failures + 1
    match ending:
        case Ending.DONE:
            return msgspec.structs.replace(books, owed=None, failures=0, not_before=now)
        case Ending.STOPPED:
            return books
        case Ending.BUSY:
            return msgspec.structs.replace(books, not_before=now + BUSY_S)
        case Ending.UNREACHABLE:
            pause_s = UNREACHABLE_S[min(failures, len(UNREACHABLE_S)) - 1]
            return msgspec.structs.replace(books, failures=failures, not_before=now + pause_s)
        case Ending.FAILED:
            if failures > len(RETRY_S):
                return msgspec.structs.replace(books, owed=None, failures=0, not_before=now)
            return msgspec.structs.replace(books, failures=failures, not_before=now + RETRY_S[failures - 1])


def next_run(books: Books, schedule: Schedule, clock: Clock) -> float | None:
    """When a backup begins by itself: an owed one as soon as it may, else at the next scheduled time."""
    if books.owed is not None:
        return max(books.owed.since, books.not_before)
    return next_due(schedule, clock, books.spread_s)
