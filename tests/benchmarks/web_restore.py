"""What a restore by the web costs: a large folder listed, a tar downloaded, beside the agent's own restore.

    python -m tests.benchmarks.web_restore [--scale 0.6] [--entries 300000]

Wanted: a folder of 10,000 entries in a snapshot of 300,000 listed under 200 ms; a tar of 2 GiB under 300 MB of memory,
at half the speed of the agent's own restore at least. Each figure is printed with what is wanted; exit code 1 where one
is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from appliance.control import machines
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.opening import words
from appliance.opening.clients import Openers, beginning, download
from appliance.settings import Home
from tests.benchmarks.pharmacy import generate
from tests.support.processes import Agent, House

LIST_MS = 200.0
TAR_SHARE = 0.5
TAR_BYTES = 300e6


def begin(house: House, agent: Agent) -> words.Begin:
    """What an opener of the agent's machine is told."""
    home = Home.open(house.appliance.home)
    with Database.open(home.control_db) as db:
        return beginning(home, db, EVERYTHING, machines.find(db, EVERYTHING, agent.machine))


def listing(house: House, folder: Path, entries: int) -> float:
    """Milliseconds for the first listing of a folder of 10,000 entries, median of five openers."""
    big = folder / "many"
    for at in range(entries):
        place = big / ("ten-thousand" if at < 10_000 else f"others/{at // 1000}")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{at}").touch()
    agent = house.agent(big, name="many")
    agent.backup(timeout_s=1800)
    told = begin(house, agent)
    openers = Openers()
    taken = []
    for number in range(5):
        opened = openers.open(f"w{number}", bytes.fromhex(agent.machine), told)
        began = time.perf_counter()
        answer = opened.ask(words.ListFolder(1, os.fsencode(big / "ten-thousand")), words.Entries)
        taken.append(1000 * (time.perf_counter() - began))
        assert len(answer.entries) == 10_000
    openers.close()
    return statistics.median(taken)


def peak(pid: int) -> int:
    """Peak resident bytes of a live process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def tar(house: House, folder: Path, scale: float) -> tuple[float, float, int, int]:
    """Bytes a second of the agent's restore and of a tar, the tar's bytes, the opener's peak memory."""
    source = folder / "pharmacy"
    source.mkdir()
    generate(source, scale=scale)
    agent = house.agent(source, name="pharmacy")
    size = agent.backup(timeout_s=1800)["bytes_source"]
    own, by_tar, most, length = [], [], 0, 0
    for turn in range(2):
        target = folder / f"back-{turn}"
        began = time.perf_counter()
        agent.restore(target, house.account(), timeout_s=1800)
        own.append(size / (time.perf_counter() - began))
        shutil.rmtree(target)
        began, length = time.perf_counter(), 0
        archive = download(
            threading.BoundedSemaphore(1), begin(house, agent), words.Archive(1, [os.fsencode(source)], "tar", "x")
        )
        for at, part in enumerate(archive):
            length += len(part)
            if at % 64 == 0:
                most = max(most, peak(archive.pid))
        by_tar.append(size / (time.perf_counter() - began))
    return max(own), max(by_tar), length, most


def main() -> int:
    """Measure both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=0.65)
    parser.add_argument("--entries", type=int, default=300_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilulier-web-restore-") as name, House(Path(name) / "house") as house:
        took = listing(house, Path(name), chosen.entries)
        print(f"listing 10,000 of {chosen.entries} entries: {took:.0f} ms (wanted <= {LIST_MS:.0f})", flush=True)
        own, by_tar, length, most = tar(house, Path(name), chosen.scale)
    share = by_tar / own
    print(
        f"tar of {length / 2**30:.2f} GiB: {by_tar / 1e6:.0f} MB/s, agent's restore {own / 1e6:.0f} MB/s: {share:.2f} "
        f"(wanted >= {TAR_SHARE}); peak memory {most / 1e6:.0f} MB (wanted <= {TAR_BYTES / 1e6:.0f})"
    )
    return 0 if took <= LIST_MS and share >= TAR_SHARE and most <= TAR_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
