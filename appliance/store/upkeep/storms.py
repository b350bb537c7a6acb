"""What tells an attack from work: files that are gone or became others, and whether what came instead compresses.

Moves are no loss: a version that goes on under another path was not lost, however many entries a renamed folder ends.
Neither is a new mode or time: the version stays. What ransomware writes does not compress; a sample of the new versions
says so, from the lengths of their segments alone. Reads only, in short statements, and needs no key.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.store.care import version_extents
from appliance.store.catalog import FOREVER, Catalog, sqlite_errors
from appliance.store.durable import Disk
from appliance.store.layout import Layout
from transport.names import NO_VERSION, ZERO_SEGMENT, SegmentId, VersionId
from transport.sealing import SEGMENT_OVERHEAD
from transport.tree import EntryKind

SAMPLE: Final = 200
"""New versions that are looked into. Paths are MACs, so that the first of them are a fair choice."""
_EXTENTS: Final = 500
"""Of each version."""
_PORTIONS: Final = 64
"""The table of entries is read in so many statements: a reader's lock holds up the writer's commit."""
_INCOMPRESSIBLE: Final = 0.97
"""A segment that stayed larger than this share of its contents did not compress."""


@dataclass(frozen=True, slots=True)
class Storm:
    """One snapshot against the one before it."""

    number: int
    entries_before: int
    files_lost: int
    """Files of the former snapshot that are gone or have other contents, moved ones left out."""
    files_fresh: int
    """Files whose contents came with this snapshot."""
    incompressible_percent: int
    """Of the bytes of these, by a sample; 0 where there are none."""


def measure(folder: Path, number: int) -> Storm | None:
    """The storm of snapshot `number`, or None where the repository does not hold it; works beside a writer."""
    catalog = Catalog(Disk(), Layout(folder).catalog, read_only=True)
    try:
        with sqlite_errors(catalog.path):
            counts = dict(
                catalog.connection.execute(
                    "SELECT number, entry_count FROM snapshot WHERE number IN (?, ?)", (number - 1, number)
                ).fetchall()
            )
            if number not in counts:
                return None
            ended, begun = _turnover(catalog.connection, number)
            fresh = begun.keys() - ended.keys()
            # A version that went on, here or elsewhere, was not lost.
            lost = sum(count for version, count in ended.items() if version not in begun)
            return Storm(
                number,
                counts.get(number - 1, 0),
                lost,
                sum(begun[version] for version in fresh),
                _incompressible_percent(catalog.connection, sorted(fresh)[:SAMPLE]),
            )
    finally:
        catalog.close()


def _turnover(connection: sqlite3.Connection, number: int) -> tuple[dict[VersionId, int], dict[VersionId, int]]:
    """How many files of each version ended with a snapshot, and how many began."""
    ended: dict[VersionId, int] = {}
    begun: dict[VersionId, int] = {}
    step = 256 // _PORTIONS
    for portion in range(_PORTIONS):
        low = bytes([portion * step])
        high = bytes([(portion + 1) * step]) if portion + 1 < _PORTIONS else b"\xff" * 17
        rows = connection.execute(
            "SELECT version, died = ? AS gone, count(*) FROM entry WHERE parent >= ? AND parent < ? "
            "AND (died = ? OR (born = ? AND died = ?)) AND kind = ? AND version != ? GROUP BY 1, 2",
            (number, low, high, number, number, FOREVER, int(EntryKind.FILE), NO_VERSION),
        ).fetchall()
        for version, gone, count in rows:
            counts = ended if gone else begun
            counts[version] = counts.get(version, 0) + count
    return ended, begun


def _incompressible_percent(connection: sqlite3.Connection, versions: list[VersionId]) -> int:
    total = hard = 0
    known: dict[SegmentId, bool] = {}
    for version in versions:
        for at, (_, (segment, _, length)) in enumerate(version_extents(connection, version)):
            if at == _EXTENTS:
                break
            if segment == ZERO_SEGMENT:
                continue
            if segment not in known:
                row = connection.execute("SELECT length, plain FROM segment WHERE id = ?", (segment,)).fetchone()
                known[segment] = row is not None and row[0] - SEGMENT_OVERHEAD >= _INCOMPRESSIBLE * row[1]
            total += length
            hard += length * known[segment]
    return 100 * hard // total if total else 0
