"""`pilulier jobs` and `pilulier alerts` as an operator types them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from appliance.commands import audited
from appliance.control import statistics, storms
from appliance.control.database import Database
from appliance.settings import Home
from appliance.store.upkeep.changes import SnapshotChange
from appliance.store.upkeep.storms import Storm
from tests.support.command_line import Shell, initialised
from tests.support.control_house import figures
from tests.support.dated_history import write_history

NOW = time.time() - 3600
"""The command line reads the real clock, which must agree with what is written here."""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return initialised(tmp_path / "home", capsys)


def test_a_frozen_machine_is_pruned_once_somebody_answers(shell: Shell) -> None:
    contract = shell("--json", "contract", "add", "--client", "ours", "--email", "o@x.org").document["contract"]
    machine = shell.enrolled(contract, 1)
    write_history(Home(shell.root).repository(machine.id), [int(NOW * 1000)])
    assert shell("alerts", "list").out == "Nothing is wrong.\n"
    with Database.open(Home(shell.root).control_db) as db:
        statistics.record(db, machine.id, 1, complete=True, figures=figures(), now=NOW)
        statistics.record_changes(db, machine.id, [SnapshotChange(1, 1000, 900)])
        storms.record(db, machine.id, Storm(1, 1000, 900, 0, 0))
    assert shell("jobs", "run", "alerts").code == 0
    listed = {row["kind"]: row for row in shell("--json", "alerts", "list").document}
    suspicious = listed["suspicious"]
    assert (suspicious["state"], suspicious["reason"]) == (
        "open",
        "90 % of the files of the backup before were changed or removed",
    )
    frozen = shell("repo", "prune", machine.hex)
    assert frozen.code == 4 and "acknowledge the alert first" in frozen.err
    assert "1 left alone until" in shell("--json", "jobs", "run", "prune").document["text"]
    assert shell("--json", "repo", "prune", machine.hex, "--dry-run").document["snapshots_kept"] == 1
    assert shell("alerts", "acknowledge", "x").code == 2 and shell("alerts", "acknowledge", "999").code == 1
    done = shell("--json", "alerts", "acknowledge", str(suspicious["alert"])).document
    assert done["state"] == "acknowledged" and done["acknowledged_by"] == audited.who()
    assert shell("--json", "jobs", "run", "prune").document["text"].startswith("1 machines pruned")
    assert shell("--json", "audit", "verify").document["ok"]


def test_doctor_names_a_job_that_failed(shell: Shell, tmp_path: Path) -> None:
    def told() -> dict[str, object]:
        checks = {check["check"]: check for check in json.loads(shell("--json", "doctor").out)}
        found: dict[str, object] = checks["jobs"]
        return found

    assert told() == {"check": "jobs", "ok": True, "detail": "they begin with the service"}
    (tmp_path / "disk").mkdir()
    shell("safety", "set", "--folder", str(tmp_path / "disk"))
    (tmp_path / "disk").rmdir()
    assert shell("jobs", "run", "safety").code == 1
    failed = told()
    assert failed["ok"] is False and str(failed["detail"]).startswith("safety failed: ")
    shell("safety", "set", "--folder", "")
    assert shell("jobs", "run", "safety").code == 0 and told()["ok"] is True


def test_jobs_are_listed_and_run(shell: Shell) -> None:
    listed = {job["job"]: job for job in shell("--json", "jobs", "list").document}
    assert {"prune", "scrub", "alerts", "deletions", "logs", "sessions"} <= set(listed)
    assert listed["prune"]["last"] is None and listed["prune"]["schedule"] == "daily at 00:30"
    ran = shell("--json", "jobs", "run", "sessions").document
    assert (ran["job"], ran["outcome"], ran["asked_by"]) == ("sessions", "done", audited.who())
    told = shell("jobs", "run", "logs")
    assert told.code == 0 and told.out.startswith("logs: done. 0 log lines")
    last = {job["job"]: job["last"] for job in shell("--json", "jobs", "list").document}
    assert last["sessions"]["text"] == "0 sessions were over"
    assert shell("jobs", "run", "nothing").code == 1
