"""Mending: extents that lie in a damaged segment are read from a fresh one, as the machine signed it.

`apply_record` is what a MEND record does, at intake and at rebuild alike. Whether an order may be taken (only for
segments that a scrub has proved damaged, only into fresh ones) is `may_be_done`'s to say. Entries, digests and
versions' sizes stay as they are: nothing that was signed changes.
"""

from __future__ import annotations

import bisect
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from appliance.store.catalog import select_in
from appliance.store.impact import versions_of
from appliance.store.packs import Identity
from appliance.store.pages import EXTENT, pack_extents, unpack_extents
from appliance.store.records import MendRecord
from appliance.store.succession import verify_any_mend
from transport.errors import DecodeError, IntegrityError
from transport.extents import Extent, merge_extents
from transport.mending import MendOrder, Repoint, decode_mend
from transport.names import ID_BYTES, SegmentId

_ROWS: Final = 512


class Redirection:
    """Where slices of damaged segments are read now."""

    def __init__(self, repoints: Sequence[Repoint]) -> None:
        self._slices: dict[SegmentId, list[tuple[int, int, SegmentId, int]]] = {}
        for slice_ in repoints:
            self._slices.setdefault(slice_.segment, []).append(
                (slice_.offset, slice_.length, slice_.fresh, slice_.fresh_offset)
            )
        for segment, slices in self._slices.items():
            slices.sort()
            for before, after in zip(slices, slices[1:], strict=False):
                if before[0] + before[1] > after[0]:
                    raise DecodeError(f"two slices of segment {segment.hex()} that are to be mended overlap")

    @property
    def segments(self) -> Collection[SegmentId]:
        """The damaged segments."""
        return self._slices.keys()

    def redirect(self, packed: bytes) -> bytes:
        """Packed extents with every covered part of them re-pointed; the same bytes where none is."""
        slices = self._slices
        if not any(packed[at : at + ID_BYTES] in slices for at in range(0, len(packed), EXTENT.size)):
            return packed
        extents: list[Extent] = []
        for extent in unpack_extents(packed):
            if extent[0] in slices:
                extents.extend(self._pieces(extent))
            else:
                extents.append(extent)
        return pack_extents(merge_extents(extents))

    def _pieces(self, extent: Extent) -> Iterator[Extent]:
        segment, at, length = extent
        end = at + length
        slices = self._slices[segment]
        first = max(0, bisect.bisect_right(slices, at, key=lambda found: found[0]) - 1)
        for offset, size, fresh, fresh_offset in slices[first:]:
            if offset >= end:
                break
            begin, stop = max(at, offset), min(end, offset + size)
            if begin >= stop:
                continue
            if at < begin:
                yield segment, at, begin - at
            yield fresh, fresh_offset + begin - offset, stop - begin
            at = stop
        if at < end:
            yield segment, at, end - at


def may_be_done(connection: sqlite3.Connection, identity: Identity, order: MendOrder) -> bool:
    """Whether every slice heals damage that was proved, from a segment that is held and whole.

    IntegrityError for an order made for another repository, DecodeError for slices out of bounds.
    """
    if order.vault != identity.vault or order.repository != identity.repository:
        raise IntegrityError("an order to mend was made for another repository or vault than this one")
    damaged = {row[0] for row in connection.execute("SELECT segment FROM damage WHERE segment IS NOT NULL")}
    named = {segment for slice_ in order.repoints for segment in (slice_.segment, slice_.fresh)}
    plain: dict[SegmentId, int] = dict(select_in(connection, "SELECT id, plain FROM segment WHERE id IN ({})", named))
    for slice_ in order.repoints:
        old, fresh = slice_.segment, slice_.fresh
        if old not in damaged or old not in plain or fresh in damaged or fresh not in plain:
            return False
        for segment, offset in ((old, slice_.offset), (fresh, slice_.fresh_offset)):
            if offset + slice_.length > plain[segment]:
                raise DecodeError(
                    f"a slice to mend is out of bounds (offset={offset}, length={slice_.length}, "
                    f"segment={plain[segment]})"
                )
    Redirection(order.repoints)
    return True


def settle(connection: sqlite3.Connection, now_ms: int) -> int:
    """Mark damage that nothing needs any more as mended; how many records that were."""
    damaged = {row[0] for row in connection.execute("SELECT segment FROM damage WHERE mended_ms = 0") if row[0]}
    needed = {segment for segments in versions_of(connection, damaged).values() for segment in segments}
    whole = [(now_ms, segment) for segment in damaged - needed]
    connection.executemany("UPDATE damage SET mended_ms = ? WHERE segment = ?", whole)
    return len(whole)


def apply_record(connection: sqlite3.Connection, identity: Identity, record: MendRecord) -> int:
    """Carry out a MEND record that stands in the packs; how many pages and versions changed. Doing it twice changes
    nothing the second time."""
    order = verify_any_mend(connection, identity, record.signed)
    if order.vault != identity.vault or order.repository != identity.repository:
        raise IntegrityError("an order to mend was made for another repository or vault than this one")
    redirection = Redirection(order.repoints)
    changed = 0
    for table, key, column, rows in (
        ("page", "number", "extents", _pages(connection)),
        ("version", "id", "body", _inline(connection)),
    ):
        for portion in rows:
            fresh = [(redirection.redirect(packed), at) for at, packed in portion]
            moved = [pair for pair, (_, packed) in zip(fresh, portion, strict=True) if pair[0] != packed]
            connection.executemany(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", moved)
            changed += len(moved)
    connection.execute("INSERT OR IGNORE INTO mend (record) VALUES (?)", (record.signed.record,))
    return changed


def all_mends(connection: sqlite3.Connection) -> list[Redirection]:
    """Everything that was re-pointed, in the order in which it was: a mended slice may be mended again."""
    rows = connection.execute("SELECT record FROM mend ORDER BY number").fetchall()
    return [Redirection(decode_mend(row[0]).repoints) for row in rows]


def _pages(connection: sqlite3.Connection) -> Iterator[list[tuple[int, bytes]]]:
    after = -1
    while True:
        rows = connection.execute(
            "SELECT number, extents FROM page WHERE number > ? ORDER BY number LIMIT ?", (after, _ROWS)
        ).fetchall()
        if not rows:
            return
        yield rows
        after = rows[-1][0]


def _inline(connection: sqlite3.Connection) -> Iterator[list[tuple[bytes, bytes]]]:
    after = b""
    while True:
        rows = connection.execute(
            "SELECT id, body FROM version WHERE span = 0 AND id > ? ORDER BY id LIMIT ?", (after, _ROWS)
        ).fetchall()
        if not rows:
            return
        yield rows
        after = rows[-1][0]
