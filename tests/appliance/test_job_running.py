"""One job run to its end: whatever happens in it is its outcome, and decides when it is due again."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import job_table
from appliance.control.database import Database
from appliance.control.job_table import Outcome
from appliance.errors import ConflictError, NotFoundError
from appliance.job_running import (
    RETRY_S,
    JobContext,
    JobKind,
    JobReport,
    JobStoppedError,
    Stopping,
    run_job,
)
from appliance.schedules import Every
from appliance.settings import Home

NOW = 1_800_000_000.0
WEEK = Every(7 * 86400.0)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    Database.create(tmp_path / "control.db").close()
    return Home(tmp_path)


def job(home: Home, name: str) -> job_table.Job:
    with Database.open(home.control_db) as db:
        return job_table.find(db, name)


def test_done_and_with_warnings(home: Home) -> None:
    for report, outcome, due in (
        (JobReport("all well"), Outcome.DONE, NOW + WEEK.seconds),
        (JobReport("one was busy", warnings=True, again_s=600), Outcome.WARNINGS, NOW + 600),
    ):

        def give(_: JobContext, report: JobReport = report) -> JobReport:
            return report

        run = run_job(home, JobKind("x", WEEK, "", give), by="me", now=lambda: NOW)
        assert (run.outcome, run.text, run.asked_by, run.ended_at) == (outcome, report.text, "me", NOW)
        assert job(home, "x").next_at == due


def test_errors_are_outcomes_and_are_tried_again_within_the_hour(home: Home) -> None:
    def refused(_: JobContext) -> JobReport:
        raise NotFoundError("there is no disk: mount it")

    def broken(_: JobContext) -> JobReport:
        raise KeyError("x")

    assert run_job(home, JobKind("x", WEEK, "", refused), now=lambda: NOW).text == "there is no disk: mount it"
    run = run_job(home, JobKind("x", WEEK, "", broken), now=lambda: NOW)
    assert (run.outcome, run.text) == (Outcome.FAILED, "something unforeseen went wrong (KeyError): see the log")
    assert job(home, "x").next_at == NOW + RETRY_S


def test_a_job_that_is_stopped_is_due_at_once(home: Home) -> None:
    stopping = Stopping()
    stopping.set()

    def long(context: JobContext) -> JobReport:
        context.stopping.pause(60)
        return JobReport("not reached")

    run = run_job(home, JobKind("x", WEEK, "", long), now=lambda: NOW, stopping=stopping)
    assert run.outcome is Outcome.STOPPED and job(home, "x").next_at == NOW


def test_a_job_runs_once_at_a_time(home: Home) -> None:
    def again(_: JobContext) -> JobReport:
        with pytest.raises(ConflictError):
            run_job(home, kind, now=lambda: NOW)
        return JobReport("once")

    kind = JobKind("x", WEEK, "", again)
    assert run_job(home, kind, now=lambda: NOW).text == "once"


def test_the_lease_is_renewed_and_its_loss_stops_the_job(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_table, "RENEW_S", 0.0)
    monkeypatch.setattr("appliance.job_running._LOOK_S", 0.01)

    def robbed(context: JobContext) -> JobReport:
        with Database.open(home.control_db) as other:
            assert job_table.reconcile(other, NOW + 10 * job_table.LEASE_S) == ["x"]
        with pytest.raises(JobStoppedError):
            context.stopping.pause(60)
        return JobReport("gave up")

    run = run_job(home, JobKind("x", WEEK, "", robbed), now=lambda: NOW)
    assert run.outcome is Outcome.INTERRUPTED and job(home, "x").next_at <= NOW + 60
