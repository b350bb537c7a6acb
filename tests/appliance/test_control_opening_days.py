"""Opening days: how they are written, and since when a machine is late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.control.opening_days import EVERY_DAY, ZONE, checked, late_before, public_holidays
from transport.errors import UsageError

NAMES = EVERY_DAY.split(",")
DAYS = st.sets(st.sampled_from(NAMES), min_size=1).map(lambda some: checked(",".join(some)))
HOURS = st.integers(1, 24 * 30)
MINUTES = st.integers(1_700_000_000 // 60, 1_900_000_000 // 60).map(lambda minute: minute * 60.0)


def at(day: int, hour: int, month: int = 11) -> float:
    return datetime(2026, month, day, hour, tzinfo=ZONE).timestamp()


@pytest.mark.parametrize(
    ("days", "hours", "now", "before"),
    [
        # 23 November 2026 is a Monday.
        ("mon-sat", 36, at(23, 8), at(20, 20)),
        ("tue-sat", 36, at(24, 8), at(20, 20)),
        ("mon-sun", 36, at(23, 8), at(21, 20)),
        ("mon-sat", 8, at(23, 8), at(22, 0)),
        ("mon-sat", 36, at(22, 12), at(20, 12)),
        # 25 October 2026 has 25 hours, 29 March 23.
        ("sun", 25, at(26, 9, 10), at(19, 0, 10)),
        ("sun,mon", 10, at(26, 9, 10), at(25, 23, 10)),
        ("sat,sun", 24, at(30, 9, 3), at(28, 23, 3)),
        # Easter Monday of 2026 is 6 April: from Tuesday morning back to Saturday. 11 November is a Wednesday.
        ("mon-sat", 36, at(7, 20, 4), at(4, 8, 4)),
        ("mon-fri", 12, at(12, 10), at(10, 22)),
        ("mon-sun", 36, at(7, 20, 4), at(6, 8, 4)),
    ],
)
def test_only_hours_of_open_days_count(days: str, hours: int, now: float, before: float) -> None:
    assert late_before(checked(days), hours, now) == before


def open_hours(days: str, start: float, end: float) -> int:
    """Counted one by one."""
    moment, counted = start, 0
    while moment < end:
        day = datetime.fromtimestamp(moment, UTC).astimezone(ZONE).date()
        closed = days != EVERY_DAY and day in public_holidays(day.year)
        counted += NAMES[day.weekday()] in days and not closed
        moment += 3600
    return counted


@given(DAYS, st.integers(1, 100), MINUTES)
def test_as_many_open_hours_lie_between_as_were_given(days: str, hours: int, minute: float) -> None:
    now = minute // 3600 * 3600
    before = late_before(days, hours, now)
    assert open_hours(days, before, now) == hours
    assert open_hours(days, before - 3600, now) == hours + 1


@given(DAYS, HOURS, MINUTES)
def test_closed_days_only_ever_give_more_time(days: str, hours: int, now: float) -> None:
    assert late_before(days, hours, now) <= late_before(EVERY_DAY, hours, now) == now - hours * 3600
    assert late_before(days, hours + 1, now) < late_before(days, hours, now)
    assert late_before(days, hours, now) <= late_before(days, hours, now + timedelta(hours=1).total_seconds())


def test_the_eleven_days_on_which_france_is_closed() -> None:
    fixed = {(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)}
    moving = {2026: {(4, 6), (5, 14), (5, 25)}, 2027: {(3, 29), (5, 6), (5, 17)}}
    for year, around_easter in moving.items():
        assert {(day.month, day.day) for day in public_holidays(year)} == fixed | around_easter


@given(DAYS)
def test_what_is_written_out_stays(days: str) -> None:
    assert checked(days) == days


def test_ranges_are_written_out() -> None:
    assert checked("mon-sun") == EVERY_DAY and checked("Tue, thu-sat") == "tue,thu,fri,sat"
    assert checked("sat-mon") == "mon,sat,sun"


@pytest.mark.parametrize("text", ["", "lundi", "mon-", "-sat", "mon,,tue", "mon-tue-wed"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="are no opening days"):
        checked(text)
