"""Putting a rebuilt catalog in the place of the old one, or finding that there was no need.

The new catalog is made beside the old one, made durable, compared with it where that can still be read, and takes its
place only if they differ. The old one is kept as `catalog.sqlite.old`. What is known to be damaged stays known:
packs do not say it, so it is taken over from the old catalog, and what the rebuild comes upon is added. Alone with the
repository throughout.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.store import recovery, staging
from appliance.store.catalog import Catalog, connect, sqlite_errors
from appliance.store.durable import Disk, discard, disk_error, publish
from appliance.store.errors import DamagedRepositoryError, FatalDiskError, StoreError
from appliance.store.layout import Layout
from appliance.store.records import OVERHEAD_BYTES
from appliance.store.turns import MaintenanceTurn, WriterTurn
from appliance.store.upkeep import scrub
from appliance.store.upkeep.access import WAIT_S
from appliance.store.upkeep.compare import compare
from appliance.store.upkeep.findings import DamagedSpot
from appliance.store.upkeep.rebuild import rebuild_catalog
from transport.errors import PilulierError
from transport.names import SegmentId


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """`differences` between the packs' own story and the old catalog, or from what the packs should hold."""

    ok: bool
    records_read: int
    bytes_read: int
    snapshots: int
    segments: int
    replaced: bool
    differences: list[str]


