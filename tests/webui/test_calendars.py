"""Months of days: Monday first, gaps where a month begins and ends, newest month first."""

from __future__ import annotations

from datetime import date

from webui import calendars


def test_ninety_days_lie_in_four_months_newest_first() -> None:
    made = calendars.months({}, date(2026, 11, 25), 90)
    assert [month.first for month in made] == [date(2026, month, 1) for month in (11, 10, 9, 8)]


def test_weeks_begin_on_monday_and_hold_each_day_once() -> None:
    (month,) = calendars.months({date(2026, 11, 25): ("a", "b")}, date(2026, 11, 25), 5)
    days = [day for week in month.weeks for day in week if day is not None]
    assert [day.date.day for day in days] == list(range(1, 31))
    assert all(len(week) == 7 for week in month.weeks)
    assert month.weeks[0][:6] == (None,) * 6 and month.weeks[0][6] is not None, "1 November 2026 is a Sunday"
    assert {day.date.day: day.holds for day in days if day.holds} == {25: ("a", "b")}


def test_a_window_over_new_year() -> None:
    made = calendars.months({}, date(2027, 1, 2), 3)
    assert [month.first for month in made] == [date(2027, 1, 1), date(2026, 12, 1)]
