"""A step of the schema: what a recovered machine gets back. Statements only; `migrations` gives them their number."""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # Sealed under the machine's key: the appliance cannot read the paths in it.
    """CREATE TABLE sealed_settings (
        machine_id BLOB PRIMARY KEY REFERENCES machine(id) ON DELETE CASCADE,
        sealed BLOB NOT NULL CHECK (length(sealed) BETWEEN 1 AND 65536),
        received_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
)
