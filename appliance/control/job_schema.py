"""The step of the schema for work that happens by itself: jobs and their runs, how far a mail's delivery is.

Statements only; `migrations` gives them their number.
"""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # The record of what is due and what is under way; the queue in jobs.db only wakes whoever looks here.
    """CREATE TABLE job (
        name TEXT PRIMARY KEY,
        next_at REAL NOT NULL,
        asked_at REAL,
        asked_by TEXT NOT NULL DEFAULT '',
        owner TEXT,
        lease_until REAL,
        run_id INTEGER
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE job_run (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        started_at REAL NOT NULL,
        ended_at REAL,
        outcome TEXT NOT NULL CHECK (outcome IN ('running', 'done', 'warnings', 'failed', 'stopped', 'interrupted')),
        text TEXT NOT NULL DEFAULT '',
        asked_by TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    "CREATE INDEX job_run_name ON job_run(name, id)",
    # state: waiting until it is sent or given up; the lease of whoever sends it, when to try again, and why not yet.
    "ALTER TABLE outbox ADD COLUMN message_id TEXT",
    "ALTER TABLE outbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE outbox ADD COLUMN next_at REAL NOT NULL DEFAULT 0",
    "ALTER TABLE outbox ADD COLUMN lease_until REAL NOT NULL DEFAULT 0",
    "ALTER TABLE outbox ADD COLUMN last_error TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE outbox ADD COLUMN given_up_at REAL",
    "DROP INDEX outbox_waiting",
    "CREATE INDEX outbox_waiting ON outbox(next_at, id) WHERE sent_at IS NULL AND given_up_at IS NULL",
    # Alerts with a life: open until acknowledged or resolved; one that comes again is a new row.
    # key: what tells one alert of a kind from another, a machine's id in hex, a contract's or a space's id, or ''.
    """CREATE TABLE alert (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        machine_id BLOB,
        machine_name TEXT NOT NULL,
        contract_id TEXT NOT NULL,
        client_id TEXT NOT NULL,
        space_id TEXT NOT NULL,
        facts TEXT NOT NULL,
        since REAL NOT NULL,
        opened_at REAL NOT NULL,
        seen_at REAL NOT NULL,
        told_at REAL,
        acknowledged_at REAL,
        acknowledged_by TEXT,
        resolved_at REAL
    ) STRICT""",
    "CREATE UNIQUE INDEX alert_living ON alert(kind, key) WHERE resolved_at IS NULL",
    "CREATE INDEX alert_machine ON alert(machine_id, id)",
    "CREATE INDEX alert_contract ON alert(contract_id, id)",
    # How far whoever turns events into mails has come.
    """CREATE TABLE notice_cursor (
        name TEXT PRIMARY KEY,
        value REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # What the disks held, an hour apart: what a forecast is drawn from.
    """CREATE TABLE disk_reading (
        at REAL PRIMARY KEY,
        free_bytes INTEGER NOT NULL,
        total_bytes INTEGER NOT NULL
    ) STRICT""",
)

STORMS: Final = (
    # Of each newest snapshot as it came: a sweep takes away what it was measured by.
    """CREATE TABLE snapshot_storm (
        machine_id BLOB NOT NULL REFERENCES machine(id),
        number INTEGER NOT NULL,
        entries_before INTEGER NOT NULL,
        files_lost INTEGER NOT NULL,
        files_fresh INTEGER NOT NULL,
        incompressible_percent INTEGER NOT NULL,
        PRIMARY KEY (machine_id, number)
    ) STRICT, WITHOUT ROWID""",
)
"""A later step: what tells an attack from work."""

OBSERVED: Final = (
    # What an agent's guards saw, where there is anything to tell.
    """CREATE TABLE snapshot_observed (
        machine_id BLOB NOT NULL REFERENCES machine(id),
        number INTEGER NOT NULL,
        decoys INTEGER NOT NULL,
        decoys_touched INTEGER NOT NULL,
        clock_ahead_s INTEGER NOT NULL,
        stale_files INTEGER NOT NULL,
        cloud_files INTEGER NOT NULL,
        PRIMARY KEY (machine_id, number)
    ) STRICT, WITHOUT ROWID""",
)
"""A later step: what the guards of agents saw."""
