"""Retention: golden plans, the floor that nothing removes, and what must hold for every history and policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.store.upkeep.clock import DAY_MS, UNWITNESSED, ClockWitness, Suspect
from appliance.store.upkeep.retention import (
    STORM_ENTRIES,
    Candidate,
    Drop,
    Keep,
    Policy,
    RetentionPlan,
    is_calm,
    plan_retention,
)
from tests.golden.retention import generate
from transport.errors import UsageError

NOW_MS = 20_000 * DAY_MS + DAY_MS // 2
GOLDEN = Path(generate.__file__).parent


@pytest.mark.parametrize("name", sorted(generate.cases()))
def test_golden_plans(name: str) -> None:
    expected = (GOLDEN / f"{name}.json").read_text(encoding="utf-8")
    assert generate.text(generate.cases()[name]) == expected, "read generate.py before you replace the file"


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(generate.cases())


def history(*days_ago: float, **flags: bool) -> list[Candidate]:
    return [Candidate(number, NOW_MS - int(days * DAY_MS), **flags) for number, days in enumerate(days_ago, 1)]


def plan(candidates: list[Candidate], policy: Policy | None = None, now_ms: int = NOW_MS) -> RetentionPlan:
    return plan_retention(candidates, policy or Policy(), now_ms, UNWITNESSED)


def action(planned: RetentionPlan, number: int) -> Keep | Drop:
    return next(one.action for one in planned.decisions if one.number == number)


def test_a_window_is_closed_at_its_end_to_the_millisecond() -> None:
    moments = (NOW_MS - 10 * DAY_MS, NOW_MS - 10 * DAY_MS + 1, *(NOW_MS - days * DAY_MS for days in (3, 2, 1, 0)))
    made = [Candidate(number, at) for number, at in enumerate(moments, 1)]
    planned = plan(made, Policy(keep_days=10, floor_days=3))
    assert action(planned, 1) == Drop("older than 10 days")
    assert action(planned, 2) == Keep("within 10 days")


def test_the_floor_counts_days_that_have_a_complete_snapshot() -> None:
    days = history(*range(100, 0, -10))
    planned = plan(days, Policy(keep_days=0, floor_days=4))
    assert planned.kept == {7, 8, 9, 10}
    several_a_day = [
        replace(one, number=2 * one.number + second, received_ms=one.received_ms + second * 1000)
        for one in days
        for second in (0, 1)
    ]
    assert plan(several_a_day, Policy(keep_days=0, floor_days=4)).kept == {15, 17, 19, 21}


def test_a_flood_of_snapshots_pushes_nothing_out() -> None:
    calm = history(30, 20, 10)
    flood = [Candidate(4 + n, NOW_MS - DAY_MS // 4 + n) for n in range(5000)]
    planned = plan([*calm, *flood], Policy(keep_days=60))
    assert planned.dropped == set()
    assert plan([*calm, *flood], Policy(keep_days=0)).kept == {1, 2, 3, 5003}


def test_calm_before_the_storm_outlives_the_calm_after_it() -> None:
    days = [replace(one, calm=True) for one in history(40, 39, 38, 37, 36, 35, 34, 33)]
    days[3] = replace(days[3], calm=False)
    policy = Policy(keep_days=0, floor_days=3)
    planned = plan(days, policy)
    assert planned.kept == {3, 6, 7, 8}
    assert action(planned, 3) == Keep("floor: the last calm one before the unquiet snapshot 4")
    # Still so when the unquiet one itself has gone, and no longer once it is half a year old.
    days[3] = replace(days[3], retired=True)
    assert plan(days, policy).kept == {3, 6, 7, 8}
    assert plan(days, policy, NOW_MS + 150 * DAY_MS).kept == {6, 7, 8}


def test_the_last_calm_one_is_kept_through_a_long_storm() -> None:
    days = [replace(one, calm=one.number <= 2) for one in history(*range(12, 0, -1))]
    planned = plan(days, Policy(keep_days=0, floor_days=3))
    assert planned.kept == {2, 10, 11, 12}


def test_what_is_known_to_be_calm_counts_before_what_is_not_known() -> None:
    days = [replace(one, calm={2: True, 5: False}.get(one.number)) for one in history(*range(12, 0, -1))]
    policy = Policy(keep_days=0, floor_days=3)
    assert action(plan(days, policy), 2) == Keep("floor: the last calm one")
    assert plan(days, policy).kept == {2, 10, 11, 12}
    unknown = [replace(one, calm=False if one.number > 7 else None) for one in days]
    assert plan(unknown, policy).kept == {7, 10, 11, 12}


def test_a_storm_under_way_protects_what_was_before_it() -> None:
    days = [replace(one, calm=True) for one in history(9, 8, 7, 6, 5, 4, 3, 2, 1)]
    days[4] = replace(days[4], calm=False, complete=False)
    assert 4 in plan(days, Policy(keep_days=0, floor_days=3)).kept


def test_the_newest_complete_one_stays_beside_a_newer_partial() -> None:
    days = [replace(one, calm=one.number < 5, complete=one.number != 6) for one in history(6, 5, 4, 3, 2, 1)]
    planned = plan(days, Policy(keep_days=0, floor_days=3))
    assert {5, 6} <= planned.kept
    assert isinstance(action(planned, 5), Keep) and "newest of its day" in action(planned, 5).reason


def test_partials_of_today_go_when_nothing_is_to_be_kept() -> None:
    today = [replace(one, complete=one.number == 3) for one in history(0.3, 0.2, 0.1)]
    assert plan(today).kept == {1, 2, 3}
    assert plan(today, Policy(keep_days=0)).kept == {3}


def test_a_correction_of_the_clock_makes_no_snapshot_a_future_one() -> None:
    just_ahead = [Candidate(number, NOW_MS + 60_000 * number) for number in (1, 2, 3)]
    assert plan(just_ahead, Policy(keep_days=0)).kept == {3}


def test_a_partial_stands_for_no_hour_of_continuous_mode() -> None:
    hour = [
        Candidate(1, NOW_MS - 3 * DAY_MS, continuous=True),
        Candidate(2, NOW_MS - 3 * DAY_MS + 60_000, continuous=True, complete=False),
        Candidate(3, NOW_MS - 1000, continuous=True),
    ]
    planned = plan(hour)
    assert action(planned, 1) == Keep("within 90 days")
    assert action(planned, 2) == Drop("partial, and snapshot 3 is complete")


def test_holds_outrank_everything_but_the_newest_in_the_reason() -> None:
    days = [replace(one, held=one.number in (1, 10)) for one in history(*range(200, 100, -10))]
    planned = plan(days, Policy(keep_days=0, floor_days=3))
    assert action(planned, 1) == Keep("held by an operator")
    assert action(planned, 10) == Keep("the newest")


def test_no_snapshot_no_plan() -> None:
    assert plan([]) == RetentionPlan((), plan([]).clock)
    assert plan([]).alarm is None


@pytest.mark.parametrize(
    ("before", "ended", "calm"),
    [(0, 0, True), (10, 10, True), (1000, STORM_ENTRIES, True), (1000, 300, True), (1000, 301, False), (60, 51, False)],
)
def test_calm_needs_both_bounds_to_be_passed(before: int, ended: int, calm: bool) -> None:
    assert is_calm(before, ended) is calm


@pytest.mark.parametrize(
    "fields", [{"keep_days": -1}, {"floor_days": 2}, {"keep_weekly": -1}, {"keep_yearly": 36_501}]
)
def test_numbers_out_of_range_are_named(fields: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="--" + next(iter(fields)).replace("_", "-")):
        Policy(**fields)  # type: ignore[arg-type]


def test_a_clock_that_is_not_believed_drops_nothing() -> None:
    days = history(*range(300, 0, -1))
    for now_ms, witness in (
        (NOW_MS - 30 * DAY_MS, UNWITNESSED),
        (NOW_MS, ClockWitness(NOW_MS + DAY_MS)),
        (NOW_MS + 40 * DAY_MS, ClockWitness(NOW_MS, DAY_MS)),
    ):
        planned = plan_retention(days, Policy(keep_days=0), now_ms, witness)
        assert isinstance(planned.clock, Suspect) and planned.alarm and not planned.dropped
        assert plan_retention(days, Policy(keep_days=0), now_ms, replace(witness, accepted=True)).alarm is None


# What holds for all of them

ages_ms = st.integers(-2 * DAY_MS, 400 * DAY_MS)


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    """Mostly in order of time, with clocks that were wrong now and then."""
    ages = draw(st.lists(ages_ms, max_size=40))
    if draw(st.booleans()):
        ages.sort(reverse=True)
    return [
        Candidate(
            number,
            max(0, NOW_MS - age),
            complete=draw(st.sampled_from((True, True, True, False))),
            calm=draw(st.sampled_from((True, True, False, None))),
            continuous=draw(st.booleans()),
            held=draw(st.sampled_from((False, False, False, True))),
            retired=draw(st.sampled_from((False, False, False, True))),
        )
        for number, age in enumerate(ages, 1)
    ]


counts = st.integers(0, 120)
policies = st.builds(
    Policy,
    keep_days=counts,
    floor_days=st.integers(3, 20),
    keep_daily=counts,
    keep_weekly=st.integers(0, 20),
    keep_monthly=st.integers(0, 14),
    keep_yearly=st.integers(0, 3),
    thin_continuous=st.booleans(),
)
ACCEPTED = ClockWitness(None, accepted=True)


@given(histories(), policies)
def test_each_held_snapshot_gets_one_decision(made: list[Candidate], policy: Policy) -> None:
    planned = plan_retention(made, policy, NOW_MS, ACCEPTED)
    assert [one.number for one in planned.decisions] == [one.number for one in made if not one.retired]
    assert planned.kept | planned.dropped == {one.number for one in planned.decisions}
    assert all(one.action.reason for one in planned.decisions)


@given(histories(), policies)
def test_the_floor_is_kept_whatever_is_asked(made: list[Candidate], policy: Policy) -> None:
    """Said once more in other words than the code's: by looking at what is there."""
    planned = plan_retention(made, policy, NOW_MS, ACCEPTED)
    present = [one for one in made if not one.retired]
    kept = [one for one in present if one.number in planned.kept]
    assert {one.number for one in present if one.held} <= planned.kept
    if not present:
        return
    assert present[-1].number in planned.kept
    complete = [one for one in present if one.complete]
    if complete:
        assert complete[-1].number in planned.kept
        for wanted in (True, None):
            calm = [one.number for one in complete if one.calm is wanted]
            if calm:
                assert calm[-1] in planned.kept
                break

    def days(of: list[Candidate]) -> set[int]:
        found, latest = set(), 0
        for one in made:
            latest = max(latest, one.received_ms)
            if one in of and one.complete:
                found.add(latest // DAY_MS)
        return found

    newest = sorted(days(present), reverse=True)[: policy.floor_days]
    assert set(newest) <= days(kept)


@given(histories(), policies, policies)
def test_asking_for_more_never_keeps_less(made: list[Candidate], one: Policy, other: Policy) -> None:
    names = ("keep_days", "floor_days", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
    more = Policy(
        **{name: max(getattr(one, name), getattr(other, name)) for name in names},
        thin_continuous=one.thin_continuous and other.thin_continuous,
    )
    for smaller in (one, other):
        assert (
            plan_retention(made, smaller, NOW_MS, ACCEPTED).kept <= plan_retention(made, more, NOW_MS, ACCEPTED).kept
        )


@given(histories(), policies)
def test_a_plan_carried_out_leaves_nothing_more_to_drop(made: list[Candidate], policy: Policy) -> None:
    dropped = plan_retention(made, policy, NOW_MS, ACCEPTED).dropped
    after = [replace(one, retired=one.retired or one.number in dropped) for one in made]
    assert plan_retention(after, policy, NOW_MS, ACCEPTED).dropped == set()


@given(histories(), policies, st.lists(st.integers(1, 60), max_size=8))
def test_pruning_every_few_days_keeps_what_one_late_prune_keeps(
    made: list[Candidate], policy: Policy, steps_days: list[int]
) -> None:
    """What a policy wants at the end has not been dropped by a prune on the way there."""
    made = [replace(one, retired=False) for one in made if one.received_ms <= NOW_MS]
    pruned, now_ms = made, NOW_MS
    for step in steps_days:
        now_ms += step * DAY_MS
        dropped = plan_retention(pruned, policy, now_ms, ACCEPTED).dropped
        pruned = [replace(one, retired=one.retired or one.number in dropped) for one in pruned]
    kept = {one.number for one in pruned if not one.retired}
    assert plan_retention(made, policy, now_ms, ACCEPTED).kept <= kept or not steps_days


@given(histories(), policies, st.integers(-500 * DAY_MS, 500 * DAY_MS))
def test_no_clock_drops_what_it_cannot_vouch_for(made: list[Candidate], policy: Policy, off_ms: int) -> None:
    planned = plan_retention(made, policy, NOW_MS + off_ms, ClockWitness(NOW_MS, 0))
    if planned.alarm:
        assert not planned.dropped
    else:
        assert -DAY_MS < off_ms <= 35 * DAY_MS
