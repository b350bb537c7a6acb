"""Which parts of present files keep mostly dead segments alive, or lie scattered: counted at a prune, asked for at the
next backup.

Counts what is live of each segment in blocks, over every version that is held, in short statements beside whoever
writes. What was counted may be out of date when a backup asks: a wish is a wish, and `care` drops those whose version
is no longer present.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from appliance.store.care import LONG_LIST_EXTENTS, SHORT_EXTENT_BYTES, WISH_BYTES, SegmentUse, Wish, plan_wishes
from appliance.store.catalog import FOREVER
from appliance.store.pages import EXTENT
from appliance.store.records import OVERHEAD_BYTES
from appliance.store.upkeep.access import Access
from transport.names import ZERO_SEGMENT, SegmentId, VersionId

_BLOCK_BYTES: Final = 4096
_ROWS: Final = 512


def note_wishes(access: Access, *, budget_bytes: int = WISH_BYTES) -> int:
    """Count, decide, and write the wishes down in place of the former ones; their bytes."""
    with access.reading() as repository, repository.reading_catalog() as catalog:
        connection = catalog.connection
        uses = {use.segment: use for use in _uses(connection) if use.mostly_dead}
        parts, long_lists = _places(connection, uses)
    wishes = plan_wishes(list(uses.values()), parts, long_lists, budget_bytes=budget_bytes)
    with access.turn() as repository, repository.maintaining() as catalog, catalog.transaction() as connection:
        connection.execute("DELETE FROM wish")
        connection.executemany(
            "INSERT INTO wish VALUES (?, ?, ?)", [(wish.version, wish.offset, wish.length) for wish in wishes]
        )
    return sum(wish.length for wish in wishes)


def _uses(connection: sqlite3.Connection) -> Iterator[SegmentUse]:
    """Segments with the share of them that anything needs, in whole blocks."""
    live: dict[bytes, int] = defaultdict(int)
    for _, packed in _rows(connection, "SELECT number, extents FROM page WHERE number > ? ORDER BY number", -1):
        _mark(live, packed)
    inline = "SELECT id, body FROM version WHERE span = 0 AND id > ? ORDER BY id"
    for _, packed in _rows(connection, inline, b""):
        _mark(live, packed)
    for _, segment, plain, length in _rows(
        connection, "SELECT number, id, plain, length FROM segment WHERE number > ? ORDER BY number", -1
    ):
        blocks = live.get(segment)
        if blocks:
            needed = min(plain, blocks.bit_count() * _BLOCK_BYTES)
            yield SegmentUse(SegmentId(segment), plain, needed, length + OVERHEAD_BYTES)


def _mark(live: dict[bytes, int], packed: bytes) -> None:
    for segment, offset, length in EXTENT.iter_unpack(packed):
        if segment != ZERO_SEGMENT:
            first, last = offset // _BLOCK_BYTES, (offset + length - 1) // _BLOCK_BYTES
            live[segment] |= ((1 << (last - first + 1)) - 1) << first


def _places(
    connection: sqlite3.Connection, wanted: dict[SegmentId, SegmentUse]
) -> tuple[dict[SegmentId, list[Wish]], list[Wish]]:
    """Where present versions use the wanted segments, and the scattered stretches of those with very long lists."""
    parts: dict[SegmentId, list[Wish]] = defaultdict(list)
    scattered: list[tuple[int, Wish]] = []
    present = (
        "SELECT id, size, span, body FROM version WHERE id > ? AND id IN "
        f"(SELECT version FROM entry WHERE died = {FOREVER}) ORDER BY id"
    )
    for version, size, span, body in _rows(connection, present, b""):
        if not span:
            _find(parts, wanted, VersionId(version), 0, body)
            continue
        stretches: list[tuple[int, Wish]] = []
        total = 0
        for index in range(0, len(body) // 8):
            number = int.from_bytes(body[index * 8 : index * 8 + 8], "big")
            row = connection.execute("SELECT length, extents FROM page WHERE number = ?", (number,)).fetchone()
            if row is None:
                continue
            _find(parts, wanted, VersionId(version), index * span, row[1])
            count = len(row[1]) // EXTENT.size
            total += count
            if count * SHORT_EXTENT_BYTES > row[0]:
                stretches.append((count, Wish(VersionId(version), index * span, row[0])))
        if total > LONG_LIST_EXTENTS and total * SHORT_EXTENT_BYTES > size:
            scattered += stretches
    scattered.sort(key=lambda found: (-found[0], found[1].version, found[1].offset))
    return parts, [wish for _, wish in scattered]


def _find(
    parts: dict[SegmentId, list[Wish]],
    wanted: dict[SegmentId, SegmentUse],
    version: VersionId,
    at: int,
    packed: bytes,
) -> None:
    for segment, _, length in EXTENT.iter_unpack(packed):
        if segment in wanted:
            parts[segment].append(Wish(version, at, length))
        at += length


def _rows(connection: sqlite3.Connection, statement: str, after: Any) -> Iterator[tuple[Any, ...]]:
    while True:
        rows = connection.execute(f"{statement} LIMIT {_ROWS}", (after,)).fetchall()
        if not rows:
            return
        yield from rows
        after = rows[-1][0]
