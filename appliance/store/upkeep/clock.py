"""Whether the appliance's own clock can be believed when history is about to be dropped by it. Pure: no clock is read.

Rule: a clock that went back, or far forward, drops nothing. What it is held against is a `ClockWitness`, the last
moment at which it was seen to be right, and the newest snapshot. Knows neither where the witness is kept nor who
is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

DAY_MS: Final = 86_400_000
SLACK_MS: Final = 10 * 60_000
"""Backwards by this much is a time server's correction."""
FORWARD_LIMIT_MS: Final = 35 * DAY_MS
"""Further ahead than this of what was last witnessed is no longer a holiday with the appliance switched off."""


@dataclass(frozen=True, slots=True)
class ClockWitness:
    """What is known of the clock from before: milliseconds since 1970, and a count that nobody can set."""

    last_ms: int | None
    """The last time seen that was believed; None before the first."""
    elapsed_ms: int | None = None
    """What a clock that only counts (CLOCK_BOOTTIME) says has passed since; None after a restart."""
    accepted: bool = False
    """An operator has just said that the clock is right."""


UNWITNESSED: Final = ClockWitness(None)


@dataclass(frozen=True, slots=True)
class Sound:
    """The clock agrees with what is known."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """The clock cannot be believed; `text` is a sentence for people."""

    text: str


ClockVerdict = Sound | Suspect


def judge(now_ms: int, witness: ClockWitness, newest_ms: int | None = None) -> ClockVerdict:
    """Whether `now_ms` can be, given the witness and the time at which the newest snapshot was received.

    The forward limit counts what the appliance's own count of time does not explain: a box that ran for a year
    without a visitor is believed, one that was off for longer than the limit waits for an operator's word.
    """
    if witness.accepted:
        return Sound()
    if newest_ms is not None and now_ms < newest_ms - SLACK_MS:
        return Suspect(
            f"the clock says {_time(now_ms)}, but a snapshot was received at {_time(newest_ms)}: "
            "it has gone back, or had been ahead then"
        )
    if witness.last_ms is None:
        return Sound()
    if now_ms < witness.last_ms - SLACK_MS:
        return Suspect(
            f"the clock says {_time(now_ms)}, but it has said {_time(witness.last_ms)} before: "
            "it has gone back, or had been ahead then"
        )
    ahead_ms = now_ms - witness.last_ms - (witness.elapsed_ms or 0)
    if ahead_ms > FORWARD_LIMIT_MS:
        return Suspect(
            f"the clock says {_time(now_ms)}, which is {ahead_ms // DAY_MS} days further than the appliance can "
            f"account for since {_time(witness.last_ms)}"
        )
    return Sound()


def _time(ms: int) -> str:
    """ISO 8601 in UTC; the bare number for what no calendar holds."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{ms} ms"
