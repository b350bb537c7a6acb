"""The look around that alerts are made from: disk, clock, fresh changes of machines, mails that do not leave.

Every few minutes: what each new snapshot replaced or lost is counted as soon as it is there, so that ransomware is
flagged at its first snapshot and not at the next prune; alarms of the appliance itself begin and end here; then
everything that is wrong is held against the rows of the alert table. Writes only where something changed.
"""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime
from typing import Final

from appliance.control import (
    alarms,
    alert_table,
    clock,
    disk_readings,
    machine_alerts,
    outbox,
    statistics,
    storms,
)
from appliance.control.alert_table import Synced
from appliance.control.database import Database
from appliance.control.disk_readings import DiskReading
from appliance.control.scope import EVERYTHING
from appliance.job_running import JobContext
from appliance.settings import Home
from appliance.sizes import format_size
from appliance.store.upkeep.changes import snapshot_changes
from appliance.store.upkeep.storms import measure
from transport.errors import PilulierError

DISK_PERCENT: Final = 90
"""More than this used is told whatever the pace."""
DISK_SOON_S: Final = 30 * 86400.0
"""A disk that will be full within this time is told: so long may new disks take to come."""
CLOCK_NOTE_S: Final = 600.0
"""The clock is noted when nobody else has noted it for so long."""
MAIL_STUCK_S: Final = 6 * 3600.0

log = logging.getLogger("pilulier.watching")


def refresh(context: JobContext) -> Synced:
    """Look at everything, and bring alarms and alerts up to date."""
    db, now = context.db, context.now()
    _note_clock(db, now)
    _watch_disk(context.home, db, now)
    _watch_mail(db, now)
    record_fresh_changes(context)
    # Without regard to what runs at the moment: a backup under way must not resolve "late" and open it again.
    return alert_table.sync(db, machine_alerts.every(db, EVERYTHING, now), now)


def _note_clock(db: Database, now: float) -> None:
    noted = db.value("SELECT at FROM clock_witness WHERE id = 1")
    if noted is None or not noted <= now < noted + CLOCK_NOTE_S:
        clock.note(db, clock.read(now))


def _watch_disk(home: Home, db: Database, now: float) -> None:
    usage = shutil.disk_usage(home.repositories)
    reading = DiskReading(now, usage.free, usage.total)
    if disk_readings.note(db, reading):
        text = disk_warning(reading, disk_readings.full_at(disk_readings.since(db, now - disk_readings.FORECAST_S)))
        if text:
            alarms.sound(db, alarms.DISK, text, now=now)
        elif any(alarm.kind == alarms.DISK for alarm in alarms.every(db)):
            alarms.end(db, alarms.DISK)


def disk_warning(reading: DiskReading, full_at: float | None) -> str:
    """What is to be said about the disk, in a sentence; empty where all is well. Pure."""
    soon = full_at is not None and full_at - reading.at <= DISK_SOON_S
    if reading.used_percent <= DISK_PERCENT and not soon:
        return ""
    text = f"{reading.used_percent} % of the disk is used, {format_size(reading.free_bytes)} are free"
    if full_at is not None:
        text += f"; at the pace of the last days it is full on {datetime.fromtimestamp(full_at, UTC).date()}"
    return text


def _watch_mail(db: Database, now: float) -> None:
    counts = outbox.counts(db)
    stuck = counts.oldest_at is not None and now - counts.oldest_at > MAIL_STUCK_S
    if stuck:
        failing = next((mail.last_error for mail in outbox.pending(db, 1) if mail.last_error), "")
        reason = f": {failing}" if failing else ": no mail server is configured, see 'pilulier mail set'"
        alarms.sound(db, alarms.MAIL, f"{counts.waiting} mails wait to be sent{reason}", now=now)
    elif any(alarm.kind == alarms.MAIL for alarm in alarms.every(db)):
        alarms.end(db, alarms.MAIL)


def record_fresh_changes(context: JobContext) -> int:
    """Count what snapshots replaced or lost that were received since the last look; how many snapshots."""
    rows = context.db.rows(
        "SELECT * FROM (SELECT machine.id, "
        "(SELECT max(number) FROM snapshot_statistics WHERE machine_id = machine.id) AS newest, "
        "coalesce((SELECT max(number) FROM snapshot_change WHERE machine_id = machine.id), 0) AS counted, "
        "coalesce((SELECT max(number) FROM snapshot_storm WHERE machine_id = machine.id), 0) AS measured FROM machine) "
        "WHERE newest > counted OR newest > measured"
    )
    fresh = 0
    for row in rows:
        context.stopping.check()
        folder = context.home.repository(row["id"])
        if not folder.is_dir():
            continue
        try:
            changes = snapshot_changes(folder, row["counted"]) if row["newest"] > row["counted"] else []
            # Of the newest alone: of older ones a sweep may have taken away what they were measured by.
            storm = measure(folder, row["newest"]) if row["newest"] > row["measured"] else None
        except PilulierError as error:
            log.warning("the changes of machine %s cannot be counted: %s", row["id"].hex(), error)
            continue
        with context.db.write():
            if storm is not None:
                storms.record(context.db, row["id"], storm)
            statistics.record_changes(context.db, row["id"], changes)
        fresh += len(changes)
    return fresh
