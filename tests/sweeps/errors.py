"""Disks that refuse: every error at every operation, disks that are really full, bytes that changed or are unreadable.

A failed fsync, write or cut ends the repository for good and nothing of it is acknowledged; a disk without room, or a
process without descriptors, refuses and goes on once there are some; damage is named where it is. Whatever happened,
what was acknowledged before is there afterwards.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.store.durable import Disk
from appliance.store.errors import DamagedRecordError, DamagedRepositoryError, DiskFullError, FatalDiskError, StoreError
from appliance.store.records import OVERHEAD_BYTES, decode_head
from appliance.store.repository import Repository
from tests.support.crashing_disk import FailingDisk, Operation, WatchedDisk, unreadable
from tests.support.faults import SmallDisk
from tests.support.invariants import check_invariants, expect, newest_generations
from tests.sweeps.crashes import NAME, Baseline, Tally, prepare, reopened, sound
from tests.sweeps.machine import Machine
from tests.sweeps.workloads import WORKLOADS, Workload, open_with
from transport.errors import PilulierError
from transport.names import SegmentId

SHORT_WRITE: Final = 0

ERRORS: Final[dict[str, tuple[int, ...]]] = {
    "open_new": (errno.ENOSPC, errno.EIO, errno.EMFILE),
    "open_existing": (errno.EIO, errno.EMFILE),
    "open_folder": (errno.EIO, errno.EMFILE),
    "write_at": (SHORT_WRITE, errno.ENOSPC, errno.EIO),
    "truncate": (errno.EIO,),
    "sync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.ENOSPC),
    "remove": (errno.EIO,),
    "make_folder": (errno.ENOSPC, errno.EIO),
    "remove_folder": (errno.EIO,),
    "commit_catalog": (errno.ENOSPC, errno.EIO, errno.EMFILE),
}
"""What each operation is made to answer."""

_FATAL: Final = frozenset({("write_at", errno.EIO), ("truncate", errno.EIO), ("commit_catalog", errno.EIO)})


def sweep_errors(workload: Workload, scratch: Path, *, step: int = 1, first: int = 0) -> Tally:
    """Every error at every `step`-th operation from number `first` on, alone and (where there is no room) lasting."""
    tally = Tally()
    with workload.conditions():
        base = prepare(workload, scratch)
        disk = WatchedDisk()
        machine = base.machine.clone()
        with workload.pressure():
            workload.run(base.copy(scratch / "run") / NAME, disk, machine)
        if machine.repository is not None:
            machine.repository.close()
        for operation in disk.operations[first::step]:
            for code in ERRORS[operation.name]:
                for lasting in _how_long(operation, code):
                    tally.errors += 1
                    what = errno.errorcode.get(code, "a short write")
                    where = f"{workload.name}: {what} at {operation.number} {operation.name} {operation.path.name}"
                    try:
                        _refuse(workload, base, scratch, operation, code, lasting=lasting)
                    except Exception as error:  # the edge of a sweep: whatever it is, it is a loss
                        tally.losses.append(f"{where}: {type(error).__name__}: {error}")
    return tally


def _how_long(operation: Operation, code: int) -> tuple[bool, ...]:
    """Whether the error lasts. A write into a full disk is first cut short: what follows must be refused too."""
    if code != errno.ENOSPC or operation.name == "sync":
        return (False,)
    return (True,) if operation.name == "write_at" else (False, True)


def _refuse(
    workload: Workload, base: Baseline, scratch: Path, operation: Operation, code: int, *, lasting: bool
) -> None:
    folder = base.copy(scratch / "run") / NAME
    machine = base.machine.clone()
    disk = FailingDisk(operation.number, code, lasting=lasting)
    refused: PilulierError | None = None
    try:
        with workload.pressure():
            workload.run(folder, disk, machine)
    except PilulierError as error:
        refused = error
    expect(disk.struck is not None, "the operation never came: the work is not the same each time")
    if refused is not None or not (workload.reports_no_room and code == errno.ENOSPC and operation.name != "sync"):
        _fits(operation, code, refused)
    disk.mend()
    repository = machine.repository
    if repository is not None:
        if isinstance(refused, FatalDiskError):
            _refuses_everything(repository, machine)
        else:
            sound(repository, folder, machine)
        repository.close()
    survivor = reopened(workload, folder, machine)
    try:
        sound(survivor, folder, machine)
        if workload.again is not None:
            survivor.close()
            workload.again(folder, machine)
            survivor = reopened(workload, folder, machine)
            sound(survivor, folder, machine)
    finally:
        survivor.close()


def _fits(operation: Operation, code: int, refused: PilulierError | None) -> None:
    """The answer is of the right kind."""
    if code == SHORT_WRITE:
        expect(refused is None, f"a short write was not continued: {refused}")
    elif operation.name == "sync" or (operation.name, code) in _FATAL:
        expect(isinstance(refused, FatalDiskError), f"not taken as the end: {refused!r}")
    elif code == errno.ENOSPC:
        expect(isinstance(refused, DiskFullError), f"not taken as a full disk: {refused!r}")
    elif code == errno.EMFILE:
        expect(isinstance(refused, StoreError), f"not refused: {refused!r}")
        expect(not isinstance(refused, FatalDiskError), f"taken as the end: {refused!r}")


def _refuses_everything(repository: Repository, machine: Machine) -> None:
    calls: list[Callable[[], object]] = [
        lambda: repository.begin(machine.session, machine.previous),
        lambda: repository.stage([]),
        lambda: repository.head,
        lambda: repository.commits(0, 1),
        lambda: repository.read_segment(SegmentId(b"s" * 16)),
        lambda: repository.check(),
    ]
    for call in calls:
        try:
            call()
        except StoreError:
            continue
        expect(False, "the repository goes on after the disk failed")


# Really full, and really without descriptors


def fill_for_real(disk: SmallDisk, scratch: Path, room_bytes: int) -> Tally:
    """An upload onto a file system that becomes full at some place; then there is room again."""
    workload = WORKLOADS["ingest"]
    tally = Tally(errors=1)
    with workload.conditions():
        base = prepare(workload, scratch)
        world = base.copy(disk.folder / "world")
        filler = disk.folder / "filler"
        filler.unlink(missing_ok=True)
        disk.fill(room_bytes)
        machine = base.machine.clone()
        try:
            workload.run(world / NAME, Disk(), machine)
        except DiskFullError:
            check_invariants(machine.repository, world / NAME, machine.expected())
            filler.unlink()
            sound(machine.repository, world / NAME, machine)
        else:
            filler.unlink()
        finally:
            machine.repository.close()
        with reopened(workload, world / NAME, machine) as repository:
            sound(repository, world / NAME, machine)
    return tally


def exhaust_descriptors(scratch: Path, spares: Iterable[int] = range(8)) -> Tally:
    """An upload with so many descriptors left: refused, and then it goes through."""
    workload = WORKLOADS["ingest"]
    tally = Tally()
    with workload.conditions():
        base = prepare(workload, scratch)
        for spare in spares:
            world = base.copy(scratch / "run")
            machine = base.machine.clone()
            open_with(world / NAME, Disk(), machine)
            tally.errors += 1
            try:
                with _descriptors(spare):
                    machine.begin()
                    for number in range(4):
                        machine.put_file((b"file%d" % number,), machine.random.randbytes(5000))
                    machine.commit()
            except StoreError as error:
                expect(not isinstance(error, FatalDiskError), f"taken as the end: {error}")
            sound(machine.repository, world / NAME, machine)
            machine.repository.close()
    return tally


@contextmanager
def _descriptors(spare: int) -> Iterator[None]:
    """At most `spare` more descriptors can be had."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
    # Fill the holes below the highest one, so that the limit says how many are left.
    while taken[-1] <= max(int(name) for name in os.listdir("/proc/self/fd")) - 2:
        taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)


