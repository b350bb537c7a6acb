"""What maintenance does to a repository, as workloads: retire, sweep, checkpoint, compact, prune, upgrade, rebuild.

Each `prepare…` ends where the former step ended. The appliance's clock stands at NOW_MS, in the future of the machine
that runs this: opening a repository in between never ends a quarantine of its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from appliance.store.durable import Disk
from appliance.store.errors import DamagedRepositoryError, StoreError
from appliance.store.layout import Layout
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.checkpoint import Written, write_checkpoint
from appliance.store.upkeep.compact import NotRewritten, compact, delete_expired, pack_use, plan_compaction
from appliance.store.upkeep.prune import prune
from appliance.store.upkeep.rebuilding import rebuild
from appliance.store.upkeep.retire import retire
from appliance.store.upkeep.scrub import scrub
from appliance.store.upkeep.sweep import sweep
from tests.appliance.store_builder import make_repository
from tests.support.invariants import Loss, PackReader, expect, newest_generations
from tests.sweeps.machine import Machine
from tests.sweeps.old_catalog import to_format_1
from transport.names import SegmentId

NOW_MS: Final = 2_000_000_000_000
DAY_MS: Final = 24 * 3600 * 1000
_GONE: Final = frozenset({1, 2, 4})
"""The snapshots that go; 3, 5 and 6 are kept."""


def prepare(folder: Path) -> Machine:
    """Six snapshots, most of what the old ones named replaced, and an upload that is open with a file staged."""
    machine = Machine(make_repository(folder))
    base = None
    for number in range(6):
        machine.begin()
        if number == 0:
            machine.put_folders((b"a",), (b"b",))
            machine.put_file((b"a", b"kept"), machine.random.randbytes(2000))
        machine.put_file((b"b", b"daily"), machine.random.randbytes(3000) + bytes(3000))
        if number % 2 == 0:
            machine.put_file((b"b", b"odd %d" % number), machine.random.randbytes(700))
        if base is None:
            base = machine.put_file((b"a", b"big"), b"pages" * 60_000 + bytes(900_000) + b"tail" * 1000)
        else:
            size = len(machine.contents[base])
            parts = [b"head %02d." % number, (8, 600_000), b"edit" * 300, (601_208, size - 601_208)]
            base, items = machine.delta(base, parts)
            machine.stage(*items, machine.entries(machine.entry((b"a", b"big"), base)))
        if number == 3:
            machine.stage(machine.deaths(machine.path(b"b", b"odd 2")))
        machine.commit()
    machine.begin()
    machine.put_file((b"b", b"open"), machine.random.randbytes(900))
    machine.repository.close()
    return machine


def _committed(machine: Machine, folder: Path) -> None:
    """The open upload ends with a snapshot: nothing is staged any more."""
    with Repository.open(folder, reserve_bytes=0) as repository:
        machine.repository = repository
        machine.resume()


def prepare_committed(folder: Path) -> Machine:
    machine = prepare(folder)
    _committed(machine, folder)
    return machine


def prepare_retired(folder: Path) -> Machine:
    machine = prepare(folder)
    retire_some(folder, Disk(), machine)
    machine.repository.close()
    return machine


def prepare_swept(folder: Path) -> Machine:
    machine = prepare_retired(folder)
    _committed(machine, folder)
    sweep_all(folder, Disk(), machine)
    return machine


def prepare_checkpoint(folder: Path) -> Machine:
    machine = prepare_swept(folder)
    write_one(folder, Disk(), machine)
    return machine


def _away(machine: Machine) -> None:
    """Maintenance opens the repository itself."""
    machine.repository = None  # type: ignore[assignment]


def retire_some(folder: Path, disk: Disk, machine: Machine) -> None:
    machine.repository = Repository.open(folder, disk=disk, reserve_bytes=0)
    machine.leaving = set(_GONE) - machine.retired
    gone = retire(machine.repository, _GONE, now_ms=NOW_MS)
    expect(gone == machine.leaving, f"{sorted(gone)} were retired, not {sorted(machine.leaving)}")
    machine.retired, machine.leaving = set(_GONE), set()


def sweep_all(folder: Path, disk: Disk, machine: Machine) -> None:
    _away(machine)
    machine.sweeping = True
    with Access(folder, disk=disk, reserve_bytes=0) as access:
        expect(sweep(access).finished, "the sweep did not finish")
    machine.sweeping = False


def sweep_again(folder: Path, machine: Machine) -> None:
    sweep_all(folder, Disk(), machine)


def write_one(folder: Path, disk: Disk, machine: Machine) -> None:
    _away(machine)
    with Access(folder, disk=disk, reserve_bytes=0) as access:
        written = write_checkpoint(access)
        expect(isinstance(written, Written), f"no checkpoint: {written}")


def compact_all(folder: Path, disk: Disk, machine: Machine) -> None:
    """Rewrite what has anything dead, and end the quarantine a day later."""
    _away(machine)
    with Access(folder, disk=disk, reserve_bytes=0) as access:
        packs = compact(access, plan_compaction(pack_use(access)), now_ms=NOW_MS).packs
        kept = [pack for pack in packs if isinstance(pack, NotRewritten)]
        expect(len(packs) > 2, f"only {len(packs)} packs were worth it")
        expect(all("no space left" in pack.reason for pack in kept), f"not rewritten: {kept}")
        deleted = delete_expired(access, now_ms=NOW_MS + 2 * DAY_MS)
        expect(deleted > 0 or len(kept) == len(packs), "no quarantine ended")


def compact_again(folder: Path, machine: Machine) -> None:
    """As the next night's pruning does, whatever the last one left."""
    _away(machine)
    with Access(folder, reserve_bytes=0) as access:
        compact(access, plan_compaction(pack_use(access)), now_ms=NOW_MS + DAY_MS)
        delete_expired(access, now_ms=NOW_MS + 3 * DAY_MS)
    left = [path.name for path in (folder / "packs").iterdir()]
    expect(len(left) == len({name[:8] for name in left}), f"old generations are still there: {sorted(left)}")


