"""Room on a medium: how much a copy may take, and which of its snapshots go.

Rules: the newest snapshot is never dropped; within its days a copy keeps what the appliance's rules keep; where room is
wanted now, the oldest goes first. Dropping is the repository engine's prune; nothing here deletes a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.onsite.configured import CopyPlace
from appliance.store.durable import Disk
from appliance.store.layout import Layout
from appliance.store.repository import RESERVE_BYTES, Repository
from appliance.store.upkeep.clock import UNWITNESSED
from appliance.store.upkeep.prune import PruneReport, prune
from appliance.store.upkeep.retention import MINIMUM_FLOOR_DAYS, Candidate, Drop, Policy, plan_retention
from transport.commits import StoredCommit

SMALL_GAIN_BYTES: Final = 1 << 20
"""Where a medium is full, packs are written anew for as little as this."""
_LEAST_RESERVE_BYTES: Final = 16 << 20
_COMMITS: Final = 500


def used_bytes(folder: Path) -> int:
    """What a repository takes, packs and catalog."""
    layout = Layout(folder)
    total = 0
    for place in (layout.folder, layout.packs):
        with os.scandir(place) as files:
            total += sum(file.stat().st_size for file in files if file.is_file(follow_symlinks=False))
    return total


class BoundedDisk(Disk):
    """A medium of which a copy may take `limit_bytes`, 0 for all: what is free is the lesser of both."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        super().__init__()
        self._copy = folder
        self._limit = limit_bytes

    def free_bytes(self, folder: Path) -> int:
        """Room left for the copy."""
        free = super().free_bytes(folder)
        return min(free, max(0, self._limit - used_bytes(self._copy))) if self._limit else free


def disk_of(place: CopyPlace, repository: Path) -> Disk:
    """The medium as the engine is to see it."""
    return BoundedDisk(repository, place.limit_bytes)


def reserve_of(place: CopyPlace) -> int:
    """What is kept free for pruning: an eighth of a small limit, else as on the appliance. Twice as much is more than
    this and a group together, so that whoever is refused for lack of room is short of it in the eyes of prune."""
    return min(RESERVE_BYTES, max(_LEAST_RESERVE_BYTES, place.limit_bytes // 8)) if place.limit_bytes else RESERVE_BYTES


def held_snapshots(repository: Repository) -> list[StoredCommit]:
    """All commits there were, oldest first; retired ones included."""
    found: list[StoredCommit] = []
    after = 0
    while page := repository.commits(after, _COMMITS):
        found += page
        after = page[-1].signed.decoded().number
    return found


def drop_oldest(place: CopyPlace, folder: Path, now_ms: int, moves: Callable[[str], None]) -> bool:
    """Drop the oldest snapshot and free what only it needed; False where only one is left. The repository is closed."""
    with Repository.open(folder, read_only=True) as repository:
        held = [c.signed.decoded().number for c in held_snapshots(repository) if not c.retired]
    if len(held) < 2:
        return False
    _prune(place, folder, frozenset(held[:1]), now_ms, moves)
    return True


def drop_aged(place: CopyPlace, folder: Path, now_ms: int, moves: Callable[[str], None]) -> PruneReport | None:
    """Drop what is older than the copy keeps; None where nothing is. The repository is closed."""
    with Repository.open(folder, read_only=True) as repository:
        commits = held_snapshots(repository)
    candidates = [
        Candidate(record.number, commit.received_ms, complete=record.complete, retired=commit.retired)
        for commit in commits
        for record in (commit.signed.decoded(),)
    ]
    policy = Policy(keep_days=place.keep_days, floor_days=MINIMUM_FLOOR_DAYS)
    plan = plan_retention(candidates, policy, now_ms, UNWITNESSED)
    numbers = frozenset(d.number for d in plan.decisions if isinstance(d.action, Drop))
    return _prune(place, folder, numbers, now_ms, moves) if numbers else None


def _prune(
    place: CopyPlace, folder: Path, numbers: frozenset[int], now_ms: int, moves: Callable[[str], None]
) -> PruneReport:
    return prune(
        folder,
        numbers,
        now_ms=now_ms,
        progress=moves,
        disk=disk_of(place, folder),
        reserve_bytes=reserve_of(place),
        small_gain_bytes=SMALL_GAIN_BYTES,
    )
