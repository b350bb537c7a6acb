"""Alarms: what is wrong now, told once per kind and machine until it is over. Mails and pages about them come on top.

An alarm that is raised again keeps the time at which it was first seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.control.database import Database
from appliance.control.text import one_line

CLOCK: Final = "clock"
"""The appliance's clock cannot be believed."""
DAMAGE: Final = "damage"
"""A machine's repository has records that do not read well."""
SCRUB_LATE: Final = "scrub-late"
"""Not everything is read again as often as promised."""
DISK: Final = "disk"
"""The disk of the repositories fills."""
MAIL: Final = "mail"
"""Mails do not leave."""
MACHINE_CLOCK: Final = "machine-clock"
"""A machine's clock is far from the appliance's; the appliance goes by its own."""
SCHEMA: Final = 2
"""The first version of the database that has this table."""
_TEXT_LIMIT: Final = 500
_APPLIANCE: Final = bytes(16)
"""Stands for no machine: an alarm of the appliance itself. No machine has this id."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong. `machine_id` is None for the appliance itself; times in seconds since 1970."""

    kind: str
    machine_id: bytes | None
    text: str
    first_seen_at: float
    last_seen_at: float


def sound(db: Database, kind: str, text: str, *, now: float, machine_id: bytes | None = None) -> None:
    """Raise an alarm, or say again that it lasts."""
    with db.write():
        db.execute(
            "INSERT INTO alarm (kind, machine, text, first_seen_at, last_seen_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (kind, machine) DO UPDATE SET text = excluded.text, last_seen_at = excluded.last_seen_at",
            [kind, machine_id or _APPLIANCE, one_line(text, _TEXT_LIMIT), now, now],
        )


def end(db: Database, kind: str, machine_id: bytes | None = None) -> None:
    """It is over; harmless where there was none."""
    with db.write():
        db.execute("DELETE FROM alarm WHERE kind = ? AND machine = ?", [kind, machine_id or _APPLIANCE])


def every(db: Database) -> list[Alarm]:
    """All that is wrong, oldest first."""
    rows = db.rows("SELECT kind, machine, text, first_seen_at, last_seen_at FROM alarm ORDER BY first_seen_at, kind")
    return [
        Alarm(
            row["kind"],
            None if row["machine"] == _APPLIANCE else row["machine"],
            row["text"],
            row["first_seen_at"],
            row["last_seen_at"],
        )
        for row in rows
    ]
