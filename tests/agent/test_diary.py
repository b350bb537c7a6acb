"""What ran is kept for the people at the machine, in bounds, and how far a run is for other processes to read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent import diary, under_way
from agent.report import BackupProgress
from agent.settings import AgentHome, exclusive
from transport.errors import RefusedError


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "home")
    made.create()
    return made


def test_the_newest_comes_first_and_the_oldest_go(home: AgentHome) -> None:
    for number in range(diary.KEPT * 2):
        diary.add(home, diary.Entry(number, "backup-done", snapshot=number))
    kept = diary.entries(home)
    assert [entry.snapshot for entry in kept[:2]] == [diary.KEPT * 2 - 1, diary.KEPT * 2 - 2]
    assert diary.KEPT <= len(kept) <= diary.KEPT + diary.KEPT // 4
    assert home.diary.stat().st_mode & 0o077 == 0


def test_a_damaged_line_loses_itself_alone(home: AgentHome) -> None:
    diary.add(home, diary.Entry(1, "backup-done"))
    with open(home.diary, "ab") as file:
        file.write(b"\xff{nonsense\n")
    diary.backup_failed(home, "scheduled", RefusedError("the contract is paused"))
    assert [entry.event for entry in diary.entries(home)] == ["backup-failed", "backup-done"]
    assert diary.entries(home)[0].code == "refused"


def test_backups_that_follow_changes_are_one_entry_an_hour(home: AgentHome) -> None:
    minute = 60_000
    for number in range(90):
        level = "warning" if number == 40 else "info"
        entry = diary.Entry(
            number * minute, "backup-done", level=level, started_by=diary.CONTINUOUS, snapshot=number, bytes_sent=10
        )
        diary.add(home, entry)
    diary.add(home, diary.Entry(90 * minute, "backup-done", started_by="scheduled"))
    kept = diary.entries(home)
    assert [(entry.level, entry.times, entry.snapshot, entry.bytes_sent) for entry in kept] == [
        ("info", 1, 0, 0),
        ("info", 49, 89, 490),
        ("warning", 1, 40, 10),
        ("info", 40, 39, 400),
    ]
    assert kept[1].since_ms == 41 * minute


def test_a_full_disk_loses_the_line_and_no_more(home: AgentHome) -> None:
    home.diary.mkdir()
    diary.add(home, diary.Entry(1, "backup-done"))
    assert diary.entries(home) == []


def test_names_are_told_in_bounds() -> None:
    told = diary.named((b"/a/\xff\n%d" % number, "r" * 10_000) for number in range(1000))
    assert len(told) == diary.NAMED
    assert told[0].path.startswith("/a/\\xff")
    assert len(told[0].reason) < 1000


def test_a_run_tells_where_it_stands_while_it_holds_the_home(
    home: AgentHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_way, "EVERY_S", 0.0)
    heard: list[object] = []
    with exclusive(home, "backup"), under_way.noted(home, "backup", heard.append) as tell:
        stand = BackupProgress("sending", 3, 10, 300, 1000)
        tell(stand)
        read = msgspec.json.decode(home.under_way.read_bytes(), type=under_way.UnderWay)
        assert (read.what, read.files_done, read.bytes_total) == ("backup", 3, 1000)
        assert heard == [stand]
        seen = under_way.read_under_way(home)
        assert seen is not None and seen.bytes_done == 300
    assert not home.under_way.exists()


def test_a_run_that_was_killed_leaves_no_standing_bar(home: AgentHome) -> None:
    home.under_way.write_bytes(msgspec.json.encode(under_way.UnderWay("backup", 1, 1, 1)))
    assert under_way.read_under_way(home) is None
