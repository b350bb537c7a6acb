"""The attending thread against a real exchange: what it hears, what it says, and the trouble it survives."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import attending, journal, receiving, remote_settings
from agent.attending import Attendant
from agent.client import Client
from agent.enrolling import Enrolled, enrol, enrolled
from agent.selection import Selection
from agent.settings import AgentHome, Settings, change_settings, load_settings
from appliance.control import backup_requests, contracts, deliveries, machine_logs, machine_settings, machines
from appliance.control.backup_requests import RequestState
from appliance.control.deliveries import Chosen
from appliance.control.machine_settings import Outcome, SelectionRules, Wanted
from appliance.control.scope import EVERYTHING
from tests.support.faults import TcpProxy, wait_until
from tests.support.hand_agent import Served
from transport import messages as m
from transport.enrolment import EnrolmentCode
from transport.schedule import Schedule

NOON = Schedule.of(["12:30"])


class Books:
    """A master that writes down what it is told, and takes everything over."""

    def __init__(self, home: AgentHome) -> None:
        self.home = home
        self.heard: list[m.Attended] = []
        self.lost: list[str] = []
        self.numbers: list[int] = []
        self.lock = threading.Lock()
        self.following: float | None = 1_800_000_000.0

    def attended(self, told: m.Attended) -> None:
        self.heard.append(told)

    def out_of_reach(self, reason: str) -> None:
        self.lost.append(reason)

    def take_over(self, wanted: m.WantedSettings) -> None:
        change_settings(self.home, lambda settings: remote_settings.take_over(settings, wanted))

    def asked(self, number: int) -> m.BackupAnswer:
        self.numbers.append(number)
        return m.BackupAnswer(number, False, "not now")

    def settings(self) -> Settings:
        return load_settings(self.home)

    def next_run(self) -> float | None:
        return self.following


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("attending") / "home")
    yield served
    served.close()
    assert served.code == 0


class House:
    """An enrolled agent, its master and its attendant."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served = served
        contract = served.contract()
        token = contracts.new_token(served.db, contract, time.time()).token
        identity = served.home.load_identity().public
        code = EnrolmentCode(
            transport=[served.address], enrolment=[served.enrolment], identity=identity,
            curve_key=served.server_key, token=token,
        )  # fmt: skip
        self.home = AgentHome(folder / "agent")
        enrol(self.home, code.encode(), "PC")
        self.machine: Enrolled = enrolled(self.home)
        self.id = self.machine.settings.machine
        self.books = Books(self.home)
        self.attendant = Attendant(self.machine, self.books)

    def report(self) -> machine_settings.Report | None:
        return machine_settings.get(self.served.db, EVERYTHING, self.id).report

    def lines(self) -> list[str]:
        return [line.text for line in machine_logs.of_machine(self.served.db, self.id)]


@pytest.fixture
def house(served: Served, tmp_path: Path) -> Iterator[House]:
    house = House(served, tmp_path)
    yield house
    house.attendant.stop()


def test_it_reports_at_once_and_what_changes_when_it_is_woken(house: House) -> None:
    journal.keep(house.home, "error", "backup", "Backup failed: long ago", at_ms=1_700_000_000_000)
    house.attendant.start()
    wait_until(lambda: house.report() is not None, "a first report")
    first = house.report()
    assert first is not None and first.next_run_at == 1_800_000_000.0 and first.outcome is Outcome.NONE
    wait_until(lambda: house.lines() != [], "the line that waited")
    assert house.lines() == ["Backup failed: long ago (at 2023-11-14 22:13 UTC)"]
    change_settings(house.home, lambda settings: dataclasses.replace(settings, selection=Selection.of([b"/a", b"/b"])))
    house.attendant.wake()
    wait_until(lambda: (report := house.report()) is not None and report.includes == 2, "what was changed here")
    change_settings(house.home, lambda settings: dataclasses.replace(settings, selection=Selection.of([b"/a"])))
    house.attendant.wake()
    wait_until(lambda: (report := house.report()) is not None and report.shrunk_at is not None, "what became smaller")


