"""How much of a machine each snapshot replaced or lost, counted from the catalog: what calm is judged by.

Counts records that the appliance took in, not what an agent says of itself. A sweep takes away what the counts of
old snapshots stand on, so whoever prunes reads them first and keeps them. Reads only, in short statements.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.store.catalog import FOREVER, Catalog, sqlite_errors
from appliance.store.durable import Disk
from appliance.store.layout import Layout

_PORTIONS: Final = 64
"""The table of entries is read in so many statements: a reader's lock holds up the writer's commit."""


@dataclass(frozen=True, slots=True)
class SnapshotChange:
    """One snapshot against the one before it, in entries (files, folders, links)."""

    number: int
    entries_before: int
    entries_ended: int
    """Entries of the former snapshot that this one replaced or lost."""


def snapshot_changes(folder: Path, after: int) -> list[SnapshotChange]:
    """The changes of all snapshots numbered above `after`, ascending; works beside a writer."""
    catalog = Catalog(Disk(), Layout(folder).catalog, read_only=True)
    try:
        with sqlite_errors(catalog.path):
            counts = catalog.connection.execute(
                "SELECT number, entry_count FROM snapshot WHERE number >= ? ORDER BY number", (after,)
            ).fetchall()
            ended: dict[int, int] = {}
            for portion in range(_PORTIONS):
                step = 256 // _PORTIONS
                # Parents are MACs, spread evenly, except the root (all zeros); 16 bytes of 0xff end the last portion.
                low = bytes([portion * step])
                high = bytes([(portion + 1) * step]) if portion + 1 < _PORTIONS else b"\xff" * 17
                rows = catalog.connection.execute(
                    "SELECT died, count(*) FROM entry WHERE parent >= ? AND parent < ? AND died > ? AND died < ? "
                    "GROUP BY died",
                    (low, high, after, FOREVER),
                ).fetchall()
                for died, count in rows:
                    ended[died] = ended.get(died, 0) + count
    finally:
        catalog.close()
    before = dict(counts)
    return [
        SnapshotChange(number, before.get(number - 1, 0), ended.get(number, 0))
        for number, _ in counts
        if number > after
    ]
