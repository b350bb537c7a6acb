"""Continuous mode: what watching costs, how soon a change is restorable, and a run without changes over many files.

    python -m tests.benchmarks.continuous --files 300000 --scale 1

Three measurements. Nothing changed over tiny files, beside restic: wall time and peak memory at most half. The service
that watches them, idle for a minute: CPU under 1 % of a core and memory under 150 MB, children included. One page of a
file of 1 GiB is written: how long until the appliance has the snapshot that holds it, from the write on; wanted are 30
seconds of calm. A quiet machine is needed for figures worth writing down.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.benchmarks.contenders import Contender, Pilulier, Restic, Taken
from tests.support.processes import Agent, House, Running, descendants

SHARE = 0.5
IDLE_SHARE = 0.01
IDLE_BYTES = 150 * 10**6
RESTORABLE_S = 30.0
READY_S = 900.0
_PAGE = 8192


def make(root: Path, count: int, per_folder: int) -> None:
    """`count` files of 1 to 400 bytes in folders of `per_folder`, the same each time."""
    chance = random.Random("continuous")
    for number in range(count):
        folder = root / f"{number // per_folder // 100:03d}" / f"{number // per_folder:05d}"
        if number % per_folder == 0:
            folder.mkdir(parents=True)
        (folder / f"note-{number:06d}.txt").write_bytes(chance.randbytes(chance.randrange(1, 401)))


def unchanged(work: Path, source: Path, repetitions: int) -> list[str]:
    """Nothing changed, beside restic."""
    taken: dict[str, list[Taken]] = {}
    kinds: list[type[Pilulier] | type[Restic]] = [Pilulier, *([Restic] if shutil.which("restic") else [])]
    tools: list[Contender] = [kind(work / kind.name, source) for kind in kinds]
    try:
        for tool in tools:
            tool.backup()
        for turn in range(repetitions):
            for tool in tools if turn % 2 == 0 else tools[::-1]:
                taken.setdefault(tool.name, []).append(tool.backup())
    finally:
        for tool in tools:
            tool.close()

    def row(what: str, figure: Callable[[Taken], float], unit: str, met: bool) -> str:
        ours = median(figure(one) for one in taken[Pilulier.name])
        if Restic.name not in taken:
            return f"| nothing changed, {what} | {ours:.2f} {unit} | restic is not installed | | |"
        theirs = median(figure(one) for one in taken[Restic.name])
        verdict = "" if not met else "yes" if ours <= SHARE * theirs else "**no**"
        ratio, wanted = f"ratio {ours / theirs:.2f}", f"≤ {SHARE}" if met else ""
        return f"| nothing changed, {what} | {ours:.2f} {unit} | {theirs:.2f} {unit}, {ratio} | {wanted} | {verdict} |"

    return [
        row("wall time", lambda one: one.wall_s, "s", True),
        row("CPU", lambda one: one.cpu_s, "s", False),
        row("peak memory of the command", lambda one: one.peak_bytes / 1e6, "MB", True),
    ]


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all its children, ended ones included (proc(5), stat)."""
    total = 0
    for one in descendants(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(value) for value in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory that a process and its children hold now."""
    total = 0
    for one in descendants(pid):
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    return total


@contextmanager
def watching(work: Path, source: Path) -> Iterator[tuple[House, Agent, Running]]:
    """A service in continuous mode whose first look at everything is over."""
    with House(work / "house") as house:
        agent = house.agent(source)
        agent.backup(timeout_s=READY_S)
        agent.command("schedule", "off")
        agent.command("schedule", "continuous", "on")
        service = agent.start("run")
        try:
            until(lambda: "backup done" in service.text("stderr"), "the first look at everything")
            yield house, agent, service
        finally:
            service.signal(signal.SIGTERM)
            service.wait(time.perf_counter() - service.started + 60)


def until(happened: Callable[[], bool], what: str) -> None:
    """Wait, READY_S at most."""
    deadline = time.monotonic() + READY_S
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {READY_S:.0f} s: {what}")
        time.sleep(0.1)


def idle(work: Path, source: Path, seconds: float) -> list[str]:
    """What a service costs that watches and has nothing to do."""
    with watching(work, source) as (_, _, service):
        time.sleep(5.0)
        before, began = cpu_s(service.pid), time.monotonic()
        time.sleep(seconds)
        spent, took = cpu_s(service.pid) - before, time.monotonic() - began
        held = resident(service.pid)
    share = spent / took
    return [
        f"| watching, CPU of {took:.0f} s | {spent:.2f} s ({100 * share:.2f} %) | | < {100 * IDLE_SHARE:.0f} % "
        f"| {'yes' if share < IDLE_SHARE else '**no**'} |",
        f"| watching, memory | {held / 1e6:.0f} MB | | < {IDLE_BYTES / 1e6:.0f} MB "
        f"| {'yes' if held < IDLE_BYTES else '**no**'} |",
    ]


def one_page(work: Path, size: int, repetitions: int) -> list[str]:
    """From the last write to a page of a large file until the appliance has the snapshot."""
    source = work / "database"
    source.mkdir()
    chance = random.Random("page")
    with open(source / "base.db", "wb") as file:
        for _ in range(size >> 20):
            file.write(chance.randbytes(1 << 20))
    taken: list[float] = []
    with watching(work, source) as (house, agent, _):
        for _ in range(repetitions):
            before = numbers(house, agent)
            with open(source / "base.db", "r+b", buffering=0) as file:
                file.seek(chance.randrange(size // _PAGE) * _PAGE)
                file.write(chance.randbytes(_PAGE))
            written = time.monotonic()
            until(lambda before=before: len(numbers(house, agent)) > len(before), "the snapshot")  # type: ignore[misc]
            taken.append(time.monotonic() - written)
            time.sleep(35.0)  # past the pause after a snapshot: one change by itself is what is measured
    return [
        f"| one page of {size >> 20} MiB, restorable after | {median(taken):.1f} s (worst {max(taken):.1f} s) | "
        f"| ≤ {RESTORABLE_S:.0f} s | {'yes' if max(taken) <= RESTORABLE_S else '**no**'} |"
    ]


def numbers(house: House, agent: Agent) -> list[int]:
    """The snapshots that the appliance has."""
    return [row["snapshot"] for row in house.appliance.command("machine", "show", agent.machine).document["snapshots"]]


def main() -> int:
    """Measure and print a markdown table. A missed target stands in the table; it is not a failure."""
    parser = argparse.ArgumentParser(description="Continuous mode, and a run without changes over many files.")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 300,000 files and a file of 1 GiB")
    parser.add_argument("--files", type=int, help="so many files instead")
    parser.add_argument("--per-folder", type=int, default=20, help="files in a folder (default %(default)s)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", default="unchanged,idle,page", help="some of them, by comma")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder)")
    given = parser.parse_args()
    files, steps = given.files or max(1000, int(300_000 * given.scale)), given.steps.split(",")
    print(f"{files:,} files, {given.per_folder} in a folder.\n")
    print("| step | Pilulier | restic | wanted | met |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="pilulier-continuous-", dir=given.work) as name:
        work = Path(name)
        source = work / "source"
        if "unchanged" in steps or "idle" in steps:
            make(source, files, given.per_folder)
        if "unchanged" in steps:
            print("\n".join(unchanged(work / "unchanged", source, given.repetitions)), flush=True)
        if "idle" in steps:
            print("\n".join(idle(work / "idle", source, given.idle_seconds)), flush=True)
        if "page" in steps:
            (work / "page").mkdir()
            size = max(16, int(1024 * given.scale)) << 20
            print("\n".join(one_page(work / "page", size, given.repetitions)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
