"""When continuous mode begins a run and what of: fixed clocks, a watcher that does what the test says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent import continuous
from agent.continuous import BLIND_S, CALM_S, DAY_S, GAP_S, LONGEST_S, Continuous, Due, Gathered, Later, Noted, decide
from agent.marks import MARKS_LIMIT, MarkedTree, Marks, hand_over, keep_troubled, take_over, troubled
from agent.scheduler import BUSY_S, RETRY_S, UNREACHABLE_S, Ending
from agent.selection import Selection
from agent.settings import AgentHome

NOON = 1_800_000_000.0
SOURCE = Selection.of([b"/srv"])


class Watcher:
    """Watches nothing."""

    def __init__(self) -> None:
        self.running = False
        self.looks = 0

    def start(self) -> None:
        self.running = True

    def look(self) -> None:
        self.looks += 1

    def stop(self) -> None:
        self.running = False


class Bench:
    """Continuous mode at a moment that the test chooses."""

    def __init__(self) -> None:
        self.at, self.clock, self.on_disk = 100.0, NOON, NOON
        self.woken = 0
        self.told: list[str] = []
        self.watchers: list[Watcher] = []
        self.gathered = Gathered(self._wake, self.told.append, lambda: self.at)
        self.mode = Continuous(
            self.gathered, self._watch, walked_at=lambda: self.on_disk, monotonic=lambda: self.at
        )

    def _wake(self) -> None:
        self.woken += 1

    def _watch(self, selection: Selection, gathered: Gathered) -> Watcher:
        self.watchers.append(Watcher())
        return self.watchers[-1]

    def after(self, seconds: float) -> Due | Later:
        self.at += seconds
        self.clock += seconds
        return self.mode.due(self.clock)

    def run(self, ending: Ending = Ending.DONE, *, everything: bool = False, took: float = 1.0) -> Marks | None:
        began = self.clock
        marks = self.mode.begins(everything=everything)
        self.at += took
        self.clock += took
        self.mode.ended(ending, began)
        return marks

    def started(self) -> Bench:
        """A service that has looked at everything, past the pause after it."""
        self.mode.settle(SOURCE, on=True)
        self.gathered.lost("the watch has just begun")
        assert self.after(CALM_S) == Due("the watch has just begun")
        assert self.run() is None
        self.after(GAP_S)
        return self


@pytest.fixture
def bench() -> Bench:
    return Bench().started()


def test_a_snapshot_follows_calm_and_not_each_change(bench: Bench) -> None:
    assert bench.after(3600) == Later(DAY_S - 3600 - GAP_S - 1)
    for _ in range(5):
        bench.gathered.folder(b"/srv/a")
        assert bench.after(CALM_S - 1) == Later(1.0)
    assert bench.after(1) == Due("changes")
    assert bench.run() == Marks(frozenset([b"/srv/a"]))
    assert isinstance(bench.after(CALM_S), Later), "served"


def test_constant_change_waits_a_quarter_of_an_hour_and_no_longer(bench: Bench) -> None:
    began = bench.at
    while True:
        bench.gathered.folder(b"/srv/log")
        if isinstance(bench.after(5.0), Due):
            break
    assert bench.at - began == LONGEST_S


def test_a_pause_after_each_run_and_still_within_a_minute_of_calm(bench: Bench) -> None:
    bench.gathered.folder(b"/srv/a")
    bench.after(CALM_S)
    bench.run()
    bench.gathered.folder(b"/srv/b")
    calm = bench.after(CALM_S)
    assert calm == Later(GAP_S - CALM_S - 1)
    assert isinstance(bench.after(GAP_S - CALM_S - 1), Due)
    assert GAP_S < 60


def test_only_the_first_change_wakes(bench: Bench) -> None:
    woken = bench.woken
    for number in range(100):
        bench.gathered.folder(b"/srv/%d" % number)
    assert bench.woken == woken + 1
    bench.gathered.beside(b"/srv/quiet")
    taken = bench.gathered.take()
    assert taken is not None and b"/srv/quiet" in taken.marks.folders
    bench.gathered.beside(b"/srv/quiet")
    assert bench.woken == woken + 1 and bench.gathered.seen() is None, "a folder's own time is worth no snapshot"


def test_what_happens_during_a_run_is_for_the_next(bench: Bench) -> None:
    bench.gathered.folder(b"/srv/a")
    bench.after(CALM_S)
    assert bench.mode.begins(everything=False) == Marks(frozenset([b"/srv/a"]))
    bench.gathered.tree(b"/srv/new")
    bench.mode.ended(Ending.DONE, bench.clock)
    assert isinstance(bench.after(GAP_S), Due)
    assert bench.run() == Marks(frozenset(), frozenset([b"/srv/new"]))


@pytest.mark.parametrize(
    ("ending", "pauses"),
    [(Ending.UNREACHABLE, UNREACHABLE_S), (Ending.BUSY, (BUSY_S, BUSY_S)), (Ending.FAILED, RETRY_S)],
)
def test_a_run_that_fails_gives_its_marks_back(bench: Bench, ending: Ending, pauses: tuple[float, ...]) -> None:
    bench.gathered.folder(b"/srv/a")
    bench.after(CALM_S)
    for pause_s in (*pauses, pauses[-1]):
        bench.run(ending, took=0.0)
        assert bench.after(0.0) == Later(max(pause_s, GAP_S))
        assert isinstance(bench.after(max(pause_s, GAP_S)), Due)
    marks = bench.run()
    assert marks == (None if ending is Ending.FAILED else Marks(frozenset([b"/srv/a"]))), "a failure proves nothing"
    bench.gathered.folder(b"/srv/b")
    assert isinstance(bench.after(GAP_S), Due), "no pause is left"


def test_once_a_day_everything_and_another_backup_counts(bench: Bench) -> None:
    assert isinstance(bench.after(DAY_S - 60 - GAP_S), Later)
    bench.on_disk = bench.clock  # a backup by hand
    assert isinstance(bench.after(100), Later)
    assert bench.after(DAY_S) == Due("everything, as once a day")
    assert bench.run() is None and isinstance(bench.after(GAP_S), Later)
    # A scheduled one serves the marks as well.
    bench.gathered.folder(b"/srv/a")
    assert bench.run(everything=True) is None and bench.gathered.seen() is None


def test_a_clock_that_is_set_makes_no_run_late(bench: Bench) -> None:
    bench.clock -= 400 * DAY_S
    assert bench.after(0.0) == Due("everything, as once a day"), "the last look lies in the future: it counts no more"
    bench.on_disk = bench.clock
    bench.run()
    bench.gathered.folder(b"/srv/a")
    bench.clock += 10 * 365 * DAY_S
    bench.at += GAP_S
    bench.run()
    bench.gathered.folder(b"/srv/a")
    before = bench.at
    while not isinstance(bench.after(1.0), Due):
        assert bench.at - before < GAP_S + 1


def test_nothing_begins_before_all_is_watched_and_a_start_takes_its_turn() -> None:
    bench = Bench()
    bench.on_disk = 0.0
    bench.mode.settle(SOURCE, on=True, spread_s=1000.0)
    assert bench.watchers[0].running and bench.after(5000) == Later(None), "the watch is being set"
    bench = Bench()
    bench.mode.settle(SOURCE, on=True, spread_s=1000.0)
    bench.gathered.lost("the watch has just begun")
    assert bench.after(CALM_S) == Later(250.0 - CALM_S)
    assert isinstance(bench.after(250.0), Due)


def test_other_settings(bench: Bench) -> None:
    bench.mode.settle(SOURCE, on=True)
    assert len(bench.watchers) == 1
    bench.gathered.folder(b"/srv/a")
    other = Selection.of([b"/home"])
    bench.mode.settle(other, on=True)
    assert [watcher.running for watcher in bench.watchers] == [False, True]
    assert bench.after(3600) == Later(None) and bench.gathered.seen() is None, "old marks say nothing now"
    bench.gathered.lost("the watch has just begun")
    assert isinstance(bench.after(CALM_S), Due) and bench.run() is None
    bench.mode.settle(other, on=False)
    assert not bench.mode.on and bench.after(2 * DAY_S) == Later(None)
    bench.mode.settle(Selection(), on=True)
    assert not bench.mode.on, "nothing is selected"


def test_what_is_not_watched_is_looked_at_seldom_enough(bench: Bench) -> None:
    bench.gathered.blind("limit", "raise it")
    bench.gathered.blind("limit", "raise it")
    assert bench.told == ["raise it"], "once"
    assert isinstance(bench.after(BLIND_S), Due)
    assert bench.run(took=200.0) is None
    assert bench.after(BLIND_S) == Later(20 * 200.0 - BLIND_S), "a slow disk is left alone longer"


def test_very_many_marks_are_everything(bench: Bench) -> None:
    for number in range(MARKS_LIMIT + 1):
        bench.gathered.folder(b"/srv/%d" % number)
    assert isinstance(bench.after(CALM_S), Due) and bench.run() is None
    bench.gathered.folder(b"/srv/again")
    bench.after(GAP_S)
    assert bench.run() == Marks(frozenset([b"/srv/again"]))


def test_closed(bench: Bench) -> None:
    bench.mode.close()
    assert not bench.watchers[0].running and bench.after(2 * DAY_S) == Later(None)


def test_whatever_comes_the_limits_hold() -> None:
    chance = random.Random("limits")
    for _ in range(2000):
        first = chance.uniform(0, 1000)
        last = first + chance.uniform(0, 2000)
        now = last + chance.uniform(0, 100)
        noted = Noted(Marks(), first, last)
        due = decide(noted, now, NOON, not_before=0.0, walked_at=NOON, blind_due=None)
        assert isinstance(due, Due) == (now - last >= CALM_S or now - first >= LONGEST_S)
        if isinstance(due, Later):
            assert due.seconds is not None and 0 < due.seconds <= CALM_S


def test_marks_on_their_way(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    marks = Marks(frozenset([b"/a/b", b"/\xff"]), frozenset([b"/a/c"]))
    hand_over(home, marks)
    assert take_over(home) == marks and take_over(home) is None, "they are taken once"
    hand_over(home, marks)
    hand_over(home, None)
    assert take_over(home) is None
    home.marks.write_bytes(b"nonsense")
    assert take_over(home) is None and not home.marks.exists()
    keep_troubled(home, [b"/a/x", b"(clock)"])
    assert troubled(home) == Marks(frozenset([b"/a/x"]))
    assert continuous.CALM_S < 30


def test_marks_as_a_tree() -> None:
    tree = MarkedTree.of(Marks(frozenset([b"/a/b", b"/a"]), frozenset([b"/a/c"])))
    assert not tree.listed and list(tree.names) == [b"a"] and tree.below(b"x") is None
    a = tree.below(b"a")
    assert a is not None and a.listed and not a.whole and set(a.names) == {b"b", b"c"}
    c = a.below(b"c")
    assert c is not None and c.whole and c.below(b"anything") is c
