"""A step of the schema: copies on site, as their machines tell of them. Statements only."""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # `told_at` is the appliance's clock, `written_at` what the machine's clock says, held back to it. `added_at`: when
    # the copy was heard of first, so that one that is never written is missed too.
    """CREATE TABLE site_copy (
        machine_id BLOB NOT NULL REFERENCES machine(id) ON DELETE CASCADE,
        copy_id BLOB NOT NULL CHECK (length(copy_id) = 16),
        name TEXT NOT NULL,
        place INTEGER NOT NULL,
        state TEXT NOT NULL,
        written_at REAL,
        free_bytes INTEGER,
        warn_days INTEGER NOT NULL CHECK (warn_days > 0),
        added_at REAL NOT NULL,
        told_at REAL NOT NULL,
        PRIMARY KEY (machine_id, copy_id)
    ) STRICT""",
)
