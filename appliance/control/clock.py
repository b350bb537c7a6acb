"""The clock's witness: the last moment at which the appliance's clock was believed, kept in one row.

Rules: whoever writes to this database regularly (a machine says hello, a snapshot is recorded, a prune) notes the
time; a reading that cannot be believed raises an alarm and leaves the row alone, so that a wrong clock does not
become its own witness; only a plausible reading or an operator's word ends the alarm. Together with the time
stands what CLOCK_BOOTTIME counted, which nobody can set: within one boot it tells a long quiet from a jump.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.control import alarms
from appliance.control.database import Database
from appliance.store.upkeep.clock import UNWITNESSED, ClockVerdict, ClockWitness, Suspect, judge

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reading:
    """A look at the clocks: seconds since 1970, which boot this is ("" where unknown), seconds counted since it."""

    at: float
    boot: str
    counted: float


def read(now: float | None = None) -> Reading:
    """The clocks of this machine; `now` where the caller has just looked at the first."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        counted = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError, ValueError):
        boot, counted = "", 0.0
    return Reading(time.time() if now is None else now, boot, counted)


def witness(db: Database, reading: Reading) -> ClockWitness:
    """What is known of the clock from before, for who stands at `reading`."""
    row = db.row("SELECT at, boot, counted FROM clock_witness WHERE id = 1")
    if row is None:
        return UNWITNESSED
    same_boot = bool(reading.boot) and row["boot"] == reading.boot and reading.counted >= row["counted"]
    elapsed_ms = int((reading.counted - row["counted"]) * 1000) if same_boot else None
    return ClockWitness(int(row["at"] * 1000), elapsed_ms)


def note(db: Database, reading: Reading) -> ClockVerdict:
    """Write the time down if it can be believed; an alarm begins or ends with it."""
    with db.write():
        verdict = judge(int(reading.at * 1000), witness(db, reading))
        if isinstance(verdict, Suspect):
            alarms.sound(db, alarms.CLOCK, verdict.text, now=reading.at)
        else:
            _keep(db, reading)
        return verdict


def accept(db: Database, reading: Reading) -> ClockWitness:
    """An operator says that the clock is right: what was noted before no longer counts against it."""
    with db.write():
        _keep(db, reading)
    return ClockWitness(int(reading.at * 1000), 0, accepted=True)


def _keep(db: Database, reading: Reading) -> None:
    db.execute(
        "INSERT INTO clock_witness (id, at, boot, counted) VALUES (1, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET at = excluded.at, boot = excluded.boot, counted = excluded.counted",
        [reading.at, reading.boot, reading.counted],
    )
    alarms.end(db, alarms.CLOCK)
