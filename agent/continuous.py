"""Continuous mode: when a snapshot follows what a watcher noted, and what it must look at.

Owns the marks that no snapshot has served yet. Rules: a snapshot follows `CALM_S` after the last change, `LONGEST_S`
after the first at the latest, and never within `GAP_S` of the one before; marks leave with a run and come back where
it fails; after a start, a loss or a failure everything is looked at, and so it is once a day. Times of waiting are
monotonic, so that no change of the clock makes a run early or late; the day is counted by the clock. `Continuous`
belongs to the service's main thread and lock; `Gathered` to any thread. Starts nothing and touches no disk.

Why these times: a change is to be restorable within 30 seconds of calm, so calm is noticed after a third of that, and a
burst of changes after another ends within a minute; the gap keeps a machine that is written to now and then from
making more than three snapshots a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agent.marks import MARKS_LIMIT, Marks
from agent.scheduler import BACKWARDS_S, BUSY_S, RETRY_S, UNREACHABLE_S, Ending
from agent.selection import Selection

CALM_S: Final = 10.0
LONGEST_S: Final = 900.0
GAP_S: Final = 20.0
DAY_S: Final = 86400.0
BLIND_S: Final = 900.0
"""Where not everything is watched, everything is looked at so often; or twenty times as seldom as that takes."""
_BLIND_SHARE: Final = 20.0
SPREAD_SHARE: Final = 0.25
SPREAD_LIMIT_S: Final = 300.0
"""A service that starts looks at everything after a part of the delay that the appliance gives this machine."""


class Watching(Protocol):
    """A watcher of `agent.watching`."""

    def start(self) -> None:
        """Begin."""

    def look(self) -> None:
        """See about what no event tells."""

    def stop(self) -> None:
        """End."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What was gathered. Times are monotonic seconds; `everything` says why marks are not enough, if so."""

    marks: Marks
    first: float
    last: float
    everything: str = ""


