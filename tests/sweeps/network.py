"""A connection that breaks at every place of a session: what is lost, sent again and stored again is counted.

    python -m tests.sweeps.network --points 200

Prints one line of figures and returns 1 where anything was lost, stored twice, or sent again without need. Points
that fail are printed as they come; the sweep goes on with a machine of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.support.bad_lines import Fault, Trials, sweep_of
from tests.support.processes import House

ENROLMENT_SHARE: Final = 8
"""One point in so many breaks an enrolment instead of a backup."""
RESTORES: Final = 24
"""Spread over the sweep: the appliance lets a machine try 30 codes in a quarter of an hour."""


def sweep(points: int, work: Path) -> tuple[dict[str, int], list[str]]:
    """All points; the counts and what was lost."""
    losses: list[str] = []
    began = time.monotonic()
    with House(work / "house") as house:
        trials = Trials(house, work)
        enrolments = max(4, points // ENROLMENT_SHARE)
        every = -(-points // RESTORES)
        try:
            for fault, kill in sweep_of(points - enrolments, trials.sent, trials.received):
                try:
                    trials.run(fault, kill=kill, restore=trials.counts.points % every == 0)
                    if trials.counts.points % 25 == 0:
                        print(f"{time.monotonic() - began:.0f} s: {trials.counts}", file=sys.stderr, flush=True)
                except AssertionError as error:
                    losses.append(str(error))
                    print(f"LOSS {error}", flush=True)
                    trials.go_on()
            up, down = trials.enrol(None)
            for number in range(enrolments):
                upwards = number % 2 == 0
                try:
                    trials.enrol(Fault("cut", number * (up if upwards else down) // enrolments, upwards))
                except AssertionError as error:
                    losses.append(str(error))
                    print(f"LOSS {error}", flush=True)
            try:
                trials.finish()
                trials.restore(len(trials.snapshots))
                trials.restore(len(trials.snapshots) // 2)
            except AssertionError as error:
                losses.append(str(error))
                print(f"LOSS {error}", flush=True)
        finally:
            trials.close()
        return asdict(trials.counts), losses


def main() -> int:
    """Sweep and print."""
    parser = argparse.ArgumentParser(description="Cut a session at every place.")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder)")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pilulier-lines-", dir=given.work) as name:
        counts, losses = sweep(given.points, Path(name))
    figures = ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in counts.items())
    print(f"network: {figures}, losses {len(losses)}, {time.monotonic() - began:.0f} s")
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
