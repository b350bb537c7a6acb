"""The sweep: what no held snapshot needs is forgotten, in the catalog only, by mark and sweep over live extents.

Order: entries and folder digests that lie in no held snapshot; versions that no entry names; pages that no version
names; batches; segments that no extent names. What a session still leases stays. Each portion leaves a sound catalog,
so a sweep may stop anywhere and be begun anew. Between two portions others may write: what came since a mark began is
looked at again, in the transaction that forgets. Compaction takes the bytes; nothing here touches packs.
"""

from __future__ import annotations

import sqlite3
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from appliance.store.catalog import Catalog, State
from appliance.store.errors import DamagedRepositoryError
from appliance.store.pages import EXTENT
from appliance.store.records import OVERHEAD_BYTES
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from transport.names import ID_BYTES

PORTION_S: Final = 0.3
"""A transaction that forgets is ended after this long."""
_CHUNK: Final = 1000
_SCAN_ROWS: Final = 20_000
_ROWS: Final = 5000
_PORTION_BYTES: Final = 4 << 20
_ROUNDS: Final = 3
"""Mends that arrive during a mark make it worthless; after so many of them the rest is left to the next sweep."""
EVIDENCE_MS: Final = 90 * 24 * 3600 * 1000
"""How long a damaged segment is kept after it was mended: a season in which a restore may show that the fresh bytes
were not the old ones, and somebody may want to repair the original by hand."""
_SEGMENT_OF = struct.Struct(f"{ID_BYTES}s{EXTENT.size - ID_BYTES}x")


@dataclass(slots=True)
class SweepReport:
    """What was forgotten."""

    entries: int = 0
    folders: int = 0
    versions: int = 0
    pages: int = 0
    batches: int = 0
    segments: int = 0
    segment_bytes: int = 0
    """Whole SEGMENT records, which now lie dead in their packs."""
    finished: bool = True
    """False: mends kept arriving, and some dead segments were left to the next sweep."""


class _Ground(Protocol):
    """Where a sweep works: by turns beside a service, or alone within one open transaction."""

    def reading(self) -> AbstractContextManager[tuple[sqlite3.Connection, State]]: ...

    def writing(self) -> AbstractContextManager[tuple[sqlite3.Connection, State]]: ...


