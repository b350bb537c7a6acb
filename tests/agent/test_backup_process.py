"""Backups as children: how each ending is read, and that an end that is asked for comes."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import pytest

from agent import backup_process, journal
from agent.backup_process import BackupProcess, command
from agent.scheduler import Ending, Why
from agent.settings import AgentHome
from agent.state import write_failure
from tests.support.faults import wait_until

REPORT = '{"snapshot": 4, "files_total": 9, "bytes_sent": 77, "warnings": []}'


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "agent")
    home.create()
    return home


def child(home: AgentHome, monkeypatch: pytest.MonkeyPatch, code: str) -> tuple[BackupProcess, threading.Event]:
    """A child that runs this instead of a backup."""
    monkeypatch.setattr(backup_process, "command", lambda *_: [sys.executable, "-c", code])
    told = threading.Event()
    return BackupProcess(home, Why.SCHEDULED, told.set), told


def ending(home: AgentHome, monkeypatch: pytest.MonkeyPatch, code: str) -> Ending | None:
    process, told = child(home, monkeypatch, code)
    assert told.wait(60)
    return process.poll()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"print('''{REPORT}''')", Ending.DONE),
        ("import sys; sys.exit(3)", Ending.DONE),
        ("import sys; sys.exit(5)", Ending.UNREACHABLE),
        ("import sys; sys.exit('why it failed')", Ending.FAILED),
        ("import sys; sys.exit(4)", Ending.FAILED),
        ("import sys; sys.exit(2)", Ending.FAILED),
        ("import sys; print('x' * 3000000); print('y' * 3000000, file=sys.stderr)", Ending.DONE),
    ],
)
def test_exit_codes(home: AgentHome, monkeypatch: pytest.MonkeyPatch, code: str, expected: Ending) -> None:
    assert ending(home, monkeypatch, code) is expected
    assert journal._waiting(home) == [], "a child that ends by itself tells its own story"


def test_what_it_said_stands_in_the_services_log(
    home: AgentHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ending(home, monkeypatch, f"print('''{REPORT}''')")
        ending(home, monkeypatch, "import sys; sys.exit('pilulier-agent: no disk')")
    assert "backup done: snapshot 4, 9 files, 77 bytes sent, 0 warnings" in caplog.text
    assert "backup failed (exit code 1): pilulier-agent: no disk" in caplog.text


def test_another_run_that_went_on_is_no_failure(home: AgentHome, monkeypatch: pytest.MonkeyPatch) -> None:
    write_failure(home, "a backup is going on", "busy", 1)
    assert ending(home, monkeypatch, "import sys; sys.exit(4)") is Ending.BUSY


def test_a_child_that_was_killed_could_not_say_so(home: AgentHome, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ending(home, monkeypatch, "import os; os.kill(os.getpid(), 9)") is Ending.FAILED
    [line] = journal._waiting(home)
    assert line.level == "error" and "ended from outside (-9)" in line.text


def test_an_end_that_is_asked_for(home: AgentHome, monkeypatch: pytest.MonkeyPatch) -> None:
    process, _ = child(home, monkeypatch, "import time; time.sleep(600)")
    assert process.poll() is None and process.pid > 0
    process.stop()
    assert process.poll() is Ending.STOPPED and journal._waiting(home) == []


def test_a_child_that_does_not_listen_is_killed(home: AgentHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_process, "END_S", 0.2)
    deaf = home.path / "deaf"
    code = f"import pathlib, signal, time; signal.signal(15, signal.SIG_IGN); pathlib.Path({str(deaf)!r}).touch()"
    process, told = child(home, monkeypatch, code + "; time.sleep(600)")
    wait_until(deaf.exists, "a deaf child")
    process.stop()
    assert told.wait(60) and process.poll() is Ending.STOPPED


def test_one_that_was_done_before_the_end_was_asked_for_is_done(
    home: AgentHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, told = child(home, monkeypatch, "pass")
    assert told.wait(60)
    process.stop()
    assert process.poll() is Ending.DONE


def test_it_is_the_command_of_this_very_program(home: AgentHome) -> None:
    words = command(home, Why.MISSED)
    assert words[0] == sys.executable and (Path(words[3]) / "agent" / "cli.py").is_file()
    assert words[4:] == ["--home", str(home.path), "--json", "backup", "--started-by", "missed"]
