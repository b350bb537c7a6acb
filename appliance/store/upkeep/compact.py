"""Compaction: closed packs with much that nothing needs are written anew, less that, as their next generation.

`plan_compaction` is pure and gives a reason for each pack; `compact` carries it out by turns. The copying itself holds
up nobody: closed packs never change, and which segments are held is read in short statements. Order: new generation
written as `.new`, fsynced, renamed, its folder fsynced; then, as the writer, one transaction moves the catalog over,
and the old generation waits in quarantine. Whatever fails before that transaction leaves all as it was. Knows
neither snapshots nor retention: what the catalog does not hold is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.store import recovery
from appliance.store.catalog import Catalog, PackRow, State
from appliance.store.durable import AppendFile, disk_error, publish
from appliance.store.errors import DamagedRecordError, DiskFullError, FatalDiskError, StoreError
from appliance.store.layout import pack_name
from appliance.store.packs import is_foreign
from appliance.store.records import OVERHEAD_BYTES
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.copying import HeldSegment, Moves, copy_pack
from transport.names import SegmentId

DEAD_SHARE: Final = 0.5
"""A pack of which this much is dead is rewritten in any case: less is written than is won."""
SPARE_SHARE: Final = 0.1
"""Dead bytes that a repository may keep, of all its bytes: to go lower, ten bytes would be written for each one won."""
SMALL_GAIN_BYTES: Final = 256 << 10
"""Less is not worth a rewrite, which costs three fsyncs."""
_HEADER_BYTES: Final = 256
"""More than a HEADER record takes."""
_ROWS: Final = 4096
_COUNTED_ROWS: Final = 50_000


# Deciding


@dataclass(frozen=True, slots=True)
class PackUse:
    """How much of a pack is needed. Sizes in bytes on disk, record heads included."""

    number: int
    generation: int
    size_bytes: int
    live_segment_bytes: int
    metadata_bytes: int
    """All records that are no SEGMENT."""
    metadata_droppable: bool
    """The whole pack stands before the newest whole checkpoint."""
    open: bool
    damaged: bool

    @property
    def dead_bytes(self) -> int:
        """What a rewrite would win, at least."""
        metadata = min(self.metadata_bytes, _HEADER_BYTES) if self.metadata_droppable else self.metadata_bytes
        return max(0, self.size_bytes - self.live_segment_bytes - metadata)

    @property
    def dead_share(self) -> float:
        """Of its size."""
        return self.dead_bytes / self.size_bytes if self.size_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Keep:
    """The pack stays as it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The pack is written anew; the open one is closed for that."""

    reason: str


@dataclass(frozen=True, slots=True)
class PackPlan:
    """What is done with one pack."""

    use: PackUse
    decision: Keep | Rewrite


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """Every pack, by number."""

    packs: tuple[PackPlan, ...]

    @property
    def rewrites(self) -> tuple[PackUse, ...]:
        """The packs to rewrite in the order of doing: what wins most for what it writes comes first."""
        chosen = [plan.use for plan in self.packs if isinstance(plan.decision, Rewrite)]
        return tuple(sorted(chosen, key=lambda use: (-use.dead_share, use.number)))

    @property
    def dead_bytes(self) -> int:
        """What carrying it out wins, at least."""
        return sum(use.dead_bytes for use in self.rewrites)


def plan_compaction(
    packs: Sequence[PackUse],
    *,
    dead_share: float = DEAD_SHARE,
    spare_share: float = SPARE_SHARE,
    small_gain_bytes: int = SMALL_GAIN_BYTES,
) -> CompactionPlan:
    """Packs that are dead by `dead_share`, then those that are most dead until no more than `spare_share` of all is.

    A pack less dead than `spare_share` is never rewritten. The open pack only by `dead_share`: it would be closed.
    """
    allowed = spare_share * sum(use.size_bytes for use in packs)
    left = sum(use.dead_bytes for use in packs)
    decisions: dict[int, Keep | Rewrite] = {}
    for use in sorted(packs, key=lambda use: (-use.dead_share, use.number)):
        share = f"{use.dead_share:.0%} of it is needed by nothing"
        if use.damaged:
            decision: Keep | Rewrite = Keep("damage was found in it: the original is kept")
        elif use.dead_bytes < small_gain_bytes:
            decision = Keep(f"{use.dead_bytes} bytes to win are not worth a rewrite")
        elif use.dead_share >= dead_share:
            decision = Rewrite(share)
        elif use.open:
            decision = Keep("it is still being written")
        elif left > allowed and use.dead_share > spare_share:
            decision = Rewrite(f"{share}, and too much is in all packs together")
        else:
            decision = Keep(f"{share}: within what is allowed")
        if isinstance(decision, Rewrite):
            left -= use.dead_bytes
        decisions[use.number] = decision
    ordered = sorted(packs, key=lambda use: use.number)
    return CompactionPlan(tuple(PackPlan(use, decisions[use.number]) for use in ordered))


def pack_use(access: Access) -> list[PackUse]:
    """How much of each pack is needed now; read beside whoever writes, in short statements."""
    with access.reading() as repository, repository.reading_catalog() as catalog:
        connection = catalog.connection
        packs = catalog.packs()
        checkpoint = catalog.state().checkpoint_pack
        # Damaged metadata that a checkpoint stands behind is no evidence of anything that is missing.
        statement = "SELECT DISTINCT pack FROM damage WHERE mended_ms = 0 OR segment IS NOT NULL"
        damaged = {row[0] for row in connection.execute(statement).fetchall()}
        live: dict[int, int] = {}
        after = 0
        while rows := connection.execute(
            f"SELECT pack, sum(length + {OVERHEAD_BYTES}), max(number) FROM (SELECT number, pack, length FROM segment "
            f"WHERE number > ? ORDER BY number LIMIT {_COUNTED_ROWS}) GROUP BY pack",
            (after,),
        ).fetchall():
            for pack, size, _ in rows:
                live[pack] = live.get(pack, 0) + size
            after = max(row[2] for row in rows)
    newest = max(packs, default=0)
    return [
        PackUse(
            number=row.number,
            generation=row.generation,
            size_bytes=row.size_bytes,
            live_segment_bytes=live.get(row.number, 0),
            metadata_bytes=row.size_bytes - row.segment_bytes,
            metadata_droppable=row.number < checkpoint,
            open=row.number == newest,
            damaged=row.number in damaged,
        )
        for row in packs.values()
    ]


# Doing


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A pack that stands in a new generation."""

    number: int
    generation: int
    size_before_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NotRewritten:
    """A pack that the plan wanted anew, and that stays as it is."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """What became of the packs to rewrite, in the order of doing."""

    packs: tuple[Rewritten | NotRewritten, ...]

    @property
    def freed_bytes(self) -> int:
        """Given back once the old generations leave their quarantine."""
        return sum(pack.size_before_bytes - pack.size_bytes for pack in self.packs if isinstance(pack, Rewritten))


class _NothingChangedError(StoreError):
    """The pack at hand stays as it is; the others are not concerned."""


def compact(
    access: Access,
    plan: CompactionPlan,
    *,
    now_ms: int,
    progress: Callable[[int, int], None] | None = None,
) -> CompactionResult:
    """Rewrite what the plan says, pack by pack; `progress` hears (packs done, packs to do).

    A pack that cannot be rewritten (damage, which is noted; no room) is named in the result, and the others go on.
    FatalDiskError where the disk failed. `now_ms` is the appliance's clock: the quarantine counts from it.
    """
    _tidy(access, now_ms)
    wanted = plan.rewrites
    done: list[Rewritten | NotRewritten] = []
    for use in wanted:
        try:
            done.append(_rewrite(access, use, now_ms))
        except (_NothingChangedError, DiskFullError) as error:
            done.append(NotRewritten(use.number, str(error)))
        if progress is not None:
            progress(len(done), len(wanted))
    return CompactionResult(tuple(done))


def _rewrite(access: Access, use: PackUse, now_ms: int) -> Rewritten:
    row, droppable = _begin(access, use)
    path = access.layout.pack(row.number, row.generation + 1)
    try:
        moves = _copy(access, row, droppable)
        publish(access.disk, access.layout.unfinished(path), path)
        _move_over(access, row, moves, droppable, now_ms)
    except FatalDiskError:
        raise
    except DamagedRecordError as error:
        _note_damage(access, row, error, now_ms)
        _tidy(access, now_ms)
        raise _NothingChangedError(f"damage was found in it, so the original is kept: {error}") from error
    except Exception:
        _tidy(access, now_ms)
        raise
    return Rewritten(row.number, row.generation + 1, row.size_bytes, moves.size_bytes)


def _begin(access: Access, use: PackUse) -> tuple[PackRow, bool]:
    """The pack as it is now, closed, and whether its metadata goes."""
    with access.turn() as repository:
        if use.open:
            repository.close_pack(use.number)
        with repository.maintaining() as catalog:
            row = catalog.pack(use.number)
            checkpoint, identity = catalog.state().checkpoint_pack, catalog.identity
    if row.generation != use.generation:
        raise _NothingChangedError(f"{pack_name(row.number)} was compacted since the plan was made")
    if is_foreign(access.layout, row.number, row.generation, identity):
        raise _NothingChangedError("it belongs to another repository or another place: it is left alone")
    droppable = row.number < checkpoint
    needed = use.live_segment_bytes + (_HEADER_BYTES if droppable else row.size_bytes - row.segment_bytes)
    try:
        free = access.disk.free_bytes(access.layout.folder)
    except OSError as error:
        raise disk_error(error, f"cannot ask for the free space of {access.layout.folder}") from error
    if free < needed:
        raise _NothingChangedError(f"no room for a copy: {needed} bytes are needed, {free} are free")
    return row, droppable


def _copy(access: Access, row: PackRow, droppable: bool) -> Moves:
    """The `.new` file of the next generation, durable but for its name."""
    path = access.layout.unfinished(access.layout.pack(row.number, row.generation + 1))
    source = access.layout.pack(row.number, row.generation)
    target = AppendFile.create(access.disk, path)
    try:
        with access.reading() as repository, repository.reading_catalog() as catalog:
            held = _held(catalog, row.number)
            header = catalog.identity.header(row.number)
            moves = copy_pack(source, row.size_bytes, held, target, keep_metadata=not droppable, header=header)
        target.sync()
    finally:
        target.close()
    return moves


def _held(catalog: Catalog, pack: int) -> Iterator[HeldSegment]:
    """The segments held in a pack, by their place in it.

    They were numbered in the order of packs and places, and that is how they come; rows that do not are a catalog that
    is not to be trusted with this.
    """
    number = place = -1
    while rows := catalog.connection.execute(
        f"SELECT number, id, offset, length FROM segment WHERE number > ? AND pack = ? ORDER BY number LIMIT {_ROWS}",
        (number, pack),
    ).fetchall():
        number = rows[-1][0]
        for row in rows:
            if row[2] <= place:
                raise _NothingChangedError("the catalog holds its segments in another order: rebuild it")
            place = row[2]
            yield HeldSegment(row[0], SegmentId(row[1]), row[2], row[3])


def _move_over(access: Access, row: PackRow, moves: Moves, droppable: bool, now_ms: int) -> None:
    """One transaction, as the writer. What died since the copy was made is dead in the copy too."""
    pack = row.number
    with access.turn() as repository, repository.maintaining() as catalog, catalog.transaction() as connection:
        if catalog.pack(pack) != row:
            raise _NothingChangedError(f"{pack_name(pack)} was changed while it was copied")
        held = connection.executemany(
            f"UPDATE segment SET offset = ? WHERE number = ? AND pack = {pack}",
            zip(moves.segment_offsets, moves.segment_numbers, strict=True),
        ).rowcount
        (expected,) = connection.execute("SELECT count(*) FROM segment WHERE pack = ?", (pack,)).fetchone()
        if max(held, 0) != expected:
            raise _NothingChangedError(f"{expected} segments are held in it, not {held}: rebuild the catalog")
        state = catalog.state()
        _move_metadata(catalog, state, pack, moves, droppable)
        catalog.save(state)
        connection.execute(
            "UPDATE pack SET generation = ?, size = ?, segment_bytes = ? WHERE number = ?",
            (row.generation + 1, moves.size_bytes, moves.segment_bytes, pack),
        )
        connection.execute(
            "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?)", (pack, row.generation, row.size_bytes, now_ms)
        )
        connection.execute("UPDATE scrub SET offset = 0 WHERE pack = ?", (pack,))
        # What is left of it was mended and is not needed: its record went with this copy.
        connection.execute("DELETE FROM damage WHERE pack = ? AND segment IS NULL AND mended_ms > 0", (pack,))


def _move_metadata(catalog: Catalog, state: State, pack: int, moves: Moves, droppable: bool) -> None:
    if droppable:
        # Their commits stand in the checkpoint from now on.
        catalog.connection.execute(
            "UPDATE snapshot SET pack = ?, offset = ? WHERE pack = ?",
            (state.checkpoint_pack, state.checkpoint_offset, pack),
        )
        return
    # Ascending, and each place is new or was left before: no row is moved twice.
    catalog.connection.executemany(
        f"UPDATE snapshot SET offset = ? WHERE pack = {pack} AND offset = ?", ((new, old) for old, new in moves.marks)
    )
    if state.checkpoint_pack == pack:
        places = dict(moves.marks)
        if state.checkpoint_offset not in places:
            raise _NothingChangedError("the checkpoint is not where the catalog has it: rebuild the catalog")
        state.checkpoint_offset = places[state.checkpoint_offset]


def _note_damage(access: Access, row: PackRow, error: DamagedRecordError, now_ms: int) -> None:
    """What stands in the table keeps the pack from being compacted, until somebody looked at it."""
    with access.turn() as repository, repository.maintaining() as catalog, catalog.transaction() as connection:
        found = connection.execute(
            "SELECT id FROM segment WHERE pack = ? AND offset = ?", (row.number, error.offset)
        ).fetchone()
        connection.execute(
            "INSERT OR IGNORE INTO damage (pack, offset, kind, segment, detail, found_ms, mended_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, 0)",
            (row.number, error.offset, "SEGMENT" if found else "record", found and found[0], error.detail, now_ms),
        )


def _tidy(access: Access, now_ms: int) -> None:
    """Take away what did not come to count; the catalog says what that is."""
    with access.turn() as repository, repository.maintaining() as catalog:
        recovery.tidy(access.disk, access.layout, catalog, now_ms=now_ms)


def delete_expired(access: Access, *, now_ms: int, quarantine_ms: int = recovery.QUARANTINE_MS) -> int:
    """Delete old generations whose quarantine is over, by turns; the bytes given back."""
    freed = 0
    with access.turn():
        while True:
            with access.repository.maintaining() as catalog:
                tidied = recovery.tidy(access.disk, access.layout, catalog, now_ms=now_ms, quarantine_ms=quarantine_ms)
            freed += tidied.bytes_freed
            if not tidied.more:
                return freed
            access.pause()
