"""Addresses that open the local interface: each once, for a while, and only by who may write into the home."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from agent import interface
from agent.interface import Opener, Serving
from agent.settings import AgentHome, exclusive

SERVING = Serving(1, 4711, "prefix")


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "home")
    made.create()
    return made


def token_in(address: str) -> str:
    """The token of an address."""
    return parse_qs(urlsplit(address).query)["token"][0]


def test_a_token_opens_once_whoever_comes_at_the_same_moment(home: AgentHome) -> None:
    token = token_in(interface.new_address(home, SERVING))
    opened: list[bool] = []

    def come() -> None:
        opened.append(interface.spend(home, token) is not None)

    threads = [threading.Thread(target=come) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == [False] * 15 + [True]


def test_nothing_on_the_disk_opens_it(home: AgentHome) -> None:
    address = interface.new_address(home, SERVING)
    (kept,) = (home.interface / "tokens").iterdir()
    assert token_in(address) not in kept.name and token_in(address).encode() not in kept.read_bytes()
    assert interface.spend(home, kept.name) is None
    assert kept.stat().st_mode & 0o077 == 0 and kept.parent.stat().st_mode & 0o077 == 0
    assert interface.spend(home, "") is None
    assert interface.spend(home, "../../config.json\0\ud800") is None
    assert interface.spend(home, token_in(address)) == Path.home(), "and it knows who asked"


def test_an_address_that_waited_too_long_opens_nothing(home: AgentHome) -> None:
    token = token_in(interface.new_address(home, SERVING))
    (kept,) = (home.interface / "tokens").iterdir()
    old = time.time() - interface.TOKEN_S - 1
    os.utime(kept, (old, old))
    assert interface.spend(home, token) is None
    interface.new_address(home, SERVING)
    os.utime(next((home.interface / "tokens").iterdir()), (old, old))
    interface.new_address(home, SERVING)
    assert len(list((home.interface / "tokens").iterdir())) == 1, "old ones are swept"


def test_an_interface_that_died_is_not_taken_for_one(home: AgentHome) -> None:
    assert interface.running(home) is None
    with exclusive(home, "local interface", lock=home.interface_lock):
        announced = interface.announce(home, 4711)
        assert interface.running(home) == announced
        assert len(announced.prefix) >= 20
    assert interface.running(home) is None


def test_a_knock_without_a_wish_starts_nothing(home: AgentHome, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[object] = []
    monkeypatch.setattr(interface.subprocess, "Popen", lambda *words, **_: began.append(words))
    opener = Opener(home)
    opener.look()
    assert began == []
    interface.wish(home)
    opener.look()
    opener._child = None
    opener.look()
    assert len(began) == 1
