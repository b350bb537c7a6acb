"""Made-up settings of made-up machines: schedules, what agents report, what the web has set, who refuses it.

Pure but for the inserts; throws dice of its own, so that nothing else of the demonstration changes with it.
"""

from __future__ import annotations

from random import Random
from typing import Final

from appliance.control import machine_settings
from appliance.control.database import Database
from appliance.control.machine_settings import Outcome, Report, SelectionRules, Wanted
from appliance.control.scope import EVERYTHING
from appliance.demo_history import DemoMachine, Fate
from transport.schedule import EVERY_DAY, Schedule

_NOON: Final = 735
_FOLDERS: Final = ("C:/Officine", "C:/Users/comptoir/Documents", "D:/Ordonnances")


def write(db: Database, seed: int, machines: list[DemoMachine], now: float, by: str) -> None:
    """One report for each machine that ever connected, and remote settings for some."""
    dice = Random(seed)
    for number, machine in enumerate(machines):
        if machine.fate is Fate.NEVER:
            continue
        minutes = {int(machine.hour * 60), _NOON} if machine.twice else {int(machine.hour * 60)}
        schedule = Schedule(tuple(sorted(minutes)), EVERY_DAY if dice.random() < 0.7 else (0, 1, 2, 3, 4, 5))
        refuses = number % 31 == 12
        version = 0
        if number % 4 == 1:
            selection = SelectionRules(_FOLDERS[: dice.randint(1, 3)], ("*.tmp", "**/cache"))
            saved = machine_settings.save(db, EVERYTHING, machine.id, Wanted(selection, schedule), by, now - 20 * 86400)
            version = saved.version
        applied = version if version and not refuses else 0
        report = Report(
            at=now - dice.randint(20, 80_000),
            version=version,
            outcome=(Outcome.REFUSED if refuses else Outcome.APPLIED) if version else Outcome.NONE,
            reason="",
            remote_allowed=not refuses,
            schedule=schedule,
            schedule_version=applied,
            language="",
            selection=(machine.id * 2).hex(),
            selection_version=applied if number % 8 == 1 else 0,
            includes=dice.randint(1, 4),
            excludes=dice.randint(0, 9),
            next_run_at=None if machine.fate is Fate.REVOKED else now + dice.randint(600, 80_000),
        )
        machine_settings.note(db, machine.id, report, shrunk=number in (29, 88))
