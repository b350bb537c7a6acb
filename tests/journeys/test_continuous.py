"""Continuous mode in real processes: a snapshot follows changes, by itself and within a minute of calm."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

from appliance.control import configurations
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.journeys.test_service import Service, service, snapshots
from tests.support.faults import wait_until
from tests.support.processes import Agent, House, landed
from tests.support.trees import assert_same

WITHIN_S = 90.0
"""Calm, the gap after the snapshot before, a busy machine."""


def at_once(house: House) -> None:
    """No delay for any machine, so that a service that starts need not wait for its turn."""
    house.appliance.stop()
    file = house.appliance.home / "settings.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"spread_minutes": 0}))
    house.appliance.serve()


def follows(house: House, agent: Agent, number: int) -> None:
    wait_until(lambda: number in snapshots(house, agent), f"snapshot {number}", WITHIN_S)
    wait_until(lambda: agent.command("status").document["last_snapshot"] == number, "its end", WITHIN_S)


def how(house: House, agent: Agent, number: int) -> str:
    with Database.open(Home.open(house.appliance.home).control_db) as db:
        used = configurations.find(db, EVERYTHING, bytes.fromhex(agent.machine), number).used
    assert used is not None and used.schedule.continuous
    return used.started_by


def test_snapshots_follow_changes_and_a_killed_service_looks_at_everything(house: House, tmp_path: Path) -> None:
    at_once(house)
    source = tmp_path / "source"
    for name in ("a/deep", "b", "left/alone"):
        (source / name).mkdir(parents=True)
        (source / name / "file").write_text(name)
    agent = house.agent(source)
    agent.command("select", "exclude", "*.tmp")
    shown = agent.command("schedule", "continuous", "on").document
    assert shown["continuous"] is True and shown["times"], "beside the times, which stay"
    running = Service(agent)
    follows(house, agent, 1)
    assert "backup begins (continuous: everything, as once a day)" in running.said(), "none was ever made"
    # What is excluded makes no snapshot; the new folder is full before it can be watched.
    (source / "b/scratch.tmp").write_text("nothing")
    (source / "b/scratch.tmp").unlink()
    shutil.copytree(source / "a", source / "b/copied/further/down")
    (source / "a/deep/file").write_text("changed")
    (source / "left").rename(source / "moved")
    follows(house, agent, 2)
    said = running.said()
    assert said.count("backup begins") == 2 and "backup begins (continuous: changes)" in said
    assert "snapshot 2, 4 files" in said, "all files count, though few were looked at"
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))
    assert how(house, agent, 2) == "continuous"
    # A power cut with a change that no snapshot served: the next service cannot know, and looks.
    (source / "moved/alone/file").write_text("after the second snapshot")
    running.running.signal(signal.SIGKILL)
    running.running.wait(time.perf_counter() - running.running.started + 10)
    (source / "b/while-off").write_text("nobody watched")
    with service(agent) as again:
        follows(house, agent, 3)
        assert "snapshot 3, 5 files" in again.said()
        agent.command("schedule", "continuous", "off")
        wait_until(lambda: not agent.command("schedule", "show").document["continuous"], "the end of continuous mode")
    other = tmp_path / "other"
    agent.restore(other, house.account())
    assert_same(source, landed(other, source))
