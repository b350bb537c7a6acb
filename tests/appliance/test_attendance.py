"""Agents that wait between backups: what they are told, what is kept of their word, and that it is theirs alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from appliance import attendance
from appliance.control import backup_requests, contracts, machine_logs, machine_settings, machines
from appliance.control.backup_requests import EXPIRES_S, RequestState
from appliance.control.machine_settings import MachineSettings, SelectionRules, Sync, Wanted
from appliance.control.scope import EVERYTHING
from tests.support.faults import wait_until
from tests.support.hand_agent import Connection, HandAgent, Served
from transport import messages as m
from transport.names import InstallationId, random_id
from transport.schedule import Schedule

NOON = Schedule.of(["12:30"])
RULES = SelectionRules(("/srv/pharmacie",), ("*.tmp",))
REPORT = m.SettingsReport(0, "none", "", True, Schedule(), 0, "fr", b"d" * 32, 0, 1, 2, False, 0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("attendance") / "home")
    yield served
    served.close()
    assert served.code == 0


@pytest.fixture
def agent(served: Served) -> Iterator[HandAgent]:
    agent = served.machine()
    yield agent
    agent.close()


def save(agent: HandAgent, wanted: Wanted) -> MachineSettings:
    return machine_settings.save(agent.served.db, EVERYTHING, agent.machine, wanted, "a@example.org", time.time())


def settings(agent: HandAgent) -> MachineSettings:
    return machine_settings.get(agent.served.db, EVERYTHING, agent.machine)


def attend(connection: Connection) -> m.Attended:
    """The answer without its time, which is the present one."""
    told = connection.ask(m.Attend(), m.Attended)
    assert abs(told.now_ms / 1000 - time.time()) < 60
    return msgspec.structs.replace(told, now_ms=0)


def soon(connection: Connection, expected: Callable[[m.Attended], bool]) -> m.Attended:
    """The answer that is expected, once the exchange has looked at the database again: half a second at most."""
    wait_until(lambda: expected(attend(connection)), "the expected answer")
    return attend(connection)


def test_nothing_is_wanted_of_a_new_machine(agent: HandAgent) -> None:
    connection = agent.connect()
    assert attend(connection) == m.Attended(0, 0, False, "", 0, attendance.AGAIN_S)
    assert connection.ask(m.SettingsQuery(), m.WantedSettings) == m.WantedSettings(0, None, 0, None, 0)


def test_a_change_is_told_at_the_next_question_and_only_to_its_machine(served: Served, agent: HandAgent) -> None:
    other = served.machine()
    connection, neighbour = agent.connect(), other.connect()
    attend(connection)
    save(agent, Wanted(RULES, NOON, "de"))
    assert soon(connection, lambda told: told.settings == 1).language == "de"
    wanted = connection.ask(m.SettingsQuery(), m.WantedSettings)
    assert wanted == m.WantedSettings(1, m.RemoteSelection(["/srv/pharmacie"], ["*.tmp"]), 1, NOON, 1)
    assert attend(neighbour).settings == 0
    assert neighbour.ask(m.SettingsQuery(), m.WantedSettings).selection is None
    neighbour.ask(msgspec.structs.replace(REPORT, version=1, outcome="applied"), m.Noted)
    assert settings(agent).report is None and settings(agent).sync is Sync.WAITING
    other.close()


def test_what_became_of_it_is_kept_and_logged(served: Served, agent: HandAgent) -> None:
    connection = agent.connect()
    save(agent, Wanted(RULES, NOON))
    connection.ask(REPORT, m.Noted)
    applied = msgspec.structs.replace(
        REPORT, version=1, outcome="applied", schedule=NOON, schedule_version=1, selection=b"e" * 32, shrunk=True,
        selection_version=1, next_run_ms=1_800_000_000_000,
    )  # fmt: skip
    connection.ask(applied, m.Noted)
    connection.ask(msgspec.structs.replace(applied, shrunk=False, remote_allowed=False), m.Noted)
    report = settings(agent).report
    assert report is not None and report.shrunk_at is not None and report.next_run_at == 1_800_000_000.0
    assert (report.schedule, report.selection, report.remote_allowed) == (NOON, "65" * 32, False)
    lines = [(line.level, line.text) for line in machine_logs.of_machine(served.db, agent.machine)]
    assert lines == [
        ("warning", "What is backed up was made smaller: now 1 included path, 2 exclusions"),
        ("info", "Settings 1 from the appliance are in use"),
        ("info", "The machine's owner refuses settings from here"),
    ]


def test_a_backup_is_asked_for_and_answered_once(served: Served, agent: HandAgent) -> None:
    connection = agent.connect()

    def state() -> RequestState | None:
        request = backup_requests.get(served.db, EVERYTHING, agent.machine, time.time())
        return request.state if request else None

    backup_requests.ask(served.db, EVERYTHING, agent.machine, "a@example.org", time.time())
    assert attend(connection).backup == 1
    connection.ask(m.BackupAnswer(7, True, ""), m.Noted)
    assert state() is RequestState.WAITING
    connection.ask(m.BackupAnswer(1, True, ""), m.Noted)
    assert state() is RequestState.TAKEN
    soon(connection, lambda told: told.backup == 0)


def test_a_paused_contract_asks_for_nothing(served: Served, agent: HandAgent) -> None:
    connection = agent.connect()
    backup_requests.ask(served.db, EVERYTHING, agent.machine, "a@example.org", time.time())
    contracts.pause(served.db, agent.contract)
    told = attend(connection)
    assert (told.backup, told.paused) == (0, True)


def test_what_waited_too_long_is_not_told(served: Served, agent: HandAgent) -> None:
    connection = agent.connect()
    backup_requests.ask(served.db, EVERYTHING, agent.machine, "a@example.org", time.time() - EXPIRES_S - 60)
    assert attend(connection).backup == 0


def test_a_copy_of_the_machine_learns_and_tells_nothing(served: Served, agent: HandAgent) -> None:
    save(agent, Wanted(RULES))
    backup_requests.ask(served.db, EVERYTHING, agent.machine, "a@example.org", time.time())
    mine = agent.installation
    agent.installation = InstallationId(random_id())
    for message in (m.Attend(), m.SettingsQuery(), REPORT, m.BackupAnswer(1, False, "")):
        assert agent.connect().refused(message) == "installation"
    agent.installation = mine
    assert attend(agent.connect()).backup == 1 and settings(agent).report is None


def test_a_revoked_machine_is_cut_off_while_it_waits(served: Served, agent: HandAgent) -> None:
    connection = agent.connect()
    attend(connection)
    machines.revoke(served.db, machines.get(served.db, agent.machine))

    def cut_off() -> bool:
        connection.say(m.Attend())
        answer = connection.hear()
        return isinstance(answer, m.Refused) and answer.code == "revoked"

    wait_until(cut_off, "the refusal")


def test_a_machine_that_never_stops_reporting_is_told_to_wait(agent: HandAgent) -> None:
    connection = agent.connect()
    for _ in range(attendance.REPORTS):
        connection.ask(m.SettingsQuery(), m.WantedSettings)
    assert connection.refused(REPORT) == "throttled"
    assert settings(agent).report is None
    assert attend(connection).settings == 0, "being here goes on"


def test_attending_has_no_place_in_a_backup(agent: HandAgent) -> None:
    connection = agent.connect()
    connection.begin()
    assert connection.refused(m.Attend()) == "protocol"


def test_starts_are_spread_evenly_and_the_same_each_day() -> None:
    delays = [attendance.spread_s(number.to_bytes(16, "big"), 1200) for number in range(2000)]
    assert delays == [attendance.spread_s(number.to_bytes(16, "big"), 1200) for number in range(2000)]
    assert min(delays) >= 0 and max(delays) < 1200
    minutes = [sum(1 for delay in delays if delay // 60 == minute) for minute in range(20)]
    assert max(minutes) < 150 and min(minutes) > 60
    assert attendance.spread_s(bytes(16), 0) == 0
    assert attendance.spread_s(b"x" * 16, 10**9) < m.SPREAD_LIMIT_S
