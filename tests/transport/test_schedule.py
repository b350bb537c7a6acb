"""Schedules: one spelling each, what people type, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from transport.errors import UsageError
from transport.schedule import DAYS, EVERY_DAY, Schedule, minute_of, time_of


def test_any_order_makes_the_same_schedule() -> None:
    schedule = Schedule.of(["19:30", "12h05", "12:05", " 0:00 "], ["fri", "MON", "mon"])
    assert schedule == Schedule((0, 725, 1170), (0, 4))
    assert (schedule.times, schedule.days) == (["00:00", "12:05", "19:30"], ["mon", "fri"])
    assert Schedule.of([]) == Schedule() and Schedule().weekdays == EVERY_DAY
    assert Schedule.of(schedule.times, schedule.days) == schedule
    assert [minute_of(time_of(minute)) for minute in range(1440)] == list(range(1440))


@pytest.mark.parametrize("text", ["", "24:00", "12:60", "12", "noon", "12:5", "-1:00", "１２:00", "12:00:00"])
def test_what_is_no_time_of_day(text: str) -> None:
    with pytest.raises(UsageError, match="time of day"):
        Schedule.of([text])


def test_what_is_no_day_or_too_much() -> None:
    with pytest.raises(UsageError, match="mon, tue"):
        Schedule.of(["12:00"], ["lundi"])
    with pytest.raises(UsageError, match="at least one"):
        Schedule.of(["12:00"], [])
    with pytest.raises(UsageError, match="25 times"):
        Schedule.of([f"{n % 24}:{n // 24:02}" for n in range(25)], DAYS)


@pytest.mark.parametrize(
    "document",
    [
        {"minutes": [2, 1]},
        {"minutes": [1, 1]},
        {"minutes": [-1]},
        {"minutes": [1440]},
        {"minutes": list(range(25))},
        {"weekdays": []},
        {"weekdays": [7]},
        {"weekdays": [1, 0]},
        {"minutes": [1.5]},
        {"continuous": 1},
        {"command": "rm"},
    ],
)
def test_a_wire_schedule_is_read_strictly(document: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, Schedule)


def test_round_trip() -> None:
    schedule = Schedule.of(["12:30", "19:00"], DAYS[:5])
    assert msgspec.json.decode(msgspec.json.encode(schedule), type=Schedule) == schedule
    always = Schedule.of(["12:30"], DAYS[:5], continuous=True)
    assert msgspec.json.decode(msgspec.json.encode(always), type=Schedule) == always != Schedule.of(["12:30"], DAYS[:5])


def test_who_knows_no_continuous_mode_reads_every_other_schedule() -> None:
    assert b"continuous" not in msgspec.json.encode(Schedule.of(["12:30"], ["mon"]))
