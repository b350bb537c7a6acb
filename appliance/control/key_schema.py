"""A step of the schema: wrapped machine keys. Statements only; `migrations` gives them their number."""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # The envelope alone opens nothing: its escrow key lies in another file, or its passphrase in somebody's head.
    """CREATE TABLE machine_key (
        machine_id BLOB PRIMARY KEY REFERENCES machine(id) ON DELETE CASCADE,
        mode TEXT NOT NULL CHECK (mode IN ('confided', 'private')),
        escrow_key BLOB CHECK (escrow_key IS NULL OR length(escrow_key) = 16),
        envelope BLOB NOT NULL CHECK (length(envelope) <= 4096),
        envelope_sha256 BLOB NOT NULL CHECK (length(envelope_sha256) = 32),
        received_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
)
