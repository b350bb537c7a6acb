"""The agent as one file, made by `make agent-bundle`: what a PC has that has no Python and no network.

It runs with an empty environment and in a folder of its own, so that nothing of the checkout can help it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import wait_until
from tests.support.processes import CHECKOUT, Agent, House, landed

MAKING_S = 600


@pytest.fixture(scope="module")
def bundle() -> Path:
    made = subprocess.run([CHECKOUT / ".ci" / "bundle"], capture_output=True, text=True, timeout=MAKING_S, check=False)
    assert made.returncode == 0, made.stderr
    return CHECKOUT / "build" / "pilulier-agent"


@pytest.fixture
def agent(bundle: Path, house: House, tmp_path: Path) -> Iterator[Agent]:
    alone = tmp_path / "stick"
    alone.mkdir()
    agent = Agent(tmp_path / "agent")
    agent.program = (shutil.copy(bundle, alone),)
    agent.under = ("env", "-i", f"TMPDIR={alone}")
    agent.enrol(house.contract()[1], "caisse")
    yield agent
    agent.close()


def test_one_file_backs_up_and_restores(agent: Agent, house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    database = bytearray(os.urandom(3 << 20))
    (source / "base.db").write_bytes(database)
    agent.command("select", "include", str(source))
    assert agent.backup()["files_full"] == 1
    database[1 << 20 : (1 << 20) + 5] = b"later"
    (source / "base.db").write_bytes(database)
    second = agent.backup()
    assert second["files_delta"] == 1 and second["bytes_sent"] < 200_000, "librsync is in it too"
    agent.restore(tmp_path / "target", house.account())
    assert (landed(tmp_path / "target", source) / "base.db").read_bytes() == database
    assert list(tmp_path.joinpath("stick").iterdir()) == [Path(agent.program[0])], "what was unpacked is gone again"


def test_its_local_interface_has_pages_and_their_look(agent: Agent) -> None:
    running = agent.start("ui")
    wait_until(lambda: "\n" in running.text("stdout"), "the address")
    address = json.loads(running.text("stdout"))["url"]
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    base = address.partition("open?")[0]
    assert "http-equiv" in browser.open(address, timeout=30).read().decode()
    assert "caisse" in browser.open(base, timeout=30).read().decode()
    for name in ("look/pilulier.css", "static/interface.css", "bootstrap/static/css/bootstrap.min.css"):
        assert browser.open(base + name, timeout=30).status == 200, name
    running.signal(signal.SIGTERM)
    assert running.wait().code == 0, running.text("stderr")


def test_its_service_starts_its_backups(agent: Agent, house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    agent.command("select", "include", str(source))
    service = agent.start("run")
    wait_until(lambda: "\n" in service.text("stdout"), "the service")
    assert json.loads(service.text("stdout"))["event"] == "ready"
    house.appliance.command("machine", "backup", agent.machine)
    wait_until(lambda: house.appliance.command("machine", "show", agent.machine).document["last_snapshot"] == 1, "it")
    service.signal(signal.SIGTERM)
    assert service.wait().code == 0, service.text("stderr")
