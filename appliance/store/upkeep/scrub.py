"""The scrub: every byte of the packs is read again now and then, and what does not read well is noted.

Goes on where the last one stopped, at most at a given rate, and holds up nobody: packs are read without any lock, and
the catalog is written in short turns. Damage goes into the catalog's table `damage`, which is the proof that an
order to mend asks for; nothing is mended here. A record that reads well again is taken off the list and reported, since
a disk that changes its mind is news too.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.store.catalog import PackRow
from appliance.store.impact import Impact, impacts
from appliance.store.layout import pack_name
from appliance.store.packs import Damage, PackWalk
from appliance.store.records import OVERHEAD_BYTES, Kind
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.findings import DamagedSpot
from transport.names import SegmentId

SAVED_BYTES: Final = 64 << 20
"""How much is read between two notes of the place; an interrupted scrub reads so much again."""
_LEAST_PAUSE_S: Final = 0.01
_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class DamageFound:
    """A record that does not read well. `segment` is None for metadata, which the catalog still holds."""

    pack: str
    offset: int
    kind: str
    detail: str
    segment: SegmentId | None
    impact: Impact


@dataclass(slots=True)
class ScrubReport:
    """What one scrub read. `finished`: it came to the end of the newest pack; the next one begins anew."""

    records: int = 0
    bytes_read: int = 0
    packs: int = 0
    finished: bool = False
    damage: list[DamageFound] = field(default_factory=list)
    """Found by this scrub or known before, and not mended yet."""
    well_again: list[tuple[str, int]] = field(default_factory=list)
    """Pack and offset of damage noted earlier that reads well now."""


@dataclass(frozen=True, slots=True)
class ScrubState:
    """How far reading everything again has come. Times in milliseconds since 1970, 0 for never or not under way."""

    started_ms: int
    finished_ms: int
    bytes_there: int
    """Of all packs."""


def scrub_state(folder: Path) -> ScrubState:
    """Of the repository in `folder`; StoreError where it does not open."""
    with Repository.open(folder, read_only=True) as repository, repository.reading_catalog() as catalog:
        row = catalog.connection.execute("SELECT started_ms, finished_ms FROM scrub").fetchone()
        return ScrubState(row[0], row[1], sum(pack.size_bytes for pack in catalog.packs().values()))


def scrub(
    access: Access,
    *,
    now_ms: Callable[[], int],
    rate_bytes_s: float = 0.0,
    limit_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> ScrubReport:
    """Read on from where the last scrub stopped, for `limit_s` at most (None: to the end).

    `rate_bytes_s` bounds the reading, 0 for no bound. `progress` is told bytes read and bytes there are.
    """
    return _Scrub(access, now_ms, rate_bytes_s, limit_s, progress or (lambda done, there: None), pause).run()


def known_damage(connection: sqlite3.Connection) -> list[DamageFound]:
    """What was found damaged and is not mended, with what it costs."""
    rows = connection.execute(
        "SELECT d.pack, coalesce(p.generation, 0), d.offset, d.kind, d.detail, d.segment FROM damage d "
        "LEFT JOIN pack p ON p.number = d.pack WHERE d.mended_ms = 0 ORDER BY d.pack, d.offset"
    ).fetchall()
    costs = impacts(connection, {SegmentId(row[5]) for row in rows if row[5] is not None})
    nothing = Impact((), 0)
    return [
        DamageFound(pack_name(row[0], row[1]), row[2], row[3], row[4], row[5], costs.get(row[5], nothing))
        for row in rows
    ]


def note_damage(connection: sqlite3.Connection, spots: Sequence[DamagedSpot], now_ms: int) -> None:
    """Write down damage within a transaction: each held segment of a spot, and what stands before, between and behind
    them, which may be metadata."""
    for spot in spots:
        segments = connection.execute(
            "SELECT offset, length, id FROM segment WHERE pack = ? AND offset >= ? AND offset < ? ORDER BY offset",
            (spot.pack, spot.offset, spot.end),
        ).fetchall()
        rows: list[tuple[int, str, bytes | None]] = []
        at = spot.offset
        for offset, length, segment in segments:
            if at < offset:
                rows.append((at, spot.kind if at == spot.offset else _UNREADABLE, None))
            rows.append((offset, Kind.SEGMENT.name, segment))
            at = offset + OVERHEAD_BYTES + length
        if at < spot.end and (segments or spot.kind != Kind.SEGMENT.name):
            # Where there is nothing but a SEGMENT that the catalog does not hold, that is dead: no loss.
            rows.append((at, spot.kind if at == spot.offset else _UNREADABLE, None))
        connection.executemany(
            "INSERT INTO damage (pack, offset, kind, segment, detail, found_ms, mended_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (pack, offset) DO UPDATE SET detail = excluded.detail",
            [(spot.pack, offset, kind, segment, spot.detail, now_ms) for offset, kind, segment in rows],
        )


def note_found(access: Access, spots: Sequence[DamagedSpot], *, now_ms: int) -> list[DamageFound]:
    """Write down what a check came upon, as a scrub would have; all damage that is known then.

    Nothing is noted of a pack that was written anew since it was looked at.
    """
    with access.turn() as repository, repository.maintaining() as catalog, catalog.transaction() as connection:
        for spot in spots:
            present = connection.execute("SELECT generation FROM pack WHERE number = ?", (spot.pack,)).fetchone()
            if present is not None and present[0] == spot.generation:
                note_damage(connection, [spot], now_ms)
    with access.reading() as repository, repository.reading_catalog() as catalog:
        return known_damage(catalog.connection)


def spot_impacts(connection: sqlite3.Connection, spots: Sequence[DamagedSpot]) -> list[Impact]:
    """What each of these spots costs, in their order: the segments in it that the catalog holds, taken together."""
    statement = "SELECT id FROM segment WHERE pack = ? AND offset >= ? AND offset < ?"
    inside = [
        [row[0] for row in connection.execute(statement, (spot.pack, spot.offset, spot.end)).fetchall()]
        for spot in spots
    ]
    costs = impacts(connection, {segment for segments in inside for segment in segments})
    return [_together([costs[segment] for segment in segments]) for segments in inside]


def _together(costs: Sequence[Impact]) -> Impact:
    """A file that needs two of the segments counts twice, as it does on the list of a scrub."""
    snapshots = sorted({number for cost in costs for number in cost.snapshots})
    return Impact(tuple(snapshots), sum(cost.files for cost in costs))


def _spot(row: PackRow, found: Damage) -> DamagedSpot:
    return DamagedSpot(row.number, row.generation, found.offset, found.end, found.kind, found.detail)


class _Scrub:
    def __init__(
        self,
        access: Access,
        now_ms: Callable[[], int],
        rate_bytes_s: float,
        limit_s: float | None,
        progress: Callable[[int, int], None],
        pause: Callable[[float], None],
    ) -> None:
        self._access = access
        self._now_ms = now_ms
        self._rate_bytes_s = rate_bytes_s
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        self._progress = progress
        self._pause = pause
        self._began = time.monotonic()
        self._report = ScrubReport()
        self._there = 0

    def run(self) -> ScrubReport:
        report = self._report
        pack, generation, offset = self._place()
        while not self._late():
            row = self._next_pack(pack)
            if row is None:
                self._save(0, 0, 0, finished=True)
                report.finished = True
                break
            if row.number != pack or row.generation != generation:
                offset = 0  # written anew since: places in it are others
            pack, generation = row.number, row.generation
            offset = self._read_pack(row, offset)
            if offset < row.size_bytes:
                break
            report.packs += 1
            pack, generation, offset = row.number + 1, 0, 0
            self._save(pack, generation, offset)
        with self._access.reading() as repository, repository.reading_catalog() as catalog:
            report.damage = known_damage(catalog.connection)
        return report

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _place(self) -> tuple[int, int, int]:
        with self._access.reading() as repository, repository.reading_catalog() as catalog:
            row = catalog.connection.execute("SELECT pack, generation, offset FROM scrub").fetchone()
            self._there = sum(pack.size_bytes for pack in catalog.packs().values())
        return int(row[0]), int(row[1]), int(row[2])

    def _next_pack(self, number: int) -> PackRow | None:
        with self._access.reading() as repository, repository.reading_catalog() as catalog:
            rows = [row for row in catalog.packs().values() if row.number >= number]
        return min(rows, key=lambda row: row.number, default=None)

    def _read_pack(self, row: PackRow, offset: int) -> int:
        """Read a pack from `offset` on; where the reading stopped."""
        path = self._access.layout.pack(row.number, row.generation)
        start = saved = offset
        spots: list[DamagedSpot] = []
        walk = PackWalk(path, row.size_bytes, read_data=True, start=offset)
        try:
            for step in walk:
                if isinstance(step, Damage):
                    spots.append(_spot(row, step))
                    offset = step.end
                else:
                    self._report.records += 1
                    offset = step.offset + OVERHEAD_BYTES + step.length_bytes
                if offset - saved >= SAVED_BYTES:
                    self._note(row, saved, offset, spots)
                    saved, spots = offset, []
                    self._wait(walk.bytes_read)
                    if self._late():
                        break
        except OSError as error:
            detail = f"the pack cannot be read ({error.strerror})"
            spots.append(DamagedSpot(row.number, row.generation, offset, row.size_bytes, _UNREADABLE, detail))
            offset = row.size_bytes
        self._report.bytes_read += walk.bytes_read
        self._note(row, saved, offset, spots)
        assert offset >= start
        return offset

    def _wait(self, bytes_read: int) -> None:
        done = self._report.bytes_read + bytes_read
        self._progress(done, self._there)
        if self._rate_bytes_s:
            ahead_s = done / self._rate_bytes_s - (time.monotonic() - self._began)
            if ahead_s > _LEAST_PAUSE_S:
                self._pause(ahead_s)

    def _note(self, row: PackRow, start: int, end: int, spots: Sequence[DamagedSpot]) -> None:
        """Write down what was found between two places of a pack, and how far the scrub has come.

        A pack that was written anew meanwhile is read again: what was found in the old one is no loss.
        """
        with self._writing() as connection:
            present = connection.execute("SELECT generation FROM pack WHERE number = ?", (row.number,)).fetchone()
            if present is None or present[0] != row.generation:
                return
            known = connection.execute(
                "SELECT offset FROM damage WHERE pack = ? AND offset >= ? AND offset < ? AND mended_ms = 0",
                (row.number, start, end),
            ).fetchall()
            note_damage(connection, spots, self._now_ms())
            for (offset,) in known:
                if not any(spot.offset <= offset < spot.end for spot in spots):
                    connection.execute("DELETE FROM damage WHERE pack = ? AND offset = ?", (row.number, offset))
                    self._report.well_again.append((pack_name(row.number, row.generation), offset))
            connection.execute(
                "UPDATE scrub SET pack = ?, generation = ?, offset = ?, "
                "started_ms = CASE WHEN started_ms = 0 THEN ? ELSE started_ms END",
                (row.number, row.generation, end, self._now_ms()),
            )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with (
            self._access.turn() as repository,
            repository.maintaining() as catalog,
            catalog.transaction() as connection,
        ):
            yield connection

    def _save(self, pack: int, generation: int, offset: int, *, finished: bool = False) -> None:
        with self._writing() as connection:
            connection.execute("UPDATE scrub SET pack = ?, generation = ?, offset = ?", (pack, generation, offset))
            if finished:
                connection.execute("UPDATE scrub SET started_ms = 0, finished_ms = ?", (self._now_ms(),))
