"""The planner of scheduled backups under a fixed clock: missed runs, changed clocks, moved machines, failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import scheduler
from agent.scheduler import (
    BACKWARDS_S,
    RETRY_S,
    UNREACHABLE_S,
    Books,
    Clock,
    Conditions,
    Ending,
    Owed,
    Start,
    Wait,
    Why,
)
from transport.schedule import Schedule

PARIS = ZoneInfo("Europe/Paris")
NOON_AND_EVENING = Schedule.of(["12:30", "19:30"])
READY = Conditions(selected=True, reachable=True)
HOUR = 3600.0


def at(text: str, zone: tzinfo = PARIS) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


class Days:
    """A machine whose clock the test moves; runs that begin are noted and end at once."""

    def __init__(self, start: str, schedule: Schedule = NOON_AND_EVENING, zone: tzinfo = PARIS) -> None:
        self.schedule, self.zone, self.now = schedule, zone, at(start, zone)
        self.books = Books()
        self.last_good = 0.0
        self.began: list[str] = []
        self.whys: list[Why] = []
        self.look()

    def look(self, conditions: Conditions = READY, ending: Ending = Ending.DONE) -> Start | Wait:
        clock = Clock(self.now, self.zone)
        self.books = scheduler.look(
            self.books, self.schedule, clock, selected=conditions.selected, last_good=self.last_good
        )
        decision = scheduler.decide(self.books, clock, conditions)
        if isinstance(decision, Start):
            self.began.append(datetime.fromtimestamp(self.now, self.zone).strftime("%a %H:%M"))
            self.whys.append(decision.owed.why)
            self.books = scheduler.ended(self.books, ending, self.now)
        return decision

    def until(self, end: str, every_s: float = 30.0, conditions: Conditions = READY) -> None:
        """The service looks every so often until then."""
        last = at(end, self.zone)
        while self.now < last:
            self.now = min(last, self.now + every_s)
            self.look(conditions)

    def off_until(self, end: str) -> None:
        """Switched off, or asleep."""
        self.now = at(end, self.zone)


def test_twice_a_day_on_working_days() -> None:
    days = Days("2026-11-26T08:00", Schedule.of(["19:30", "12:30"], ["mon", "tue", "wed", "thu", "fri"]))
    assert scheduler.next_run(days.books, days.schedule, Clock(days.now, PARIS)) == at("2026-11-26T12:30")
    days.until("2026-12-01T00:00", 60)
    assert days.began == ["Thu 12:30", "Thu 19:30", "Fri 12:30", "Fri 19:30", "Mon 12:30", "Mon 19:30"]
    assert set(days.whys) == {Why.SCHEDULED}


def test_nothing_before_the_first_look_is_due() -> None:
    days = Days("2026-11-26T12:31")
    days.until("2026-11-26T19:00", 600)
    assert days.began == []


def test_no_times_means_that_nothing_starts_by_itself() -> None:
    days = Days("2026-11-26T08:00", Schedule())
    days.until("2026-11-28T00:00", 600)
    assert days.began == [] and scheduler.next_run(days.books, days.schedule, Clock(days.now, PARIS)) is None


def test_many_missed_runs_are_caught_up_once() -> None:
    days = Days("2026-11-20T08:00")
    days.off_until("2026-11-26T09:00")
    days.until("2026-11-26T12:00")
    assert (days.began, days.whys) == (["Thu 09:00"], [Why.MISSED])
    days.until("2026-11-26T20:00")
    assert days.began == ["Thu 09:00", "Thu 12:30", "Thu 19:30"]


def test_a_month_away_is_one_missed_run() -> None:
    days = Days("2026-10-01T08:00")
    days.off_until("2026-11-26T09:00")
    days.until("2026-11-26T10:00")
    assert days.began == ["Thu 09:00"]


def test_without_a_network_one_run_waits_for_it() -> None:
    days = Days("2026-11-26T08:00")
    days.until("2026-11-27T15:00", 60, Conditions(selected=True, reachable=False))
    assert days.began == []
    assert scheduler.next_run(days.books, days.schedule, Clock(days.now, PARIS)) == at("2026-11-27T12:30")
    days.until("2026-11-27T16:00", 60)
    assert (days.began, days.whys) == (["Fri 15:01"], [Why.SCHEDULED])


def test_a_paused_contract_is_waited_for() -> None:
    days = Days("2026-11-26T08:00")
    days.until("2026-11-26T15:00", 60, Conditions(selected=True, reachable=True, paused=True))
    assert days.began == []
    days.until("2026-11-26T15:10", 60)
    assert days.began == ["Thu 15:01"]


def test_what_was_due_while_nothing_was_selected_is_not_caught_up() -> None:
    days = Days("2026-11-26T08:00")
    days.until("2026-11-26T15:00", 60, Conditions(selected=False, reachable=True))
    days.until("2026-11-26T19:00", 60)
    assert days.began == []
    days.until("2026-11-26T20:00", 60)
    assert days.began == ["Thu 19:30"]


def test_never_two_at_a_time() -> None:
    days = Days("2026-11-26T12:00")
    days.until("2026-11-26T19:00", 60, Conditions(selected=True, reachable=True, running=True))
    assert days.began == []
    days.books = scheduler.ended(days.books, Ending.DONE, days.now)
    days.until("2026-11-26T19:29", 60)
    assert days.began == []


def test_the_appliance_spreads_the_starts() -> None:
    days = Days("2026-11-26T08:00", Schedule.of(["23:50"]))
    days.books = msgspec.structs.replace(days.books, spread_s=1200)
    assert scheduler.next_run(days.books, days.schedule, Clock(days.now, PARIS)) == at("2026-11-27T00:10")
    days.until("2026-11-28T00:05", 60)
    assert days.began == ["Fri 00:10"]
    days.off_until("2026-11-28T00:20")
    days.look()
    assert days.began == ["Fri 00:10", "Sat 00:20"]


@pytest.mark.parametrize("back_s", [1, 600, BACKWARDS_S - 60])
def test_a_clock_that_steps_back_a_little_runs_nothing_twice(back_s: float) -> None:
    days = Days("2026-11-26T12:29")
    days.until("2026-11-26T12:31")
    days.now -= back_s
    days.until("2026-11-26T19:29")
    assert days.began == ["Thu 12:30"]


def test_a_clock_from_the_future_that_is_put_right_does_not_silence_the_machine() -> None:
    days = Days("2031-01-01T08:00")
    days.until("2031-01-01T13:00")
    days.now = at("2026-11-26T08:00")
    days.until("2026-11-26T13:00")
    assert days.began == ["Wed 12:30", "Thu 12:30"]


def test_a_failure_under_a_wrong_clock_does_not_wait_for_years() -> None:
    days = Days("2031-01-01T12:30")
    days.until("2031-01-01T12:29")
    days.books = msgspec.structs.replace(days.books, owed=Owed(Why.MISSED, days.now), not_before=days.now + 60)
    days.now = at("2026-11-26T08:00")
    days.until("2026-11-26T12:00", 60)
    assert len(days.began) == 1


@pytest.mark.parametrize(
    ("schedule", "since", "until", "began"),
    [
        # 29 March 2026: 02:00 becomes 03:00. 25 October 2026: 03:00 becomes 02:00.
        ("2:30", "2026-03-28T12:00", "2026-03-30T12:00", ["Sun 03:30", "Mon 02:30"]),
        ("2:30", "2026-10-24T12:00", "2026-10-26T12:00", ["Sun 02:30", "Mon 02:30"]),
        ("12:30", "2026-10-24T12:00", "2026-10-26T12:00", ["Sat 12:30", "Sun 12:30"]),
        # Two times in the hour that comes twice; two that the missing hour makes one.
        ("2:15 2:45", "2026-10-24T12:00", "2026-10-25T12:00", ["Sun 02:15", "Sun 02:45"]),
        ("2:30 3:30", "2026-03-28T12:00", "2026-03-29T12:00", ["Sun 03:30"]),
        ("1:59 3:00", "2026-03-28T12:00", "2026-03-29T12:00", ["Sun 01:59", "Sun 03:00"]),
    ],
)
def test_summer_time_neither_skips_nor_doubles(schedule: str, since: str, until: str, began: list[str]) -> None:
    days = Days(since, Schedule.of(schedule.split()))
    days.until(until, 60)
    assert days.began == began


def test_a_machine_that_moves_keeps_to_the_local_time_there() -> None:
    days = Days("2026-11-26T08:00", Schedule.of(["12:30"]))
    days.until("2026-11-26T11:00", 60)
    days.zone = ZoneInfo("America/Martinique")  # five hours behind
    days.until("2026-11-27T20:00", 60)
    assert days.began == ["Thu 12:30", "Fri 12:30"]
    days.zone = PARIS
    days.until("2026-11-28T20:00", 60)
    assert days.began == ["Thu 12:30", "Fri 12:30", "Sat 12:30"]


@pytest.mark.parametrize(
    ("night", "began"),
    [(("2026-03-29T01:00", "2026-03-29T05:00"), "Sun 05:00"), (("2026-10-25T01:00", "2026-10-25T05:00"), "Sun 05:00")],
)
def test_an_hour_change_slept_through_is_one_missed_run(night: tuple[str, str], began: str) -> None:
    days = Days(night[0], Schedule.of(["2:30"]))
    days.off_until(night[1])
    for _ in range(3):
        days.look()
    assert days.began == [began] and days.whys == [Why.MISSED]


@pytest.mark.parametrize(
    ("zone", "woken", "began"),
    [
        # Asleep at 11:00 in Paris. West, noon is still to come; east, it was over before the machine began its day, and
        # the next one is tomorrow's there; on the date line it is another day.
        ("America/Martinique", "2026-11-26T09:00", ["Thu 12:30"]),
        ("Asia/Tokyo", "2026-11-26T21:00", []),
        ("Asia/Tokyo", "2026-11-27T15:00", ["Fri 15:00"]),
        ("Pacific/Apia", "2026-11-27T00:30", ["Fri 12:30"]),
        ("Pacific/Pago_Pago", "2026-11-26T00:30", ["Thu 12:30"]),
    ],
)
def test_a_machine_that_is_moved_in_its_sleep(zone: str, woken: str, began: list[str]) -> None:
    days = Days("2026-11-26T08:00", Schedule.of(["12:30"]))
    days.until("2026-11-26T11:00", 60)
    days.zone = ZoneInfo(zone)
    assert at(woken, days.zone) > days.now
    days.off_until(woken)
    days.look()
    days.until(woken[:11] + "23:59", 60)
    assert days.began == began


YEAR = 365 * 86400.0


@pytest.mark.parametrize("first", [YEAR, -YEAR])
def test_a_clock_a_year_off_for_an_hour_costs_one_run_at_most(first: float) -> None:
    """Forward or back and put right: what was done is not done again, what comes is not waited for in vain."""
    days = Days("2026-11-26T08:00")
    days.until("2026-11-26T14:00", 60)
    assert days.began == ["Thu 12:30"]
    for step in (first, -first):
        days.now += step
        for _ in range(60):
            days.now += 60
            days.look()
    extra = len(days.began) - 1
    assert extra <= 1, "a year of missed runs is one run"
    days.began.clear()
    days.until("2026-11-28T00:00", 60)
    assert days.began == ["Thu 19:30", "Fri 12:30", "Fri 19:30"]


def test_a_clock_that_is_lost_at_each_start_makes_no_run_of_its_own() -> None:
    """A dead battery of the clock: each start begins in the year 2000, until the network tells the time."""
    days = Days("2026-11-26T08:00")
    days.until("2026-11-26T12:31", 60)
    days.last_good = days.now
    right = days.now
    for _ in range(3):
        right += 600
        days.now = at("2000-01-01T00:00:30")
        days.look()
        days.now = right
        days.look()
    assert days.began == ["Thu 12:30"], "the last good backup says that noon is done"
    days.until("2026-11-26T20:00", 60)
    assert days.began == ["Thu 12:30", "Thu 19:30"]


def test_a_new_schedule_is_not_late_for_what_it_would_have_been() -> None:
    days = Days("2026-11-26T15:00", Schedule.of(["19:30"]))
    days.schedule = Schedule.of(["10:00"])
    days.books = scheduler.rescheduled(days.books, days.now)
    days.until("2026-11-27T09:00", 60)
    assert days.began == []
    days.until("2026-11-27T11:00", 60)
    assert days.began == ["Fri 10:00"]


def test_a_failed_run_is_tried_again_a_few_times_and_then_waits_for_the_next_one() -> None:
    days = Days("2026-11-26T12:29")
    last = at("2026-11-26T19:00")
    while days.now < last:
        days.now += 30
        days.look(ending=Ending.FAILED)
    assert days.began == ["Thu 12:30", "Thu 12:31", "Thu 12:46", "Thu 13:46"]
    assert [at(f"2026-11-26T{a[4:]}") for a in days.began[1:]] == [
        at("2026-11-26T12:30") + sum(RETRY_S[: n + 1]) for n in range(3)
    ]


def test_a_lost_line_is_tried_for_ever_with_growing_pauses() -> None:
    days = Days("2026-11-26T12:29", Schedule.of(["12:30"]))
    tries = []
    last = at("2026-11-26T18:00")
    while days.now < last:
        days.now += 30
        if isinstance(days.look(ending=Ending.UNREACHABLE), Start):
            tries.append(days.now)
    pauses = [b - a for a, b in zip(tries, tries[1:], strict=False)]
    assert pauses[:5] == list(UNREACHABLE_S) and set(pauses[5:]) == {UNREACHABLE_S[-1]}


def test_a_stopped_service_owes_the_run_still() -> None:
    days = Days("2026-11-26T12:29")
    days.now += 120
    days.look(ending=Ending.STOPPED)
    days.books = msgspec.json.decode(msgspec.json.encode(days.books), type=Books)
    days.off_until("2026-11-26T15:00")
    days.look()
    days.until("2026-11-26T19:00")
    assert days.began == ["Thu 12:31", "Thu 15:00"]


def test_a_run_that_was_done_without_being_written_down_is_not_done_again() -> None:
    days = Days("2026-11-26T12:29")
    days.now += 120
    days.look(ending=Ending.STOPPED)
    days.last_good = days.now
    days.off_until("2026-11-26T15:00")
    days.until("2026-11-26T19:00")
    assert days.began == ["Thu 12:31"]


def test_a_backup_by_hand_counts_where_it_began_after_the_time() -> None:
    days = Days("2026-11-26T08:00")
    days.until("2026-11-26T15:00", 60, Conditions(selected=True, reachable=False))
    days.last_good = days.now - 60
    days.until("2026-11-26T19:00")
    assert days.began == []


def test_asked_for_once_however_often_it_is_heard() -> None:
    days = Days("2026-11-26T08:00")
    days.books = scheduler.asked(days.books, 4, days.now)
    days.look()
    for number in (4, 3):
        days.books = scheduler.asked(days.books, number, days.now)
    days.until("2026-11-26T12:00")
    assert (days.began, days.whys) == (["Thu 08:00"], [Why.ASKED])
    days.books = scheduler.asked(days.books, 5, days.now)
    days.look()
    assert len(days.began) == 2


def test_a_look_alone_changes_nothing_that_must_be_written() -> None:
    days = Days("2026-11-26T08:00")
    before = days.books
    days.until("2026-11-26T12:00", 60)
    assert days.books == before


_moves = st.lists(
    st.tuples(
        st.floats(-40 * 86400, 40 * 86400),
        st.sampled_from(["UTC", "Europe/Paris", "Pacific/Apia", "America/Martinique", "Asia/Kathmandu"]),
        st.sampled_from(list(Ending)),
    ),
    max_size=30,
)
_schedules = st.builds(
    lambda minutes, days: Schedule(tuple(sorted(minutes)), tuple(sorted(days))),
    st.sets(st.integers(0, 1439), max_size=4),
    st.sets(st.integers(0, 6), min_size=1),
)


@given(_schedules, st.integers(0, 4 * 3600), _moves)
def test_whatever_the_clock_does_the_machine_backs_up_again(
    schedule: Schedule, spread_s: int, moves: list[tuple[float, str, Ending]]
) -> None:
    days = Days("2026-11-26T08:00", schedule, UTC)
    days.books = msgspec.structs.replace(days.books, spread_s=spread_s)
    for step_s, zone, ending in moves:
        days.now = max(86400.0 * 400, days.now + step_s)
        days.zone = ZoneInfo(zone)
        if isinstance(days.look(ending=ending), Start) and ending is Ending.DONE:
            assert isinstance(days.look(), Wait), "once is enough"
        following = scheduler.next_run(days.books, schedule, Clock(days.now, days.zone))
        if days.books.owed is None and schedule.minutes:
            assert following is not None and 0 < following - days.now < 8 * 86400 + 2 * HOUR
    # Quiet days follow: every week has its run, unless there is no schedule.
    days.books = scheduler.ended(days.books, Ending.DONE, days.now)
    days.began.clear()
    for _ in range(3 * 8):
        days.now += timedelta(hours=8).total_seconds()
        days.look()
    assert bool(days.began) is bool(schedule.minutes)
