"""`pilulier repo prune`, `hold` and `release`, as people and programs see them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.control import clock, passwords
from appliance.control.clock import Reading
from appliance.control.database import Database
from appliance.settings import Home
from tests.support.command_line import Shell, initialised
from tests.support.dated_history import write_history

DAY_MS = 86_400_000


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A home with contract A and its machine PC-1."""
    monkeypatch.setattr(passwords, "_N", 2)
    shell = initialised(tmp_path / "home", capsys)
    assert shell("contract", "add", "--client", "A", "--email", "a@x.org", "--keep-days", "10").code == 0
    return shell


@pytest.fixture
def history(shell: Shell) -> Callable[..., None]:
    """Writes PC-1's snapshots, so many days ago each."""
    machine = shell.enrolled("A", 1)

    def write(*days_ago: float, size_bytes: int = 100) -> None:
        # Noon of this day by UTC, so that the days are what they seem whenever this runs.
        noon = int(time.time() * 1000) // DAY_MS * DAY_MS - DAY_MS // 2
        moments = [int(noon - days * DAY_MS) for days in days_ago]
        write_history(Home(shell.root).repository(machine.id), moments, size_bytes=size_bytes)

    return write


def test_a_dry_run_prints_a_reason_for_each(shell: Shell, history: Callable[..., None]) -> None:
    history(30, 20, *range(9, 0, -1))
    document = shell("--json", "repo", "prune", "PC-1", "--dry-run").document
    assert {name: document[name] for name in ("snapshots_kept", "snapshots_dropped", "bytes_freed", "dry_run")} == {
        "snapshots_kept": 9,
        "snapshots_dropped": 2,
        "bytes_freed": 0,
        "dry_run": True,
    }
    assert [(one["snapshot"], one["action"]) for one in document["reasons"]] == [
        (number, "drop" if number <= 2 else "keep") for number in range(1, 12)
    ]
    assert document["reasons"][0]["reason"] == "older than 10 days"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT12:00:00Z", document["reasons"][0]["time"])
    people = shell("repo", "prune", "PC-1", "--dry-run").out
    assert re.search(r"1 +\d{4}-\d\d-\d\d \d\d:\d\d +drop +older than 10 days", people)
    assert re.search(r"11 +\d{4}-\d\d-\d\d \d\d:\d\d +keep +the newest", people)
    assert people.rstrip().endswith("9 snapshots would be kept, 2 dropped.")


def test_fewer_days_stop_at_the_floor(shell: Shell, history: Callable[..., None]) -> None:
    history(*range(9, 0, -1))
    document = shell("--json", "repo", "prune", "PC-1", "--keep-days", "0", "--dry-run").document
    assert (document["snapshots_kept"], document["keep_days"], document["floor_days"]) == (7, 0, 7)
    for words in (["--keep-days", "few"], ["--keep-days", "-1"], ["--keep-days", "50000"]):
        refused = shell("repo", "prune", "PC-1", "--dry-run", *words)
        assert refused.code == 2 and "--keep-days" in refused.sentence


def test_hold_and_release(shell: Shell, history: Callable[..., None]) -> None:
    history(30, 20, *range(9, 0, -1))
    held = shell("--json", "repo", "hold", "PC-1", "1", "--reason", "trial").document
    assert (held["snapshot"], held["held"], held["reason"]) == (1, True, "trial") and held["by"]
    document = shell("--json", "repo", "prune", "PC-1", "--dry-run").document
    assert document["reasons"][0]["reason"] == "held by an operator" and document["snapshots_dropped"] == 1
    assert shell("--json", "repo", "release", "PC-1", "1").document["held"] is False
    assert shell("--json", "repo", "prune", "PC-1", "--dry-run").document["snapshots_dropped"] == 2
    again = shell("repo", "release", "PC-1", "1")
    assert again.code == 1 and "snapshot 1 is not held" in again.sentence
    for number, code in (("12", 1), ("x", 2), ("0", 1)):
        refused = shell("repo", "hold", "PC-1", number, "--reason", "trial")
        assert refused.code == code and "snapshot" in refused.sentence
    assert shell("repo", "hold", "PC-1", "1").code == 2


def test_a_clock_that_looks_wrong_prunes_nothing_and_says_so(shell: Shell, history: Callable[..., None]) -> None:
    history(100, *range(9, 0, -1))
    with Database.open(Home(shell.root).control_db) as db:
        clock.note(db, Reading(time.time() - 50 * 86400, "another boot", 1.0))
    for words in ([], ["--dry-run"]):
        answer = shell("--json", "repo", "prune", "PC-1", *words)
        document = json.loads(answer.out)
        assert answer.code == 1 and document["snapshots_dropped"] == 0
        assert "days further than the appliance can account for" in document["alarm"]
        assert "nothing is dropped, because the clock says" in answer.err and "--accept-clock" in answer.err
    dry = shell("--json", "repo", "prune", "PC-1", "--dry-run", "--accept-clock").document
    assert dry["snapshots_dropped"] == 1 and dry["alarm"] is None


def test_what_is_dropped_and_not_freed_yet_is_told(shell: Shell, history: Callable[..., None]) -> None:
    history(*range(14, 0, -1), size_bytes=40_000)
    out = shell("repo", "prune", "PC-1").out
    assert "dropped, 0 B freed." in out
    assert re.search(r"[\d.]+ kB that nothing needs stay in packs that are not worth writing anew yet", out)


def test_nothing_there_yet(shell: Shell, history: Callable[..., None]) -> None:
    missing = shell("repo", "prune", "PC-1")
    assert missing.code == 1 and "wait for the first backup of PC-1" in missing.sentence
    history()
    assert "There is no snapshot yet." in shell("repo", "prune", "PC-1", "--dry-run").out
    unknown = shell("repo", "prune", "PC-9")
    assert unknown.code == 1 and "there is no machine 'PC-9'" in unknown.sentence


def test_pruning_frees_what_the_dry_run_named(shell: Shell, history: Callable[..., None]) -> None:
    history(*range(40, 20, -1), *range(9, 0, -1), size_bytes=50_000)
    planned = shell("--json", "repo", "prune", "PC-1", "--dry-run").document
    done = shell("--json", "repo", "prune", "PC-1").document
    assert done["reasons"] == planned["reasons"]
    assert done["bytes_freed"] >= 19 * 50_000 and done["dry_run"] is False
    assert shell("--json", "repo", "stats", "PC-1").document["snapshots"] == 9
    again = shell("repo", "prune", "PC-1")
    assert again.code == 0 and "9 snapshots kept, 0 dropped" in again.out
    late = shell("repo", "hold", "PC-1", "1", "--reason", "trial")
    assert late.code == 1 and "no snapshot 1 (any more)" in late.sentence
