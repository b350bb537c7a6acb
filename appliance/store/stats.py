"""What a repository holds, in figures. Reads the catalog alone."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.store.catalog import Catalog
from appliance.store.upkeep import check


@dataclass(frozen=True, slots=True)
class RepositoryStats:
    """What a repository holds. `entries` are those of the newest snapshot."""

    snapshots: int
    entries: int
    segments: int
    packs: int
    bytes_stored: int
    """All packs."""
    bytes_live: int
    """Sealed segments that a held version or the open upload still refers to."""


def stats(catalog: Catalog) -> RepositoryStats:
    """What is held now; reads the whole list of extents."""
    connection = catalog.connection
    kept, head_entries = connection.execute(
        "SELECT count(*), coalesce((SELECT entry_count FROM snapshot ORDER BY number DESC LIMIT 1), 0) "
        "FROM snapshot WHERE NOT retired"
    ).fetchone()
    (segments,) = connection.execute("SELECT count(*) FROM segment").fetchone()
    packs = catalog.packs()
    live = check.live_bytes(catalog)
    stored = sum(pack.size_bytes for pack in packs.values())
    return RepositoryStats(kept, head_entries, segments, len(packs), stored, live)
