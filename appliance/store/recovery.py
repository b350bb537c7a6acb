"""Making a new repository's files, and finding the state of existing ones when a writer opens them.

The catalog says how much of each pack was acknowledged. What a crash left behind that is cut; more than a crash can
leave means that the catalog is older than the packs, and then nothing is cut and the open refuses. The same goes for
generations of packs: the one that the catalog names counts, what a compaction left beside it goes, and old ones go
when their quarantine is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.store.catalog import Catalog, PackRow
from appliance.store.durable import AppendFile, Disk, disk_error, write_whole
from appliance.store.errors import BusyRepositoryError, DamagedRepositoryError, FatalDiskError
from appliance.store.layout import UNFINISHED, Layout, PackFile, pack_files_among, pack_name
from appliance.store.packs import Damage, Identity, PackWalk, PackWriter, is_foreign
from appliance.store.records import Kind, encode_head
from appliance.store.turns import MaintenanceTurn

QUARANTINE_MS: Final = 24 * 3600 * 1000
"""How long the old generation of a pack is kept: it can stand in for a new one that the disk loses."""
_FILES: Final = 8
"""Removed in one go: to unlink a whole pack takes tens of milliseconds on some disks."""


def make_nursery(disk: Disk, layout: Layout, identity: Identity) -> None:
    """A whole empty repository beside its place; what an interrupted attempt left there is removed first."""
    nursery = Layout(layout.nursery)
    try:
        clear_nursery(disk, nursery)
        disk.make_folder(nursery.folder)
        disk.make_folder(nursery.packs)
    except OSError as error:
        raise disk_error(error, f"cannot make {nursery.folder}") from error
    header = identity.header(1)
    content = [encode_head(Kind.HEADER, [header]), header]
    write_whole(disk, nursery.pack(1), content)
    catalog = Catalog.create(disk, nursery.catalog, identity)
    try:
        with catalog.transaction():
            catalog.save_pack(1, sum(len(part) for part in content), 0)
    finally:
        catalog.close()
    try:
        disk.sync_folder(nursery.folder)
    except OSError as error:
        raise disk_error(error, f"cannot make {nursery.folder}") from error


def clear_nursery(disk: Disk, nursery: Layout) -> None:
    """Remove what an interrupted creation can have left; anything else there stops us with OSError."""
    if not nursery.folder.exists():
        return
    if nursery.packs.exists():
        for path in (nursery.pack(1), nursery.pack(1).with_name(nursery.pack(1).name + ".new")):
            disk.remove(path)
        disk.remove_folder(nursery.packs)
    for path in (nursery.catalog, nursery.catalog_journal):
        disk.remove(path)
    disk.remove_folder(nursery.folder)


def open_packs(disk: Disk, layout: Layout, catalog: Catalog) -> PackWriter:
    """The writer of the open pack, with unacknowledged tails cut; DamagedRepositoryError if the catalog is too old.

    A last pack that is shorter than the catalog knows is left as it is (`check` names what is lost) and a new pack
    is begun, so that later backups and all other restores go on.
    """
    standing = _Standing.of(layout, catalog)
    last, known = standing.newest.number, standing.newest.size_bytes
    if any(file != PackFile(last + 1, 0) for file in standing.unknown) or standing.replaced_too_early:
        raise _too_old(layout)
    path = layout.pack(last, standing.newest.generation)
    size = path.stat().st_size if path.name in standing.names else 0
    commits = _commits_beyond(path, known, size) if size > known else 0
    for file in standing.unknown:
        commits += _commits_beyond(layout.pack(*file), 0, layout.pack(*file).stat().st_size)
    if commits > 1:
        raise _too_old(layout)
    for file in standing.unknown:
        _remove(disk, layout.pack(*file))
    _tidy_if_alone(disk, layout, catalog, standing)
    foreign = is_foreign(layout, last, standing.newest.generation, catalog.identity)
    if standing.newest.generation or size < known or foreign:
        # Only a closed pack is ever compacted: the one that came after it is gone, and this one stays closed. One that
        # belongs to another repository was found by a rebuild.
        return _after_loss(disk, layout, catalog, last)
    if size > known:
        AppendFile.resume(disk, path, known).close()
    return PackWriter(disk, layout, catalog.identity, last, known)


@dataclass(frozen=True, slots=True)
class _Standing:
    """The folder of packs beside the catalog, looked at once. Of thousands of packs only the unusual cost anything."""

    layout: Layout
    newest: PackRow
    compacted: dict[int, int]
    """The generation of each pack that has more than one."""
    names: frozenset[str]
    waiting: dict[PackFile, int]
    """What is in quarantine, and since when (ms)."""

    @classmethod
    def of(cls, layout: Layout, catalog: Catalog) -> _Standing:
        (last,) = catalog.connection.execute("SELECT coalesce(max(number), 0) FROM pack").fetchone()
        if not last:
            raise DamagedRepositoryError(f"{layout.catalog} knows no pack: keep the packs, rebuild the catalog")
        rows = catalog.connection.execute("SELECT number, generation FROM pack WHERE generation > 0").fetchall()
        compacted: dict[int, int] = dict(rows)
        rows = catalog.connection.execute("SELECT pack, generation, since_ms FROM quarantine").fetchall()
        waiting = {PackFile(row[0], row[1]): row[2] for row in rows if row[1] < compacted.get(row[0], 0)}
        return cls(layout, catalog.pack(last), compacted, layout.names_of_packs(), waiting)

    @property
    def unknown(self) -> list[PackFile]:
        """Packs after the newest that the catalog knows."""
        newest = pack_name(self.newest.number)
        found = pack_files_among(name for name in self.names if name > newest)
        return [file for file in found if file.number > self.newest.number]

    @property
    def leftovers(self) -> list[PackFile]:
        """Generations that a compaction put in place and did not live to tell the catalog about."""
        found = pack_files_among(name for name in self.names if "-" in name)
        return [
            file
            for file in found
            if file.number <= self.newest.number and file.generation > self.compacted.get(file.number, 0)
        ]

    @property
    def replaced_too_early(self) -> bool:
        """A generation that the catalog names is missing and a later one is there: the catalog is from before it."""
        known = (pack_name(file.number, self.compacted.get(file.number, 0)) for file in self.leftovers)
        return any(name not in self.names for name in known)

    @property
    def unlisted(self) -> list[PackFile]:
        """Older generations that are not in quarantine, because the catalog was rebuilt: their day begins now."""
        older = (PackFile(number, old) for number, now in self.compacted.items() for old in range(now))
        return [file for file in older if file.name in self.names and file not in self.waiting]

    @property
    def unfinished(self) -> list[Path]:
        """Packs that were being written."""
        return [self.layout.packs / name for name in sorted(self.names) if name.endswith(UNFINISHED)]


# What compaction leaves


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was removed, and whether more is to be."""

    bytes_freed: int
    more: bool


