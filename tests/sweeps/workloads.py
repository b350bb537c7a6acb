"""What the store's crash sweeps put a repository through, one `Workload` for each thing that writes.

`WORKLOADS` is the one place where an engine plugs in: `prepare` makes the baseline, `run` does the work through the
disk it is given and tells the `Machine` of every acknowledgement, `reopen` is how an operator comes back after a crash,
`again` what is done once more then. Work must be deterministic: the same seed asks the same operations of the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.store import catalog, packs
from appliance.store.durable import Disk
from appliance.store.repository import Repository
from appliance.store.upkeep import checkpoint, compact, sweep
from tests.appliance.store_builder import make_repository
from tests.support.invariants import expect
from tests.sweeps import maintenance
from tests.sweeps.machine import Machine

_BIG = b"pages" * 60_000 + bytes(900_000) + b"tail" * 1000
"""Large enough for pages, small in a pack."""

SMALL_PACK_BYTES = 9000
_SMALL_AHEAD_BYTES = 2000
_SMALL_GROUP_BYTES = 600
_SMALL_CACHE_KIB = 24


def _document(machine: Machine, size: int) -> bytes:
    """Half of it compresses."""
    return machine.random.randbytes(size // 2) + bytes(size - size // 2)


def _base(folder: Path) -> Machine:
    """Three snapshots: folders, small files, a paged file with holes and its delta, deaths; several packs."""
    machine = Machine(make_repository(folder))
    machine.begin()
    machine.put_folders((b"a",), (b"b",))
    machine.put_file((b"a", b"f"), _document(machine, 5000))
    machine.put_file((b"b", b"g"), _document(machine, 3000))
    machine.commit()
    machine.begin()
    base = machine.put_file((b"a", b"big"), _BIG)
    machine.commit()
    machine.begin()
    size = len(machine.contents[base])
    version, items = machine.delta(base, [b"new head", (8, 700_000), b"in between", (700_018, size - 700_018)])
    machine.stage(*items, machine.entries(machine.entry((b"a", b"big"), version)))
    machine.stage(machine.deaths(machine.path(b"b", b"g")))
    machine.commit()
    machine.open = False
    machine.sent = []
    machine.repository.close()
    return machine


def open_with(folder: Path, disk: Disk, machine: Machine) -> Repository:
    machine.repository = Repository.open(folder, disk=disk, reserve_bytes=0)
    return machine.repository


# The workloads


def _prepare_nothing(folder: Path) -> Machine:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Machine()


def _create(folder: Path, disk: Disk, machine: Machine) -> None:
    machine.repository = make_repository(folder, disk)
    machine.created = True


def _reopen_or_create(folder: Path, disk: Disk, machine: Machine) -> Repository:
    """A creation that was not acknowledged is begun anew."""
    if not machine.created and not folder.exists():
        _create(folder, disk, machine)
        return machine.repository
    return open_with(folder, disk, machine)


def _ingest(folder: Path, disk: Disk, machine: Machine) -> None:
    """Segments, versions, deltas with pages, entries, deaths; groups; packs that roll; a commit."""
    open_with(folder, disk, machine)
    machine.begin()
    machine.put_folders((b"c",))
    machine.put_file((b"c", b"new"), _document(machine, 6000))
    base = machine.live[machine.path(b"a", b"big")].version_id
    size = len(machine.contents[base])
    version, items = machine.delta(base, [(0, 300_000), b"edit" * 500, 200_000, (400_000, size - 400_000)])
    first, second = machine.whole(_document(machine, 4000)), machine.whole(_document(machine, 900))
    machine.stage(*items, *first[1])
    machine.stage(*second[1], machine.entries(machine.entry((b"a", b"big"), version), machine.entry((b"h",), first[0])))
    machine.stage(machine.deaths(machine.path(b"a", b"f")), machine.entries(machine.entry((b"c", b"i"), second[0])))
    machine.commit()


def _commit_only(folder: Path, disk: Disk, machine: Machine) -> None:
    """A commit over what is staged, and one in which nothing changed."""
    open_with(folder, disk, machine)
    machine.repository.begin(machine.session, machine.previous)
    machine.commit()
    machine.begin()
    machine.commit()


def _prepare_staged(folder: Path) -> Machine:
    """Everything of a snapshot is staged and nothing committed."""
    machine = _base(folder)
    open_with(folder, Disk(), machine)
    machine.begin()
    machine.put_folders((b"c",))
    machine.put_file((b"c", b"n"), _document(machine, 3000))
    machine.stage(machine.deaths(machine.path(b"a", b"f")))
    machine.repository.close()
    return machine


def _checkpoints(folder: Path, disk: Disk, machine: Machine) -> None:
    """Three commits within one session."""
    open_with(folder, disk, machine)
    machine.begin()
    for number in range(3):
        machine.put_file((b"part%d" % number,), _document(machine, 2500))
        machine.commit()


def _resume(folder: Path, disk: Disk, machine: Machine) -> None:
    """The same session goes on after a crash: what is known is skipped, the rest follows."""
    open_with(folder, disk, machine)
    upto = machine.repository.begin(machine.session, machine.previous)
    expect(upto == machine.received, f"{machine.received} was acknowledged, {upto} is known")
    machine.put_file((b"c", b"more"), _document(machine, 2000))
    machine.commit()


def _new_session(folder: Path, disk: Disk, machine: Machine) -> None:
    """Another session than the killed one: what that had staged is dropped, its segments stay."""
    open_with(folder, disk, machine)
    machine.begin()
    machine.put_file((b"other",), _document(machine, 2000))
    machine.commit()


def _prepare_tail(folder: Path) -> Machine:
    """A group and a half behind what counts, as a power cut leaves it, and a pack that nobody knows."""
    machine = _base(folder)
    newest = sorted((folder / "packs").glob("*.pack"))[-1]
    tail = newest.read_bytes()
    with open(newest, "ab") as file:
        file.write(tail[: len(tail) * 2 // 3])
    following = folder / "packs" / f"{int(newest.name[:8]) + 1:08d}.pack"
    following.write_bytes(tail[:200] + bytes(300))
    return machine


def _torn(folder: Path, disk: Disk, machine: Machine) -> None:
    """Opening cuts the tail; a short session follows."""
    open_with(folder, disk, machine)
    machine.begin()
    machine.put_file((b"later",), _document(machine, 500))
    machine.commit()


def _succeed(folder: Path, disk: Disk, machine: Machine) -> None:
    """The machine is recovered twice, the second time without a snapshot in between, and goes on."""
    open_with(folder, disk, machine)
    machine.succeed()
    machine.put_file((b"recovered",), _document(machine, 2000))
    machine.commit()
    machine.succeed()
    machine.succeed()
    machine.put_file((b"again",), _document(machine, 900))
    machine.commit()


def _prepare_succeeded(folder: Path) -> Machine:
    machine = maintenance.prepare_swept(folder)
    _succeed(folder, Disk(), machine)
    machine.succeed()
    machine.open = False
    machine.repository.close()
    return machine


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of work. `pack_bytes` is when packs roll meanwhile."""

    name: str
    about: str
    prepare: Callable[[Path], Machine]
    run: Callable[[Path, Disk, Machine], None]
    reopen: Callable[[Path, Disk, Machine], Repository] = open_with
    pack_bytes: int = SMALL_PACK_BYTES
    reports_no_room: bool = False
    """Packs for which there is no room are named in a report, and the others go on."""
    again: Callable[[Path, Machine], None] | None = None
    """What an operator has done once more after a crash; the repository is closed meanwhile."""

    @contextmanager
    def conditions(self) -> Iterator[None]:
        """Small packs and portions, so that a little work meets every case."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packs, "PACK_BYTES", self.pack_bytes)
            patch.setattr(packs, "AHEAD_BYTES", _SMALL_AHEAD_BYTES)
            # Portions by size alone, so that a slow moment does not change what is asked of the disk.
            patch.setattr(checkpoint, "GROUP_BYTES", _SMALL_GROUP_BYTES)
            patch.setattr(checkpoint, "PART_BYTES", _SMALL_GROUP_BYTES)
            patch.setattr(checkpoint, "PORTION_S", 60.0)
            patch.setattr(sweep, "PORTION_S", 60.0)
            patch.setitem(compact.plan_compaction.__kwdefaults__, "small_gain_bytes", 1)
            yield

    @contextmanager
    def pressure(self) -> Iterator[None]:
        """A small catalog cache: SQLite writes pages long before the commit, and crashes leave hot journals."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalog, "_CACHE_KIB", _SMALL_CACHE_KIB)
            yield


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("create", "a new repository", _prepare_nothing, _create, _reopen_or_create),
        Workload("ingest", "groups of everything, packs that roll", _base, _ingest),
        Workload("commit", "a commit over what is staged, and an empty one", _prepare_staged, _commit_only),
        Workload("checkpoints", "three commits in one session", _base, _checkpoints),
        Workload("resume", "the same session after a crash", _prepare_staged, _resume),
        Workload("new-session", "another session than the killed one", _prepare_staged, _new_session),
        Workload("succession", "other installations take over", _base, _succeed),
        Workload("checkpoint-keys", "a checkpoint with successions", _prepare_succeeded, maintenance.write_one),
        Workload("torn-tail", "opening with an unacknowledged tail", _prepare_tail, _torn),
        Workload("retire", "snapshots are retired beside an open upload", maintenance.prepare, maintenance.retire_some),
        Workload(
            "sweep",
            "what only they named is forgotten",
            maintenance.prepare_retired,
            maintenance.sweep_all,
            again=maintenance.sweep_again,
        ),
        Workload("checkpoint", "all that is held is written anew", maintenance.prepare_swept, maintenance.write_one),
        Workload(
            "compact",
            "packs are rewritten, old generations wait and go",
            maintenance.prepare_checkpoint,
            maintenance.compact_all,
            reports_no_room=True,
            again=maintenance.compact_again,
        ),
        Workload(
            "prune",
            "all of it, twice",
            maintenance.prepare_committed,
            maintenance.prune_all,
            reports_no_room=True,
            again=maintenance.prune_again,
        ),
        Workload(
            "scrub",
            "all is read again, and how far that came is noted",
            maintenance.prepare,
            maintenance.scrub_all,
            again=maintenance.scrub_again,
        ),
        Workload("mend", "damaged segments are sent anew", maintenance.prepare_damaged_segments, maintenance.mend_all),
        Workload(
            "prune-mended",
            "pruned after mending, until the damaged records go",
            maintenance.prepare_mended,
            maintenance.prune_mended,
            reports_no_room=True,
            again=maintenance.prune_mended_again,
        ),
        Workload("upgrade", "a catalog of format 1 is opened", maintenance.prepare_format_1, maintenance.upgrade_one),
        Workload(
            "rebuild",
            "a damaged catalog is made anew",
            maintenance.prepare_damaged,
            maintenance.rebuild_one,
            maintenance.reopen_or_rebuild,
            again=maintenance.rebuild_again,
        ),
    )
}
"""Engines that write add theirs here."""
