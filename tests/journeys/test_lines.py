"""Closed networks and shared lines: a real SOCKS5 proxy between agent and appliance, a rate that is kept."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.enrolling import enrolled
from agent.settings import AgentHome
from tests.support.processes import Agent, House
from tests.support.socks_server import SocksServer


@pytest.fixture
def proxy() -> Iterator[SocksServer]:
    with SocksServer() as server:
        yield server


@pytest.fixture
def guarded() -> Iterator[SocksServer]:
    with SocksServer({"pharmacie": "un mot long"}) as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"contents " * 1000)
    return source


def test_enrolment_backup_and_restore_go_through_the_proxy(
    house: House, guarded: SocksServer, source: Path, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("un mot long\n")
    _, code = house.contract()
    agent = Agent(tmp_path / "agent")
    named = ["--proxy", f"socks5://{guarded.address}", "--proxy-user", "pharmacie"]
    agent.command("enrol", code, "--name", "pc", *named, "--proxy-password-file", str(password))
    assert len(guarded.seen.targets) >= 1
    told = agent.command("network").document
    assert told["proxy"] == f"socks5://{guarded.address}" and told["proxy_user"] == "pharmacie"
    assert "un mot long" not in (tmp_path / "agent" / "config.json").read_text()
    assert (tmp_path / "agent" / "keys" / "proxy.password").stat().st_mode & 0o077 == 0
    agent.command("select", "include", str(source))
    before = guarded.seen.bytes_up
    sent = agent.command("backup").document["bytes_sent"]
    assert guarded.seen.bytes_up - before >= sent * 0.9
    assert agent.command("snapshots").document
    target = tmp_path / "back"
    agent.command("restore", "--target", str(target), *house.login())
    assert (target / source.relative_to("/") / "file").read_bytes() == b"contents " * 1000
    assert set(guarded.seen.users) == {"pharmacie"} and guarded.seen.refused == 0


def test_without_the_proxy_nothing_goes_and_without_one_all_goes_again(
    house: House, proxy: SocksServer, source: Path, tmp_path: Path
) -> None:
    agent = house.agent(source)
    agent.command("network", "--proxy", f"socks5://{proxy.address}")
    agent.command("backup")
    assert len(proxy.seen.targets) >= 1
    agent.command("network", "--proxy", "socks5://127.0.0.1:1")
    assert "the proxy 127.0.0.1:1 cannot be reached" in agent.told("backup", code=5)
    agent.command("network", "--direct")
    count = len(proxy.seen.targets)
    agent.command("backup")
    assert len(proxy.seen.targets) == count and agent.command("network").document["proxy"] is None


def test_a_proxy_that_does_not_let_us_in(house: House, guarded: SocksServer, source: Path, tmp_path: Path) -> None:
    agent = house.agent(source)
    agent.command("network", "--proxy", guarded.address)
    assert "wants a user and a password" in agent.told("backup", code=5)
    wrong = tmp_path / "wrong"
    wrong.write_text("not it")
    agent.command("network", "--proxy", guarded.address, "--proxy-user", "x", "--proxy-password-file", str(wrong))
    assert "does not accept the user or the password" in agent.told("backup", code=5)
    assert guarded.seen.targets == []


def test_the_service_keeps_to_the_proxy(house: House, proxy: SocksServer, source: Path) -> None:
    agent = house.agent(source)
    agent.command("network", "--proxy", f"socks5://{proxy.address}")
    machine = enrolled(AgentHome(agent.home))
    client = machine.client()
    client.connect()
    proxy.cut()
    client.connect()
    client.close()
    assert len(proxy.seen.targets) == 2


def test_a_rate_is_kept_and_changes_during_a_run(house: House, source: Path) -> None:
    """Nothing is measured but that it cannot have been faster."""
    (source / "scans").write_bytes(random.Random(1).randbytes(3_000_000))
    agent = house.agent(source)
    agent.command("limits", "set", "--rate", "8Mbit")
    report = agent.command("backup").document
    # The last message goes at once; what it owes nobody waits for.
    assert report["seconds"] >= (report["bytes_sent"] - 1_200_000) / 1_000_000
    agent.command("limits", "clear")
    (source / "more").write_bytes(random.Random(2).randbytes(3_000_000))
    assert agent.command("limits", "show").document["bytes_per_second_now"] is None
    agent.command("backup")


def test_limits_are_shown_and_set(house_agent: Agent) -> None:
    told = house_agent.command(
        *("limits", "set", "--from", "08:30", "--to", "19:30", "--days", "mon-sat", "--rate", "2Mbit"),
        *("--on-battery", "run", "--restores", "yes"),
    ).document
    days = ["mon", "tue", "wed", "thu", "fri", "sat"]
    assert told["windows"] == [{"from": "08:30", "to": "19:30", "days": days, "bytes_per_second": 250_000}]
    assert (told["on_battery"], told["on_metered"], told["restores"]) == ("run", "wait", True)
    assert house_agent.command("limits", "show").document == told
    for words, said in (
        (["--from", "08:00", "--rate", "1Mbit"], "both --from and --to"),
        (["--from", "08:00", "--to", "09:00"], "give one, like --rate"),
        (["--rate", "fast"], "is not a rate"),
        (["--rate", "10kbit"], "at least 128 kbit/s"),
        ([], "nothing to set"),
    ):
        assert said in house_agent.told("limits", "set", *words, code=2)
    assert house_agent.command("limits", "clear").document["windows"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--proxy", "http://proxy:3128"], "is not a proxy's address"),
        (["--proxy", "socks5://user:secret@proxy:1080"], "without user or password"),
        (["--proxy", "socks5://proxy:99999"], "is not a proxy's address"),
        (["--proxy", "proxy:1080", "--proxy-user", "x"], "give both"),
        (["--proxy-user", "x"], "belong to a --proxy"),
        (["--proxy", "proxy:1080", "--direct"], "exclude each other"),
    ],
)
def test_what_makes_no_sense(house_agent: Agent, words: list[str], said: str) -> None:
    assert said in house_agent.told("network", *words, code=2)


@pytest.fixture(scope="module")
def house_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with House(tmp_path_factory.mktemp("house"), whole=False) as house:
        yield house.agent()
