"""The part that works: wakes for what is due and what is asked for, stops in between, queues nothing but JSON."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance import job_kinds, jobs
from appliance.control import job_table
from appliance.control.database import Database
from appliance.control.job_table import LEASE_S, Outcome
from appliance.errors import NotFoundError
from appliance.job_running import JobContext, JobKind, JobReport
from appliance.jobs import JobWorker
from appliance.schedules import Daily, Every
from appliance.settings import Home
from tests.support.faults import wait_until
from tests.support.processes import CHECKOUT

NOW = 1_800_000_000.0


@dataclass(slots=True)
class Bench:
    """A home, and jobs that say when they ran."""

    home: Home
    ran: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def quick(self, _: JobContext) -> JobReport:
        self.ran.append("quick")
        return JobReport("done")

    def long(self, context: JobContext) -> JobReport:
        self.ran.append("long")
        while not self.go_on.wait(0.01):
            context.stopping.check()
        return JobReport("went to its end")

    def job(self, name: str) -> job_table.Job:
        with Database.open(self.home.control_db) as db:
            return job_table.find(db, name)

    def make_due(self, name: str) -> None:
        with Database.open(self.home.control_db) as db, db.write():
            job_table.know(db, name, NOW)
            db.execute("UPDATE job SET next_at = ? WHERE name = ?", [NOW - 1, name])


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    Database.create(tmp_path / "control.db").close()
    bench = Bench(Home(tmp_path))
    kinds = (
        JobKind("quick", Daily(3), "", bench.quick),
        JobKind("long", Every(86400), "", bench.long),
        JobKind("needless", Every(60), "", bench.quick, needed=lambda _: False),
    )
    monkeypatch.setattr(job_kinds, "KINDS", {kind.name: kind for kind in kinds})
    monkeypatch.setattr("appliance.job_running._LOOK_S", 0.01)
    yield bench
    bench.go_on.set()


def test_what_is_due_runs_and_what_is_not_needed_leaves_no_trace(bench: Bench) -> None:
    bench.make_due("quick")
    bench.make_due("needless")
    worker = JobWorker(bench.home, now=lambda: NOW)
    worker.start()
    wait_until(lambda: bench.job("quick").last is not None, "the job that is due")
    assert worker.stop()
    assert bench.ran == ["quick"] and bench.job("needless").last is None
    assert bench.job("quick").next_at == Daily(3).after(NOW)
    assert bench.job("needless").next_at == NOW - 1


def test_one_that_is_long_due_and_not_needed_is_not_taken_for_forgotten(bench: Bench) -> None:
    bench.make_due("needless")
    worker = JobWorker(bench.home, now=lambda: NOW + jobs.SKIP_S)
    worker.start()
    wait_until(lambda: bench.job("needless").next_at > NOW, "the job being skipped")
    assert worker.stop()
    assert bench.ran == [] and bench.job("needless").last is None
    assert bench.job("needless").next_at == NOW + jobs.SKIP_S + 60


def test_one_that_is_asked_for_runs_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_LOOK_S", 0.05)
    worker = JobWorker(bench.home, now=lambda: NOW)
    worker.start()
    with Database.open(bench.home.control_db) as db:
        assert jobs.ask(bench.home, db, "quick", by="boss@example.org", now=NOW).asked_by == "boss@example.org"
        with pytest.raises(NotFoundError, match="there are long, needless, quick"):
            jobs.ask(bench.home, db, "other", by="x", now=NOW)
    wait_until(lambda: bench.job("quick").last is not None, "the job that was asked for")
    assert worker.stop()
    last = bench.job("quick").last
    assert last is not None and (last.outcome, last.asked_by) == (Outcome.DONE, "boss@example.org")
    assert bench.ran == ["quick"]


def test_a_long_job_puts_down_its_work_and_takes_it_up_again(bench: Bench) -> None:
    bench.make_due("long")
    worker = JobWorker(bench.home, now=lambda: NOW)
    worker.start()
    wait_until(lambda: bench.ran == ["long"], "the long job")
    assert bench.job("long").running_since == NOW
    assert worker.stop()
    stopped = bench.job("long").last
    assert stopped is not None and stopped.outcome is Outcome.STOPPED
    bench.go_on.set()
    again = JobWorker(bench.home, now=lambda: NOW)
    again.start()
    wait_until(lambda: bench.ran == ["long", "long"], "the long job again")
    wait_until(lambda: bench.job("long").running_since is None, "its end")
    assert again.stop()
    last = bench.job("long").last
    assert last is not None and last.text == "went to its end"


def test_a_run_of_a_process_that_vanished_is_done_again(bench: Bench) -> None:
    bench.make_due("quick")
    with Database.open(bench.home.control_db) as db:
        job_table.claim(db, "quick", now=NOW - LEASE_S)
    worker = JobWorker(bench.home, now=lambda: NOW)
    worker.start()
    wait_until(lambda: bench.ran == ["quick"], "the job that was interrupted")
    assert worker.stop()
    with Database.open(bench.home.control_db) as db:
        assert [run.outcome for run in job_table.history(db, "quick")] == [Outcome.DONE, Outcome.INTERRUPTED]


def test_the_queue_is_private_and_holds_json(bench: Bench) -> None:
    jobs.wake(bench.home, "quick")
    assert os.stat(bench.home.jobs_db).st_mode & 0o777 == 0o600
    with sqlite3.connect(bench.home.jobs_db) as queue:
        ((data,),) = queue.execute("SELECT data FROM task").fetchall()
    assert data.startswith(b"{") and b'"quick"' in data
    queue.close()


def test_every_job_is_in_the_document() -> None:
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert listed == set(job_kinds.KINDS)
    for kind in job_kinds.KINDS.values():
        if isinstance(kind.schedule, Daily):
            assert f"| `{kind.name}` | {kind.schedule.hour:02}:{kind.schedule.minute:02} |" in text


def test_every_kind_is_complete() -> None:
    for name, kind in job_kinds.KINDS.items():
        assert name == kind.name and kind.about and str(kind.schedule)
        assert job_kinds.find(name) is kind
    with pytest.raises(NotFoundError, match="there is no job 'x'"):
        job_kinds.find("x")
