"""Pruning beside a running service and a running backup: space comes back, nothing that is held is lost."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import House, landed, run, start
from tests.support.trees import assert_same, describe

MIB = 1 << 20
DAYS = 6
DAY_BYTES = 48 * MIB
"""Six days of these fill more than a pack of 256 MiB, so that one is closed."""
LONG_BACKUP_BYTES = 160 * MIB

PRUNE = """
import json, sys, time
from pathlib import Path
from appliance.store.upkeep import prune as module
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.prune import prune
turns = []
class Timed(Access):
    def _begin(self):
        super()._begin()
        self.began = time.perf_counter()
    def _end(self):
        if self._open is not None:
            turns.append(time.perf_counter() - self.began)
        super()._end()
module.Access = Timed
began = time.perf_counter()
numbers = frozenset(int(number) for number in sys.argv[2].split(","))
report = prune(Path(sys.argv[1]), numbers, now_ms=int(time.time() * 1000))
print(json.dumps({"retired": sorted(report.snapshots_retired), "freed": report.bytes_freed,
                  "compacted": report.packs_compacted, "kept": [pack.reason for pack in report.packs_kept],
                  "quarantine": report.bytes_in_quarantine, "turns": len(turns), "longest_turn_s": max(turns),
                  "wall_s": time.perf_counter() - began}))
"""
"""The command line prunes by the appliance's clock only, and nobody waits for it to be a fortnight older."""


def prune(repository: Path, *numbers: int) -> list[str]:
    """How to prune as another process beside the service does."""
    return [sys.executable, "-c", PRUNE, str(repository), ",".join(map(str, numbers))]


@dataclass
class Stalls:
    """How long a growing file did not grow before it did again, at most; looked at every few milliseconds."""

    longest_s: float = 0.0
    grown_bytes: int = 0


@contextlib.contextmanager
def watching(packs: Path) -> Iterator[Stalls]:
    """What an upload puts into the newest pack while the body runs."""
    stalls, ended = Stalls(), threading.Event()

    def newest() -> tuple[str, int]:
        path = max(packs.glob("????????.pack"))
        return path.name, path.stat().st_size

    def watch() -> None:
        before, since = newest(), time.monotonic()
        while not ended.wait(0.003):
            now = newest()
            if now != before:
                stalls.grown_bytes += now[1] - (before[1] if now[0] == before[0] else 0)
                stalls.longest_s = max(stalls.longest_s, time.monotonic() - since)
                before, since = now, time.monotonic()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield stalls
    finally:
        ended.set()
        thread.join()


def test_pruning_beside_a_service_and_a_running_backup(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random("pruning")
    source = tmp_path / "source"
    source.mkdir()
    agent = house.agent(source)
    kept = {}
    for day in range(1, DAYS + 1):
        (source / "scans.bin").write_bytes(rng.randbytes(DAY_BYTES))
        (source / f"order-{day}.txt").write_bytes(rng.randbytes(30_000))
        assert agent.backup()["snapshot"] == day
        kept[day] = describe(source)
    packs = house.repository(agent) / "packs"
    assert len(list(packs.iterdir())) == 2

    # The service keeps the repository open; nothing is dropped by the contract on the first day, but it takes its turn.
    shown = house.appliance.command("repo", "prune", agent.machine)
    assert json.loads(shown.stdout)
    assert [row["snapshot"] for row in agent.command("snapshots").document] == list(range(1, DAYS + 1))

    for number in range(40):
        (source / f"new-{number}.bin").write_bytes(rng.randbytes(LONG_BACKUP_BYTES // 40))
    before = sum(path.stat().st_size for path in packs.iterdir())
    backup = agent.start("backup")
    while sum(path.stat().st_size for path in packs.iterdir()) == before:
        assert backup.process.returncode is None
        time.sleep(0.001)
    with watching(packs) as stalls:
        report = start(prune(house.repository(agent), 1, 2, 3, 4)).wait().document
        beside = stalls.grown_bytes
    assert backup.wait().document["snapshot"] == DAYS + 1
    assert report["retired"] == [1, 2, 3, 4] and report["compacted"] >= 1 and not report["kept"], report
    assert report["freed"] > 3 * DAY_BYTES
    assert report["quarantine"] > 0 and (packs / "00000001-1.pack").exists() and (packs / "00000001.pack").exists()
    with capsys.disabled():
        print(
            f"\npruned {report['freed'] / MIB:.0f} MiB in {report['wall_s']:.2f} s, in {report['turns']} turns of "
            f"{report['longest_turn_s']:.3f} s at most, beside a backup, which sent {beside / MIB:.0f} MiB meanwhile "
            f"and stood still for {stalls.longest_s:.3f} s at most"
        )
    assert stalls.longest_s < 30, "moments, on whatever machine"

    for number in (1, 4):
        login = house.login()
        words = agent.told("restore", "--target", str(tmp_path / "no"), "--snapshot", str(number), *login, code=2)
        assert "no longer held" in words
    checked = house.appliance.command("repo", "check", agent.machine, "--read-data").document
    assert checked["ok"], checked
    for day in (5, 6):
        target = tmp_path / f"restored-{day}"
        agent.restore(target, house.account(), snapshot=day)
        assert_same(kept[day], describe(landed(target, source)))
    agent.restore(tmp_path / "restored", house.account())
    assert_same(source, landed(tmp_path / "restored", source))


def test_a_restore_goes_on_while_its_packs_are_compacted(house: House, tmp_path: Path) -> None:
    rng = random.Random("restoring")
    source = tmp_path / "source"
    source.mkdir()
    agent = house.agent(source)
    for day in range(1, 4):
        for number in range(20):
            (source / f"{number}.bin").write_bytes(rng.randbytes(500_000))
        (source / "stays.bin").write_bytes(b"stays" * 100_000)
        assert agent.backup()["snapshot"] == day
    folder = house.repository(agent)
    restore = agent.start("restore", "--target", str(tmp_path / "out"), *house.login())
    pruned = run(prune(folder, 1, 2)).document
    assert pruned["compacted"] == 1 and (folder / "packs" / "00000001-1.pack").exists()
    restore.wait()
    assert_same(source, landed(tmp_path / "out", source))
    assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]
    assert agent.backup()["snapshot"] == 4


def test_a_second_prune_is_refused_and_a_killed_one_is_finished_by_the_next(house: House, tmp_path: Path) -> None:
    rng = random.Random("twice")
    source = tmp_path / "source"
    source.mkdir()
    agent = house.agent(source)
    for day in range(1, 4):
        (source / "a.bin").write_bytes(rng.randbytes(20 * MIB))
        assert agent.backup()["snapshot"] == day
    folder = house.repository(agent)
    first = start(prune(folder, 1))
    while not list((folder / "packs").glob("*.new")) and first.text("stdout") == "":
        time.sleep(0.0005)
    first.kill()
    again = run(prune(folder, 1, 2)).document
    assert again["retired"][-1] == 2
    assert not list((folder / "packs").glob("*.new"))
    assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]
    agent.restore(tmp_path / "out", house.account())
    assert_same(source, landed(tmp_path / "out", source))
