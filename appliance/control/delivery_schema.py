"""A step of the schema: deliveries, what somebody sent to a machine to be restored there. Statements only."""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # `paths` and `above`: path ids of 16 bytes, end to end; no paths at all is the whole snapshot. What became of it
    # outlives its sender's account, so that is named by address too.
    """CREATE TABLE delivery (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        machine_id BLOB NOT NULL REFERENCES machine(id) ON DELETE CASCADE,
        number INTEGER NOT NULL CHECK (number > 0),
        snapshot INTEGER NOT NULL,
        snapshot_at REAL NOT NULL,
        paths BLOB NOT NULL,
        above BLOB NOT NULL,
        files INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        account_id TEXT NOT NULL,
        sent_by TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        state TEXT NOT NULL CHECK (
            state IN ('waiting', 'accepted', 'running', 'done', 'failed', 'refused', 'cancelled')
        ),
        answered_at REAL,
        began_at REAL,
        ended_at REAL,
        files_done INTEGER NOT NULL DEFAULT 0,
        bytes_done INTEGER NOT NULL DEFAULT 0,
        errors INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        UNIQUE (machine_id, number)
    ) STRICT""",
    "CREATE INDEX delivery_open ON delivery(machine_id) WHERE state = 'waiting'",
)
