"""Lines that break, stall, crawl and flip bits: a backup goes on where it was, a restore never writes a wrong byte."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.control import machine_logs
from appliance.control.database import Database
from tests.support.bad_lines import IMPATIENT, BadLine, Counts, Fault, Trials, sweep_of
from tests.support.faults import wait_until
from tests.support.processes import Agent, House, Outcome, landed
from tests.support.trees import assert_same

POINTS = 12


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("bad-lines") / "house", whole=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def machine(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    made = Trials(house, tmp_path_factory.mktemp("trials"), accounts=10)
    yield made
    made.finish()
    made.close()


@pytest.fixture
def trials(machine: Trials) -> Trials:
    """The machine of all trials here, its counts at nothing."""
    machine.counts = Counts()
    return machine


def test_a_session_broken_anywhere(trials: Trials) -> None:
    """A sample of tests.sweeps.network."""
    for fault, kill in sweep_of(POINTS, trials.sent, trials.received):
        trials.run(fault, kill=kill, restore=False)
    # Acknowledgements are grouped as the disk allows: a session may be a few bytes shorter than the one measured.
    assert trials.counts.met >= POINTS - 2, "a point that is never met proves nothing"
    trials.restore(len(trials.snapshots))
    trials.restore(len(trials.snapshots) // 2)


def test_an_enrolment_broken_anywhere(trials: Trials) -> None:
    up, down = trials.enrol(None)
    for fault in (Fault("cut", up - 100, True), Fault("cut", down - 100, False, abruptly=True)):
        trials.enrol(fault)
    assert trials.counts.met == 2


def test_a_flipped_bit_on_the_line_is_refused_and_the_session_resumed(trials: Trials) -> None:
    for at, upwards in ((trials.sent // 2, True), (trials.received - 250, False)):
        trials.run(Fault("flip", at, upwards), restore=False)
    assert trials.counts.resumed + trials.counts.told == trials.counts.met
    assert trials.counts.resumed >= 1
    trials.restore(len(trials.snapshots))


def test_a_slow_line_with_delays(trials: Trials) -> None:
    """Some 400 kB/s, 20 ms for each piece: nothing is sent twice out of impatience."""
    trials.line.bytes_s, trials.line.delay_s = 400_000, 0.02
    trials.run(Fault("stall", trials.sent // 2, True, stall_s=2.0), restore=False)
    assert trials.counts.resumed == 0
    trials.line.bytes_s, trials.line.delay_s = 0, 0.0
    trials.restore(len(trials.snapshots))


# Half-open lines: nobody says that the line is dead, only silence does. The programs' patience, minutes otherwise, is
# shortened to seconds.


def test_a_half_open_line_in_a_backup_is_given_up_and_the_session_resumed(trials: Trials) -> None:
    for at, upwards in ((trials.sent // 2, True), (trials.received - 250, False)):
        trials.run(Fault("stall", at, upwards), restore=False)
    assert trials.counts.resumed + trials.counts.told == trials.counts.met
    assert trials.counts.resumed >= 1
    trials.restore(len(trials.snapshots))


def test_after_a_pulled_cable_a_new_run_is_served_within_seconds(trials: Trials) -> None:
    """The appliance still has the dead agent's connection; it must not tell the new one to wait for that."""
    trials.run(Fault("stall", trials.sent // 2, True), kill=True, restore=False)
    assert trials.counts.killed == 1
    trials.restore(len(trials.snapshots))


# Restores


@pytest.fixture(scope="module")
def restoring(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Agent, BadLine, Path]]:
    """A machine with one snapshot of 12 MB, behind a line."""
    source = tmp_path_factory.mktemp("restoring") / "source"
    source.mkdir()
    rng = random.Random("restoring")
    for number in range(3):
        (source / f"large-{number}").write_bytes(rng.randbytes(3 << 20))
    for number in range(30):
        (source / f"small-{number}").write_bytes(rng.randbytes(100_000))
    agent = house.agent(source)
    agent.backup()
    with BadLine(house.appliance.address) as line:
        agent.by_way_of(line.address)
        yield agent, line, source


def never_wrong(outcome: Outcome, target: Path, source: Path) -> None:
    """It ended with one sentence, and what has its final name has its content."""
    assert outcome.code in (1, 5), outcome.told()
    assert len(outcome.stderr.strip().splitlines()) == 1, outcome.told()
    names = {original.name for original in source.iterdir()}
    folder = landed(target, source)
    for path in folder.iterdir() if folder.exists() else ():
        if path.name in names:
            assert path.read_bytes() == (source / path.name).read_bytes(), f"{path.name} is not whole"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", 1500, True),
        Fault("cut", 1200, False),
        Fault("cut", 6 << 20, False),
        Fault("cut", 11 << 20, False, abruptly=True),
        Fault("flip", 5 << 20, False),
        Fault("stall", 4 << 20, False),
    ],
    ids=str,
)
def test_a_restore_over_a_broken_line(
    house: House, restoring: tuple[Agent, BadLine, Path], tmp_path: Path, fault: Fault
) -> None:
    """In the data the same restore goes on, with no other code; before it was opened there is nothing to go on with."""
    agent, line, source = restoring
    target = tmp_path / "target"
    agent.under = IMPATIENT
    line.arm(fault)
    outcome = agent.command("restore", "--target", str(target), *house.login(), expect=None)
    assert line.happened.is_set()
    agent.under = ()
    if outcome.code == 0 or fault.at > 10_000:
        assert outcome.document["reconnections"] == 1 and outcome.document["errors"] == []
    else:
        never_wrong(outcome, target, source)
        assert agent.restore(target, house.account())["errors"] == []
    assert_same(source, landed(target, source))


