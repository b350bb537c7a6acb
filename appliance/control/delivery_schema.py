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

CROSSINGS: Final = (
    # Whether a contract's machines may be sent each other's files; and of such a delivery: whose files, the key that
    # the receiving machine made for it, and the parcel in the spool. An envelope says that the parcel is whole.
    "ALTER TABLE contract ADD COLUMN crossings INTEGER NOT NULL DEFAULT 0 CHECK (crossings IN (0, 1))",
    "ALTER TABLE delivery ADD COLUMN source_id BLOB REFERENCES machine(id) ON DELETE CASCADE",
    "ALTER TABLE delivery ADD COLUMN receiving_key BLOB",
    "ALTER TABLE delivery ADD COLUMN receiving_signature BLOB",
    "ALTER TABLE delivery ADD COLUMN envelope BLOB",
    "ALTER TABLE delivery ADD COLUMN parcel_vault BLOB",
    "ALTER TABLE delivery ADD COLUMN parcel_chunks INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE delivery ADD COLUMN parcel_error TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX delivery_source ON delivery(source_id) WHERE source_id IS NOT NULL",
)
"""A later step: to another machine of the same contract."""
