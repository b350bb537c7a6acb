"""Pruning: retire, sweep, checkpoint where it is worth one, compact, and delete what has been in quarantine for a day.

Each step is safe to be stopped anywhere and finishes what a stopped one left when pruning is done again. Which
snapshots go is decided elsewhere (`retention`). On a disk that is short of room there is no quarantine: the bytes are
wanted now, an old generation only guards against a disk that loses what it said was durable, and a disk without room
refuses backups, which is the greater danger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.store import recovery
from appliance.store.durable import Disk
from appliance.store.errors import DiskFullError
from appliance.store.repository import RESERVE_BYTES
from appliance.store.upkeep import checkpoint
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.compact import (
    SMALL_GAIN_BYTES,
    CompactionPlan,
    NotRewritten,
    Rewritten,
    compact,
    delete_expired,
    pack_use,
    plan_compaction,
)
from appliance.store.upkeep.retire import retire
from appliance.store.upkeep.sweep import sweep
from appliance.store.upkeep.wishing import note_wishes

SHORT_RESERVES: Final = 2
"""A disk is short of room when less than so many reserves are free: the next backup may be refused."""
_ROUNDS: Final = 8
"""On a short disk each round makes room for the next; so many are always enough, and a bound on futile copying."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What pruning did. Bytes are those of packs on disk."""

    snapshots_retired: frozenset[int]
    entries_dropped: int
    versions_dropped: int
    segments_dropped: int
    bytes_freed: int
    """Dead bytes taken out of packs: given back now, or when the quarantine is over."""
    bytes_in_quarantine: int
    """Of this and earlier prunings, still on disk."""
    bytes_deleted: int
    """Old generations whose quarantine is over, given back now."""
    bytes_dead_left: int
    """In packs that are not worth a rewrite yet."""
    packs_compacted: int
    packs_kept: tuple[NotRewritten, ...]
    """Packs that should have been rewritten and could not be."""
    bytes_wished: int
    """What the next backup is asked to send again, because it keeps mostly dead segments alive."""
    checkpoint_written: bool
    checkpoint_reason: str
    finished: bool
    """False: mends kept arriving during the sweep, and prune has to be done again."""


def prune(
    folder: Path,
    numbers: frozenset[int],
    *,
    now_ms: int,
    released: bool = False,
    progress: Callable[[str], None] | None = None,
    disk: Disk | None = None,
    reserve_bytes: int = RESERVE_BYTES,
    checkpoint_slack_bytes: int = checkpoint.SLACK_BYTES,
    small_gain_bytes: int = SMALL_GAIN_BYTES,
) -> PruneReport:
    """Retire the snapshots `numbers` of the repository in `folder` and free what only they needed.

    Works beside a running backup, by turns. `now_ms` is the appliance's clock; `released` gives up what was uploaded
    and no snapshot took. UnknownItemError or StoreError for numbers that cannot be retired, BusyRepositoryError while
    another process maintains this repository; nothing was done then.
    """
    say = progress or (lambda _: None)
    with Access(folder, disk=disk, reserve_bytes=reserve_bytes) as access:
        with access.turn() as repository:
            retired = retire(repository, numbers, now_ms=now_ms, released=released)
        say(f"{len(retired)} snapshots are no longer held")
        deleted = delete_expired(access, now_ms=now_ms, quarantine_ms=_quarantine_ms(access, reserve_bytes))
        swept = sweep(access, now_ms=now_ms)
        say(f"{swept.entries} entries, {swept.versions} versions, {swept.segments} segments were not needed any more")
        written, reason = _checkpoint(access, checkpoint_slack_bytes)
        say(reason)
        checkpoint.settle_damage(access, now_ms)
        compacted, kept, more = _compact(access, now_ms, reserve_bytes, small_gain_bytes, say)
        wished = note_wishes(access)
        with access.reading() as reader, reader.reading_catalog() as catalog:
            (waiting,) = catalog.connection.execute("SELECT coalesce(sum(size), 0) FROM quarantine").fetchone()
        return PruneReport(
            snapshots_retired=retired,
            entries_dropped=swept.entries,
            versions_dropped=swept.versions,
            segments_dropped=swept.segments,
            bytes_freed=sum(pack.size_before_bytes - pack.size_bytes for pack in compacted),
            bytes_in_quarantine=waiting,
            bytes_deleted=deleted + more,
            bytes_dead_left=sum(use.dead_bytes for use in pack_use(access)),
            packs_compacted=len(compacted),
            packs_kept=kept,
            bytes_wished=wished,
            checkpoint_written=written,
            checkpoint_reason=reason,
            finished=swept.finished,
        )


def _short(access: Access, reserve_bytes: int) -> bool:
    return access.disk.free_bytes(access.layout.folder) < SHORT_RESERVES * reserve_bytes


def _quarantine_ms(access: Access, reserve_bytes: int) -> int:
    return 0 if _short(access, reserve_bytes) else recovery.QUARANTINE_MS


def _checkpoint(access: Access, slack_bytes: int) -> tuple[bool, str]:
    use = checkpoint.metadata_use(access, slack_bytes=slack_bytes)
    decision = checkpoint.decide_checkpoint(use, slack_bytes=slack_bytes)
    if isinstance(decision, checkpoint.Leave):
        return False, f"no checkpoint: {decision.reason}"
    if use.damaged_records:
        # From now on the checkpoint is read in place of the damaged records: it may say nothing that was not signed.
        with access.reading() as reader, reader.reading_catalog() as catalog:
            doubt = checkpoint.doubt(catalog)
        if doubt:
            return False, (
                f"no checkpoint: {use.damaged_records} records of metadata are damaged, and the catalog cannot stand "
                f"in for them ({doubt}): see `repo check`, then rebuild the catalog"
            )
    try:
        outcome = checkpoint.write_checkpoint(access)
    except DiskFullError as error:
        return False, f"no checkpoint: {error}"
    if isinstance(outcome, checkpoint.Leave):
        return False, f"no checkpoint: {outcome.reason}"
    return True, f"checkpoint of {outcome.bytes} bytes: {decision.reason}"


def _compact(
    access: Access, now_ms: int, reserve_bytes: int, small_gain_bytes: int, say: Callable[[str], None]
) -> tuple[list[Rewritten], tuple[NotRewritten, ...], int]:
    """Rewritten packs, those that could not be, and bytes deleted at once because the disk is short.

    On a short disk one pack is rewritten at a time, the most dead first, and its old generation goes at once: that
    makes the room for the next.
    """
    done: list[Rewritten] = []
    deleted = 0
    for _ in range(_ROUNDS):
        plan = plan_compaction(pack_use(access), small_gain_bytes=small_gain_bytes)
        kept: list[NotRewritten] = []
        before = len(done)
        portions = [plan] if not _short(access, reserve_bytes) else [_only(plan, use.number) for use in plan.rewrites]
        for portion in portions:
            result = compact(access, portion, now_ms=now_ms)
            for pack in result.packs:
                if isinstance(pack, Rewritten):
                    done.append(pack)
                    say(f"pack {pack.number}: {pack.size_before_bytes - pack.size_bytes} dead bytes taken out")
                else:
                    kept.append(pack)
                    say(f"pack {pack.number} stays as it is: {pack.reason}")
            if _short(access, reserve_bytes):
                deleted += delete_expired(access, now_ms=now_ms, quarantine_ms=0)
        if not kept or len(done) == before:
            break
    return done, tuple(kept), deleted


def _only(plan: CompactionPlan, number: int) -> CompactionPlan:
    return CompactionPlan(tuple(pack for pack in plan.packs if pack.use.number == number))
