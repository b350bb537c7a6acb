"""What the appliance is told of a machine's settings, and what of an error may leave the machine."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import msgspec
import pytest

from agent import journal
from agent.client import ApplianceFailed, ApplianceRefused
from agent.errors import BackupInterrupted, EmptySourceError, LedgerError
from agent.report import progression, size_text
from agent.reporting import Reported, last_reported, report_of
from agent.selection import Selection
from agent.settings import AgentHome, RemoteState
from tests.agent.test_settings import SETTINGS
from transport.errors import KeyFileError, ProtocolError, UnreachableError

SECRET = "/home/durand/ordonnances"


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "agent")
    home.create()
    return home


def reported(selection: Selection) -> Reported:
    settings = dataclasses.replace(SETTINGS, selection=selection)
    return Reported(report_of(settings, None, None), list(selection.include), list(selection.exclude))


def test_of_a_selection_only_digest_and_counts_leave_the_machine() -> None:
    settings = dataclasses.replace(
        SETTINGS,
        selection=Selection.of([SECRET.encode(), b"/srv"], [b"*.secret"]),
        remote=RemoteState(answered=4, applied=4, outcome="applied", schedule_version=4),
    )
    report = report_of(settings, 1_800_000_000.5, None)
    assert (report.includes, report.excludes, report.selection) == (2, 1, settings.selection.digest())
    assert (report.version, report.schedule_version, report.selection_version) == (4, 4, 0)
    assert (report.next_run_ms, report.shrunk) == (1_800_000_000_500, False)
    said = msgspec.msgpack.encode(report)
    assert b"durand" not in said and b"secret" not in said


def test_smaller_than_what_was_reported_last() -> None:
    before = reported(Selection.of([b"/a", b"/b"]))
    for include, expected in (([b"/a", b"/b", b"/c"], False), ([b"/"], False), ([b"/a"], True), ([], True)):
        settings = dataclasses.replace(SETTINGS, selection=Selection.of(include))
        assert report_of(settings, None, before).shrunk is expected


def test_what_was_reported_is_read_back_or_not_known(home: AgentHome) -> None:
    assert last_reported(home) is None
    known = reported(Selection.of([b"/a\xff"], [b"*.tmp"]))
    home.reported.write_bytes(msgspec.json.encode(known))
    assert last_reported(home) == known
    for damaged in (b"", b"{", b"\xff", b'{"report": 1}'):
        home.reported.write_bytes(damaged)
        assert last_reported(home) is None


@pytest.mark.parametrize(
    "error",
    [
        EmptySourceError(f"{SECRET} is empty"),
        LedgerError(f"{SECRET}/ledger.db cannot be written"),
        BackupInterrupted(f"broke {SECRET}"),
        UnreachableError(f"nobody at {SECRET}"),
        KeyFileError(f"{SECRET} is damaged"),
        ProtocolError(SECRET),
        OSError(errno.ENOSPC, "No space left on device", SECRET),
        OSError(SECRET),
        ValueError(SECRET),
        KeyboardInterrupt(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_reason_names_a_path(error: BaseException) -> None:
    reason = journal.reason_of(error)
    assert len(reason) > 15 and SECRET not in reason and "durand" not in reason


def test_what_the_appliance_said_may_be_said_to_it() -> None:
    for error in (ApplianceRefused("paused", "contract x is paused"), ApplianceFailed("store", "the disk is full")):
        assert journal.reason_of(error) == str(error)
    assert "No space left" in journal.reason_of(OSError(errno.ENOSPC, "x", SECRET))


def test_lines_wait_bounded_and_survive_damage(home: AgentHome) -> None:
    for number in range(journal.KEPT_LINES + 50):
        journal.keep(home, "error", "backup", f"line {number}", at_ms=number)
    waiting = journal._waiting(home)
    assert len(waiting) == journal.KEPT_LINES and waiting[-1].text == f"line {journal.KEPT_LINES + 49}"
    home.unsent.write_bytes(home.unsent.read_bytes()[:-5] + b"\n\xff\xfe\n")
    assert len(journal._waiting(home)) == journal.KEPT_LINES - 1
    journal.keep(home, "info", "x", "y" * 1000)
    assert len(journal._waiting(home)[-1].text) == 450


def test_progress_as_people_read_it() -> None:
    assert progression(28_933, 3_000_000_000, 3_000_000_000) == "Progression : 28 933 files 100 % – 3.0 GB/3.0 GB"
    assert progression(1_234_567, 1_499, 3_000) == "Progression : 1 234 567 files 49 % – 1.5 kB/3.0 kB"
    assert progression(12, 5, 0) == "Progression : 12 files – 5 B"
    assert progression(12, 9, 5).startswith("Progression : 12 files 100 % – 9 B/5 B")
    sizes = (0, 999, 1000, 999_949, 999_950, 5 * 10**9, 10**12, 10**16)
    assert [size_text(size) for size in sizes] == [
        *("0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "5.0 GB", "1.0 TB", "10000.0 TB"),
    ]
