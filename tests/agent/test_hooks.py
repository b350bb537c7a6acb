"""Hooks: their order, their end in any case, what is kept of their words, and who may set them (nobody far away)."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from agent import hooks as around
from agent.errors import HookFailed
from agent.report import BackupReport, Warned
from agent.settings import AgentHome
from agent.sources.configured import Hook, Hooks
from agent.system import programs
from tests.support.faults import wait_until
from transport.errors import UsageError


def report(warnings: tuple[Warned, ...] = ()) -> BackupReport:
    """Of a backup that went well, but for the warnings."""
    return BackupReport(7, "complete", 1, 1, 0, 0, 0, 0, 10, 10, 10, 10, 1.0, False, 0, 0, warnings)


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "home")
    home.create()
    return home


def script(folder: Path, text: str, name: str = "hook.sh") -> str:
    """A program that only its owner may change."""
    folder.chmod(0o755)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_both_run_in_order_and_the_last_is_told_the_outcome(home: AgentHome, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    words = "$1 $PILULIER_HOOK $PILULIER_OUTCOME $PILULIER_SNAPSHOT $PILULIER_WARNINGS"
    tell = script(tmp_path, f'echo "{words}" >> {seen}')
    hooks = Hooks((Hook((tell, "one")), Hook((tell, "two"))), (Hook((tell, "three")),))

    def backup(warnings: tuple[Warned, ...]) -> BackupReport:
        with seen.open("a") as file:
            file.write(f"backup {len(warnings)}\n")
        return report((Warned(b"/a", "torn"),))

    done = around.run_around(home, hooks, "manual", backup)
    assert seen.read_text().splitlines() == ["one before   ", "two before   ", "backup 0", "three after warnings 7 1"]
    assert len(done.warnings) == 1
    assert [(run.when, run.code) for run in around.last_runs(home)] == [("after", 0), ("before", 0), ("before", 0)]


def test_a_failing_hook_is_a_warning_and_its_words_stay_here(home: AgentHome, tmp_path: Path) -> None:
    fails = script(tmp_path, "echo secret of the pharmacy; exit 9")
    hooks = Hooks((Hook((fails,)),), (Hook((fails,)),))
    done = around.run_around(home, hooks, "manual", report)
    assert [w.path for w in done.warnings] == [f"{when}-hook {fails}".encode() for when in ("before", "after")]
    assert "ended with code 9" in done.warnings[0].reason and "the backup went on" in done.warnings[0].reason
    assert around.last_runs(home)[0].output == "secret of the pharmacy\n"
    assert stat.S_IMODE(home.hook_runs.stat().st_mode) == 0o600
    waiting = home.unsent.read_text()
    assert "Before-hook 1 failed" in waiting and "After-hook 1 failed" in waiting
    assert "secret" not in waiting and str(tmp_path) not in waiting


def test_a_required_hook_that_fails_is_the_end_and_the_after_hook_hears_of_it(home: AgentHome, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    tell = script(tmp_path, f'echo "$PILULIER_OUTCOME $PILULIER_REASON" >> {seen}', "tell.sh")
    hooks = Hooks((Hook(("/bin/false",), required=True),), (Hook((tell,)),))

    def never(_: tuple[Warned, ...]) -> BackupReport:
        raise AssertionError("the backup must not begin")

    with pytest.raises(HookFailed, match="/bin/false ended with code 1, and the backup requires it"):
        around.run_around(home, hooks, "manual", never)
    assert seen.read_text() == "failed hook\n"

    def stopped(_: tuple[Warned, ...]) -> BackupReport:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        around.run_around(home, Hooks((), hooks.after), "manual", stopped)
    assert seen.read_text() == "failed hook\nfailed stopped\n"


def test_a_hook_that_goes_on_too_long_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    child = tmp_path / "child"
    stubborn = script(tmp_path, f"trap '' TERM; sleep 600 & echo $! > {child}; echo begun; wait; wait")
    process = programs.start([stubborn], stderr=subprocess.STDOUT)
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100) == b"begun\n"
    programs.kill(process, grace_s=0.1)
    assert process.returncode == -signal.SIGKILL
    # Killed with its parent; that the kernel is through with it may come a moment later.
    wait_until(lambda: not _alive(int(child.read_text())), "the end of what the hook started")
    ended = programs.run([stubborn], timeout_s=0.05, grace_s=0.1)
    assert ended.timed_out and not ended.well


def _alive(pid: int) -> bool:
    """Whether a process of ours runs; a zombie that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has programs that others could exchange")
def test_no_folder_above_a_program_belongs_to_others_and_a_link_is_followed_once(tmp_path: Path) -> None:
    program = script(tmp_path, "exit 0")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    link = theirs / "hook"
    link.symlink_to(program)
    os.chown(theirs, 1000, 1000)
    assert around.checked([str(link)]) == (str(link),), "what runs is the file behind it, which is root's"
    below = theirs / "below"
    below.mkdir()
    inside = below / "hook"
    inside.write_text("#!/bin/sh\nexit 0\n")
    inside.chmod(0o755)
    with pytest.raises(UsageError, match="above .* belongs to another user"):
        around.checked([str(inside)])
    os.chmod(program, 0o1777)
    with pytest.raises(UsageError, match="can be written by other users"):
        around.checked([program])


def test_only_the_last_words_are_kept(tmp_path: Path) -> None:
    loud = script(tmp_path, "head -c 4000000 /dev/zero | tr '\\0' x; echo end")
    ended = programs.run([loud], timeout_s=60)
    assert ended.well and len(ended.output) == programs.OUTPUT_BYTES and ended.output.endswith(b"xend\n")


def test_no_shell_reads_the_arguments(home: AgentHome, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    tell = script(tmp_path, f'printf "%s|" "$@" > {seen}')
    around.run_around(home, Hooks((Hook((tell, "a b", "$(id)", ";rm", "*")),)), "manual", report)
    assert seen.read_text() == "a b|$(id)|;rm|*|"


def test_a_program_that_others_may_write_is_refused_at_any_time(home: AgentHome, tmp_path: Path) -> None:
    program = script(tmp_path, "exit 0")
    assert around.checked([program, "x"]) == (program, "x")
    for command, why in ((["hook.sh"], "whole path"), ([str(tmp_path / "none")], "cannot be used"), ([], "command")):
        with pytest.raises(UsageError, match=why):
            around.checked(command)
    os.chmod(program, 0o777)
    with pytest.raises(UsageError, match="can be written by other users"):
        around.checked([program])
    done = around.run_around(home, Hooks((Hook((program,)),)), "manual", report)
    assert "can be written by other users" in done.warnings[0].reason
    os.chmod(program, 0o755)
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="the folder of"):
        around.checked([program])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_hook_runs_as_the_user_it_names(home: AgentHome) -> None:
    around.run_around(home, Hooks((Hook(("/usr/bin/id", "-un"), run_as="nobody"),)), "manual", report)
    assert around.last_runs(home)[0].output == "nobody\n"
    done = around.run_around(home, Hooks((Hook(("/usr/bin/id",), run_as="no-such-user"),)), "manual", report)
    assert "there is no user" in done.warnings[0].reason


def test_hooks_are_numbered_in_the_order_of_running() -> None:
    hooks = Hooks((Hook(("/a",)), Hook(("/b",))), (Hook(("/c",)),))
    assert [hook.command[0] for _, hook in hooks.without(2).numbered()] == ["/a", "/c"]
    assert [hook.command[0] for _, hook in hooks.without(3).numbered()] == ["/a", "/b"]
    for number in (0, 4):
        with pytest.raises(UsageError, match="no hook"):
            hooks.without(number)