def tidy(disk: Disk, layout: Layout, catalog: Catalog, *, now_ms: int, quarantine_ms: int = QUARANTINE_MS) -> Tidied:
    """Remove what an interrupted compaction left and old generations whose quarantine is over; a few files at a time.

    For whoever has the place of the writer and that of maintenance. A time in the future counts as now: a clock that
    went back ends no quarantine. Nothing of a pack goes unless the generation that the catalog names is there, whole.
    """
    standing = _Standing.of(layout, catalog)
    unlisted = standing.unlisted
    waiting = dict.fromkeys(unlisted, now_ms) | standing.waiting
    over = [file for file, since_ms in waiting.items() if now_ms - since_ms >= quarantine_ms]
    over = [file for file in over if _whole(layout, catalog, file.number)]
    leftovers = [file for file in standing.leftovers if _whole(layout, catalog, file.number)]
    gone = over[: max(1, _FILES - len(leftovers))]
    freed = sum(_remove(disk, path) for path in standing.unfinished)
    freed += sum(_remove(disk, layout.pack(*file)) for file in [*leftovers, *gone])
    if gone or unlisted:
        with catalog.transaction() as connection:
            for file in set(unlisted) - set(gone):
                row = (*file, layout.pack(*file).stat().st_size, now_ms)
                connection.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?)", row)
            connection.executemany("DELETE FROM quarantine WHERE pack = ? AND generation = ?", gone)
    return Tidied(freed, len(over) > len(gone))


def _tidy_if_alone(disk: Disk, layout: Layout, catalog: Catalog, standing: _Standing) -> None:
    """At open. While maintenance goes on, what looks like a leftover is its work."""
    now_ms = int(time.time() * 1000)
    due = any(now_ms - since_ms >= QUARANTINE_MS for since_ms in standing.waiting.values())
    if not (due or standing.unfinished or standing.leftovers or standing.unlisted):
        return
    try:
        # Not a moment's wait: each turn of a maintenance opens the repository, and holds this lock itself.
        maintenance = MaintenanceTurn(layout, wait_s=0.0)
    except BusyRepositoryError:
        return
    try:
        tidy(disk, layout, catalog, now_ms=now_ms)
    finally:
        maintenance.close()


def _whole(layout: Layout, catalog: Catalog, number: int) -> bool:
    """Whether the generation that the catalog names is there, in its full length."""
    row = catalog.pack(number)
    try:
        return layout.pack(number, row.generation).stat().st_size >= row.size_bytes
    except OSError:
        return False


def _remove(disk: Disk, path: Path) -> int:
    """The bytes given back."""
    try:
        size = path.stat().st_size if path.exists() else 0
        disk.remove(path)
    except OSError as error:
        raise disk_error(error, f"cannot remove {path}") from error
    return size


def _commits_beyond(path: Path, start: int, size: int) -> int:
    """How many commits (or successions, which come alone as well) stand in the tail of a pack. A crash between fsync
    and catalog leaves one at most."""
    walk = PackWalk(path, size, read_data=False, start=start)
    try:
        return sum(1 for step in walk if not isinstance(step, Damage) and step.kind in (Kind.COMMIT, Kind.SUCCESSION))
    except OSError as error:
        raise DamagedRepositoryError(
            f"{path} cannot be read ({error.strerror}): nothing was changed; check the disk"
        ) from error


def _too_old(layout: Layout) -> DamagedRepositoryError:
    return DamagedRepositoryError(
        f"{layout.catalog} is older than the packs beside it ({pack_name(layout.pack_numbers()[-1])} is the newest): "
        "nothing was changed; keep the packs, rebuild the catalog"
    )


def _after_loss(disk: Disk, layout: Layout, catalog: Catalog, last: int) -> PackWriter:
    writer = PackWriter(disk, layout, catalog.identity, last, catalog.pack(last).size_bytes)
    begin_pack(writer, catalog)
    return writer


def begin_pack(writer: PackWriter, catalog: Catalog) -> None:
    """Close the open pack, by beginning the next one, which holds its header only."""
    group = writer.begin(roll=True)
    try:
        with catalog.transaction():
            writer.write(group)
            catalog.save_pack(group.pack, group.end, group.segment_bytes)
    except FatalDiskError:
        raise
    except Exception:
        writer.abandon(group)
        raise
    writer.accept(group)
