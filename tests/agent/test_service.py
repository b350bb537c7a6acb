"""The service's picture and its turns, with a fixed clock and children that end when told: nothing sleeps here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from agent import journal, remote_settings, service
from agent.bookkeeping import load_books, next_run
from agent.scheduler import Ending, Why
from agent.selection import Selection
from agent.service import Service
from agent.settings import AgentHome, change_settings, exclusive, load_settings, save_settings
from agent.state import LastRun, write_state
from agent.system.desktop import Notice
from tests.agent.test_settings import SETTINGS
from transport import messages as m
from transport.schedule import Schedule

DAY = 1_800_000_000.0 // 86400 * 86400
TOLD = m.Attended(0, 0, False, "", 0, 20)


class Child:
    """A backup that ends when the test says so."""

    def __init__(self, why: Why) -> None:
        self.why = why
        self.ending: Ending | None = None
        self.stopped = False

    def poll(self) -> Ending | None:
        return self.ending

    def stop(self) -> None:
        self.stopped = True
        self.ending = self.ending or Ending.STOPPED


class Bench:
    """A service on a home of its own, at a moment that the test chooses."""

    def __init__(self, home: AgentHome) -> None:
        self.home = home
        self.now = DAY + 8 * 3600
        self.children: list[Child] = []
        self.said = self.woken = 0
        self.holding = ""
        self.shown: list[Notice] = []
        self.zone: tzinfo = UTC
        self.service = self.begun()

    def begun(self) -> Service:
        """A (new) service process."""
        made = Service(
            self.home, now=lambda: self.now, zone=lambda: self.zone, start=self._start, said=self._say, wake=self._wake,
            holding=lambda limits: self.holding, show=self.shown.append,
        )
        made.turn()
        return made

    def _start(self, why: Why) -> Child:
        self.children.append(Child(why))
        return self.children[-1]

    def _say(self) -> None:
        self.said += 1

    def _wake(self) -> None:
        self.woken += 1

    def at(self, hour: float) -> float:
        """A turn at that hour of the day."""
        self.now = DAY + hour * 3600
        return self.service.turn()

    @property
    def whys(self) -> list[Why]:
        return [child.why for child in self.children]


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "agent")
    home.create()
    save_settings(home, dataclasses.replace(SETTINGS, schedule=Schedule.of(["12:30", "19:30"])))
    return home


@pytest.fixture
def bench(home: AgentHome) -> Bench:
    bench = Bench(home)
    bench.service.attended(TOLD)
    return bench


def test_a_run_begins_at_its_time_and_the_next_one_at_its_own(bench: Bench) -> None:
    assert bench.at(12.4) == service.CLOCK_S
    assert bench.at(12.5 - 3 / 3600) == pytest.approx(3.0)
    bench.at(12.5)
    assert bench.whys == [Why.SCHEDULED]
    bench.at(19.5)
    assert len(bench.children) == 1, "never two at a time"
    bench.children[0].ending = Ending.DONE
    bench.at(19.6)
    assert bench.whys == [Why.SCHEDULED], "what began before the evening ended after it"
    bench.at(19.6 + 24)
    assert len(bench.children) == 2


def test_the_appliance_must_be_there_and_not_paused(bench: Bench) -> None:
    bench.service.out_of_reach("cable")
    bench.at(12.6)
    bench.service.attended(msgspec.structs.replace(TOLD, paused=True))
    bench.at(12.7)
    assert bench.children == []
    woken = bench.woken
    bench.service.attended(TOLD)
    assert bench.woken > woken
    bench.at(14)
    assert bench.whys == [Why.SCHEDULED]
    bench.children[0].ending = Ending.DONE
    bench.at(15)
    assert len(bench.children) == 1


def test_the_delay_of_the_appliance_is_remembered(bench: Bench) -> None:
    bench.service.attended(msgspec.structs.replace(TOLD, spread_s=600))
    bench.at(12.5)
    assert bench.children == [] and bench.service.next_run() == DAY + 12.5 * 3600 + 600
    bench.service = bench.begun()
    assert bench.service.next_run() == DAY + 12.5 * 3600 + 600


def test_a_service_that_ends_stops_its_backup_and_owes_it_still(bench: Bench) -> None:
    bench.at(12.5)
    bench.service.close()
    assert bench.children[0].stopped
    bench.now = DAY + 15 * 3600
    bench.service = bench.begun()
    bench.service.attended(TOLD)
    bench.at(15.1)
    assert len(bench.children) == 2
    bench.children[1].ending = Ending.DONE
    bench.at(15.2)
    bench.service = bench.begun()
    bench.service.attended(TOLD)
    bench.at(19)
    assert len(bench.children) == 2


def test_killed_after_the_snapshot_stood_it_is_not_made_again(bench: Bench) -> None:
    bench.at(12.5)
    write_state(bench.home, LastRun(7, int(bench.now * 1000), "complete", walked_ms=int(bench.now * 1000)))
    bench.service = bench.begun()
    bench.service.attended(TOLD)
    bench.at(13)
    assert len(bench.children) == 1


def test_settings_of_the_appliance_count_from_now_on(bench: Bench) -> None:
    bench.at(15)
    wanted = m.WantedSettings(2, m.RemoteSelection(["/srv"], []), 2, Schedule.of(["10:00", "16:00"]), 2)
    bench.service.take_over(wanted)
    assert bench.said and bench.woken
    settings = load_settings(bench.home)
    assert settings.selection == Selection.of([b"/srv"]) and settings.remote.applied == 2
    bench.at(15.5)
    assert bench.children[1:] == [], "ten o'clock of today is not due"
    bench.children[0].ending = Ending.DONE
    bench.at(16)
    bench.at(16.01)
    assert bench.whys == [Why.MISSED, Why.SCHEDULED]


def test_a_knock_brings_in_what_was_changed_by_a_command(bench: Bench) -> None:
    change_settings(bench.home, lambda settings: remote_settings.chosen_here(settings, schedule=Schedule()))
    bench.service.reload()
    assert bench.said == 1 and bench.service.next_run() is None
    bench.at(20)
    assert bench.children == []
    bench.home.config.write_text("{")
    bench.service.reload()
    assert bench.service.settings().schedule == Schedule(), "damaged settings leave the ones that were"


def test_nothing_selected_is_nothing_due(bench: Bench) -> None:
    change_settings(bench.home, lambda settings: remote_settings.chosen_here(settings, selection=Selection()))
    bench.service.reload()
    bench.at(12.6)
    assert bench.children == [] and bench.service.next_run() is None
    answer = bench.service.asked(1)
    assert not answer.taken and answer.reason == "nothing is selected on this machine"


def test_a_backup_that_is_asked_for_begins_once(bench: Bench) -> None:
    assert bench.service.asked(1) == m.BackupAnswer(1, True, "")
    assert load_books(bench.home).owed is not None, "written before it is answered"
    bench.at(9)
    assert bench.service.asked(1).taken, "the answer was lost: the same again"
    bench.children[0].ending = Ending.DONE
    bench.at(9.1)
    bench.at(9.2)
    assert bench.whys == [Why.ASKED]


def test_what_runs_already_is_what_is_asked_for(bench: Bench) -> None:
    bench.at(12.5)
    assert bench.service.asked(1).taken
    bench.children[0].ending = Ending.DONE
    bench.at(13)
    assert len(bench.children) == 1


def test_an_owner_who_refuses_is_asked_for_nothing(bench: Bench) -> None:
    change_settings(bench.home, lambda settings: remote_settings.allowed(settings, False))
    bench.service.reload()
    answer = bench.service.asked(1)
    assert not answer.taken and "refused" in answer.reason
    bench.service.take_over(m.WantedSettings(1, None, 0, Schedule.of(["10:00"]), 1))
    assert load_settings(bench.home).remote.outcome == "refused"
    bench.at(10.1)
    assert bench.children == []


def test_a_language_is_kept(bench: Bench) -> None:
    bench.service.attended(msgspec.structs.replace(TOLD, language="de"))
    assert load_settings(bench.home).language == "de"


def test_only_a_running_service_has_a_next_run(bench: Bench) -> None:
    settings = load_settings(bench.home)
    assert next_run(bench.home, settings, bench.now, UTC) is None
    with exclusive(bench.home, "service", lock=bench.home.service_lock):
        assert next_run(bench.home, settings, bench.now, UTC) == DAY + 12.5 * 3600


def test_a_full_disk_does_not_end_the_service(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service, "save_books", full)
    bench.at(12.5)
    bench.children[0].ending = Ending.DONE
    bench.at(13)
    assert bench.whys == [Why.SCHEDULED]


def test_a_stopper_wakes_whoever_sleeps() -> None:
    woken: list[bool] = []
    stopper = service.Stopper()
    record: Callable[[], None] = lambda: woken.append(stopper.stopping())  # noqa: E731
    stopper.wake = record
    stopper.stop()
    assert woken == [True]


def test_a_run_waits_for_power_and_is_caught_up_exactly_once(bench: Bench) -> None:
    bench.holding = "the machine runs on its battery"
    for hour in (12.5, 13, 19.5, 21):
        bench.at(hour)
    assert bench.children == []
    bench.holding = ""
    bench.at(21.1)
    assert bench.whys == [Why.SCHEDULED]
    bench.children[0].ending = Ending.DONE
    for hour in (21.2, 23, 36):
        bench.at(hour)
    assert len(bench.children) == 1, "two missed times are one run"
    bench.at(36.5)
    assert bench.whys == [Why.SCHEDULED] * 2


def test_who_asks_for_a_backup_gets_it_on_battery_too(bench: Bench) -> None:
    bench.holding = "the network is metered"
    bench.at(12.5)
    assert bench.children == []
    assert bench.service.asked(1).taken
    bench.at(12.6)
    assert bench.whys == [Why.ASKED]


def test_power_is_asked_only_where_a_run_would_begin(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    bench.service._holding = lambda limits: asked.append(limits) or ""  # type: ignore[func-returns-value]
    for hour in (8, 9, 12.4):
        bench.at(hour)
    bench.service.out_of_reach("cable")
    bench.at(12.5)
    assert asked == []
    bench.service.attended(TOLD)
    bench.at(12.6)
    assert len(asked) == 1 and bench.whys == [Why.SCHEDULED]


def ticking(bench: Bench, since: float, until: float) -> None:
    """Turns as they come, 20 s apart."""
    bench.now = DAY + since * 3600
    while bench.now <= DAY + until * 3600:
        bench.service.turn()
        bench.now += service.CLOCK_S


def test_an_appliance_out_of_reach_for_an_hour_is_told_on_the_screen(bench: Bench) -> None:
    bench.service.out_of_reach("cable")
    ticking(bench, 8, 13.4)
    assert bench.shown == []
    ticking(bench, 13.4, 14)
    assert len(bench.shown) == 1
    bench.service.attended(TOLD)
    bench.at(14.01)
    bench.children[0].ending = Ending.DONE
    bench.at(14.1)
    assert len(bench.shown) == 2


def test_a_machine_that_wakes_up_gives_the_line_its_time(bench: Bench) -> None:
    bench.service.out_of_reach("cable")
    ticking(bench, 8, 8.1)
    ticking(bench, 15, 15.9)  # suspended over noon
    assert bench.shown == []
    ticking(bench, 15.9, 16.1)
    assert len(bench.shown) == 1


@pytest.mark.parametrize("years", [1, -1])
def test_a_clock_set_a_year_off_and_right_again_over_a_restart(bench: Bench, years: int) -> None:
    bench.at(12.5)
    bench.children[0].ending = Ending.DONE
    write_state(bench.home, LastRun(1, int(bench.now * 1000), "complete", 0, began_ms=int(bench.now * 1000)))
    bench.at(12.6)
    for hours in (13 + years * 8760, 13.1 + years * 8760, 13.2, 13.3):
        bench.at(hours)
        for child in bench.children:
            child.ending = Ending.DONE
        bench.at(hours + 0.01)
        bench.service = bench.begun()
        bench.service.attended(TOLD)
    before = len(bench.children)
    assert before <= 2
    bench.at(19.5)
    bench.children[-1].ending = Ending.DONE
    bench.at(19.6)
    bench.at(24 + 12.4)
    assert len(bench.children) == before + 1 and bench.whys[-1] is Why.SCHEDULED


def test_a_zone_that_changes_under_a_running_service(bench: Bench) -> None:
    bench.at(11)
    bench.zone = ZoneInfo("America/Martinique")  # four hours behind UTC: noon is four hours away again
    bench.at(12.5)
    bench.at(16.4)
    assert bench.children == []
    bench.at(16.5)
    assert bench.whys == [Why.SCHEDULED]
    bench.children[0].ending = Ending.DONE
    bench.zone = UTC
    bench.at(17)
    bench.at(19.4)
    assert len(bench.children) == 1


def test_a_clock_far_off_the_appliances_is_told_once_and_stops_nothing(bench: Bench) -> None:
    def lines() -> list[str]:
        return [line.text for line in journal._waiting(bench.home)]

    wrong = msgspec.structs.replace(TOLD, now_ms=int((bench.now - 3600) * 1000))
    for _ in range(3):
        bench.service.attended(wrong)
    assert lines() == ["The machine's clock is wrong"]
    bench.at(12.5)
    assert bench.whys == [Why.SCHEDULED]
    bench.service.attended(msgspec.structs.replace(TOLD, now_ms=int((bench.now + 60) * 1000)))
    assert lines()[1:] == ["The machine's clock is right again"]
    bench.service.attended(TOLD)
    assert len(lines()) == 2, "an appliance that does not tell says nothing of it"
