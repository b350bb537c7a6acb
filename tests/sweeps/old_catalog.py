"""A catalog of format 1, made out of a present one: what repositories were before retiring and compacting."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

_FORMAT_1: Final[dict[str, str]] = {
    "state": "id format repository vault public_key head committed_segment next_page next_batch intake session "
    "session_start received_upto live_entries",
    "pack": "number size",
    "segment": "number id pack offset length plain",
    "page": "number length extents",
    "version": "id size span body",
    "batch": "number epoch salt commitment born",
    "entry": "parent path born died kind size version batch idx token sealed",
    "folder": "path died born digest",
    "snapshot": "number hash record signature entry_count received_ms bytes_received retired pack offset",
    "touched": "folder",
    "staged": "number kind items",
    "partial": "number version size base base_size operations total",
}
"""The columns of each table."""
_INDEXES: Final = frozenset({"entry_path"})


def to_format_1(path: Path) -> None:
    """Take away what format 1 did not have. Only for a repository that never used it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        for kind, name, made_by in rows:
            if kind == "index" and made_by and name not in _INDEXES:
                connection.execute(f"DROP INDEX {name}")
        for kind, name, _ in rows:
            if kind != "table":
                continue
            if name not in _FORMAT_1:
                connection.execute(f"DROP TABLE {name}")
                continue
            for column in connection.execute(f"PRAGMA table_info({name})").fetchall():
                if column[1] not in _FORMAT_1[name].split():
                    connection.execute(f"ALTER TABLE {name} DROP COLUMN {column[1]}")
        connection.execute("UPDATE state SET format = 1")
        connection.execute("VACUUM")
    finally:
        connection.close()