def prune_all(folder: Path, disk: Disk, machine: Machine) -> None:
    """Retire, sweep, checkpoint, compact; and once more two days later, which ends the quarantine."""
    _away(machine)
    machine.leaving, machine.sweeping = set(_GONE) - machine.retired, True
    for now_ms in (NOW_MS, NOW_MS + 2 * DAY_MS):
        _prune(folder, disk, machine, now_ms)
    machine.sweeping = False


def _prune(folder: Path, disk: Disk, machine: Machine, now_ms: int) -> None:
    """Whatever is dead is worth it."""
    report = prune(
        folder, _GONE, now_ms=now_ms, disk=disk, reserve_bytes=0, checkpoint_slack_bytes=0, small_gain_bytes=1
    )
    expect(report.finished, "the sweep did not finish")
    machine.retired, machine.leaving = set(_GONE), set()


def prune_again(folder: Path, machine: Machine) -> None:
    prune_all(folder, Disk(), machine)


def scrub_all(folder: Path, disk: Disk, machine: Machine) -> None:
    """To the end, in two goes."""
    _away(machine)
    with Access(folder, disk=disk, reserve_bytes=0) as access:
        for limit_s in (0.0, None):
            report = scrub(access, now_ms=lambda: NOW_MS, limit_s=limit_s, pause=lambda _: None)
        expect(report.finished and not report.damage, f"the scrub of a sound repository: {report}")


def scrub_again(folder: Path, machine: Machine) -> None:
    scrub_all(folder, Disk(), machine)


# Mending


def prepare_damaged_segments(folder: Path) -> Machine:
    """As committed; two segments that several snapshots need are damaged, and a scrub noted it."""
    machine = prepare_committed(folder)
    _away(machine)
    chosen = [segment for segment, plain in machine.segments.items() if len(plain) > 300_000][:1]
    chosen += [segment for segment, plain in machine.segments.items() if len(plain) == 2000][:1]
    for segment in chosen:
        _damage(folder, segment)
    machine.damaged, machine.unmended = set(chosen), set(chosen)
    with Access(folder, reserve_bytes=0) as access:
        report = scrub(access, now_ms=lambda: NOW_MS)
    expect({found.segment for found in report.damage} == machine.damaged, f"the scrub found {report.damage}")
    expect(all(len(found.impact.snapshots) > 1 for found in report.damage), f"hardly needed: {report.damage}")
    return machine


