"""Retention: which snapshots a policy keeps, with a reason for each. Pure: no clock, no file, no key.

Rules: time is the appliance's, as it stamped each snapshot on reception, never the agent's; keeping is "within so
many days", never "the last N", so that no flood of snapshots pushes history out; the newest snapshot, a held one
and the floor stay whatever a policy or an operator asks; a clock that cannot be believed drops nothing. Days,
weeks, months and years are those of UTC. Knows neither contracts nor how a drop is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from appliance.store.upkeep.clock import DAY_MS, SLACK_MS, ClockVerdict, ClockWitness, Suspect, judge
from transport.errors import UsageError

DEFAULT_KEEP_DAYS: Final = 90
DEFAULT_FLOOR_DAYS: Final = 7
"""A week of days with a backup is what nobody can type away: long enough for a holiday to end and for someone to
notice, short enough that an operator with a full disk can still make real room. Contracts that promise more set
more."""
MINIMUM_FLOOR_DAYS: Final = 3
LONGEST_DAYS: Final = 36_500

PARTIAL_KEPT_MS: Final = 2 * DAY_MS
"""How long a checkpoint stays beside the complete snapshot that made it superfluous."""
CONTINUOUS_ALL_MS: Final = 2 * DAY_MS
CONTINUOUS_HOURLY_MS: Final = 14 * DAY_MS
_HOUR_MS: Final = 3_600_000
_CALENDAR_END_MS: Final = 250_000_000_000_000

STORM_REMEMBERED_MS: Final = 180 * DAY_MS
"""How long the calm snapshot before an unquiet one is kept for its sake."""
STORM_SHARE: Final = 0.3
STORM_ENTRIES: Final = 50
"""A day of work touches a few per cent of a machine's files, and a folder tidied up some dozens; encryption by
ransomware, a wrong mass deletion or a restored old disk touch nearly all. Both bounds must be passed, so that a
machine of ten files that all change is calm."""


def is_calm(entries_before: int, entries_ended: int) -> bool:
    """Whether a snapshot that replaced or lost `entries_ended` of the former snapshot's entries is business as usual.

    Judged from records the appliance received. Entries that are only added harm nothing that was there.
    """
    return entries_ended <= STORM_ENTRIES or entries_ended <= STORM_SHARE * entries_before


@dataclass(frozen=True, slots=True)
class Policy:
    """What a contract keeps. Everything within `keep_days`, and the newest complete snapshot of each day, week,
    month and year within so many of them (0: none) beyond; UsageError where a number is out of range."""

    keep_days: int = DEFAULT_KEEP_DAYS
    floor_days: int = DEFAULT_FLOOR_DAYS
    """The newest complete snapshots of so many distinct days on which there was one are never dropped."""
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    thin_continuous: bool = True
    """Snapshots of continuous mode: all for 2 days, one an hour for 14, then one a day."""

    def __post_init__(self) -> None:
        for name, lowest, unit in (
            ("keep_days", 0, "days"),
            ("floor_days", MINIMUM_FLOOR_DAYS, "days"),
            ("keep_daily", 0, "days"),
            ("keep_weekly", 0, "weeks"),
            ("keep_monthly", 0, "months"),
            ("keep_yearly", 0, "years"),
        ):
            value = getattr(self, name)
            if not lowest <= value <= LONGEST_DAYS:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} {value} is out of range: give {lowest} to {LONGEST_DAYS} {unit}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot as retention sees it. `received_ms` is the appliance's clock, milliseconds since 1970."""

    number: int
    received_ms: int
    complete: bool = True
    """False for a checkpoint on the way to a complete snapshot."""
    calm: bool | None = None
    """None where nothing is known."""
    continuous: bool = False
    held: bool = False
    """An operator forbids to drop it."""
    retired: bool = False
    """Dropped before: it is never planned again, and still tells of time and storms."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The snapshot stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """The snapshot goes."""

    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one snapshot."""

    number: int
    received_ms: int
    action: Keep | Drop


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """A decision for each snapshot that is still held, by number."""

    decisions: tuple[Decision, ...]
    clock: ClockVerdict

    @property
    def alarm(self) -> str | None:
        """Why the clock is not believed; nothing is dropped then."""
        return self.clock.text if isinstance(self.clock, Suspect) else None

    @property
    def kept(self) -> frozenset[int]:
        """Numbers that stay."""
        return frozenset(one.number for one in self.decisions if isinstance(one.action, Keep))

    @property
    def dropped(self) -> frozenset[int]:
        """Numbers that go."""
        return frozenset(one.number for one in self.decisions if isinstance(one.action, Drop))