# Bytes that changed, bytes that cannot be read


_FIELDS: Final = (0, 4, 5, 6, 7, 8, 11, 12, 43, 44)
"""Offsets within a record: magic, format, kind, algorithm, flags, length, checksum, payload."""


def sweep_flips(scratch: Path, *, step: int = 97, fields: Sequence[int] = _FIELDS) -> Tally:
    """One bit turned at every `step`-th byte of every pack, and in each record's head: found where it is."""
    workload = WORKLOADS["ingest"]
    tally = Tally()
    with workload.conditions():
        base = prepare(workload, scratch)
        folder = base.world / NAME
        with Repository.open(folder, read_only=True) as repository:
            for pack in newest_generations(folder / "packs"):
                data = pack.read_bytes()
                places = record_places(data)
                wanted = {*range(0, len(data), step)}
                wanted.update(place + at for place in places for at in fields)
                for place in sorted(place for place in wanted if place < len(data)):
                    tally.flips += 1
                    with open(pack, "r+b") as file:
                        os.pwrite(file.fileno(), bytes([data[place] ^ 1 << place % 8]), place)
                    report = repository.check(read_data=True)
                    starts = {error.offset for error in report.errors if error.pack == pack.name}
                    record = max(start for start in places if start <= place)
                    tally.flips_found += record in starts
                    if report.ok or record not in starts:
                        tally.losses.append(f"flip of byte {place} of {pack.name}: {report.errors[:2]}")
                    with open(pack, "r+b") as file:
                        os.pwrite(file.fileno(), data[place : place + 1], place)
            expect(repository.check(read_data=True).ok, "the packs are not as they were")
    return tally