def _damage(folder: Path, segment: SegmentId) -> None:
    """One bit of the record, well behind the segment's id."""
    for pack in newest_generations(folder / "packs"):
        at = pack.read_bytes().find(segment)
        if at >= 0:
            with open(pack, "r+b") as file:
                byte = os.pread(file.fileno(), 1, at + 60)[0]
                os.pwrite(file.fileno(), bytes([byte ^ 4]), at + 60)
            return
    raise Loss(f"segment {segment.hex()} stands in no pack")


def mend_all(folder: Path, disk: Disk, machine: Machine) -> None:
    """A session sends fresh segments, a signed order, and a commit."""
    machine.repository = Repository.open(folder, disk=disk, reserve_bytes=0)
    asked = {wish.segment for wish in machine.repository.care()}
    machine.begin()
    expect(asked == machine.unmended, f"{len(asked)} segments are asked for, {len(machine.unmended)} are damaged")
    machine.mend()
    machine.put_file((b"b", b"daily"), machine.random.randbytes(900))
    machine.commit()
    expect(not machine.unmended, "the order was not acknowledged")


def prepare_mended(folder: Path) -> Machine:
    machine = prepare_damaged_segments(folder)
    machine.clock_ms = NOW_MS
    mend_all(folder, Disk(), machine)
    machine.repository.close()
    return machine


def prune_mended(folder: Path, disk: Disk, machine: Machine, *, first: bool = True) -> None:
    """Pruned at once, two days later, and when the evidence is no longer kept: then its bytes go too."""
    _away(machine)
    machine.leaving, machine.sweeping = set(_GONE) - machine.retired, True
    for days in (0, 2, 91, 93) if first else (91, 93):
        _prune(folder, disk, machine, NOW_MS + days * DAY_MS)
        kept = set(PackReader(folder, machine.damaged).damaged)
        expect(days >= 91 or kept == machine.damaged, f"after {days} days the original of what was mended is gone")
    machine.sweeping = False


def prune_mended_again(folder: Path, machine: Machine) -> None:
    prune_mended(folder, Disk(), machine, first=False)
    left = PackReader(folder, machine.damaged).damaged
    expect(not left, f"the mended records are still there: {left}")


def prepare_format_1(folder: Path) -> Machine:
    """As prepared, with a catalog of format 1."""
    machine = prepare(folder)
    to_format_1(Layout(folder).catalog)
    return machine


def upgrade_one(folder: Path, disk: Disk, machine: Machine) -> None:
    machine.repository = Repository.open(folder, disk=disk, reserve_bytes=0)


def prepare_damaged(folder: Path) -> Machine:
    """Everything was done to it, and its catalog is no database any more."""
    machine = prepare_checkpoint(folder)
    compact_all(folder, Disk(), machine)
    with open(Layout(folder).catalog, "r+b") as file:
        os.pwrite(file.fileno(), b"no longer what it was", 0)
    machine.open, machine.sent = False, []
    return machine


def rebuild_one(folder: Path, disk: Disk, machine: Machine) -> None:
    _away(machine)
    report = rebuild(folder, now_ms=NOW_MS, disk=disk)
    expect(report.ok and report.replaced, f"not rebuilt: {report}")


def reopen_or_rebuild(folder: Path, disk: Disk, machine: Machine) -> Repository:
    """An operator is told that the catalog is gone or damaged, and has it made anew."""
    try:
        machine.repository = Repository.open(folder, disk=disk, reserve_bytes=0)
    except (DamagedRepositoryError, StoreError):
        rebuild(folder, now_ms=NOW_MS, disk=disk)
        machine.repository = Repository.open(folder, disk=disk, reserve_bytes=0)
    return machine.repository


def rebuild_again(folder: Path, machine: Machine) -> None:
    """A rebuild of a sound repository finds nothing to do."""
    _away(machine)
    report = rebuild(folder, now_ms=NOW_MS)
    expect(report.ok and not report.replaced, f"the rebuild differs: {report.differences[:3]}")
