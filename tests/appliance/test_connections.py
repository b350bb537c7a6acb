"""What a machine may provoke is bounded, counted, and told again later."""

from __future__ import annotations

import logging

import pytest

from appliance import connections
from appliance.connections import Allowance, Warnings


class Clock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(connections, "time", made)
    return made


def test_warnings_are_logged_so_many_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    warnings = Warnings(logging.getLogger("tests.warnings"))
    for number in range(200):
        warnings.warn("machine a", f"number {number}")
    warnings.warn("machine b", "once")
    told = [record.getMessage() for record in caplog.records]
    assert told[:10] == [f"machine a: number {number}" for number in range(10)]
    assert told[10:] == ["machine a: too many warnings, the next are only counted", "machine b: once"]
    clock.now += 61
    warnings.warn("machine a", "again")
    told = [record.getMessage() for record in caplog.records][12:]
    assert told == ["machine a: 190 more warnings were not logged", "machine a: again"]


def test_an_allowance_is_each_machine_s_own_and_comes_back(clock: Clock) -> None:
    allowance = Allowance(3, 60.0)
    assert [allowance.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert allowance.take("b")
    clock.now += 61
    assert allowance.take("a")
