"""Kill and power cut at every operation of a workload, and again while it recovers from each.

`sweep_crashes` runs a workload once to count what it asks of the disk, then once for each place to stop at. Every
folder that a kill or a power cut may leave there is opened anew, held against the invariants, used for another upload,
and held against them again. Knows no engine: workloads say how to run and how to come back.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.store.durable import Disk
from appliance.store.errors import StoreError
from appliance.store.repository import Repository
from tests.support.crashing_disk import Aftermath, Crash, CrashingDisk, CrashPoint, Operation, crash_points
from tests.support.invariants import check_invariants
from tests.sweeps.machine import Machine
from tests.sweeps.workloads import Workload
from transport.errors import PilulierError

NAME = "r"
"""The repository's folder within its world."""


@dataclass
class Tally:
    """What was done, and what was lost."""

    crash_points: int = 0
    killed: int = 0
    hot_journals: int = 0
    """Of these, with a catalog in the middle of a transaction."""
    power_states: int = 0
    recovery_points: int = 0
    """Crash points during the recovery from another crash."""
    recovery_states: int = 0
    errors: int = 0
    flips: int = 0
    flips_found: int = 0
    losses: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count the other's too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A prepared repository and its machine; copied for every run."""

    world: Path
    machine: Machine

    def copy(self, to: Path) -> Path:
        """A world like this one."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.world, to)
        return to


def prepare(workload: Workload, scratch: Path) -> Baseline:
    """The workload's baseline below `scratch`."""
    world = (scratch / "base").resolve()
    shutil.rmtree(world, ignore_errors=True)
    world.mkdir(parents=True)
    return Baseline(world, workload.prepare(world / NAME))


def every(step: int, first: int = 0) -> Callable[[Sequence[CrashPoint]], Sequence[CrashPoint]]:
    """Every `step`-th place to stop at, from number `first` on."""
    return lambda points: points[first::step]


