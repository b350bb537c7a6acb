"""Which readings of the clock are believed."""

from __future__ import annotations

import pytest

from appliance.store.upkeep.clock import (
    DAY_MS,
    FORWARD_LIMIT_MS,
    SLACK_MS,
    UNWITNESSED,
    ClockWitness,
    Sound,
    Suspect,
    judge,
)

NOW_MS = 20_000 * DAY_MS
LAST = ClockWitness(NOW_MS)


@pytest.mark.parametrize(
    ("now_ms", "witness", "newest_ms"),
    [
        (NOW_MS, UNWITNESSED, None),
        (NOW_MS + 900 * DAY_MS, UNWITNESSED, NOW_MS),
        (NOW_MS - SLACK_MS, LAST, NOW_MS),
        (NOW_MS + FORWARD_LIMIT_MS, LAST, NOW_MS),
        # A year without a visitor, counted by a clock that nobody sets.
        (NOW_MS + 365 * DAY_MS, ClockWitness(NOW_MS, 365 * DAY_MS), NOW_MS),
        (0, ClockWitness(NOW_MS, 0, accepted=True), NOW_MS),
    ],
)
def test_plausible_readings(now_ms: int, witness: ClockWitness, newest_ms: int | None) -> None:
    assert judge(now_ms, witness, newest_ms) == Sound()


@pytest.mark.parametrize(
    ("now_ms", "witness", "newest_ms", "expected"),
    [
        (NOW_MS - SLACK_MS - 1, UNWITNESSED, NOW_MS, "but a snapshot was received at 2024-10-04"),
        (NOW_MS - SLACK_MS - 1, LAST, None, "but it has said 2024-10-04"),
        (NOW_MS + FORWARD_LIMIT_MS + 1, LAST, NOW_MS, "35 days further"),
        (NOW_MS + 100 * DAY_MS, ClockWitness(NOW_MS, 30 * DAY_MS), None, "70 days further"),
        (10**18, LAST, None, "1000000000000000000 ms"),
    ],
)
def test_jumps_are_told_with_their_times(
    now_ms: int, witness: ClockWitness, newest_ms: int | None, expected: str
) -> None:
    verdict = judge(now_ms, witness, newest_ms)
    assert isinstance(verdict, Suspect) and expected in verdict.text