def rebuild(
    folder: Path,
    *,
    now_ms: int,
    disk: Disk | None = None,
    wait_s: float = WAIT_S,
    progress: Callable[[int, int], None] | None = None,
) -> RebuildReport:
    """Make the catalog anew and compare; BusyRepositoryError where another process writes or maintains for too long.

    `ok` is whether the packs told their story without a gap; `replaced` whether the old catalog told another one.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} is not there: check that its disk is mounted")
    disk = disk or Disk()
    layout = Layout(folder)
    maintenance = MaintenanceTurn(layout)
    try:
        turn = WriterTurn(layout, wait_s=wait_s)
        try:
            return _alone(layout, disk, now_ms, progress)
        finally:
            turn.close()
    finally:
        maintenance.close()


def _alone(
    layout: Layout, disk: Disk, now_ms: int, progress: Callable[[int, int], None] | None
) -> RebuildReport:
    old_trouble = _settle_old(layout, disk)
    fresh = layout.catalog_rebuilt
    for path in (fresh, layout.journal_of(fresh)):
        discard(disk, path)
    with contextlib.ExitStack() as stack:
        former = None
        if not old_trouble:
            former = connect(layout.catalog, read_only=True)
            stack.callback(former.close)
        remembered = functools.partial(_segments_within, former)
        found = rebuild_catalog(layout, fresh, disk=disk, remembered=remembered, progress=progress)
        differences = [old_trouble] if old_trouble else _compare(layout, fresh)
        replaced = bool(differences)
        if replaced:
            _note_old_generations(layout, disk, fresh, now_ms)
            if former is not None:
                _take_over_damage(disk, fresh, former)
    _note_damage(disk, fresh if replaced else layout.catalog, found.damage, now_ms)
    if replaced:
        _replace(layout, disk, fresh)
    else:
        for path in (fresh, layout.journal_of(fresh)):
            discard(disk, path)
    return RebuildReport(
        ok=not found.differences,
        records_read=found.records_read,
        bytes_read=found.bytes_read,
        snapshots=found.snapshots,
        segments=found.segments,
        replaced=replaced,
        differences=found.differences + differences,
    )


def _settle_old(layout: Layout, disk: Disk) -> str:
    """Bring the old catalog to rest (journal, format, the tail that it does not know); "" or why it cannot be."""
    if not layout.catalog.exists():
        return "there was no catalog"
    try:
        catalog = Catalog(disk, layout.catalog, read_only=False)
        try:
            with sqlite_errors(layout.catalog):
                recovery.open_packs(disk, layout, catalog).close()
                (verdict,) = catalog.connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            catalog.close()
    except FatalDiskError:
        raise
    except (PilulierError, OSError) as error:
        return f"the old catalog could not be used: {error}"
    return "" if verdict == "ok" else f"the old catalog is damaged: {verdict}"


def _compare(layout: Layout, fresh: Path) -> list[str]:
    left, right = connect(layout.catalog, read_only=True), connect(fresh, read_only=True)
    try:
        with sqlite_errors(layout.catalog):
            return compare(left, right, ("the old catalog", "the packs"))
    except DamagedRepositoryError as error:
        return [f"the old catalog could not be read: {error}"]
    finally:
        left.close()
        right.close()


def _segments_within(former: sqlite3.Connection | None, spot: DamagedSpot) -> list[staging.SegmentRow]:
    """What the former catalog knew to stand in bytes that do not read well; nothing where it cannot say."""
    if former is None:
        return []
    try:
        rows = former.execute(
            "SELECT s.id, s.pack, s.offset, s.length, s.plain FROM segment s JOIN pack p ON p.number = s.pack "
            "WHERE s.pack = ? AND p.generation = ? AND s.offset >= ? AND s.offset + s.length + ? <= ? "
            "ORDER BY s.offset",
            (spot.pack, spot.generation, spot.offset, OVERHEAD_BYTES, spot.end),
        ).fetchall()
    except sqlite3.Error:
        return []
    return [(SegmentId(row[0]), *row[1:]) for row in rows]


def _take_over_damage(disk: Disk, fresh: Path, former: sqlite3.Connection) -> None:
    """The former list of damage, mended damage included, as far as it still speaks of the packs that count."""
    catalog = Catalog(disk, fresh, read_only=False)
    try:
        rows = former.execute(
            "SELECT d.pack, d.offset, d.kind, d.segment, d.detail, d.found_ms, d.mended_ms, p.generation "
            "FROM damage d JOIN pack p ON p.number = d.pack"
        ).fetchall()
        packs = catalog.packs()
        with catalog.transaction() as connection:
            held = {tuple(row) for row in connection.execute("SELECT pack, offset, id FROM segment")} if rows else set()
            for pack, offset, kind, segment, detail, found_ms, mended_ms, generation in rows:
                same = pack in packs and packs[pack].generation == generation
                # Mended damage is evidence, whether or not its segment is still held.
                if same and (segment is None or mended_ms or (pack, offset, segment) in held):
                    row = (pack, offset, kind, segment, detail, found_ms, mended_ms)
                    connection.execute("INSERT INTO damage VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    except sqlite3.Error as error:
        raise DamagedRepositoryError(f"the list of damage of the old catalog cannot be read: {error}") from error
    finally:
        catalog.close()


def _note_damage(disk: Disk, path: Path, spots: Sequence[DamagedSpot], now_ms: int) -> None:
    """What the rebuild came upon, as a scrub would note it."""
    if not spots:
        return
    catalog = Catalog(disk, path, read_only=False)
    try:
        with catalog.transaction() as connection:
            scrub.note_damage(connection, spots, now_ms)
    finally:
        catalog.close()


def _note_old_generations(layout: Layout, disk: Disk, fresh: Path, now_ms: int) -> None:
    """What stands beside newer generations waits in quarantine from now on."""
    catalog = Catalog(disk, fresh, read_only=False)
    try:
        current = {number: row.generation for number, row in catalog.packs().items()}
        with catalog.transaction() as connection:
            for file in layout.pack_files():
                if file.generation < current.get(file.number, 0):
                    size = layout.pack(file.number, file.generation).stat().st_size
                    connection.execute(
                        "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?)",
                        (file.number, file.generation, size, now_ms),
                    )
    finally:
        catalog.close()


def _replace(layout: Layout, disk: Disk, fresh: Path) -> None:
    """The old catalog is moved aside before its journal goes and the new one comes: SQLite would play an old journal
    back into a new catalog. A crash in between leaves no catalog, which the next open says, and rebuild mends."""
    try:
        descriptor = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
        try:
            disk.sync(descriptor)
        except OSError as error:
            raise FatalDiskError(f"cannot fsync {fresh} ({error.strerror}): stop and check the disk") from error
        finally:
            os.close(descriptor)
        if layout.catalog.exists():
            disk.rename(layout.catalog, layout.catalog_old)
        disk.remove(layout.catalog_journal)
        disk.sync_folder(layout.folder)
    except OSError as error:
        raise disk_error(error, f"cannot put {fresh} in its place") from error
    publish(disk, fresh, layout.catalog)
    discard(disk, layout.journal_of(fresh))
