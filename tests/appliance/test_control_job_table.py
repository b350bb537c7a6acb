"""The record of jobs: one runner at a time, leases that run out, what was asked for, how runs ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import job_table
from appliance.control.database import Database
from appliance.control.job_table import LEASE_S, Outcome
from appliance.errors import ConflictError, NotFoundError

NOW = 1_800_000_000.0


@pytest.fixture
def db(tmp_path: Path) -> Database:
    made = Database.create(tmp_path / "control.db")
    job_table.know(made, "prune", NOW + 100)
    job_table.know(made, "mail", NOW)
    return made


def test_due_jobs_and_asked_for_ones(db: Database) -> None:
    assert job_table.due(db, NOW - 1) == []
    assert job_table.due(db, NOW) == ["mail"]
    job_table.ask(db, "prune", by="boss@example.org", now=NOW)
    assert job_table.due(db, NOW) == ["prune", "mail"]
    with pytest.raises(ConflictError, match="not due"):
        job_table.claim(db, "mail", only_if_due=True, now=NOW - 1)
    # Asked for again, the first request stands; known again, the time stays.
    asked = job_table.ask(db, "prune", by="other@example.org", now=NOW + 1)
    assert (asked.asked_by, asked.asked_at) == ("boss@example.org", NOW)
    job_table.know(db, "prune", NOW - 5)
    assert job_table.find(db, "prune").next_at == NOW + 100
    claim = job_table.claim(db, "prune", now=NOW + 2)
    assert job_table.due(db, NOW + 1000) == ["mail"]
    assert job_table.history(db, "prune")[0].asked_by == "boss@example.org"
    # Asked for while it runs: it runs once more.
    job_table.ask(db, "prune", by="late@example.org", now=NOW + 3)
    assert job_table.finish(db, claim, Outcome.DONE, "3 machines", next_at=NOW + 86400, now=NOW + 10)
    assert job_table.due(db, NOW + 11) == ["prune", "mail"]


def test_one_runs_it_at_a_time(db: Database, tmp_path: Path) -> None:
    claim = job_table.claim(db, "mail", now=NOW)
    with Database.open(tmp_path / "control.db") as other, pytest.raises(ConflictError, match="running already"):
        job_table.claim(other, "mail", now=NOW + LEASE_S - 1)
    assert job_table.find(db, "mail").running_since == NOW
    assert job_table.finish(db, claim, Outcome.FAILED, "no\nserver", next_at=NOW + 60, now=NOW + 5)
    found = job_table.find(db, "mail")
    assert found.running_since is None and found.next_at == NOW + 60
    assert found.last is not None and (found.last.outcome, found.last.text) == (Outcome.FAILED, "no server")


def test_a_run_whose_process_vanished_is_closed_and_done_again(db: Database) -> None:
    lost = job_table.claim(db, "mail", by="me", now=NOW)
    assert job_table.renew(db, lost, NOW + 60)
    assert job_table.reconcile(db, NOW + 60 + LEASE_S - 1) == []
    assert job_table.reconcile(db, NOW + 60 + LEASE_S) == ["mail"]
    assert "mail" in job_table.due(db, NOW + 60 + LEASE_S)
    assert job_table.history(db, "mail")[0].outcome is Outcome.INTERRUPTED
    again = job_table.claim(db, "mail", now=NOW + 1000)
    # The one that was thought dead comes back: it may neither go on nor overwrite what the other writes.
    assert not job_table.renew(db, lost, NOW + 1001)
    assert not job_table.finish(db, lost, Outcome.DONE, "late", next_at=NOW, now=NOW + 1002)
    assert job_table.finish(db, again, Outcome.DONE, "well", next_at=NOW + 5000, now=NOW + 1003)
    assert [run.text for run in job_table.history(db, "mail")] == ["well", "its process ended in the middle"]


def test_old_runs_go(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_table, "KEPT_RUNS", 4)
    for number in range(7):
        claim = job_table.claim(db, "mail", now=NOW + number)
        job_table.finish(db, claim, Outcome.DONE, str(number), next_at=NOW, now=NOW + number)
    runs = job_table.history(db, "mail", 10_000)
    assert [run.text for run in runs] == ["6", "5", "4", "3"]


def test_what_is_no_job(db: Database) -> None:
    for call in (
        lambda: job_table.ask(db, "x", by="me", now=NOW),
        lambda: job_table.claim(db, "x", now=NOW),
        lambda: job_table.find(db, "x"),
    ):
        with pytest.raises(NotFoundError, match="pilulier jobs list"):
            call()
