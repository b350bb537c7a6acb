"""What damage costs: which snapshots, and how many files in them, need a segment that cannot be read.

Answers with numbers and opaque ids only; whoever holds the key can turn path ids into names. Reads the catalog in short
statements, each table once whatever the number of damaged segments.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.store.catalog import select_in
from appliance.store.pages import EXTENT
from transport.names import ID_BYTES, PathId, SegmentId, VersionId

_ROWS: Final = 512


@dataclass(frozen=True, slots=True)
class Impact:
    """What one segment is needed for. `snapshots` are held ones; `files` counts paths, each version apart."""

    snapshots: tuple[int, ...]
    files: int

    def sentence(self) -> str:
        """For people."""
        if not self.files:
            return "no snapshot that is held needs it"
        shown = _ranges(self.snapshots)
        return f"{self.files} file{'s' * (self.files > 1)} in snapshot{'s' * (len(self.snapshots) > 1)} {shown}"


def impacts(connection: sqlite3.Connection, segments: Collection[SegmentId]) -> dict[SegmentId, Impact]:
    """The impact of each of these segments, were it lost."""
    versions = versions_of(connection, segments)
    held = [row[0] for row in connection.execute("SELECT number FROM snapshot WHERE NOT retired ORDER BY number")]
    numbers: dict[SegmentId, set[int]] = {segment: set() for segment in segments}
    files: dict[SegmentId, set[tuple[PathId, VersionId]]] = {segment: set() for segment in segments}
    # Entries have no index by version: one pass over them for every 4096 versions that are asked for.
    wanted = "SELECT version, path, born, died FROM entry WHERE version IN ({})"
    for version, path, born, died in select_in(connection, wanted, versions):
        shown = [number for number in held if born <= number < died]
        if not shown:
            continue
        for segment in versions[version]:
            numbers[segment].update(shown)
            files[segment].add((path, version))
    return {segment: Impact(tuple(sorted(numbers[segment])), len(files[segment])) for segment in segments}


def versions_of(
    connection: sqlite3.Connection, segments: Collection[SegmentId]
) -> dict[VersionId, set[SegmentId]]:
    """The versions that name any of these segments, with those that each names."""
    wanted = set(segments)
    found: dict[VersionId, set[SegmentId]] = {}
    pages: dict[int, set[SegmentId]] = {}
    if not wanted:
        return found
    for number, extents in _rows(connection, "SELECT number, extents FROM page WHERE number > ? ORDER BY number", -1):
        named = wanted.intersection(_segments(extents))
        if named:
            pages[number] = named
    statement = "SELECT id, span, body FROM version WHERE id > ? ORDER BY id"
    for version, span, body in _rows(connection, statement, b""):
        if span:
            named = set()
            if pages:
                for at in range(0, len(body), 8):
                    named |= pages.get(int.from_bytes(body[at : at + 8], "big"), set())
        else:
            named = wanted.intersection(_segments(body))
        if named:
            found[version] = named
    return found


def _segments(packed: bytes) -> Iterator[SegmentId]:
    return (SegmentId(packed[at : at + ID_BYTES]) for at in range(0, len(packed), EXTENT.size))


def _rows(connection: sqlite3.Connection, statement: str, after: Any) -> Iterator[tuple[Any, ...]]:
    """All rows of a keyset query, some at a time."""
    while True:
        rows = connection.execute(f"{statement} LIMIT {_ROWS}", (after,)).fetchall()
        if not rows:
            return
        yield from rows
        after = rows[-1][0]


def _ranges(numbers: tuple[int, ...]) -> str:
    """`1 to 3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
