"""A restore from the appliance asks for a code that works once; looking and verifying ask for none."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pyotp
import pytest

from agent.client import ApplianceFailed, ApplianceRefused
from agent.enrolling import enrolled
from agent.settings import AgentHome
from tests.support.processes import Account, House, landed
from tests.support.trees import assert_same
from transport import messages as m
from transport.channel import AgentChannel
from transport.names import SegmentId


def _source(folder: Path) -> Path:
    folder.mkdir()
    (folder / "document").write_bytes(random.Random("2fa").randbytes(300_000))
    return folder


def _wrong(account: Account) -> str:
    """Six digits that are no code of this account for some minutes around now."""
    totp = pyotp.TOTP(account.totp_secret)
    near = {totp.at(int(time.time()) + 30 * step) for step in range(-10, 11)}
    return next(code for code in (f"{number:06}" for number in range(100)) if code not in near)


def test_only_a_fresh_code_of_the_right_account_opens(house: House, tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    contract, code = house.contract()
    agent, other_contract = house.agent(source, code=code), house.contract()[0]
    agent.backup()
    target = tmp_path / "target"
    restore = ["restore", "--target", str(target)]
    mine = house.account("--contract", contract, role="customer")
    theirs = house.account("--contract", other_contract, role="customer")
    house.appliance.command("space", "add", "ailleurs")
    elsewhere = house.account("--space", "ailleurs", role="admin")

    assert "--otp" in agent.told(*restore)
    refused = agent.told(*restore, "--account", mine.email, "--otp", _wrong(mine))
    assert refused == agent.told(*restore, "--account", theirs.email, "--otp", theirs.code())
    assert refused == agent.told(*restore, "--account", elsewhere.email, "--otp", elsewhere.code())
    assert refused == agent.told(*restore, "--account", "nobody@example.test", "--otp", "123456")
    assert not target.exists(), "nothing is written before the code is right"

    # The machine's count stands at four; the fifth wrong code closes the door, the right one still opens it.
    login = house.login(mine)
    agent.command(*restore, *login)
    assert_same(source, landed(target, source))
    assert refused == agent.told(*restore, *login), "a code works once"
    assert "too many wrong codes" in agent.told(*restore, *house.login())

    neighbour = house.agent(source)
    neighbour.backup()
    neighbour.command("restore", "--target", str(tmp_path / "neighbour"), *house.login())
    agent.command("ls")
    agent.backup()
    assert any(line == f"Restore opened by {mine.email}" for line in house.log(agent))


def test_wrong_codes_are_written_down(house: House, tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    someone = house.account()
    for _ in range(2):
        agent.told("restore", "--target", str(tmp_path / "t"), "--account", someone.email, "--otp", _wrong(someone))
    log = [line.lower() for line in house.log(agent)]
    assert sum("restore refused" in line and someone.email in line for line in log) == 2, log


def test_looking_and_verifying_need_no_code(house: House, tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    assert agent.command("ls", str(source)).document[0]["size"] == 300_000
    assert agent.command("snapshots").document[0]["snapshot"] == 1
    assert agent.command("verify", "--sample", "100").document["segments_checked"] == 1


def test_the_appliance_enforces_it(house: House, tmp_path: Path) -> None:
    """An agent that was tampered with asks for data without a session, and for another machine's."""
    source = _source(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    segment, version = SegmentId(bytes(15) + b"\1"), bytes(15) + b"\1"
    machine = enrolled(AgentHome(agent.home))
    for question in (m.FetchSegments([segment], 0), m.ExtentsQuery([version], 0)):  # type: ignore[list-item]
        client = machine.client()
        try:
            client.connect()
            # Past the table on this side, as a tampered agent would be.
            client.channel.send(question)
            got = client.hear(20)
            assert got is not None and isinstance(got[0], m.Refused), got
        finally:
            client.close()
    client = machine.client()
    try:
        client.connect()
        with pytest.raises((ApplianceRefused, ApplianceFailed)):
            client.ask(m.RestoreOpen(house.admin.email, "000000"), m.RestoreOpened)
        client.channel.send(m.FetchSegments([segment], 0))
        got = client.hear(20)
        assert got is not None and isinstance(got[0], m.Refused), got
    finally:
        client.close()


def test_a_peer_that_says_hello_to_nobody(house: House, tmp_path: Path) -> None:
    """Before its hello, a machine may say nothing else."""
    agent = house.agent(_source(tmp_path / "source"))
    machine = enrolled(AgentHome(agent.home))
    appliance = machine.settings.appliance
    channel = AgentChannel(list(appliance.endpoints), appliance.curve_key, machine.keys.curve)
    try:
        channel.connect()
        channel.send(m.SnapshotsQuery(0))
        got = channel.receive(20)
        assert got is not None and isinstance(got[0], m.Refused), got
    finally:
        channel.close()
