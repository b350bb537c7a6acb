"""When work is due again, over midnight and over the change to summer time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from appliance.schedules import QUIET_S, Daily, Every

PARIS = ZoneInfo("Europe/Paris")


def at(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def test_daily() -> None:
    night = Daily(1, 30)
    assert night.after(at("2026-11-25T01:29:59+01:00"), PARIS) == at("2026-11-25T01:30:00+01:00")
    assert night.after(at("2026-11-25T01:30:00+01:00"), PARIS) == at("2026-11-26T01:30:00+01:00")
    assert night.after(at("2026-11-24T23:30:00Z"), UTC) == at("2026-11-25T01:30:00Z")
    assert str(night) == "daily at 01:30"


def test_the_night_of_summer_time() -> None:
    # 02:30 does not exist on 29 March 2026 in Paris, and 02:30 exists twice on 25 October.
    before = at("2026-03-28T12:00:00+01:00")
    due = Daily(2, 30).after(before, PARIS)
    assert before < due <= at("2026-03-29T04:00:00+02:00")
    again = Daily(2, 30).after(due, PARIS)
    assert again == at("2026-03-30T02:30:00+02:00")
    autumn = Daily(2, 30).after(at("2026-10-24T12:00:00+02:00"), PARIS)
    assert Daily(2, 30).after(autumn, PARIS) == at("2026-10-26T02:30:00+01:00")


def test_nobodys_first_hour_is_spent_on_nightly_work() -> None:
    made = at("2026-11-25T00:45:00Z")
    assert Daily(1, 30).first(made, UTC) == at("2026-11-26T01:30:00Z")
    assert Daily(2, 0).first(made, UTC) - made >= QUIET_S
    assert Every(300).first(made) == made + 60 and Every(30).first(made) == made + 30
    assert Every(300).after(made) == made + 300 and str(Every(300)) == "every 5 min" and str(Every(7200)) == "every 2 h"
