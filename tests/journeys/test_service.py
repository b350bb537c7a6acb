"""The agent as a service, in real processes: times, settings from the appliance, requests, ends and beginnings."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.control import configurations
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.faults import TcpProxy, folder_bytes, wait_until
from tests.support.processes import STOP_TIMEOUT_S, Agent, House, Outcome, Running, landed
from tests.support.trees import assert_same

WITHIN_S = 60.0
"""In which a running agent must have picked up a change."""


class Service:
    """`pilulier-agent run` of one agent."""

    def __init__(self, agent: Agent) -> None:
        self.running: Running = agent.start("run")
        wait_until(lambda: "\n" in self.running.text("stdout"), "a service that is ready")
        self.ready = json.loads(self.running.text("stdout"))
        assert self.ready["event"] == "ready" and self.ready["machine"] == agent.machine

    def said(self) -> str:
        return self.running.text("stderr")

    def stop(self) -> Outcome:
        """SIGTERM; it must end by itself, with 0."""
        self.running.signal(signal.SIGTERM)
        outcome = self.running.wait(time.perf_counter() - self.running.started + STOP_TIMEOUT_S)
        assert outcome.code == 0, outcome.told()
        return outcome


@contextmanager
def service(agent: Agent) -> Iterator[Service]:
    running = Service(agent)
    yield running
    running.stop()


def snapshots(house: House, agent: Agent) -> list[int]:
    return [row["snapshot"] for row in house.appliance.command("machine", "show", agent.machine).document["snapshots"]]


def settings(house: House, agent: Agent, *words: str) -> Any:
    return house.appliance.command("machine", "settings", agent.machine, *words).document


def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "letter").write_text(f"letter of {name}")
    return tmp_path / "one", tmp_path / "two"


def missed(agent: Agent, hours: float) -> None:
    """The machine was off for so long, its last run covered until then."""
    books = {"covered": time.time() - hours * 3600}
    (agent.home / "schedule.json").write_text(json.dumps(books))


def time_of(hours_ago: float) -> str:
    """A local time of day that was so long ago."""
    return datetime.fromtimestamp(time.time() - hours_ago * 3600).strftime("%H:%M")


def test_a_running_agent_takes_settings_over_and_backs_up_by_them(house: House, tmp_path: Path) -> None:
    one, two = folders(tmp_path)
    agent = house.agent(one)
    with service(agent):
        # Said before: what the machine has by itself.
        wait_until(lambda: settings(house, agent)["report"] is not None, "a first report")
        began = time.monotonic()
        settings(house, agent, "--include", str(two), "--time", "10:00", "--days", "sun", "--language", "de")
        house.appliance.command("machine", "backup", agent.machine)
        wait_until(lambda: settings(house, agent)["state"] == "applied", "settings in use", WITHIN_S)
        wait_until(lambda: snapshots(house, agent) == [1], "the backup that was asked for", WITHIN_S)
        assert time.monotonic() - began < WITHIN_S
        report = settings(house, agent)["report"]
        assert (report["times"], report["days"], report["language"]) == (["10:00"], ["sun"], "de")
        assert report["shrunk_at"], "what was selected before is so no more"
        assert agent.command("select", "show").document == {"include": [str(two)], "exclude": []}
        assert agent.command("schedule", "show").document["set_by"] == "appliance"
        wait_until(lambda: not agent.command("status").document["running"], "the end of the backup")
        following = agent.command("status").document["next_run"]
        when = datetime.fromisoformat(following.replace("Z", "+00:00"))
        local = when.astimezone()
        minutes = local.hour * 60 + local.minute
        assert local.weekday() == 6 and 600 <= minutes <= 620, "ten o'clock of a Sunday, and what the appliance adds"
        # The owner's choice stands until the web changes that part again.
        agent.command("select", "include", str(one))
        wait_until(lambda: settings(house, agent)["state"] == "changed-locally", "the owner's choice", WITHIN_S)
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(two, landed(target, two))
    assert not landed(target, one).exists()
    log = house.log(agent)
    assert any("made smaller: now 1 included" in line for line in log)
    assert log.index("Backup started (asked)") < next(n for n, line in enumerate(log) if line.startswith("Backup ok"))
    assert not any(str(one) in line or str(two) in line for line in log), "no name in the log"
    with Database.open(Home.open(house.appliance.home).control_db) as db:
        used = configurations.find(db, EVERYTHING, bytes.fromhex(agent.machine), 1)
    assert used.used is not None and used.used.started_by == "asked" and used.used.settings_version == 1
    assert used.used.schedule.times == ["10:00"] and used.used.includes == 1 and used.platform.count("-") >= 1


def test_an_owner_who_refuses_stays_master_of_the_machine(house: House, tmp_path: Path) -> None:
    one, two = folders(tmp_path)
    agent = house.agent(one)
    agent.command("remote", "refuse")
    settings(house, agent, "--include", str(two), "--time", "10:00")
    with service(agent):
        wait_until(lambda: settings(house, agent)["state"] == "refused", "the refusal", WITHIN_S)
        assert settings(house, agent)["report"]["remote_allowed"] is False
        refused = house.appliance.command("machine", "backup", agent.machine, expect=4)
        assert "as its owner chose" in refused.stderr
        assert agent.command("select", "show").document["include"] == [str(one)]
        # Allowing again takes over what waits.
        assert agent.command("remote", "allow").document["allowed"] is True
        wait_until(lambda: settings(house, agent)["state"] == "applied", "the settings that waited", WITHIN_S)
        assert agent.command("select", "show").document["include"] == [str(two)]
    assert snapshots(house, agent) == []


def test_a_missed_run_is_caught_up_once_and_once_the_network_is_back(house: House, tmp_path: Path) -> None:
    one, _ = folders(tmp_path)
    agent = house.agent(one)
    agent.command("schedule", "set", time_of(2), time_of(3), time_of(4))
    missed(agent, 20)
    house.appliance.stop()
    with service(agent) as running:
        assert running.ready["next_run"] is not None
        wait_until(lambda: "the appliance is not there" in running.said(), "a first try without the appliance")
        assert "missed" in running.said() and not agent.command("status").document["last_snapshot"]
        house.appliance.serve()
        wait_until(lambda: snapshots(house, agent) == [1], "the missed backup", WITHIN_S)
        wait_until(lambda: agent.command("status").document["last_snapshot"] == 1, "its end")
        following = agent.command("status").document["next_run"]
        assert datetime.fromisoformat(following.replace("Z", "+00:00")).timestamp() > time.time() + 3600
    # Not again: neither now nor by the next service.
    with service(agent) as again:
        wait_until(lambda: "the appliance is there" in again.said(), "a service that has been heard")
        assert "owed" not in again.said() and "begins" not in again.said()
    assert snapshots(house, agent) == [1]
    with Database.open(Home.open(house.appliance.home).control_db) as db:
        used = configurations.find(db, EVERYTHING, bytes.fromhex(agent.machine), 1).used
    assert used is not None and used.started_by == "missed"


def test_sigterm_in_a_backup_ends_cleanly_and_the_next_start_goes_on(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    chance = random.Random("sigterm")
    for number in range(24):
        (source / f"scan-{number}").write_bytes(chance.randbytes(1 << 20))
    agent = house.agent(source)
    agent.command("schedule", "set", time_of(2))
    missed(agent, 20)
    packs = house.repository(agent) / "packs"
    with TcpProxy(house.appliance.address, 4 << 20) as proxy:
        agent.by_way_of(proxy.address)
        running = Service(agent)
        wait_until(lambda: folder_bytes(packs) > 4 << 20, "a backup under way", WITHIN_S)
        assert agent.command("status").document["running"]
        told = agent.told("backup")
        assert told.startswith("a backup of this agent is already going on"), "never two at a time"
        outcome = running.stop()
        assert "stopped" in outcome.stderr
        assert snapshots(house, agent) == []
        status = agent.command("status").document
        assert (status["running"], status["service"], status["next_run"]) == (False, False, None)
        proxy.bytes_s = 0
        sent = proxy.sent_bytes
        with service(agent):
            wait_until(lambda: snapshots(house, agent) == [1], "the backup that was owed", WITHIN_S)
            wait_until(lambda: agent.command("status").document["last_snapshot"] == 1, "its end")
        total = sum(path.stat().st_size for path in source.iterdir())
        assert proxy.sent_bytes - sent < total - (3 << 20), "what was acknowledged is not sent again"
    agent.by_way_of(house.appliance.address)
    log = house.log(agent)
    assert any(line.startswith("Backup failed: it was stopped on the machine") for line in log)
    assert any(line.startswith("Progression : 24 files 100 % – 25.2 MB/25.2 MB") for line in log)
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_why_a_backup_failed_reaches_the_appliance_without_a_name(house: House, tmp_path: Path) -> None:
    one, two = folders(tmp_path)
    agent = house.agent(one)
    agent.backup()
    (one / "letter").unlink()
    assert "is a disk not mounted?" in agent.told("backup", code=4)
    shown = house.appliance.command("machine", "show", agent.machine).document["log"]
    failed = [line for line in shown if line["level"] == "error"]
    assert [line["module"] for line in failed] == ["backup"]
    assert failed[0]["text"].startswith("Backup failed: an included folder is missing or empty")
    assert "one" not in failed[0]["text"]
    assert str(one) in agent.command("status").document["last_error"]
    # While nobody hears it, the reason waits.
    house.appliance.stop()
    agent.command("backup", "--allow-empty", expect=5)
    house.appliance.serve()
    agent.backup("--allow-empty")
    texts = house.log(agent)
    assert any(line.startswith("Backup failed: the appliance could not be reached") for line in texts)
    assert agent.command("status").document["last_error"] is None


def test_a_smaller_selection_is_told_without_a_service_too(house: House, tmp_path: Path) -> None:
    one, two = folders(tmp_path)
    agent = house.agent(one, two)
    agent.backup()
    assert settings(house, agent)["report"]["shrunk_at"] is None
    agent.command("select", "exclude", str(two / "letter"))
    agent.backup()
    assert settings(house, agent)["report"]["shrunk_at"] is not None
    house.appliance.command("machine", "accept", agent.machine)
    agent.backup()
    assert settings(house, agent)["report"]["shrunk_at"] is None


def test_one_service_a_home_and_clear_words(house: House, tmp_path: Path) -> None:
    one, _ = folders(tmp_path)
    agent = house.agent(one)
    assert agent.command("status").document["next_run"] is None, "without a service nothing begins"
    with service(agent):
        assert "a service of this agent is already going on" in agent.told("run")
        noon = agent.command("schedule", "set", "12:30", "--days", "mon-fri").document
        assert (noon["times"], noon["days"]) == (["12:30"], ["mon", "tue", "wed", "thu", "fri"])
        wait_until(lambda: agent.command("schedule", "show").document["next_run"] is not None, "a next run")
        agent.command("schedule", "off")
        assert agent.command("status").document["next_run"] is None
    for words, sentence in (
        (("schedule", "set", "noon"), "'noon' is not a time of day like 12:30"),
        (("schedule", "set", "12:30", "--days", "fri-mon"), "'fri-mon' goes backwards"),
        (("schedule", "set", "12:30", "--days", "lundi"), "'lundi' is not a day of the week"),
    ):
        assert sentence in agent.told(*words, code=2)
    nobody = Agent(tmp_path / "nobody")
    assert "not enrolled" in nobody.told("run", code=2)
