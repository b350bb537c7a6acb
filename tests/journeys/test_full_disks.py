"""No room left: new data is refused cleanly, what is held stays, and it works again once there is room."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.faults import small_disk
from tests.support.processes import House, landed
from tests.support.trees import assert_same, describe

_RESERVE_BYTES = 64 << 20


def test_a_full_disk_on_the_appliance(tmp_path: Path) -> None:
    rng = random.Random("full")
    source = tmp_path / "source"
    source.mkdir()
    folder = tmp_path / "disk"
    with small_disk(folder, _RESERVE_BYTES + (16 << 20)) as disk, House(folder / "house", whole=False) as house:
        (source / "first").write_bytes(rng.randbytes(3 << 20))
        agent = house.agent(source)
        agent.backup()
        held = describe(source)
        (source / "second").write_bytes(rng.randbytes(24 << 20))
        for _ in range(2):
            outcome = agent.command("backup", expect=(1, 4))
            assert len(outcome.stderr.strip().splitlines()) == 1, outcome.told()
            assert "free some space" in outcome.stderr, outcome.told()
        target = tmp_path / "target"
        agent.restore(target, house.admin)
        assert_same(held, landed(target, source))
        assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]

        disk.resize(_RESERVE_BYTES + (64 << 20))
        assert agent.backup()["snapshot"] == 2
        agent.restore(tmp_path / "again", house.account())
        assert_same(source, landed(tmp_path / "again", source))


def test_an_appliance_without_any_room_still_restores(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random.Random("none").randbytes(1 << 20))
    with small_disk(tmp_path / "disk", 24 << 20) as disk, House(tmp_path / "disk" / "house", whole=False) as house:
        try:
            agent = house.agent(source)
            disk.resize(_RESERVE_BYTES + (24 << 20))
            agent.backup()
        except AssertionError as error:
            pytest.fail(f"enrolment and a small backup must fit: {error}")
        account = house.account()
        disk.fill(leave_bytes=1 << 20)
        (source / "more").write_bytes(b"more")
        outcome = agent.command("backup", expect=(1, 4))
        assert len(outcome.stderr.strip().splitlines()) == 1, outcome.told()
        assert [row["snapshot"] for row in agent.command("snapshots").document] == [1]
        agent.restore(tmp_path / "target", account, source / "file")
        assert landed(tmp_path / "target", source / "file").read_bytes() == (source / "file").read_bytes()
        (disk.folder / "filler").unlink()
        assert agent.backup()["snapshot"] == 2


def test_a_full_disk_under_a_restore(house: House, tmp_path: Path) -> None:
    rng = random.Random("target")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(8):
        (source / f"scan-{number}").write_bytes(rng.randbytes(2 << 20))
    agent = house.agent(source)
    agent.backup()
    with small_disk(tmp_path / "small", 7 << 20) as disk:
        sentence = agent.told("restore", "--target", str(disk.folder), *house.login(), code=1)
        assert "room" in sentence or "full" in sentence or "space" in sentence, sentence
        for path in landed(disk.folder, source).iterdir():
            assert path.read_bytes() == (source / path.name).read_bytes(), "a file that is not whole has its name"
        disk.resize(32 << 20)
        report = agent.restore(disk.folder, house.admin)
        assert report["errors"] == []
        assert_same(source, landed(disk.folder, source))


def test_a_full_disk_under_the_agents_home(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random.Random("home").randbytes(1 << 20))
    agent = house.agent(source)
    with small_disk(tmp_path / "small", 3 << 20) as disk:
        there = agent.copy(disk.folder / "home")
        there.backup()
        disk.fill(leave_bytes=0)
        for number in range(300):
            (source / f"new-{number}").write_bytes(b"new %d" % number)
        outcome = there.command("backup", expect=1)
        assert len(outcome.stderr.strip().splitlines()) == 1 and str(there.home) in outcome.stderr, outcome.told()
        (disk.folder / "filler").unlink()
        assert there.backup()["files_total"] == 301
        there.restore(tmp_path / "target", house.admin)
        assert_same(source, landed(tmp_path / "target", source))
