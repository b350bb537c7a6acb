"""Writes the golden plans: `python -m tests.golden.retention.generate`. Read the difference before it is kept.

Each file is one policy over one history, with what becomes of every snapshot and why. A plan that changes without a
decision to change it is a customer's history lost; files of old behaviour are replaced only together with the reason.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.store.upkeep.clock import UNWITNESSED, ClockWitness
from appliance.store.upkeep.retention import Candidate, Keep, Policy, plan_retention

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Case:
    policy: Policy
    history: list[Candidate]
    now: datetime = NOW
    witness: ClockWitness = UNWITNESSED


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def numbered(*times: datetime, **flags: bool) -> list[Candidate]:
    return [Candidate(number, ms(at), **flags) for number, at in enumerate(times, 1)]


def marked(history: list[Candidate], **numbers: set[int]) -> list[Candidate]:
    """`calm={3}` and the like; `unquiet` and `partial` say the opposite of a field."""
    made = []
    for one in history:
        values = asdict(one)
        for flag, chosen in numbers.items():
            if one.number in chosen:
                field, value = {"unquiet": ("calm", False), "partial": ("complete", False)}.get(flag, (flag, True))
                values[field] = value
        made.append(Candidate(**values))
    return made


def evenings(count: int) -> list[datetime]:
    """One snapshot a day at 18:00, the last one yesterday."""
    return [NOW.replace(hour=18) - DAY * back for back in range(count, 0, -1)]


def cases() -> dict[str, Case]:
    daily = numbered(*evenings(120))
    quarters = numbered(
        *(
            (NOW - DAY * back).replace(hour=9, minute=0) + timedelta(minutes=15) * quarter
            for back in (16, 15, 14, 13, 3, 2, 1, 0)
            for quarter in range(9)
        ),
        continuous=True,
    )
    return {
        "ninety_days": Case(Policy(), daily),
        "week_and_generations": Case(
            Policy(keep_days=7, keep_daily=14, keep_weekly=8, keep_monthly=12, keep_yearly=3),
            numbered(*(NOW.replace(hour=18) - DAY * back for back in range(900, 0, -3))),
        ),
        "nothing_asked_leaves_the_floor": Case(Policy(keep_days=0), daily),
        "one_busy_day": Case(Policy(keep_days=0), numbered(*(NOW - HOUR * back for back in range(6, 0, -1)))),
        "continuous_thins_out": Case(Policy(), quarters),
        "checkpoints": Case(
            Policy(),
            marked(numbered(*evenings(12)), partial={1, 2, 3, 5, 10, 12}),
        ),
        "first_upload_never_complete": Case(
            Policy(keep_days=3), numbered(*evenings(8), complete=False)
        ),
        "after_an_attack": Case(
            Policy(keep_days=0, floor_days=3),
            marked(
                numbered(*evenings(15)), calm={1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15}, unquiet={6, 7}
            ),
        ),
        "held": Case(Policy(keep_days=10), marked(numbered(*evenings(30)), held={2, 29})),
        "clock_went_back": Case(Policy(keep_days=1), daily, NOW - 10 * DAY),
        "clock_far_ahead": Case(
            Policy(), daily, NOW + 200 * DAY, ClockWitness(ms(NOW), int(HOUR.total_seconds() * 1000))
        ),
        "stamped_in_1970": Case(
            Policy(keep_days=30),
            numbered(*evenings(60)[:50], datetime(1970, 1, 2, tzinfo=UTC), datetime(1970, 1, 3, tzinfo=UTC),
                     *evenings(8)),
        ),
    }


def document(case: Case) -> dict[str, object]:
    plan = plan_retention(case.history, case.policy, ms(case.now), case.witness)
    flags = {one.number: one for one in case.history}
    lines = []
    for decision in plan.decisions:
        one = flags[decision.number]
        words = [
            f"{one.number:>5}",
            datetime.fromtimestamp(one.received_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M"),
            "complete" if one.complete else "partial ",
            {True: "calm   ", False: "unquiet", None: "-      "}[one.calm],
            "held" if one.held else "-   ",
            "keep" if isinstance(decision.action, Keep) else "drop",
            decision.action.reason,
        ]
        lines.append("  ".join(words))
    return {
        "policy": asdict(case.policy),
        "now": case.now.isoformat(),
        "witness": asdict(case.witness),
        "alarm": plan.alarm,
        "kept": len(plan.kept),
        "dropped": len(plan.dropped),
        "snapshots": lines,
    }


def text(case: Case) -> str:
    return json.dumps(document(case), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, case in cases().items():
        (HERE / f"{name}.json").write_text(text(case), encoding="utf-8")