class Gathered:
    """Marks as a watcher notes them, until a run takes them. Any thread; never blocks for long."""

    def __init__(
        self, wake: Callable[[], None], tell: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wake = wake
        """Called when there is something where there was nothing."""
        self._tell = tell
        """Called with a sentence that a person should read."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._folders: set[bytes] = set()
        self._trees: set[bytes] = set()
        self._quiet: set[bytes] = set()
        self._first: float | None = None
        self._last = 0.0
        self._everything = ""
        self._told: set[str] = set()
        self.is_ready = False
        """Everything that can be watched is: what a run finds from now on, events tell of."""
        self.is_blind = False
        """Not everything is watched."""

    def begin(self) -> None:
        """Another watcher is about to note here: nothing that stands here counts any more."""
        self.take()
        self.is_ready = self.is_blind = False

    def folder(self, path: bytes) -> None:
        """Something happened in a folder."""
        self._note(self._folders, path)

    def beside(self, path: bytes) -> None:
        """A folder's own time changed, no more: looked at with the next run, which need not come for that."""
        with self._lock:
            if len(self._quiet) < MARKS_LIMIT:
                self._quiet.add(path)

    def tree(self, path: bytes) -> None:
        """A folder appeared."""
        self._note(self._trees, path)

    def lost(self, reason: str) -> None:
        """Only a look at everything can tell."""
        self.is_ready = True
        self._note(None, b"", reason)

    def blind(self, kind: str, sentence: str) -> None:
        """Not everything is watched."""
        self.is_blind = True
        self.tell(kind, sentence)

    def tell(self, kind: str, sentence: str) -> None:
        """Say something, each kind once."""
        with self._lock:
            new = kind not in self._told
            self._told.add(kind)
        if new:
            self._tell(sentence)

    def _note(self, into: set[bytes] | None, path: bytes, everything: str = "") -> None:
        with self._lock:
            now = self._monotonic()
            fresh = self._first is None
            self._first, self._last = now if self._first is None else self._first, now
            self._everything = everything or self._everything
            if into is not None and not self._everything:
                into.add(path)
                if len(self._folders) + len(self._trees) > MARKS_LIMIT:
                    self._everything = "very many folders changed"
            if self._everything:
                self._folders.clear()
                self._trees.clear()
        if fresh or everything:
            self._wake()

    def seen(self) -> Noted | None:
        """What is there, without its marks; None for nothing."""
        with self._lock:
            return None if self._first is None else Noted(Marks(), self._first, self._last, self._everything)

    def take(self) -> Noted | None:
        """What is there, which is then gone."""
        with self._lock:
            if self._first is None:
                return None
            marks = Marks(frozenset(self._folders | self._quiet), frozenset(self._trees))
            taken = Noted(marks, self._first, self._last, self._everything)
            self._folders, self._trees, self._quiet, self._first, self._everything = set(), set(), set(), None, ""
            return taken

    def give_back(self, taken: Noted, everything: str = "") -> None:
        """The run that took these did not serve them."""
        with self._lock:
            self._first = taken.first if self._first is None else min(self._first, taken.first)
            self._last = max(self._last, taken.last)
            self._everything = everything or self._everything or taken.everything
            if not self._everything:
                self._folders |= taken.marks.folders
                self._trees |= taken.marks.trees


@dataclass(frozen=True, slots=True)
class Due:
    """Begin now, for this reason."""

    why: str


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing yet; look again after so many seconds, None where only a mark helps."""

    seconds: float | None


def decide(
    noted: Noted | None,
    monotonic: float,
    clock: float,
    *,
    not_before: float,
    walked_at: float,
    blind_due: float | None,
) -> Due | Later:
    """Whether a run of continuous mode begins. Pure.

    `not_before` and `blind_due` are monotonic, `clock` and `walked_at` (when everything was looked at last, 0 for
    never) are seconds since 1970.
    """
    times: list[tuple[float, str]] = []
    if noted is not None:
        at = min(noted.first + LONGEST_S, noted.last + CALM_S)
        times.append((at, noted.everything or "changes"))
    age_s = clock - walked_at
    daily = monotonic if age_s < -BACKWARDS_S else monotonic + max(0.0, DAY_S - age_s)
    times.append((daily, "everything, as once a day"))
    if blind_due is not None:
        times.append((blind_due, "everything, since not all is watched"))
    at, why = min(times)
    at = max(at, not_before)
    return Due(why) if at <= monotonic else Later(at - monotonic)


class Continuous:
    """What the service keeps of continuous mode. `watch` makes a watcher of a selection, which notes in `gathered`."""

    def __init__(
        self,
        gathered: Gathered,
        watch: Callable[[Selection, Gathered], Watching],
        *,
        walked_at: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gathered = gathered
        self._watch = watch
        self._walked_at = walked_at
        """Asks the disk when everything was looked at last: by a backup by hand as well."""
        self._monotonic = monotonic
        self._watcher: Watching | None = None
        self._selection: Selection | None = None
        self._taken: Noted | None = None
        self._everything = False
        self._failures = 0
        self._began = 0.0
        self._not_before = 0.0
        self._walked = 0.0
        self._walk_ended = monotonic()
        self._walk_took = 0.0

    @property
    def on(self) -> bool:
        """Whether changes are watched."""
        return self._watcher is not None

    def settle(self, selection: Selection, *, on: bool, spread_s: float = 0.0) -> None:
        """These settings count from now on. Another selection is watched anew, and looked at wholly."""
        on = on and bool(selection.include)
        if on == self.on and (not on or selection == self._selection):
            return
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        if on:
            if self._selection is None:
                self._not_before = self._monotonic() + min(spread_s * SPREAD_SHARE, SPREAD_LIMIT_S)
                self._walked = self._walked_at()
            self._gathered.begin()
            self._watcher = self._watch(selection, self._gathered)
            self._watcher.start()
        self._selection = selection

    def due(self, clock: float) -> Due | Later:
        """Whether a run begins now."""
        if self._watcher is None:
            return Later(None)
        self._watcher.look()
        if not self._gathered.is_ready:
            return Later(None)
        decision = self._decide(clock)
        if isinstance(decision, Due) and self._gathered.seen() is None:
            # Only the day asks: was there a backup by hand? The disk is looked at only now.
            self._walked = max(self._walked, self._walked_at()) if self._walked <= clock else self._walked_at()
            decision = self._decide(clock)
        return decision

    def _decide(self, clock: float) -> Due | Later:
        blind_due = None
        if self._gathered.is_blind:
            blind_due = self._walk_ended + max(BLIND_S, _BLIND_SHARE * self._walk_took)
        not_before = max(self._not_before, self._began + GAP_S if self._began else 0.0)
        return decide(
            self._gathered.seen(), self._monotonic(), clock,
            not_before=not_before, walked_at=self._walked, blind_due=blind_due,
        )  # fmt: skip

    def begins(self, *, everything: bool) -> Marks | None:
        """A run begins, of this mode or another. What it is to look at: None for everything."""
        self._began = self._monotonic()
        self._taken = self._gathered.take()
        taken = self._taken
        self._everything = everything or taken is None or bool(taken.everything) or not taken.marks
        return None if taken is None or self._everything else taken.marks

    def ended(self, ending: Ending, began: float) -> None:
        """The run that began at `began` (seconds since 1970) ended like this."""
        taken, self._taken = self._taken, None
        now = self._monotonic()
        if ending is Ending.DONE:
            self._failures = 0
            self._not_before = 0.0
            if self._everything:
                self._walked, self._walk_ended, self._walk_took = began, now, now - self._began
            return
        if ending is not Ending.STOPPED:
            self._failures += 1
            self._not_before = now + _pause_s(ending, self._failures)
        reason = "everything, since the last run failed" if ending is Ending.FAILED else ""
        if taken is not None and self._watcher is not None:
            self._gathered.give_back(taken, reason)
        elif reason and self._watcher is not None:
            self._gathered.lost(reason)

    def close(self) -> None:
        """Watch nothing any more; the next service looks at everything."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None


def _pause_s(ending: Ending, failures: int) -> float:
    if ending is Ending.BUSY:
        return BUSY_S
    pauses = UNREACHABLE_S if ending is Ending.UNREACHABLE else RETRY_S
    return pauses[min(failures, len(pauses)) - 1]
