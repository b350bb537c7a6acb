"""What a machine tells its own people: once a streak, in their language, on a real bus, in nobody's way."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path

import pytest

from agent import canaries
from agent.notice_settings import NoticeSettings, Shown
from agent.notice_words import OTHER_REASON, REASONS, WORDS, News
from agent.notices import LATE_S, Notifier
from agent.scheduler import Clock, Ending
from agent.settings import AgentHome, Settings
from agent.state import LastRun, write_failure, write_state
from agent.system import desktop
from agent.system.desktop import Desktop, Notice, desktops, show_on
from agent.system.language import LANGUAGES
from tests.agent.test_settings import SETTINGS
from tests.support.desktop_bus import DesktopBus

NOW = 1_800_000_000.0


class Screen:
    """A notifier and what it showed."""

    def __init__(self, home: AgentHome, shown: Shown = "on", language: str = "en") -> None:
        self.home = home
        self.settings: Settings = dataclasses.replace(SETTINGS, notices=NoticeSettings(shown), language=language)
        self.seen: list[Notice] = []
        self.notifier = self.begun()

    def begun(self) -> Notifier:
        """A (new) service process."""
        return Notifier(self.home, lambda: self.settings, self.seen.append)

    def fail(self, code: str = "empty-source") -> None:
        write_failure(self.home, "words", code, int(NOW * 1000))
        self.notifier.ended(Ending.FAILED, NOW)

    @property
    def titles(self) -> list[str]:
        return [notice.title for notice in self.seen]


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "agent")
    home.create()
    return home


def test_one_notice_for_a_streak_and_one_that_all_is_well(home: AgentHome) -> None:
    screen = Screen(home)
    for _ in range(4):
        screen.fail()
    screen.notifier = screen.begun()  # a service that starts anew
    screen.fail()
    assert screen.titles == ["The backup failed"] and screen.seen[0].urgent
    assert screen.seen[0].body.startswith("A folder to back up is empty or missing")
    screen.notifier.ended(Ending.DONE, NOW + 1)
    screen.notifier.ended(Ending.DONE, NOW + 2)
    assert screen.titles[1:] == ["The backup works again"] and not screen.seen[1].urgent
    screen.fail()
    assert len(screen.seen) == 3


@pytest.mark.parametrize(("shown", "count"), [("on", 2), ("failures", 1), ("off", 0)])
def test_what_is_set(home: AgentHome, shown: Shown, count: int) -> None:
    screen = Screen(home, shown)
    screen.fail()
    screen.notifier.ended(Ending.DONE, NOW)
    assert len(screen.seen) == count


@pytest.mark.parametrize("ending", [Ending.STOPPED, Ending.BUSY, Ending.UNREACHABLE])
def test_what_is_no_news(home: AgentHome, ending: Ending) -> None:
    screen = Screen(home)
    screen.notifier.ended(ending, NOW)
    assert screen.seen == []


def test_an_appliance_out_of_reach_is_told_after_an_hour_and_is_one_streak(home: AgentHome) -> None:
    screen = Screen(home, language="fr")
    for since, away_since, late in ((NOW, NOW, LATE_S - 1), (NOW - 9 * LATE_S, NOW, 10), (NOW, NOW - 9 * LATE_S, 10)):
        screen.notifier.waiting(since, away_since, Clock(NOW + late, UTC))
    assert screen.seen == []
    for late in (LATE_S, LATE_S + 20, 3 * LATE_S):
        screen.notifier.waiting(NOW, NOW, Clock(NOW + late, UTC))
    assert screen.titles == ["La sauvegarde attend"] and "15/01/2027 à 08:00" in screen.seen[0].body
    screen.fail()
    assert len(screen.seen) == 1
    screen.notifier.ended(Ending.DONE, NOW)
    assert screen.titles[1] == "La sauvegarde fonctionne à nouveau"


def test_a_backup_by_hand_ends_a_streak(home: AgentHome) -> None:
    screen = Screen(home)
    screen.fail()
    screen.notifier.look()
    assert len(screen.seen) == 1
    write_state(home, LastRun(3, int(NOW * 1000) + 9000, "complete", 0, began_ms=int(NOW * 1000) + 5000))
    screen.notifier.look()
    screen.notifier.look()
    assert screen.titles == ["The backup failed", "The backup works again"]


def test_touched_decoys_are_told_once_whatever_else_is_quiet(home: AgentHome) -> None:
    screen = Screen(home, "failures")
    touched = canaries.Canary(b"/a/b.docx", 5, b"m", 1, "changed", 10, True)
    canaries.save(home, [touched, canaries.Canary(b"/a/c.docx", 5, b"m", 1, "untouched", 99)])
    for _ in range(2):
        screen.notifier.ended(Ending.DONE, NOW)
    assert screen.titles == ["Alert: this may be ransomware"] and screen.seen[0].urgent
    canaries.save(home, [touched, canaries.Canary(b"/a/c.docx", 5, b"m", 1, "gone", 100)])
    screen.notifier.ended(Ending.DONE, NOW)
    assert len(screen.seen) == 2


def test_every_language_says_everything() -> None:
    facts = {"reason": "R", "since": "S"}
    for language in LANGUAGES:
        assert set(WORDS[language]) == set(News) and OTHER_REASON[language]
        for title, body in WORDS[language].values():
            assert title and body.format(**facts) and "{" not in body.format(**facts)
        assert all(texts[language] for texts in REASONS.values())


# desktops


@pytest.fixture
def bus(tmp_path_factory: pytest.TempPathFactory) -> DesktopBus:
    return DesktopBus(tmp_path_factory.mktemp("bus"))


@pytest.mark.parametrize("program", ["notify-send", "busctl"])
def test_a_real_desktop_shows_it(
    bus: DesktopBus, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} here: apt-get install libnotify-bin, systemd")
    (tmp_path / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    with bus as opened:
        assert show_on(Notice("Échec « net »", "Deux lignes ;\n-x $HOME", urgent=True), [Desktop(opened.address)]) == 1
        assert show_on(Notice("Bien", "tout", urgent=False), [Desktop(opened.address)]) == 1
    urgent, normal = opened.shown
    assert (urgent.application, urgent.title, urgent.body) == ("Pilulier", "Échec « net »", "Deux lignes ;\n-x $HOME")
    assert (urgent.urgency, urgent.stays_ms) == (2, 0) and (normal.urgency, normal.stays_ms) == (1, 15_000)


def test_no_desktop_is_no_error(tmp_path: Path) -> None:
    assert show_on(Notice("a", "b"), []) == 0
    assert show_on(Notice("a", "b"), [Desktop(f"unix:path={tmp_path}/nobody")]) == 0


def test_the_second_way_is_tried_where_the_first_is_not_there() -> None:
    tried: list[str] = []

    def run(argv: Sequence[str], user: str, variables: Mapping[str, str]) -> bool:
        tried.append(f"{argv[0]} {user} {variables['DBUS_SESSION_BUS_ADDRESS']}")
        return argv[0] == "busctl"

    assert show_on(Notice("a", "b"), [Desktop("one", "anna"), Desktop("two", "bert")], run) == 2
    assert tried == ["notify-send anna one", "busctl anna one", "notify-send bert two", "busctl bert two"]


def test_whose_desktops_a_process_may_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = []
    for user in ("0", "120", str(os.getuid() or 4321), "4321", "5000"):
        folder = tmp_path / user
        folder.mkdir(exist_ok=True)
        if user != "5000" and not (folder / "bus").exists():
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(folder / "bus"))
            listeners.append(listener)
    people = {4321: "anna"}

    class Entry:
        def __init__(self, name: str) -> None:
            self.pw_name = name

    import pwd

    monkeypatch.setattr(pwd, "getpwuid", lambda number: Entry(people[number]))
    assert desktops({"DBUS_SESSION_BUS_ADDRESS": "mine"}, tmp_path, 0) == [Desktop("mine")]
    assert desktops({}, tmp_path, 0) == [Desktop(f"unix:path={tmp_path}/4321/bus", "anna")]
    assert desktops({}, tmp_path, 4321) == [Desktop(f"unix:path={tmp_path}/4321/bus")]
    assert desktops({}, tmp_path, 5000) == [] and desktops({}, tmp_path / "missing", 0) == []
    for listener in listeners:
        listener.close()


def test_a_desktop_that_cannot_be_asked_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(12, "no memory")

    monkeypatch.setattr(desktop.programs, "run", failing)
    assert show_on(Notice("a", "b"), [Desktop("x")]) == 0
