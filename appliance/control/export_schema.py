"""A step of the schema: exports of contracts that were asked for in the web. Statements only."""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    """CREATE TABLE contract_export (
        id TEXT PRIMARY KEY,
        contract_id TEXT NOT NULL REFERENCES contract(id) ON DELETE CASCADE,
        requested_by TEXT NOT NULL,
        requested_at REAL NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'failed', 'gone')),
        reason TEXT NOT NULL DEFAULT '',
        size_bytes INTEGER NOT NULL DEFAULT 0,
        ended_at REAL,
        expires_at REAL
    ) STRICT""",
    "CREATE INDEX contract_export_contract ON contract_export(contract_id)",
)