def record_places(data: bytes) -> list[int]:
    """Where records begin."""
    found: list[int] = []
    at = 0
    while at < len(data):
        found.append(at)
        at += OVERHEAD_BYTES + decode_head(data[at : at + OVERHEAD_BYTES]).length_bytes
    return found


def sweep_unreadable(scratch: Path) -> Tally:
    """Each record of each pack cannot be read (EIO): named as damage, whoever reads; all else is as it was."""
    workload = WORKLOADS["torn-tail"]
    tally = Tally()
    with workload.conditions():
        base = prepare(workload, scratch)
        folder = base.world / NAME
        reference = base.copy(scratch / "run") / NAME
        machine = base.machine.clone()
        with open_with(reference, Disk(), machine) as repository:
            for pack in newest_generations(reference / "packs"):
                data = pack.read_bytes()
                for place in record_places(data):
                    tally.errors += 1
                    end = place + OVERHEAD_BYTES + decode_head(data[place : place + OVERHEAD_BYTES]).length_bytes
                    with unreadable(pack, place, end):
                        report = repository.check(read_data=True)
                        if pack.name not in {error.pack for error in report.errors}:
                            tally.losses.append(f"{pack.name} at {place}: EIO is not named: {report.errors[:2]}")
                        if data[place + 5] == 2:
                            try:
                                repository.read_segment(SegmentId(data[place + 44 : place + 60]))
                            except DamagedRecordError as error:
                                expect((error.pack, error.offset) == (pack.name, place), f"named as {error}")
                            else:
                                tally.losses.append(f"{pack.name} at {place}: a segment was read through EIO")
        # A tail that cannot be read must be named too, and nothing be cut.
        for pack in sorted((folder / "packs").glob("*.pack"))[-2:]:
            tally.errors += 1
            sizes = {path: path.stat().st_size for path in (folder / "packs").iterdir()}
            with unreadable(pack, 0, 1 << 30):
                try:
                    Repository.open(folder).close()
                except DamagedRepositoryError:
                    pass
                except Exception as error:  # the edge of a sweep: whatever it is, it is a loss
                    tally.losses.append(f"open with an unreadable tail: {type(error).__name__}: {error}")
                else:
                    tally.losses.append("open with an unreadable tail goes through")
            if {path: path.stat().st_size for path in (folder / "packs").iterdir()} != sizes:
                tally.losses.append("an unreadable tail was cut")
    return tally
