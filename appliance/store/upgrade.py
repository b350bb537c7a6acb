"""Catalogs of older formats, brought to the present one in a single transaction when a writer opens them.

Packs need no upgrade: new kinds of records only ever come behind old ones. The catalog could be rebuilt as well; this
is quicker, and it keeps what an upload in progress has staged. Knows the old schema, and nothing else does.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from appliance.store.durable import Disk
from appliance.store.errors import StoreError
from appliance.store.records import OVERHEAD_BYTES

_TO_2: Final = f"""
ALTER TABLE state ADD COLUMN committed_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN next_version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE state ADD COLUMN leased_segment INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN leased_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN checkpoint_pack INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN checkpoint_offset INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pack ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pack ADD COLUMN segment_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE pack SET segment_bytes =
    (SELECT coalesce(sum(length + {OVERHEAD_BYTES}), 0) FROM segment WHERE segment.pack = pack.number);
ALTER TABLE version RENAME TO version_1;
CREATE TABLE version (
    id BLOB PRIMARY KEY, number INTEGER NOT NULL, size INTEGER NOT NULL, span INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO version SELECT id, row_number() OVER (ORDER BY id), size, span, body FROM version_1;
DROP TABLE version_1;
CREATE INDEX version_number ON version (number);
UPDATE state SET next_version = (SELECT count(*) + 1 FROM version)
"""
"""The order in which old versions came is not known: all of them stay leased until the first whole upload."""


def upgrade(
    disk: Disk, path: Path, connection: sqlite3.Connection, *, new_tables: str, to_format: int, read_only: bool
) -> None:
    """From format 1 to the present one, whole or not at all; StoreError where the catalog is open read-only."""
    if read_only:
        raise StoreError(f"{path} is of an older format: start the appliance once, which upgrades it")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in (_TO_2 + ";" + new_tables).split(";"):
            connection.execute(statement)
        connection.execute("UPDATE state SET format = ?", (to_format,))
        disk.commit_catalog(connection)
    except Exception:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