@dataclass(frozen=True, slots=True)
class _Aged:
    """A candidate with the time that is believed of it: never before that of a snapshot it came after."""

    snapshot: Candidate
    time_ms: int


def plan_retention(
    candidates: Iterable[Candidate], policy: Policy, now_ms: int, clock: ClockWitness
) -> RetentionPlan:
    """What to keep and what to drop at `now_ms`, milliseconds since 1970 by the appliance's clock.

    Candidates are all snapshots of one repository, retired ones included, in any order.
    """
    every = _aged(candidates)
    present = [one for one in every if not one.snapshot.retired]
    verdict = judge(now_ms, clock, every[-1].time_ms if every else None)
    if isinstance(verdict, Suspect):
        return RetentionPlan(tuple(_decided(one, Keep("the clock looks wrong")) for one in present), verdict)
    last_complete = max((one.snapshot.number for one in present if one.snapshot.complete), default=0)
    # The reason shown is the last one here: the floor is named only where nothing else keeps a snapshot.
    reasons = _floor(every, present, policy, now_ms)
    reasons |= _chosen(present, policy, now_ms, last_complete)
    reasons |= _pinned(present)
    return RetentionPlan(
        tuple(
            _decided(
                one,
                Keep(reasons[one.snapshot.number])
                if one.snapshot.number in reasons
                else Drop(_why_dropped(one, policy, now_ms, last_complete)),
            )
            for one in present
        ),
        verdict,
    )


def _decided(one: _Aged, action: Keep | Drop) -> Decision:
    return Decision(one.snapshot.number, one.snapshot.received_ms, action)


def _aged(candidates: Iterable[Candidate]) -> list[_Aged]:
    """By number. A snapshot stamped while the clock stood in 1970 is as young as the one before it."""
    aged: list[_Aged] = []
    for snapshot in sorted(candidates, key=lambda candidate: candidate.number):
        before_ms = aged[-1].time_ms if aged else snapshot.received_ms
        aged.append(_Aged(snapshot, max(snapshot.received_ms, before_ms)))
    return aged


def _pinned(present: Sequence[_Aged]) -> dict[int, str]:
    """The newest snapshot, complete or not, and the held ones."""
    reasons = {one.snapshot.number: "held by an operator" for one in present if one.snapshot.held}
    if present:
        reasons[present[-1].snapshot.number] = "the newest"
    return reasons


def _floor(every: Sequence[_Aged], present: Sequence[_Aged], policy: Policy, now_ms: int) -> dict[int, str]:
    """What stays whatever the policy says: the newest of several days, the last calm one, the calm before a storm."""
    reasons: dict[int, str] = {}
    complete = [one for one in reversed(present) if one.snapshot.complete]
    storm = _last_storm(every, now_ms)
    if storm is not None:
        calm = _last_calm([one for one in complete if one.snapshot.number < storm])
        if calm is not None:
            reasons[calm.snapshot.number] = f"floor: the last calm one before the unquiet snapshot {storm}"
    calm = _last_calm(complete)
    if calm is not None:
        reasons[calm.snapshot.number] = "floor: the last calm one"
    for one in _newest_of_days(complete, policy.floor_days):
        reasons[one.snapshot.number] = f"floor: newest of its day, of the last {policy.floor_days} days that have one"
    return reasons


def _newest_of_days(complete: Sequence[_Aged], days: int) -> list[_Aged]:
    """`complete` is newest first."""
    found: list[_Aged] = []
    for one in complete:
        if not found or found[-1].time_ms // DAY_MS != one.time_ms // DAY_MS:
            found.append(one)
        if len(found) == days:
            break
    return found


