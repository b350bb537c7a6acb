"""A step of the schema: certificates of erasure. Statements only; `migrations` gives them their number."""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # No references: a certificate outlives what it is about, its contract and its space.
    """CREATE TABLE erasure_certificate (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        object_name TEXT NOT NULL,
        space_id TEXT NOT NULL,
        contract_id TEXT,
        issued_at REAL NOT NULL,
        statement BLOB NOT NULL,
        signature BLOB NOT NULL CHECK (length(signature) = 64)
    ) STRICT""",
)
