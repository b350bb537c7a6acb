"""A step of the schema: what the web wants of each machine's agent, and what the agents last said of themselves.

Statements only; `migrations` gives them their number. There is no column for commands or hooks, so nothing here can
carry one.
"""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # What is wanted, part by part: NULL leaves a part to the machine. The language stands in machine.language.
    """CREATE TABLE machine_settings (
        machine_id BLOB PRIMARY KEY REFERENCES machine(id) ON DELETE CASCADE,
        version INTEGER NOT NULL CHECK (version > 0),
        selection TEXT,
        selection_version INTEGER NOT NULL DEFAULT 0,
        schedule TEXT,
        schedule_version INTEGER NOT NULL DEFAULT 0,
        saved_by TEXT NOT NULL,
        saved_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE machine_report (
        machine_id BLOB PRIMARY KEY REFERENCES machine(id) ON DELETE CASCADE,
        at REAL NOT NULL,
        version INTEGER NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('none', 'applied', 'refused', 'invalid')),
        reason TEXT NOT NULL,
        remote_allowed INTEGER NOT NULL CHECK (remote_allowed IN (0, 1)),
        schedule TEXT NOT NULL,
        schedule_version INTEGER NOT NULL,
        language TEXT NOT NULL,
        selection BLOB NOT NULL CHECK (length(selection) = 32),
        selection_version INTEGER NOT NULL,
        includes INTEGER NOT NULL,
        excludes INTEGER NOT NULL,
        next_run_at REAL,
        shrunk_at REAL
    ) STRICT, WITHOUT ROWID""",
    # One row a machine: the newest request. Numbers grow, so that an agent knows one that it has heard before.
    """CREATE TABLE backup_request (
        machine_id BLOB PRIMARY KEY REFERENCES machine(id) ON DELETE CASCADE,
        number INTEGER NOT NULL CHECK (number > 0),
        requested_by TEXT NOT NULL,
        requested_at REAL NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'taken', 'refused')),
        answered_at REAL,
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT, WITHOUT ROWID""",
)

USED: Final = (
    # What else an agent said that a backup went by, as JSON; NULL where it said nothing.
    "ALTER TABLE snapshot_configuration ADD COLUMN used TEXT",
)