def test_settings_and_requests_reach_the_master(house: House) -> None:
    rules = SelectionRules(("/srv",), ())
    machine_settings.save(house.served.db, EVERYTHING, house.id, Wanted(rules, NOON, "de"), "a@example.org", 1.0)
    backup_requests.ask(house.served.db, EVERYTHING, house.id, "a@example.org", time.time())
    house.attendant.start()
    wait_until(lambda: (report := house.report()) is not None and report.outcome is Outcome.APPLIED, "settings in use")
    assert load_settings(house.home).schedule == NOON
    assert house.books.numbers == [1] and house.books.heard[0].language == "de"

    def refused() -> bool:
        request = backup_requests.get(house.served.db, EVERYTHING, house.id, time.time())
        return request is not None and (request.state, request.reason) == (RequestState.REFUSED, "not now")

    wait_until(refused, "the answer")


def test_a_delivery_is_known_on_the_machine_without_asking(house: House) -> None:
    house.attendant.start()
    wait_until(lambda: len(house.books.heard) > 0, "a first word")
    assert receiving.waiting(house.home) == []
    deliveries.send(
        house.served.db, house.id, Chosen(), snapshot=1, snapshot_at=1.0, files=0, size_bytes=9, account_id="x",
        by="a@example.org\x1b[2J", now=time.time(),
    )  # fmt: skip

    def known() -> bool:
        house.attendant.wake()
        return receiving.waiting(house.home) != []

    wait_until(known, "the delivery")
    (offer,) = receiving.waiting(house.home)
    assert (offer.number, offer.bytes) == (1, 9) and offer.sender.isprintable()
    deliveries.answer(house.served.db, house.id, 1, accepted=False, now=time.time())

    def forgotten() -> bool:
        house.attendant.wake()
        return receiving.waiting(house.home) == []

    wait_until(forgotten, "that it waits no more")


def test_a_line_that_breaks_is_opened_again(house: House) -> None:
    with TcpProxy(house.served.address) as proxy:
        appliance = dataclasses.replace(house.machine.settings.appliance, endpoints=(proxy.address,))
        settings = dataclasses.replace(house.machine.settings, appliance=appliance)
        house.attendant = Attendant(dataclasses.replace(house.machine, settings=settings), house.books)
        house.attendant.start()
        wait_until(lambda: len(house.books.heard) > 0, "a first word")
        proxy.cut()
        house.attendant.wake()
        wait_until(lambda: len(house.books.lost) > 0, "the break")
        before = len(house.books.heard)
        house.attendant.wake()
        wait_until(lambda: len(house.books.heard) > before, "a word after it")


def test_a_revoked_machine_is_told_and_asks_rarely(house: House) -> None:
    house.attendant.start()
    wait_until(lambda: len(house.books.heard) > 0, "a first word")
    machines.revoke(house.served.db, machines.get(house.served.db, house.id))
    house.attendant.wake()
    wait_until(lambda: len(house.books.lost) > 0, "the refusal")
    assert "revoked" in house.books.lost[0]


def test_an_appliance_that_knows_no_attending_keeps_nobody_from_backing_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would say to a message that it cannot read is what this one says to a payload that does not belong."""
    real = Client.ask

    def ask(self: Client, question: m.Message, expected: type[m.Message], timeout_s: float = 60.0) -> object:
        if isinstance(question, m.Attend):
            self.channel.send(question, b"unknown")
            return self.answer(question, expected, timeout_s)
        return real(self, question, expected, timeout_s)

    monkeypatch.setattr(Client, "ask", ask)
    house.attendant.start()
    wait_until(lambda: len(house.books.heard) > 0, "a word all the same")
    assert house.books.heard[0] is attending._OLD and house.books.lost == []
