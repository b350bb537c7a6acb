"""Work that happens by itself, in real processes: it begins with the service, survives being killed, ends with it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from appliance import jobs
from appliance.control.database import Database
from appliance.settings import Home
from tests.support.faults import TcpProxy, wait_until
from tests.support.processes import House, descendants

pytestmark = pytest.mark.whole_service

STOP_WITHIN_S = 10.0


def _workers(house: House) -> list[int]:
    """Processes of the part that works, by their command lines."""
    found = []
    for pid in descendants(house.appliance.pid):
        with contextlib.suppress(OSError):
            if b"\0jobs\0work\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_the_part_that_works_is_started_again_and_ends_with_the_service(house: House) -> None:
    (first,) = _workers(house)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: _workers(house) not in ([], [first]), "the part coming again")
    assert "jobs was ended by signal 9; it is started again in 1 s" in house.appliance.said()
    (second,) = _workers(house)
    began = time.monotonic()
    assert house.appliance.stop() is not None
    assert time.monotonic() - began < STOP_WITHIN_S
    wait_until(lambda: _gone(second), "the end of the part")
    # And when the service is not asked but gone.
    house.appliance.serve()
    (third,) = _workers(house)
    house.appliance.kill()
    wait_until(lambda: _gone(third), "the end of the orphan")
    house.appliance.serve()


def test_a_stop_under_load_is_clean_and_the_backup_goes_on(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(16):
        (source / f"scan-{number}").write_bytes(random.Random(number).randbytes(1 << 20))
    agent = house.agent(source)
    with TcpProxy(house.appliance.address, 3 << 20) as proxy:
        agent.by_way_of(proxy.address)
        backup = agent.start("backup")
        wait_until(lambda: proxy.sent_bytes > 11 << 20, "a backup in the middle")
        began = time.monotonic()
        outcome = house.appliance.stop()
        assert outcome is not None and outcome.code == 0 and time.monotonic() - began < STOP_WITHIN_S
        house.appliance.serve()
        ended = backup.wait()
        assert ended.code == 0, ended.told()
        # What was acknowledged before the stop is not sent again: all over again would be 27 MiB at least.
        assert proxy.sent_bytes < 25 << 20
    assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]


def test_what_is_asked_for_is_done_by_the_service(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "base.db").write_bytes(b"pharmacy" * 1000)
    agent = house.agent(source)
    agent.command("backup")
    home = Home.open(house.appliance.home)
    with Database.open(home.control_db) as db:
        jobs.ask(home, db, "scrub", by="boss@example.org", now=time.time())

    def last() -> dict[str, str]:
        listed = {job["job"]: job for job in house.appliance.command("jobs", "list").document}
        return listed["scrub"]["last"] or {}

    wait_until(lambda: bool(last()), "the scrub that was asked for")
    assert last()["outcome"] == "done" and last()["asked_by"] == "boss@example.org"
    assert "1 repositories to their end" in last()["text"]
    # By hand, beside the service; and what is no job is one sentence.
    pruned = house.appliance.command("jobs", "run", "prune").document
    assert pruned["outcome"] == "done" and pruned["text"].startswith("1 machines pruned, 0 snapshots dropped")
    told = house.appliance.command("jobs", "run", "x", expect=1)
    assert "there is no job 'x': there are alerts" in told.stderr
