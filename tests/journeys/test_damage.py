"""A host whose disk flips bits: the damage is named, and everything else still comes back."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.support.processes import House, landed


def test_a_flipped_bit_is_named_and_costs_one_file(house: House, tmp_path: Path) -> None:
    rng = random.Random("flip")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        (source / f"scan-{number}").write_bytes(rng.randbytes((1 << 20) + 300_000))
    agent = house.agent(source)
    agent.backup()
    house.appliance.stop()
    (pack,) = (house.repository(agent) / "packs").glob("*.pack")
    with open(pack, "r+b") as file:
        file.seek(pack.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))
    house.appliance.serve()

    found = house.appliance.command("repo", "check", agent.machine, "--read-data", expect=1).document
    assert found["ok"] is False
    (error,) = found["errors"]
    assert error["pack"] == pack.name and 0 < error["offset"] <= pack.stat().st_size // 2

    target = tmp_path / "target"
    report = agent.restore(target, house.admin, expect=3)
    damaged = {os.path.basename(error["path"]) for error in report["errors"]}
    assert 1 <= len(damaged) <= 6 and report["files"] == 6 - len(damaged) >= 1
    for path in source.iterdir():
        restored = landed(target, path)
        if path.name in damaged:
            assert not restored.exists(), "nothing stands under the name of a file that could not be proved"
        else:
            assert restored.read_bytes() == path.read_bytes()
    assert {path.name for path in landed(target, source).iterdir()} == {p.name for p in source.iterdir()} - damaged

    verified = agent.command("verify", "--sample", "100", expect=1).document
    assert verified["files_damaged"] == 0 and len(verified["segments_damaged"]) == 1
    for path in source.iterdir():
        os.utime(path)
    (source / "new").write_bytes(b"backups go on")
    assert agent.backup()["snapshot"] == 2


def test_a_lost_catalog_and_a_cut_pack(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(random.Random("cut").randbytes(3 << 20))
    agent = house.agent(source)
    agent.backup()
    house.appliance.stop()
    (pack,) = (house.repository(agent) / "packs").glob("*.pack")
    os.truncate(pack, pack.stat().st_size // 2)
    house.appliance.serve()
    outcome = house.appliance.command("repo", "check", agent.machine, "--read-data", expect=1)
    assert len(outcome.stderr.strip().splitlines()) <= 1, outcome.told()
    restored = agent.command("restore", "--target", str(tmp_path / "t"), *house.login(), expect=(1, 3, 4))
    assert len(restored.stderr.strip().splitlines()) <= 1, restored.told()
    assert not landed(tmp_path / "t", source / "file").exists()
    neighbour = house.agent(source)
    assert neighbour.backup()["snapshot"] == 1, "one broken repository does not stop the others"


def test_a_rolled_back_repository_is_noticed(house: House, tmp_path: Path) -> None:
    """A host that puts back an old copy of a repository: the agent kept the last head."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"one")
    agent = house.agent(source)
    agent.backup()
    repository = house.repository(agent)
    house.appliance.stop()
    old = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    house.appliance.serve()
    (source / "file").write_bytes(b"two, and longer")
    agent.backup()
    house.appliance.stop()
    for path in list(repository.rglob("*")):
        if path.is_file():
            path.unlink()
    for path, content in old.items():
        path.write_bytes(content)
    house.appliance.serve()
    assert "older history" in agent.told("backup", code=1)
    for words in (["ls"], ["restore", "--target", str(tmp_path / "t"), *house.login()]):
        agent.told(*words, code=1)
