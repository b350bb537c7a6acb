"""The size of a selection: the files that a backup would take, and another count as soon as the choice is another."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from agent.selection import Selection
from agent.settings import AgentHome, Settings, load_settings
from agent.ui import counting
from agent.ui.counting import Counted, Counter
from tests.support.faults import wait_until
from tests.support.processes import House


@pytest.fixture
def enrolled(house: House) -> tuple[AgentHome, Settings]:
    agent = house.agent()
    home = AgentHome(agent.home)
    return home, load_settings(home)


def counted(counter: Counter, settings: Settings) -> Counted:
    """What it comes to, once that is known."""
    wait_until(lambda: counter.ask(settings).done, "the count")
    return counter.ask(settings)


def test_it_counts_what_a_backup_takes(
    enrolled: tuple[AgentHome, Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, settings = enrolled
    source = tmp_path / "source"
    for number in range(30):
        folder = source / f"folder-{number}"
        folder.mkdir(parents=True)
        for name in ("a", "b.tmp"):
            (folder / name).write_bytes(bytes(100))
    monkeypatch.setattr(counting, "_TURN", 5)
    counter = Counter(home)
    assert counter.ask(settings) == Counted(done=True), "nothing is chosen"
    chosen = dataclasses.replace(settings, selection=Selection.of([os.fsencode(source)]))
    found = counted(counter, chosen)
    assert (found.files, found.bytes, found.unreadable) == (60, 6000, 0)
    fewer = dataclasses.replace(settings, selection=Selection.of([os.fsencode(source)], [b"*.tmp"]))
    assert counted(counter, fewer).files == 30
    gone = dataclasses.replace(settings, selection=Selection.of([os.fsencode(tmp_path / "gone")]))
    assert counted(counter, gone).files == 0
    counter.close()