class _Turns:
    """Reads beside whoever writes; each portion that writes is a turn of its own."""

    def __init__(self, access: Access, reader: Repository) -> None:
        self._access = access
        self._reader = reader

    @contextmanager
    def reading(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        with self._reader.reading_catalog() as catalog:
            yield catalog.connection, catalog.state()

    @contextmanager
    def writing(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        with self._access.turn() as repository, repository.maintaining() as catalog, catalog.transaction() as found:
            state, before = catalog.state(), catalog.state()
            yield found, state
            if state != before:
                catalog.save(state)


class _Alone:
    def __init__(self, catalog: Catalog, state: State) -> None:
        self._catalog = catalog
        self._state = state

    @contextmanager
    def reading(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        yield self._catalog.connection, self._state

    @contextmanager
    def writing(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        yield self._catalog.connection, self._state


def sweep(access: Access, *, now_ms: int = 0) -> SweepReport:
    """Forget what is dead. Reading is done beside whoever writes; what is written, in turns of about PORTION_S.

    Damaged segments stay until EVIDENCE_MS after they were mended; by a clock of 0, for ever.
    """
    with access.turn():
        pass  # opened for writing once: what a crash left is put right, and readers can read
    with access.reading() as reader:
        return _Sweep(_Turns(access, reader), now_ms - EVIDENCE_MS).run()


def sweep_whole(catalog: Catalog, state: State) -> SweepReport:
    """The same within an open transaction of the caller's, who saves `state`."""
    return _Sweep(_Alone(catalog, state)).run()


class _Sweep:
    def __init__(self, ground: _Ground, evidence_until_ms: int = 0) -> None:
        self._ground = ground
        self._report = SweepReport()
        self._evidence_until_ms = evidence_until_ms
        with ground.reading() as (_, state):
            self._began = replace(state)
            """As it was before anything was read: what is newer is looked at again."""

    def run(self) -> SweepReport:
        report = self._report
        report.entries = self._forget_intervals("entry", "parent")
        report.folders = self._forget_intervals("folder", "path")
        self._forget_versions()
        for _ in range(_ROUNDS):
            if _Extents(self._ground, report, self._evidence_until_ms).run():
                return report
        report.finished = False
        return report

    # Entries and folder digests

    def _forget_intervals(self, table: str, parent: str) -> int:
        """Delete the rows of `table` whose interval holds no held snapshot; how many those were.

        Their key is (`parent`, path, born); a folder digest has no parent, and its path stands twice.
        """
        statement = f"DELETE FROM {table} WHERE {parent} = ? AND path = ? AND born = ?"
        count = 0
        dead: list[tuple[bytes, bytes, int]] = []
        for rows in self._ended(table, parent):
            dead += rows
            if len(dead) >= _SCAN_ROWS:
                count += self._delete(statement, dead)
                dead = []
        return count + self._delete(statement, dead)

    def _ended(self, table: str, parent: str) -> Iterator[list[tuple[bytes, bytes, int]]]:
        """Keys (parent, path, born) of dead rows, by ranges of path ids. What is dead stays dead: nothing that was
        retired is ever held again, and an interval that ended at or before the head does not change."""
        after = b""
        while True:
            with self._ground.reading() as (connection, state):
                gaps = _Gaps(connection, state.head)
                row = connection.execute(
                    f"SELECT path FROM {table} WHERE path > ? ORDER BY path LIMIT 1 OFFSET {_SCAN_ROWS}", (after,)
                ).fetchone()
                upto = row[0] if row else b"\xff" * (ID_BYTES + 1)
                rows = connection.execute(
                    f"SELECT {parent}, path, born, died FROM {table} WHERE path > ? AND path <= ? AND died <= ?",
                    (after, upto, gaps.last),
                ).fetchall()
            yield [(folder, path, born) for folder, path, born, died in rows if gaps.holds(born, died)]
            if row is None:
                return
            after = upto

    def _delete(
        self,
        statement: str,
        keys: Sequence[tuple[Any, ...]],
        needed: Callable[[sqlite3.Connection, State], set[bytes]] | None = None,
    ) -> int:
        """Delete by key in transactions of about PORTION_S; `needed` names, within each, keys that must stay."""
        count = at = 0
        while at < len(keys):
            with self._ground.writing() as (connection, state):
                keep = needed(connection, state) if needed else set()
                for chunk in _chunks(keys, at):
                    gone = [key for key in chunk if key[0] not in keep] if keep else chunk
                    count += connection.executemany(statement, gone).rowcount if gone else 0
                    at += len(chunk)
        return count

    # Versions and batches

    def _forget_versions(self) -> None:
        began, named, batches = self._began, set[bytes](), set[int]()
        statement = (
            "SELECT parent, path, born, version, batch FROM entry WHERE (parent, path, born) > (?, ?, ?) "
            f"ORDER BY parent, path, born LIMIT {_ROWS}"
        )
        for rows in _portions(self._ground, statement, (b"", b"", -1)):
            named.update([row[3] for row in rows])
            batches.update([row[4] for row in rows])
        dead: list[tuple[bytes]] = []
        statement = f"SELECT number, id FROM version WHERE number > ? ORDER BY number LIMIT {_SCAN_ROWS}"
        for rows in _portions(self._ground, statement, (0,)):
            dead += [(row[1],) for row in rows if row[0] <= began.leased_version and row[1] not in named]
            if rows[-1][0] >= began.leased_version:
                break
        self._report.versions = self._delete("DELETE FROM version WHERE id = ?", dead, self._named_since)
        with self._ground.reading() as (connection, _):
            statement = "SELECT number FROM batch WHERE number < ?"
            numbers = connection.execute(statement, (began.next_batch,)).fetchall()
        gone = [row for row in numbers if row[0] not in batches]
        self._report.batches = self._delete("DELETE FROM batch WHERE number = ?", gone)

    def _named_since(self, connection: sqlite3.Connection, state: State) -> set[bytes]:
        """Versions that entries name which were staged or committed since the sweep began.

        A staged entry's folder is in `touched`; a committed one's folder has a digest that was born with it, or
        replaced an entry of the very same version.
        """
        if state.next_batch == self._began.next_batch:
            return set()
        head = self._began.head
        rows = connection.execute(
            "SELECT e.version FROM (SELECT folder FROM touched UNION SELECT path FROM folder WHERE born > ?) t "
            "CROSS JOIN entry e ON e.parent = t.folder AND e.born > ?",
            (head, head),
        )
        return {row[0] for row in rows}


class _Gaps:
    """The runs of retired snapshots. `last` is the head: what died later, or is staged, is no concern of a sweep."""

    def __init__(self, connection: sqlite3.Connection, head: int) -> None:
        self.last = head
        self._first: list[int] = []
        self._end: list[int] = []
        for (number,) in connection.execute("SELECT number FROM snapshot WHERE retired ORDER BY number"):
            if self._end and self._end[-1] == number - 1:
                self._end[-1] = number
            else:
                self._first.append(number)
                self._end.append(number)

    def holds(self, born: int, died: int) -> bool:
        """Whether every snapshot in [born, died) is retired."""
        at = bisect_right(self._first, born) - 1
        return at >= 0 and self._end[at] >= died - 1


class _Extents:
    """One mark over versions and pages, and the forgetting of pages and segments that it did not reach."""

    def __init__(self, ground: _Ground, report: SweepReport, evidence_until_ms: int) -> None:
        self._ground = ground
        self._report = report
        self._evidence_until_ms = evidence_until_ms
        """What was mended at this time or before is no longer kept."""
        with ground.reading() as (connection, state):
            self._leased = state.leased_segment
            self._first_page = state.next_page
            self._next_page, self._next_version = state.next_page, state.next_version
            self._mends = _mends(connection)
        self._pages = bytearray(self._first_page)
        """1 for each page that a version names."""
        self._segments: set[bytes] = set()

    def run(self) -> bool:
        """False where a mend arrived meanwhile: it re-points extents that were read already."""
        ground = self._ground
        statement = "SELECT id, span, body FROM version WHERE id > ? ORDER BY id"
        for rows in _portions(ground, statement, (b"",), blob=2):
            self._mark_versions([row[1:] for row in rows])
        dead: list[int] = []
        statement = "SELECT number, extents FROM page WHERE number > ? ORDER BY number"
        for rows in _portions(ground, statement, (0,), blob=1):
            fresh = [row for row in rows if row[0] >= self._first_page or self._pages[row[0]]]
            self._mark_extents([row[1] for row in fresh])
            dead += [row[0] for row in rows if row[0] < self._first_page and not self._pages[row[0]]]
        if not self._forget_pages(dead):
            return False
        gone: list[tuple[int, bytes, int]] = []
        statement = f"SELECT number, id, length FROM segment WHERE number > ? ORDER BY number LIMIT {_SCAN_ROWS}"
        for rows in _portions(ground, statement, (0,)):
            gone += [row for row in rows if row[0] <= self._leased and row[1] not in self._segments]
            if rows[-1][0] >= self._leased:
                break
        return self._forget_segments(gone)

    def _mark_versions(self, rows: Sequence[tuple[int, bytes]]) -> None:
        self._mark_extents([body for span, body in rows if not span])
        pages, top = self._pages, self._first_page
        for span, body in rows:
            if span:
                if len(body) % 8:
                    raise _broken(f"a page list of {len(body)} bytes")
                for number in struct.unpack(f">{len(body) // 8}Q", body):
                    if number < top:
                        pages[number] = 1

    def _mark_extents(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            if len(body) % EXTENT.size:
                raise _broken(f"an extent list of {len(body)} bytes")
        self._segments.update([segment for (segment,) in _SEGMENT_OF.iter_unpack(b"".join(bodies))])

    def _mark_since(self, connection: sqlite3.Connection, state: State) -> bool:
        """Mark what versions and pages that arrived since the last look need. False after a mend."""
        if state.next_version != self._next_version:
            rows = connection.execute("SELECT span, body FROM version WHERE number >= ?", (self._next_version,))
            self._mark_versions(rows.fetchall())
            self._next_version = state.next_version
        if state.next_page != self._next_page:
            rows = connection.execute("SELECT extents FROM page WHERE number >= ?", (self._next_page,))
            self._mark_extents([row[0] for row in rows])
            self._next_page = state.next_page
        return _mends(connection) == self._mends

    def _forget_pages(self, dead: Sequence[int]) -> bool:
        at = 0
        while at < len(dead):
            with self._ground.writing() as (connection, state):
                if not self._mark_since(connection, state):
                    return False
                for numbers in _chunks(dead, at):
                    kept = [number for number in numbers if self._pages[number]]
                    for number in kept:
                        rows = connection.execute("SELECT extents FROM page WHERE number = ?", (number,))
                        self._mark_extents([row[0] for row in rows])
                    gone = [(number,) for number in numbers if not self._pages[number]]
                    connection.executemany("DELETE FROM page WHERE number = ?", gone)
                    self._report.pages += len(gone)
                    at += len(numbers)
        return True

    def _forget_segments(self, dead: Sequence[tuple[int, bytes, int]]) -> bool:
        """Damaged segments stay for a while: they are evidence, and perhaps repairable by hand. Where one goes, what is
        known of its damage says from then on that nothing is missing, until a compaction takes the record."""
        at = 0
        while at < len(dead):
            with self._ground.writing() as (connection, state):
                if not self._mark_since(connection, state):
                    return False
                statement = "SELECT segment, mended_ms FROM damage WHERE segment IS NOT NULL"
                damaged: dict[bytes, int] = dict(connection.execute(statement).fetchall())
                until_ms = self._evidence_until_ms
                self._segments.update(segment for segment, at_ms in damaged.items() if not 0 < at_ms <= until_ms)
                for chunk in _chunks(dead, at):
                    gone = [row for row in chunk if row[1] not in self._segments]
                    keys = [row[:2] for row in gone]
                    connection.executemany("DELETE FROM segment WHERE number = ? AND id = ?", keys)
                    ids = [(row[1],) for row in gone if row[1] in damaged]
                    connection.executemany("UPDATE damage SET segment = NULL WHERE segment = ?", ids)
                    self._report.segments += len(gone)
                    self._report.segment_bytes += sum(row[2] + OVERHEAD_BYTES for row in gone)
                    at += len(chunk)
                _lower_marks(connection, state)
        return True


def _lower_marks(connection: sqlite3.Connection, state: State) -> None:
    """SQLite gives the highest number anew once its row is gone: a segment yet to come must not count as committed."""
    (top,) = connection.execute("SELECT coalesce(max(number), 0) FROM segment").fetchone()
    state.committed_segment = min(state.committed_segment, top)
    state.leased_segment = min(state.leased_segment, top)


def _mends(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT coalesce(max(number), 0) FROM mend").fetchone()
    return int(count)


def _broken(what: str) -> DamagedRepositoryError:
    return DamagedRepositoryError(f"the catalog holds {what}: nothing was forgotten; keep the packs, rebuild it")


def _portions(
    ground: _Ground, statement: str, after: tuple[Any, ...], blob: int | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of a keyset query (its key stands first), each portion from one short statement.

    With `blob`, the column of that place bounds a portion at about _PORTION_BYTES: a hostile page is 900 KiB long.
    """
    while True:
        rows: list[tuple[Any, ...]] = []
        held = 0
        with ground.reading() as (connection, _):
            cursor = connection.execute(statement, after)
            for row in cursor:
                rows.append(row)
                held += len(row[blob]) + 64 if blob is not None else 0
                if held >= _PORTION_BYTES:
                    break
            cursor.close()
        if not rows:
            return
        yield rows
        after = rows[-1][: len(after)]


def _chunks(items: Sequence[Any], at: int) -> Iterator[Sequence[Any]]:
    """What one transaction forgets, from `at` on: one chunk at least, more while PORTION_S lasts."""
    began = time.monotonic()
    while at < len(items):
        yield items[at : at + _CHUNK]
        at += _CHUNK
        if time.monotonic() - began >= PORTION_S:
            return