def few(count: int, seed: str) -> Callable[[Sequence[CrashPoint]], Sequence[CrashPoint]]:
    """About `count` places, spread evenly; where they begin depends on `seed`."""

    def choose(points: Sequence[CrashPoint]) -> Sequence[CrashPoint]:
        step = max(1, -(-len(points) // count))
        return points[zlib.crc32(seed.encode()) % step :: step]

    return choose


def sample_crashes(workload: Workload, scratch: Path, *, count: int) -> Tally:
    """Stop at about `count` places, and once in the recovery from each kill."""
    with workload.conditions():
        return _Sweep(workload, scratch, few(count, workload.name), 1000, 1, thorough=False).run()


def sweep_crashes(
    workload: Workload, scratch: Path, *, step: int = 1, first: int = 0, nested_step: int = 1, torn: int = 3
) -> Tally:
    """Stop at every `step`-th place and at every `nested_step`-th of each recovery (0: none); what came of it."""
    with workload.conditions():
        return _Sweep(workload, scratch, every(step, first), nested_step, torn).run()


class _Sweep:
    def __init__(
        self,
        workload: Workload,
        scratch: Path,
        choose: Callable[[Sequence[CrashPoint]], Sequence[CrashPoint]],
        nested_step: int,
        torn: int,
        *,
        thorough: bool = True,
    ) -> None:
        self._workload = workload
        self._scratch = scratch
        self._choose = choose
        self._nested_step = nested_step
        self._torn = torn
        self._thorough = thorough
        """Whether every state is crashed again, and all that this leaves is looked at: not in a sample."""
        self._base = prepare(workload, scratch)
        self.tally = Tally()

    def run(self) -> Tally:
        for point in self._choose(crash_points(self._operations())):
            self.tally.crash_points += 1
            world = self._base.copy(self._scratch / "run")
            machine = self._base.machine.clone()
            disk = CrashingDisk(world, point)
            where = f"{self._workload.name}: {point}"
            if not self._crashes(self._run, disk, world, machine, where):
                continue
            where += f" ({disk.operations[-1].name} {disk.operations[-1].path.name})"
            for aftermath in self._left_by(disk, point):
                self._count(aftermath)
                self._survive(aftermath, machine, f"{where}, {aftermath.kind}", nested=self._nested(aftermath))
        return self.tally

    def _nested(self, aftermath: Aftermath) -> bool:
        return bool(self._nested_step) and (self._thorough or aftermath.kind == "kill")

    def _operations(self) -> list[Operation]:
        """What the workload asks of the disk when nothing happens; it must then be sound, too."""
        world = self._base.copy(self._scratch / "run")
        machine = self._base.machine.clone()
        disk = CrashingDisk(world)
        self._run(world / NAME, disk, machine)
        if machine.repository is not None:
            machine.repository.close()
        left = Aftermath("the end", _everything(world))
        self._survive(left, machine, f"{self._workload.name}: the end", nested=False)
        return disk.operations

    def _run(self, folder: Path, disk: Disk, machine: Machine) -> None:
        with self._workload.pressure():
            self._workload.run(folder, disk, machine)

    def _crashes(
        self, action: Callable[[Path, Disk, Machine], object], disk: Disk, world: Path, machine: Machine, where: str
    ) -> bool:
        """Whether it came to the crash; the object it left refuses everything afterwards."""
        try:
            action(world / NAME, disk, machine)
        except Crash:
            pass
        except PilulierError as error:
            self._lose(f"{where}: refused: {error}")
            return False
        else:
            self._lose(f"{where}: the crash never came: the work is not the same each time")
            return False
        repository = machine.repository
        if repository is not None:
            try:
                repository.begin(machine.session or b"s" * 16, machine.previous)  # type: ignore[arg-type]
            except (Crash, StoreError):
                pass
            else:
                self._lose(f"{where}: the repository goes on after a crash")
            repository.close()
        return True

    def _left_by(self, disk: CrashingDisk, point: CrashPoint) -> list[Aftermath]:
        seed = zlib.crc32(f"{self._workload.name} {point}".encode())
        return [disk.killed(), *disk.power_cuts(seed, self._torn)]

    def _count(self, aftermath: Aftermath) -> None:
        if aftermath.kind == "kill":
            self.tally.killed += 1
            self.tally.hot_journals += bool(aftermath.content.get(f"{NAME}/catalog.sqlite-journal"))
        else:
            self.tally.power_states += 1

    def _survive(self, aftermath: Aftermath, machine: Machine, where: str, *, nested: bool) -> None:
        """Come back, be sound, take another upload, be sound again; then crash while coming back."""
        world = aftermath.lay_out(self._scratch / "after")
        disk = CrashingDisk(world)
        survivor = machine.clone()
        try:
            repository = self._workload.reopen(world / NAME, disk, survivor)
            recovery = list(disk.operations)
            sound(repository, world / NAME, survivor)
            if self._workload.again is not None:
                repository.close()
                self._workload.again(world / NAME, survivor)
                sound(reopened(self._workload, world / NAME, survivor), world / NAME, survivor)
        except Exception as error:  # the edge of a sweep: whatever it is, it is a loss
            self._lose(f"{where}: {type(error).__name__}: {error}")
            return
        finally:
            if survivor.repository is not None:
                survivor.repository.close()
        if nested and recovery:
            self._again(aftermath, machine, where, recovery)

    def _again(self, aftermath: Aftermath, machine: Machine, where: str, recovery: Sequence[Operation]) -> None:
        places = crash_points(recovery)
        # Not always the same ones of a sample: where it begins depends on where the first crash was.
        first = zlib.crc32(where.encode()) % min(self._nested_step, len(places))
        for point in every(self._nested_step, first)(places):
            self.tally.recovery_points += 1
            world = aftermath.lay_out(self._scratch / "again")
            disk = CrashingDisk(world, point)
            survivor = machine.clone()
            then = f"{where}, then in the recovery {point}"
            if self._crashes(self._workload.reopen, disk, world, survivor, then):
                for left in self._left_by(disk, point)[: None if self._thorough else 2]:
                    self.tally.recovery_states += 1
                    self._survive(left, survivor, f"{then}, {left.kind}", nested=False)

    def _lose(self, sentence: str) -> None:
        self.tally.losses.append(sentence)


def sound(repository: Repository, folder: Path, machine: Machine) -> None:
    """The invariants hold, an upload goes through, and they still hold; Loss otherwise."""
    machine.repository = repository
    check_invariants(repository, folder, machine.expected())
    machine.go_on()
    check_invariants(repository, folder, machine.expected(), rebuild=False)


def reopened(workload: Workload, folder: Path, machine: Machine) -> Repository:
    """As after a restart, on a disk that is well."""
    machine.repository = workload.reopen(folder, Disk(), machine)
    return machine.repository


def _everything(world: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(world).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(world.rglob("*"))
    }
