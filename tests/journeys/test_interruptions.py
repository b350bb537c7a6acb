"""Power cuts and broken connections: what was acknowledged is never sent again, and what stands is exact."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.faults import TcpProxy, folder_bytes, wait_until
from tests.support.processes import House, landed
from tests.support.trees import assert_same

_SIZE = 64 << 20
_SLACK = 8 << 20
"""Sent and not yet acknowledged when the power goes, and what surrounds the content on the wire."""
_BYTES_S = 40 << 20


def _scans(folder: Path, seed: str) -> None:
    """64 MB that do not compress: a few large files and many small ones."""
    rng = random.Random(seed)
    folder.mkdir()
    for number in range(4):
        (folder / f"large-{number}").write_bytes(rng.randbytes(12 << 20))
    for number in range(160):
        (folder / f"small-{number}").write_bytes(rng.randbytes(100 << 10))


def test_a_killed_agent_goes_on_from_what_was_acknowledged(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _scans(source, "killed agent")
    agent = house.agent(source)
    packs = house.repository(agent) / "packs"
    with TcpProxy(house.appliance.address, _BYTES_S) as proxy:
        agent.by_way_of(proxy.address)
        kills = 0
        for share in (0.1, 0.4, 0.8):
            running = agent.start("backup")
            goal = int(share * _SIZE)
            wait_until(lambda goal=goal: folder_bytes(packs) > goal, f"{goal} bytes in {packs}")  # type: ignore[misc]
            assert running.kill().code == -9
            kills += 1
        assert agent.command("snapshots").document == []
        report = agent.backup()
        assert report["snapshot"] == 1
        sent = proxy.sent_bytes
    total = sum(path.stat().st_size for path in source.iterdir())
    agent.by_way_of(house.appliance.address)
    assert report["bytes_sent"] < 0.4 * total
    assert sent < total + kills * _SLACK, f"{sent / total:.2f} times the source over {kills + 1} runs"
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_a_killed_appliance_is_waited_for(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _scans(source, "killed appliance")
    agent = house.agent(source)
    packs = house.repository(agent) / "packs"
    with TcpProxy(house.appliance.address, _BYTES_S) as proxy:
        agent.by_way_of(proxy.address)
        running = agent.start("backup")
        for share in (0.05, 0.5, 0.9):
            goal = int(share * _SIZE)
            wait_until(lambda goal=goal: folder_bytes(packs) > goal, f"{goal} bytes in {packs}")  # type: ignore[misc]
            house.appliance.kill()
            house.appliance.serve()
        outcome = running.wait()
    assert outcome.code == 0, outcome.told()
    assert outcome.document["snapshot"] == 1
    assert outcome.document["reconnections"] >= 1
    assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]
    agent.by_way_of(house.appliance.address)
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_killed_between_snapshots_the_earlier_ones_stand(house: House, tmp_path: Path) -> None:
    """The same power cut during a delta backup: the first snapshot stands, the next run makes the second."""
    source = tmp_path / "source"
    _scans(source, "between")
    agent = house.agent(source)
    agent.backup()
    rng = random.Random("between, changed")
    for number in range(4):
        with open(source / f"large-{number}", "r+b") as file:
            file.seek(3 << 20)
            file.write(rng.randbytes(3 << 20))
    with TcpProxy(house.appliance.address, 10 << 20) as proxy:
        agent.by_way_of(proxy.address)
        running = agent.start("backup")
        wait_until(lambda: proxy.sent_bytes > 5 << 20, "5 MiB sent")
        running.kill()
        house.appliance.kill()
        house.appliance.serve()
        proxy.bytes_s = 0
        assert [row["snapshot"] for row in agent.command("snapshots").document] == [1]
        report = agent.backup()
    agent.by_way_of(house.appliance.address)
    assert report["snapshot"] == 2
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_a_connection_cut_in_the_middle_of_a_backup(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _scans(source, "cut")
    agent = house.agent(source)
    with TcpProxy(house.appliance.address, _BYTES_S) as proxy:
        agent.by_way_of(proxy.address)
        running = agent.start("backup")
        for megabytes in (5, 30, 50):
            goal = megabytes << 20
            wait_until(lambda goal=goal: proxy.sent_bytes > goal, f"{goal} bytes sent")  # type: ignore[misc]
            proxy.cut()
        outcome = running.wait()
        assert outcome.code == 0, outcome.told()
        assert outcome.document["reconnections"] >= 1
        total = sum(path.stat().st_size for path in source.iterdir())
        assert proxy.sent_bytes < total + 3 * _SLACK, "only what was under way travels again"
    agent.by_way_of(house.appliance.address)
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_a_connection_cut_in_the_middle_of_a_restore(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    _scans(source, "cut restore")
    agent = house.agent(source)
    agent.backup()
    target = tmp_path / "target"
    with TcpProxy(house.appliance.address, 20 << 20) as proxy:
        agent.by_way_of(proxy.address)
        running = agent.start("restore", "--target", str(target), *house.login())
        wait_until(lambda: proxy.received_bytes > 10 << 20, "10 MiB received")
        proxy.cut()
        outcome = running.wait()
        assert outcome.code == 0 and outcome.document["reconnections"] >= 1, outcome.told()
    assert outcome.document["errors"] == []
    assert_same(source, landed(target, source))


@pytest.mark.parametrize("signal_name", ["kill", "term"])
def test_a_stopped_appliance_loses_nothing(house: House, tmp_path: Path, signal_name: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(random.Random(signal_name).randbytes(3 << 20))
    agent = house.agent(source)
    agent.backup()
    if signal_name == "kill":
        house.appliance.kill()
    else:
        house.appliance.stop()
    assert "does not answer" in agent.told("backup", code=5)
    house.appliance.serve()
    assert agent.backup()["bytes_sent"] < 5_000
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))
