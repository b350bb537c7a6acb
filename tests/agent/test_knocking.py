"""Knocks: heard once, harmless where nobody is, and no way to do more than wake."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.knocking import Doorstep, knock, service_runs
from agent.settings import AgentHome, exclusive


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "agent")
    home.create()
    return home


def test_knocks_are_heard_and_those_that_come_together_are_one(home: AgentHome) -> None:
    door = Doorstep(home)
    for _ in range(5):
        knock(home)
    door.knock()
    assert door.wait(20.0)
    assert not door.wait(0.001)
    waiter = threading.Thread(target=knock, args=(home,))
    waiter.start()
    assert door.wait(20.0)
    waiter.join()
    door.close()
    assert not home.service.exists()


def test_nobody_there(home: AgentHome) -> None:
    knock(home)
    home.service.write_text("nonsense")
    knock(home)
    home.service.write_text('{"pid": 1, "port": 70000}')
    knock(home)


def test_a_running_service_is_known_by_its_lock(home: AgentHome) -> None:
    assert not service_runs(home)
    with exclusive(home, "service", lock=home.service_lock):
        assert service_runs(home)
    assert not service_runs(home)