def resumptions(house: House, agent: Agent) -> int:
    """Of all restores, as the machine's log tells."""
    with Database.open(house.appliance.home / "control.db") as db:
        lines = machine_logs.of_machine(db, bytes.fromhex(agent.machine), 500)
    return sum(line.text == "A restore goes on over a new connection" for line in lines)


def test_a_restore_goes_on_however_often_its_line_breaks(
    house: House, restoring: tuple[Agent, BadLine, Path], tmp_path: Path
) -> None:
    """Cut six times, in the listing as well as in the data: what is asked again is what was under way."""
    agent, line, source = restoring
    target = tmp_path / "target"
    line.bytes_s = 8 << 20
    line.arm(None)
    before, told = line.received_bytes, resumptions(house, agent)
    running = agent.start("restore", "--target", str(target), *house.login())
    for at in (5000, 2 << 20, 4 << 20, 6 << 20, 8 << 20, 10 << 20):
        wait_until(lambda at=at: line.received_bytes - before > at, f"{at} bytes received")  # type: ignore[misc]
        line.cut()
    outcome = running.wait()
    line.bytes_s = 0
    assert outcome.code == 0, outcome.told()
    assert outcome.document["reconnections"] == 6 and outcome.document["errors"] == []
    assert_same(source, landed(target, source))
    assert resumptions(house, agent) == told + 6


def test_a_restore_does_not_outlive_the_appliance(
    house: House, restoring: tuple[Agent, BadLine, Path], tmp_path: Path
) -> None:
    """Its session was in the memory of the process that died: another code, and what stands is not fetched again."""
    agent, line, source = restoring
    target = tmp_path / "target"
    line.bytes_s = 8 << 20
    line.arm(None)
    before = line.received_bytes
    running = agent.start("restore", "--target", str(target), *house.login())
    wait_until(lambda: line.received_bytes - before > 4 << 20, "4 MiB received")
    house.appliance.kill()
    house.appliance.serve()
    line.cut()
    outcome = running.wait()
    line.bytes_s = 0
    assert outcome.code == 4 and "TOTP" in outcome.stderr, outcome.told()
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert agent.restore(target, house.account())["errors"] == []
    assert_same(source, landed(target, source))


def test_a_restore_over_a_slow_line_with_stalls(
    house: House, restoring: tuple[Agent, BadLine, Path], tmp_path: Path
) -> None:
    agent, line, source = restoring
    line.bytes_s, line.delay_s = 6 << 20, 0.002
    line.arm(Fault("stall", 7 << 20, False, stall_s=1.5))
    target = tmp_path / "target"
    assert agent.restore(target, house.account())["errors"] == []
    line.bytes_s, line.delay_s = 0, 0.0
    assert line.happened.is_set()
    assert_same(source, landed(target, source))
