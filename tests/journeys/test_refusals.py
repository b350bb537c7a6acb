"""What an appliance and an agent say no to: a sentence, the right exit code, nothing lost."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from tests.support.faults import TcpProxy, wait_until
from tests.support.processes import Agent, House, landed
from tests.support.trees import assert_same


def _small(folder: Path, seed: str = "small", size: int = 400_000) -> Path:
    folder.mkdir()
    (folder / "document").write_bytes(random.Random(seed).randbytes(size))
    return folder


def _noise(folder: Path, size: int) -> Path:
    return _small(folder, "noise", size)


def test_strangers_and_revoked_machines(house: House, tmp_path: Path) -> None:
    source = _small(tmp_path / "source")
    agent, neighbour = house.agent(source), house.agent(source)
    agent.backup()
    neighbour.backup()

    stranger = agent.copy(tmp_path / "stranger")
    other = House(tmp_path / "other house", whole=False)
    # A key that was enrolled with another appliance is a stranger's here.
    try:
        other.open()
        foreign = other.agent(source)
    finally:
        other.close()
    (stranger.home / "keys" / "curve.key").write_bytes((foreign.home / "keys" / "curve.key").read_bytes())
    for words in (["backup"], ["snapshots"], ["ls"], ["verify"], ["restore", "--target", "/x", *house.login()]):
        assert "key" in stranger.told(*words)

    house.appliance.command("machine", "revoke", agent.machine)
    for words in (["backup"], ["ls"], ["restore", "--target", str(tmp_path / "t"), *house.login()]):
        assert "revoked" in agent.told(*words)
    assert neighbour.backup()["snapshot"] == 2, "the neighbour is served as before"
    stats = house.appliance.command("repo", "stats", agent.machine).document
    assert stats["snapshots"] == 1, "a revoked machine's backups stay"


def test_revocation_cuts_a_running_backup(house: House, tmp_path: Path) -> None:
    agent = house.agent(_noise(tmp_path / "source", 24 << 20))
    with TcpProxy(house.appliance.address, 4 << 20) as proxy:
        agent.by_way_of(proxy.address)
        running = agent.start("backup")
        wait_until(lambda: proxy.sent_bytes > 4 << 20, "4 MiB sent")
        house.appliance.command("machine", "revoke", agent.machine)
        outcome = running.wait()
    assert outcome.code == 4, outcome.told()
    assert "revoked" in outcome.stderr and len(outcome.stderr.strip().splitlines()) == 1, outcome.told()
    assert proxy.sent_bytes < 20 << 20, "cut, not let run to its end"


def test_a_paused_contract_restores_and_does_not_back_up(house: House, tmp_path: Path) -> None:
    source = _small(tmp_path / "source")
    contract, code = house.contract("impayé")
    agent = house.agent(source, code=code)
    agent.backup()
    house.appliance.command("contract", "pause", contract)
    assert "paused" in agent.told("backup") and "impayé" in agent.told("backup")
    agent.restore(tmp_path / "target", house.admin)
    assert_same(source, landed(tmp_path / "target", source))
    house.appliance.command("contract", "resume", contract)
    assert agent.backup()["snapshot"] == 2


def test_over_quota_goes_on_and_is_written_down(house: House, tmp_path: Path) -> None:
    source = _noise(tmp_path / "source", 3 << 20)
    _, code = house.contract("petit", "--allocated", "1MB")
    agent = house.agent(source, code=code)
    agent.backup()
    (source / "more").write_bytes(b"more")
    # The service looks at contracts every half second.
    assert any(agent.backup()["over_quota"] for _ in range(20))
    assert any("over its allocated volume" in line for line in house.log(agent))
    shown = house.appliance.command("machine", "show", agent.machine).document
    assert shown["snapshots"][0]["bytes_source"] > 3 << 20


def test_enrolment_codes(house: House, tmp_path: Path) -> None:
    contract, code = house.contract("deux", "--machines", "2")
    spare = house.appliance.command("contract", "code", contract).document["enrol_code"]
    late = house.appliance.command("contract", "code", contract).document["enrol_code"]
    first = Agent(tmp_path / "first")
    first.enrol(code, "un")
    assert "enrolled already" in first.told("enrol", spare, "--name", "encore", code=2)

    used = Agent(tmp_path / "used")
    assert "used" in used.told("enrol", code, "--name", "deux")
    flipped = spare[:-6] + ("A" if spare[-6] != "A" else "B") + spare[-5:]
    for mistyped in (flipped, spare[:-3], "PIL1-", "hello", spare + "A"):
        assert "code" in used.told("enrol", mistyped, "--name", "deux", code=2)
    assert not (used.home / "config.json").exists()
    used.enrol(spare, "deux")

    third = Agent(tmp_path / "third")
    sentence = third.told("enrol", late, "--name", "trois")
    assert "2" in sentence and "machine" in sentence
    house.appliance.command("contract", "edit", contract, "--machines", "3")
    third.enrol(late, "trois")
    names = {row["name"] for row in house.appliance.command("machine", "list", "--contract", contract).document}
    assert names == {"un", "deux", "trois"}


def test_a_code_of_another_appliance(house: House, tmp_path: Path) -> None:
    """A code names its appliance's key: whoever answers at the address instead is not believed."""
    with House(tmp_path / "other", whole=False) as other:
        _, code = other.contract()
        with_codes = other.appliance.address
    assert with_codes
    assert Agent(tmp_path / "agent").command("enrol", code, "--name", "x", expect=(4, 5)).code in (4, 5)


