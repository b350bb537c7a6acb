"""What a backup is asked to send again: parts of present files that stand damaged, or keep mostly dead segments alive.

Damaged parts come from the list of damage that a scrub wrote; wishes were noted by a prune, which had just counted what
is live (`plan_wishes`, pure). Only versions of the newest snapshot are asked for: the machine can have no others. What
is sent again for a wish serves new versions only; damage is mended by a signed order (`mending`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.store import staging
from appliance.store.catalog import FOREVER, select_in
from appliance.store.impact import versions_of
from appliance.store.pages import Layout, flat_extents
from transport.extents import Extent
from transport.messages import CARE_LIMIT, CareRange
from transport.names import ZERO_SEGMENT, SegmentId, VersionId

WISH_BYTES: Final = 64 << 20
"""What one backup is asked to send again at most, beside damage."""
MOSTLY_DEAD_SHARE: Final = 0.3
"""A segment less live than this is worth sending its rest again."""
LONG_LIST_EXTENTS: Final = 4096
"""A version of more extents, shorter than SHORT_EXTENT_BYTES on the average, is worth laying out anew."""
SHORT_EXTENT_BYTES: Final = 16 << 10
_EXTENTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class SegmentUse:
    """A segment that is needed for `live_bytes` of its `plain_bytes`, and keeps `record_bytes` of a pack."""

    segment: SegmentId
    plain_bytes: int
    live_bytes: int
    record_bytes: int

    @property
    def mostly_dead(self) -> bool:
        """Whether it is worth sending what is live of it again."""
        return self.live_bytes < MOSTLY_DEAD_SHARE * self.plain_bytes


@dataclass(frozen=True, slots=True)
class Wish:
    """`length` bytes at `offset` of a version should come again."""

    version: VersionId
    offset: int
    length: int


def plan_wishes(
    segments: Sequence[SegmentUse],
    parts: Mapping[SegmentId, Sequence[Wish]],
    long_lists: Sequence[Wish],
    *,
    budget_bytes: int = WISH_BYTES,
) -> list[Wish]:
    """Which parts to ask for: those that free most for what they cost come first, up to the budget.

    `parts` are the places of present files that each segment serves; `long_lists` whole stretches of scattered ones.
    """
    wishes: list[Wish] = []
    left = budget_bytes
    worth = sorted(
        (use for use in segments if use.mostly_dead and parts.get(use.segment)),
        key=lambda use: (use.live_bytes / max(1, use.record_bytes), use.segment),
    )
    for use in worth:
        cost = sum(part.length for part in parts[use.segment])
        if cost <= left:
            left -= cost
            wishes += parts[use.segment]
    for part in long_lists:
        if part.length <= left:
            left -= part.length
            wishes.append(part)
    return _joined(wishes)


def _joined(wishes: Sequence[Wish]) -> list[Wish]:
    """In order, neighbours and overlaps as one."""
    joined: list[Wish] = []
    for wish in sorted(wishes, key=lambda wish: (wish.version, wish.offset)):
        last = joined[-1] if joined else None
        if last is not None and last.version == wish.version and wish.offset <= last.offset + last.length:
            end = max(last.offset + last.length, wish.offset + wish.length)
            joined[-1] = Wish(last.version, last.offset, end - last.offset)
        else:
            joined.append(wish)
    return joined


def care_ranges(connection: sqlite3.Connection, limit: int = CARE_LIMIT) -> list[CareRange]:
    """What to ask the next backup for: damage first, then wishes whose versions are still the present ones."""
    found: list[CareRange] = []
    damaged = unmended(connection)
    present = present_versions(connection, versions_of(connection, damaged)) if damaged else set()
    for version in sorted(present):
        for offset, (segment, at, length) in version_extents(connection, version):
            if segment in damaged:
                if len(found) == limit:
                    return found
                found.append(CareRange(version, offset, length, segment, at))
    rows = connection.execute("SELECT version, offset, length FROM wish ORDER BY version, offset").fetchall()
    alive = present_versions(connection, {row[0] for row in rows}) - present if rows else set()
    for version, offset, length in rows:
        if version in alive and len(found) < limit:
            found.append(CareRange(version, offset, length, ZERO_SEGMENT, 0))
    return found


def unmended(connection: sqlite3.Connection) -> set[SegmentId]:
    """Segments that are damaged and that something may still need."""
    rows = connection.execute("SELECT segment FROM damage WHERE segment IS NOT NULL AND mended_ms = 0")
    return {row[0] for row in rows}


def unsound_versions(connection: sqlite3.Connection) -> set[VersionId]:
    """Versions that cannot be read whole: no new version may be made by copying from them."""
    damaged = unmended(connection)
    return set(versions_of(connection, damaged)) if damaged else set()


def present_versions(
    connection: sqlite3.Connection, versions: Mapping[VersionId, object] | set[VersionId]
) -> set[VersionId]:
    """Those of the versions that an entry of the newest snapshot names."""
    statement = f"SELECT DISTINCT version FROM entry WHERE died = {FOREVER} AND version IN ({{}})"
    return {row[0] for row in select_in(connection, statement, versions)}


def version_extents(connection: sqlite3.Connection, version: VersionId) -> Iterator[tuple[int, Extent]]:
    """Each extent of a version with its place in the file; none for a version that is not held."""
    layout = staging.version_layout(connection, version)
    at = 0
    while layout is not None:
        extents, more = _extents(connection, layout, at)
        for extent in extents:
            yield at, extent
            at += extent[2]
        if not more:
            return


def _extents(connection: sqlite3.Connection, layout: Layout, start: int) -> tuple[list[Extent], bool]:
    return flat_extents(layout, lambda numbers: staging.load_pages(connection, numbers), start, _EXTENTS)
