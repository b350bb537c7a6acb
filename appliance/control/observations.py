"""What the guards of agents saw during backups, and what follows at once: a suspicious change, a clock that is off.

Rule: a decoy that was touched opens the alert of a suspicious change in the transaction of its snapshot's figures, so
that no prune can come between. Agents speak for themselves: what a lying one says here freezes its own history alone,
and one that keeps silent is still held against `storms`. Only snapshots with something to tell have a row.
"""

from __future__ import annotations

from typing import Final

from appliance.control import alarms, alert_table, machine_alerts
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from transport.messages import Observed

CLOCK_SLACK_S: Final = 300
"""A clock that is no further off is right enough for people."""


def record(db: Database, machine_id: bytes, number: int, observed: Observed, now: float) -> None:
    """Keep what was seen and act on it; within the caller's transaction where there is one."""
    with db.write():
        _watch_clock(db, machine_id, observed.clock_ahead_s, now)
        if not (observed.decoys_touched or observed.stale_files or observed.cloud_files):
            return
        columns = ("decoys", "decoys_touched", "clock_ahead_s", "stale_files", "cloud_files")
        db.execute(
            f"INSERT INTO snapshot_observed (machine_id, number, {', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (machine_id, number) DO NOTHING",
            [machine_id, number, *(getattr(observed, name) for name in columns)],
        )
        if observed.decoys_touched:
            for alert in machine_alerts.decoys_touched(db, EVERYTHING, machine_id):
                alert_table.open_now(db, alert, now)


def _watch_clock(db: Database, machine_id: bytes, ahead_s: int, now: float) -> None:
    if abs(ahead_s) <= CLOCK_SLACK_S:
        alarms.end(db, alarms.MACHINE_CLOCK, machine_id)
        return
    side = "ahead of" if ahead_s > 0 else "behind"
    text = f"the machine's clock is {span_text(abs(ahead_s))} {side} the appliance's"
    alarms.sound(db, alarms.MACHINE_CLOCK, text, now=now, machine_id=machine_id)


def span_text(seconds: int) -> str:
    """`12 minutes`, `3 hours`, `366 days`: whole ones, of the largest unit of which there are two."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"


def suspicious_snapshots(db: Database, machine_id: bytes) -> frozenset[int]:
    """Numbers of the snapshots with which a touched decoy was told: none of them is calm, however little changed."""
    rows = db.rows(
        "SELECT number FROM snapshot_observed WHERE machine_id = ? AND decoys_touched > 0", [machine_id]
    )
    return frozenset(row["number"] for row in rows)