def test_two_backups_at_once(house: House, tmp_path: Path) -> None:
    # Slow enough for three commands beside it on a busy machine; let go after them.
    source = _noise(tmp_path / "source", 48 << 20)
    agent = house.agent(source)
    with TcpProxy(house.appliance.address, 2 << 20) as proxy:
        agent.by_way_of(proxy.address)
        running = agent.start("backup")
        wait_until(lambda: proxy.sent_bytes > 1 << 20, "1 MiB sent")
        sentence = agent.told("backup")
        assert f"process {running.pid}" in sentence and "backup" in sentence
        assert agent.command("status").document["running"] is True
        clone = agent.copy(tmp_path / "clone")
        assert "running already" in clone.told("backup")
        proxy.bytes_s = 0
        outcome = running.wait()
    assert outcome.code == 0, outcome.told()
    assert outcome.document["snapshot"] == 1
    assert agent.command("status").document["running"] is False


def test_damaged_settings_and_keys(house: House, tmp_path: Path) -> None:
    source = _small(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    config = agent.home / "config.json"
    good = config.read_bytes()
    for bad in (b"", b"{", good[:-30], good.replace(b'"format": 1', b'"format": 99'), b"\xff\xfe" + good, b"[]"):
        config.write_bytes(bad)
        for words in (["backup"], ["status"], ["select", "include", "/etc"]):
            assert str(config) in agent.told(*words, code=2)
        assert config.read_bytes() == bad, "a damaged file is left as it is"
    config.write_bytes(good)

    key = agent.home / "keys" / "machine.key"
    os.chmod(key, 0o644)
    assert str(key) in agent.told("backup")
    os.chmod(key, 0o600)
    content = key.read_bytes()
    key.write_bytes(content[:-1])
    assert str(key) in agent.told("backup")
    key.unlink()
    assert str(key) in agent.told("backup")
    key.write_bytes(content)
    os.chmod(key, 0o600)
    assert agent.backup()["snapshot"] == 2

    nobody = Agent(tmp_path / "nobody")
    for words in (["backup"], ["ls"], ["verify"], ["status"], ["snapshots"], ["select", "show"]):
        assert "enrol" in nobody.told(*words, code=2)
    empty = house.agent()
    assert "select" in empty.told("backup")


def test_the_wrong_appliance_and_none(house: House, tmp_path: Path) -> None:
    source = _small(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    right = agent.config
    wrong = agent.config
    wrong["appliance"]["curve_key"] = os.urandom(32).hex()
    agent.config = wrong
    assert "not the appliance" in agent.told("backup")
    wrong = agent.config
    wrong["appliance"] = dict(right["appliance"], identity=os.urandom(32).hex())
    agent.config = wrong
    agent.told("backup", code=agent.command("backup", expect=(1, 4)).code)
    agent.config = right
    agent.by_way_of("tcp://127.0.0.1:9")
    assert "127.0.0.1:9" in agent.told("backup", code=5)
    agent.by_way_of("tcp://no-such-host.invalid:7310")
    assert "no-such-host.invalid" in agent.told("backup", code=5)
    wrong = dict(right, appliance=dict(right["appliance"]))
    wrong["appliance"]["endpoints"] = ["tcp://127.0.0.1:9", house.appliance.address]
    agent.config = wrong
    assert agent.backup()["snapshot"] == 2, "the next address is tried"


def test_an_appliance_serves_one_home_once(house: House) -> None:
    argv = ["--home", str(house.appliance.home), "serve"]
    again = house.appliance.command("serve", expect=1)
    assert "Traceback" not in again.stderr and len(again.stderr.strip().splitlines()) == 1, (argv, again.told())
    assert subprocess.run(["kill", "-0", str(house.appliance.pid)], timeout=5).returncode == 0
