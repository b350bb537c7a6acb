"""A repository held still for a copy that takes long, while its agent goes on backing up.

Owns the order: first the turn of maintenance, so that no pack is compacted or removed meanwhile; then the catalog, by
SQLite's own backup, as it stands at one moment; then how far each pack counted at that moment. Packs only grow, and a
record is on the disk before the catalog names it, so packs cut at these lengths and this catalog are a repository as
a power cut at that moment would have left it. Writers wait for the copy of the catalog alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.store.catalog import connect, sqlite_errors
from appliance.store.layout import Layout, PackFile
from appliance.store.turns import MaintenanceTurn


@dataclass(frozen=True, slots=True)
class CountedPack:
    """A pack, and how many of its bytes belong to the copy."""

    file: PackFile
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class HeldStill:
    """What is to be copied. `head` is the number of the newest commit, 0 before the first."""

    packs: tuple[CountedPack, ...]
    head: int


@contextmanager
def held_still(folder: Path, catalog_copy: Path, *, wait_s: float) -> Iterator[HeldStill]:
    """Copy the catalog to `catalog_copy`, an empty file, and keep the packs it names in place within the block.

    BusyRepositoryError where the repository is pruned, scrubbed or rebuilt for longer than `wait_s`.
    """
    layout = Layout(folder)
    turn = MaintenanceTurn(layout, wait_s=wait_s)
    try:
        with (
            sqlite_errors(layout.catalog),
            closing(connect(layout.catalog, read_only=True)) as source,
            closing(sqlite3.connect(catalog_copy)) as target,
        ):
            # In one step: in several, each commit meanwhile would begin it anew.
            source.backup(target)
            rows = target.execute("SELECT number, generation, size FROM pack ORDER BY number").fetchall()
            (head,) = target.execute("SELECT head FROM state").fetchone()
        packs = tuple(
            CountedPack(PackFile(number, generation), layout.pack(number, generation), size)
            for number, generation, size in rows
        )
        yield HeldStill(packs, head)
    finally:
        turn.close()
