"""Turns between real processes: who waits gets the place, who dies frees it, who gave way queues as anyone does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from appliance.store.errors import BusyRepositoryError
from appliance.store.layout import Layout
from appliance.store.turns import MaintenanceTurn, WriterTurn
from tests.support.processes import CHECKOUT, environment

PATIENCE_S = 30.0

_BEGIN = """
import sys, time
from pathlib import Path
from appliance.store.layout import Layout
from appliance.store.turns import MaintenanceTurn, WriterTurn
layout = Layout(Path(sys.argv[1]))
def say(text):
    print(text, flush=True)
"""
HOLDER = (
    _BEGIN
    + """
turn = WriterTurn(layout, wait_s=30)
say("holds")
while not turn.wanted():
    time.sleep(0.001)
say("gives way")
turn.close()
sys.stdin.readline()
"""
)
STUBBORN = _BEGIN + 'turn = WriterTurn(layout, wait_s=30)\nsay("holds")\nsys.stdin.readline()\n'
MAINTAINER = _BEGIN + 'turn = MaintenanceTurn(layout)\nsay("maintains")\nsys.stdin.readline()\n'
WAITER = _BEGIN + 'say("waits")\nturn = WriterTurn(layout, wait_s=30)\nsay("holds")\nturn.close()\n'
EAGER = (
    _BEGIN
    + """
for number in range(int(sys.argv[2])):
    turn = WriterTurn(layout, wait_s=30)
    with open(layout.folder / "rounds", "a") as file:
        file.write("child ")
    say(number)
    while not turn.wanted():
        time.sleep(0.001)
    turn.close()
"""
)


class Child:
    """A process of one of the scripts above."""

    def __init__(self, script: str, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=CHECKOUT,
            text=True,
        )

    def hears(self, text: str) -> None:
        assert _pipe(self.process.stdout).readline().strip() == text

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        _pipe(self.process.stdin).close()
        _pipe(self.process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.kill()


def wait_until_wanted(turn: WriterTurn, wanted: bool = True) -> None:
    """Polls what can only be polled: the other process is about to stand in the queue, or has just left it."""
    deadline = time.monotonic() + PATIENCE_S
    while turn.wanted() is not wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_who_waits_gets_the_place_of_a_holder_that_gives_way(tmp_path: Path, children: list[Child]) -> None:
    children.append(child := Child(HOLDER, tmp_path))
    child.hears("holds")
    turn = WriterTurn(Layout(tmp_path), wait_s=PATIENCE_S)
    child.hears("gives way")
    assert not turn.wanted()
    turn.close()


def test_a_holder_that_is_killed_blocks_nobody(tmp_path: Path, children: list[Child]) -> None:
    children.append(child := Child(STUBBORN, tmp_path))
    child.hears("holds")
    with pytest.raises(BusyRepositoryError, match="written by another process"):
        WriterTurn(Layout(tmp_path))
    child.kill()
    children.remove(child)
    WriterTurn(Layout(tmp_path)).close()


def test_a_waiter_that_is_killed_wants_nothing_any_more(tmp_path: Path, children: list[Child]) -> None:
    turn = WriterTurn(Layout(tmp_path))
    assert not turn.wanted()
    children.append(child := Child(WAITER, tmp_path))
    child.hears("waits")
    wait_until_wanted(turn)
    child.kill()
    children.remove(child)
    wait_until_wanted(turn, wanted=False)
    turn.close()
    WriterTurn(Layout(tmp_path)).close()


def test_waiting_is_bounded_and_leaves_the_queue_to_others(tmp_path: Path) -> None:
    turn = WriterTurn(Layout(tmp_path))
    began = time.monotonic()
    with pytest.raises(BusyRepositoryError):
        WriterTurn(Layout(tmp_path), wait_s=0.1)
    assert time.monotonic() - began >= 0.1
    assert not turn.wanted()
    turn.close()


def test_who_gave_way_comes_after_whoever_waits(tmp_path: Path, children: list[Child]) -> None:
    """Without sleeping in between: the queue alone must see to it that both have their turns."""
    rounds = 20
    turn = WriterTurn(Layout(tmp_path))
    children.append(Child(EAGER, tmp_path, str(rounds)))
    for number in range(rounds):
        wait_until_wanted(turn)
        turn.close()
        turn = WriterTurn(Layout(tmp_path), wait_s=PATIENCE_S)
        assert (tmp_path / "rounds").read_text().count("child") == number + 1
    turn.close()


def test_one_process_maintains_and_others_write_beside_it(tmp_path: Path, children: list[Child]) -> None:
    children.append(child := Child(MAINTAINER, tmp_path))
    child.hears("maintains")
    with pytest.raises(BusyRepositoryError, match="pruned, scrubbed or rebuilt by another process"):
        MaintenanceTurn(Layout(tmp_path))
    WriterTurn(Layout(tmp_path)).close()
    child.kill()
    children.remove(child)
    MaintenanceTurn(Layout(tmp_path)).close()


def test_looking_costs_microseconds(tmp_path: Path) -> None:
    """No figure is asserted; that it leaves no trace is: a thousand looks, and the queue is as free as before."""
    turn = WriterTurn(Layout(tmp_path))
    assert not any(turn.wanted() for _ in range(1000))
    turn.close()
