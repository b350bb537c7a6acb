"""What each newest snapshot lost and gained, and whether that looks like an attack.

Rule (`is_suspicious`, pure): a loss of the space's threshold is suspicious whatever came instead; half of that is,
where what came instead does not compress and is about as many files, which is what encryption looks like; and both only
far from the machine's own history, since there are machines that replace a third of their files each night.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.control.database import Database
from appliance.store.upkeep.storms import Storm

LEAST_ENTRIES: Final = 100
"""Few entries change in large shares by themselves."""
LEAST_LOST: Final = 50
HARD_PERCENT: Final = 85
"""So much of what is new must not compress. A day's scans do not either, but they take nothing's place."""
USUAL_SNAPSHOTS: Final = 14
USUAL_LEAST: Final = 5
"""From so many snapshots on a machine has a history of its own."""
FAR: Final = 2
"""Times what is usual."""


@dataclass(frozen=True, slots=True)
class Usual:
    """A machine's own history: how many snapshots were measured, and the second largest loss among them in per cent.

    The largest is left out: one reorganisation must not make the next attack look usual.
    """

    snapshots: int
    percent: int


def record(db: Database, machine_id: bytes, storm: Storm) -> Storm:
    """Keep what was measured, joined with the checkpoints on the way to it; the joined storm.

    An attack is not smaller for coming in pieces: after incomplete snapshots what they lost counts too, against what
    there was before the first of them.
    """
    with db.write():
        before = db.row(
            "SELECT storm.entries_before, storm.files_lost, storm.files_fresh, storm.incompressible_percent "
            "FROM snapshot_storm AS storm JOIN snapshot_statistics AS figures "
            "ON figures.machine_id = storm.machine_id AND figures.number = storm.number "
            "WHERE storm.machine_id = ? AND storm.number = ? AND figures.complete = 0",
            [machine_id, storm.number - 1],
        )
        if before is not None and before["entries_before"]:
            storm = _joined(before, storm)
        db.execute(
            "INSERT INTO snapshot_storm (machine_id, number, entries_before, files_lost, files_fresh, "
            "incompressible_percent) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (machine_id, number) DO NOTHING",
            [
                *(machine_id, storm.number, storm.entries_before, storm.files_lost, storm.files_fresh),
                storm.incompressible_percent,
            ],
        )
        return storm


def _joined(before: dict[str, int], storm: Storm) -> Storm:
    fresh = before["files_fresh"] + storm.files_fresh
    hard = before["files_fresh"] * before["incompressible_percent"] + storm.files_fresh * storm.incompressible_percent
    return Storm(
        storm.number,
        before["entries_before"],
        before["files_lost"] + storm.files_lost,
        fresh,
        hard // fresh if fresh else 0,
    )


def usual(db: Database, machine_id: bytes, number: int) -> Usual:
    """The machine's history before a snapshot."""
    rows = db.rows(
        "SELECT 100 * files_lost / entries_before AS percent FROM snapshot_storm WHERE machine_id = ? AND number < ? "
        "AND entries_before > 0 ORDER BY number DESC LIMIT ?",
        [machine_id, number, USUAL_SNAPSHOTS],
    )
    percents = sorted(row["percent"] for row in rows)
    return Usual(len(percents), percents[-2] if len(percents) >= 2 else 0)


def is_suspicious(storm: Storm, own: Usual, threshold_percent: int) -> bool:
    """Whether a snapshot looks like an attack. Pure."""
    if storm.entries_before < LEAST_ENTRIES or storm.files_lost < LEAST_LOST:
        return False
    percent = 100 * storm.files_lost / storm.entries_before
    if own.snapshots >= USUAL_LEAST and percent <= FAR * own.percent:
        return False
    if percent >= threshold_percent:
        return True
    encrypted = storm.incompressible_percent >= HARD_PERCENT and 2 * storm.files_fresh >= storm.files_lost
    return encrypted and percent >= threshold_percent / 2