def _last_calm(complete: Sequence[_Aged]) -> _Aged | None:
    """The newest known to be calm; where none is known, the newest that is not known to be unquiet."""
    for wanted in (True, None):
        for one in complete:
            if one.snapshot.calm is wanted:
                return one
    return None


def _last_storm(every: Sequence[_Aged], now_ms: int) -> int | None:
    """The newest unquiet snapshot, retired or not, complete or not yet: what follows an attack is calm again and
    proves nothing."""
    for one in reversed(every):
        if one.snapshot.calm is False:
            return one.snapshot.number if now_ms - one.time_ms <= STORM_REMEMBERED_MS else None
    return None


def _chosen(present: Sequence[_Aged], policy: Policy, now_ms: int, last_complete: int) -> dict[int, str]:
    """What the policy itself keeps."""
    reasons: dict[int, str] = {}
    thinned = _thinned(present, now_ms) if policy.thin_continuous else frozenset()
    for one in present:
        age_ms = now_ms - one.time_ms
        within_ms = policy.keep_days * DAY_MS
        if one.snapshot.number < last_complete and not one.snapshot.complete:
            within_ms = min(within_ms, PARTIAL_KEPT_MS)
        if age_ms < -SLACK_MS:
            reasons[one.snapshot.number] = "received later than the clock says now"
        elif max(age_ms, 0) < within_ms and one.snapshot.number not in thinned:
            reasons[one.snapshot.number] = f"within {policy.keep_days} days"
    complete = [one for one in reversed(present) if one.snapshot.complete]
    for name, count, period in (
        ("day", policy.keep_daily, _day),
        ("week", policy.keep_weekly, _week),
        ("month", policy.keep_monthly, _month),
        ("year", policy.keep_yearly, _year),
    ):
        latest = period(_date(now_ms))
        seen: set[int] = set()
        for one in complete if count else ():
            at = period(_date(one.time_ms))
            if at not in seen and latest - at < count:
                reasons.setdefault(one.snapshot.number, f"newest of its {name}, within {count} {name}s")
            seen.add(at)
    return reasons


def _thinned(present: Sequence[_Aged], now_ms: int) -> frozenset[int]:
    """Snapshots of continuous mode that a newer one of the same hour, later of the same day, stands for."""
    hours: set[int] = set()
    days: set[int] = set()
    thinned: set[int] = set()
    for one in reversed(present):
        if not one.snapshot.continuous or not one.snapshot.complete:
            continue
        age_ms = now_ms - one.time_ms
        hour, day = one.time_ms // _HOUR_MS, one.time_ms // DAY_MS
        if (age_ms >= CONTINUOUS_ALL_MS and hour in hours) or (age_ms >= CONTINUOUS_HOURLY_MS and day in days):
            thinned.add(one.snapshot.number)
        hours.add(hour)
        days.add(day)
    return frozenset(thinned)


def _why_dropped(one: _Aged, policy: Policy, now_ms: int, last_complete: int) -> str:
    if not one.snapshot.complete and one.snapshot.number < last_complete:
        return f"partial, and snapshot {last_complete} is complete"
    if not policy.keep_days:
        return "nothing beyond the floor is asked to be kept"
    if now_ms - one.time_ms >= policy.keep_days * DAY_MS:
        return f"older than {policy.keep_days} days"
    return "continuous, and a newer one stands for its hour or day"


def _date(ms: int) -> datetime:
    """The moment in UTC, kept within what a calendar holds."""
    return datetime.fromtimestamp(min(max(ms, 0), _CALENDAR_END_MS) / 1000, UTC)


def _day(at: datetime) -> int:
    return at.toordinal()


def _week(at: datetime) -> int:
    """Weeks begin on Monday, as day 1 of the ordinals did."""
    return (at.toordinal() - 1) // 7


def _month(at: datetime) -> int:
    return at.year * 12 + at.month


def _year(at: datetime) -> int:
    return at.year
