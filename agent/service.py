"""`pilulier-agent run`: starts backups at their times, listens to the appliance, in the foreground until SIGTERM.

Owns the order of things and the one mutable picture of them: settings, books, what is known of the appliance. The main
thread decides (`agent.scheduler`) and starts children (`agent.backup_process`); one thread attends (`agent.attending`).
The books are written before what they say is done or answered, so that whoever dies owes no run twice and forgets
none. Sleeps until a knock, a child's end or the next time; the clock alone is looked at more often, since a suspended
or changed one tells nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import Final, Protocol

import msgspec

from agent import journal, remote_settings, scheduler, surroundings
from agent.attending import Attendant
from agent.backup_process import BackupProcess
from agent.bookkeeping import load_books, save_books
from agent.continuous import Continuous, Gathered, Later
from agent.enrolling import Enrolled, enrolled
from agent.guards import clock_ahead_s, clock_sentence
from agent.interface import Opener
from agent.knocking import Doorstep
from agent.limits import Limits
from agent.marks import hand_over
from agent.notices import Notifier
from agent.scheduler import Books, Clock, Conditions, Ending, Start, Wait, Why
from agent.settings import AgentHome, Settings, change_settings, exclusive, load_settings
from agent.state import last_good
from agent.system import desktop
from agent.system.desktop import Notice
from agent.system.zone import LocalZone
from agent.watching import watcher
from transport import messages as m
from transport.errors import PilulierError

log = logging.getLogger("pilulier.service")

CLOCK_S: Final = 20.0
"""How often the clock is looked at: how late a run may begin after a suspend."""

SLEPT_S: Final = 120.0
"""A turn that comes so late comes after a suspend."""


class Child(Protocol):
    """A backup under way."""

    def poll(self) -> Ending | None:
        """How it ended; None while it runs."""

    def stop(self) -> None:
        """End it."""


class Service:
    """The picture, and what may be done with it. Any thread; `turn` and `close` belong to the main one."""

    def __init__(
        self,
        home: AgentHome,
        *,
        now: Callable[[], float] = time.time,
        zone: Callable[[], tzinfo] | None = None,
        start: Callable[[Why], Child],
        said: Callable[[], None] = lambda: None,
        wake: Callable[[], None] = lambda: None,
        holding: Callable[[Limits], str] = surroundings.holding,
        show: Callable[[Notice], object] = lambda notice: None,
        continuous: Continuous | None = None,
    ) -> None:
        self._home = home
        self._now = now
        self._zone = zone or LocalZone()
        self._start = start
        self._holding = holding
        """Asks power and network; only where a run would begin."""
        self._said = said
        """Called when the appliance should be told something."""
        self._wake = wake
        """Called when the main thread should take a turn."""
        self._lock = threading.RLock()
        self._settings = load_settings(home)
        self._books = load_books(home)
        self._reachable = False
        self._paused = False
        self._child: Child | None = None
        self._began = 0.0
        self._why = Why.SCHEDULED
        self._continuous = continuous
        self._held = ""
        self._reason = ""
        self._clock_off = False
        self._turned = self._away_since = now()
        """When the last turn was; since when, as far as this process has seen, the appliance is out of reach."""
        self._notifier = Notifier(home, lambda: self._settings, show)

    # what the main thread does

    def turn(self) -> float:
        """Do what is due, once; how many seconds may be slept."""
        with self._lock:
            clock = Clock(self._now(), self._zone())
            if not self._turned <= clock.now <= self._turned + SLEPT_S:
                self._away_since = clock.now  # it slept, or its clock was set: the line gets its hour again
            self._turned = clock.now
            if self._continuous is not None:
                schedule, selection = self._settings.schedule, self._settings.selection
                self._continuous.settle(selection, on=schedule.continuous, spread_s=self._books.spread_s)
            if self._child is not None and (ending := self._child.poll()) is not None:
                self._child = None
                self._ended(ending, clock.now)
                self._said()
            decision = self._decide(clock, 0.0)
            if isinstance(decision, Start):
                # The disk is asked only now: was there a backup by hand, or one whose end was not written down?
                decision = self._decide(clock, last_good(self._home))
            if isinstance(decision, Start) and decision.owed.why is not Why.ASKED:
                decision = self._decide(clock, 0.0, self._holding(self._settings.limits))
            if isinstance(decision, Start):
                log.info("backup begins (%s since %s)", decision.owed.why, _utc(decision.owed.since))
                return self._begin(decision.owed.why, clock.now)
            self._tell_reason(decision.reason)
            self._notifier.look()
            if self._books.owed is not None and not self._reachable and self._child is None:
                self._notifier.waiting(self._books.owed.since, self._away_since, clock)
            pause_s = self._follow(clock.now)
            following = decision.until
            if self._books.owed is None:
                following = scheduler.next_due(self._settings.schedule, clock, self._books.spread_s)
            return pause_s if following is None else min(pause_s, max(0.05, following - clock.now))

    def _follow(self, now: float) -> float:
        """Let a snapshot follow changes where nothing else runs or is owed; how many seconds may be slept."""
        following = self._continuous
        ready = self._reachable and not self._paused and self._child is None and self._books.owed is None
        if following is None or not ready:
            return CLOCK_S
        due = following.due(now)
        if isinstance(due, Later):
            return CLOCK_S if due.seconds is None else min(CLOCK_S, max(0.05, due.seconds))
        holding = self._holding(self._settings.limits)
        if holding != self._held:
            self._held = holding
            log.info("changes wait: %s", holding) if holding else log.info("changes wait no more")
        if holding:
            return CLOCK_S
        log.info("backup begins (%s: %s)", Why.CONTINUOUS, due.why)
        return self._begin(Why.CONTINUOUS, now)

    def _decide(self, clock: Clock, good: float, holding: str = "") -> Start | Wait:
        selected = self._settings.has_source
        self._keep(scheduler.look(self._books, self._settings.schedule, clock, selected=selected, last_good=good))
        conditions = Conditions(selected, self._reachable, self._paused, self._child is not None, holding)
        return scheduler.decide(self._books, clock, conditions)

    def _begin(self, why: Why, now: float) -> float:
        self._why, self._began = why, now
        try:
            if self._continuous is not None:
                hand_over(self._home, self._continuous.begins(everything=why is not Why.CONTINUOUS))
            self._child = self._start(why)
        except OSError as error:
            log.error("the backup could not be started: %s", error)
            journal.keep(self._home, "error", "backup", f"Backup failed: {journal.reason_of(error)}")
            self._ended(Ending.FAILED, now)
            self._said()
        return CLOCK_S

    def _ended(self, ending: Ending, now: float) -> None:
        self._notifier.ended(ending, now)
        if self._continuous is not None:
            self._continuous.ended(ending, self._began)
        if self._why is not Why.CONTINUOUS:
            self._keep(scheduler.ended(self._books, ending, now))

    def _tell_reason(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            owed = self._books.owed
            log.info("%s%s", f"a backup is owed ({owed.why}): " if owed else "", reason)

    def reload(self) -> None:
        """Someone knocked: settings may have changed on the disk. Damaged ones leave the ones that were."""
        try:
            settings = load_settings(self._home)
        except PilulierError as error:
            log.warning("%s", error)
            return
        with self._lock:
            self._settled(settings)

    def _settled(self, settings: Settings) -> None:
        """Other settings stand; a new schedule counts from now on."""
        if settings.schedule != self._settings.schedule:
            self._keep(scheduler.rescheduled(self._books, self._now()))
        changed = settings != self._settings
        self._settings = settings
        if changed:
            self._said()

    def close(self) -> None:
        """End a backup under way; the run stays owed."""
        with self._lock:
            child = self._child
        if child is not None:
            child.stop()
        with self._lock:
            if child is not None:
                self._child = None
                self._ended(child.poll() or Ending.STOPPED, self._now())
            if self._continuous is not None:
                self._continuous.close()

    def _keep(self, books: Books) -> None:
        """Write the books where they changed; a full disk must not end the service."""
        if books == self._books:
            return
        self._books = books
        try:
            save_books(self._home, books)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._home.books, error.strerror)

    # what the attending thread tells and asks

    def attended(self, told: m.Attended) -> None:
        """The appliance was heard."""
        with self._lock:
            back = not self._reachable or self._paused != told.paused
            self._reachable, self._paused = True, told.paused
            self._keep(msgspec.structs.replace(self._books, spread_s=told.spread_s))
            self._watch_clock(told.now_ms)
            if told.language != self._settings.remote.language:
                self._change(lambda settings: remote_settings.spoken(settings, told.language))
            if back:
                self._wake()

    def _watch_clock(self, told_ms: int) -> None:
        """Say it once where the clock is far off the appliance's, and once where it is right again. Times stay the
        machine's own: a schedule that jumped with the appliance's clock would surprise whoever looks at the wall."""
        now = self._now()
        sentence = clock_sentence(clock_ahead_s(told_ms, now), now)
        if bool(sentence) == self._clock_off:
            return
        self._clock_off = bool(sentence)
        log.warning("%s", sentence or "this machine's clock is right again")
        level = "warning" if sentence else "info"
        journal.keep(self._home, level, "clock", f"The machine's clock is {'wrong' if sentence else 'right again'}")

    def out_of_reach(self, reason: str) -> None:
        """It cannot be heard now."""
        with self._lock:
            if self._reachable:
                self._away_since = self._now()
            self._reachable = False

    def take_over(self, wanted: m.WantedSettings) -> None:
        """Settings that the appliance wants; the outcome stands in the settings and is reported from there."""
        with self._lock:
            self._change(lambda settings: remote_settings.take_over(settings, wanted))
            remote = self._settings.remote
            log.info("settings %d of the appliance: %s %s", wanted.version, remote.outcome, remote.reason)
            self._wake()

    def _change(self, change: Callable[[Settings], Settings]) -> None:
        try:
            self._settled(change_settings(self._home, change))
        except (PilulierError, OSError) as error:
            log.warning("the settings could not be changed: %s", error)

    def asked(self, number: int) -> m.BackupAnswer:
        """A backup is asked for; taken up where the owner allows it, and only once."""
        with self._lock:
            if number <= self._books.heard:
                return m.BackupAnswer(number, True, "")
            if not self._settings.remote.allowed:
                reason = remote_settings.REFUSED
            elif not self._settings.has_source:
                reason = "nothing is selected on this machine"
            else:
                log.info("the appliance asks for a backup (%d)", number)
                if self._child is None:
                    self._keep(scheduler.asked(self._books, number, self._now()))
                else:  # what runs now is what was asked for
                    self._keep(msgspec.structs.replace(self._books, heard=number))
                self._wake()
                return m.BackupAnswer(number, True, "")
            return m.BackupAnswer(number, False, reason)

    def settings(self) -> Settings:
        """As they are now."""
        with self._lock:
            return self._settings

    def next_run(self) -> float | None:
        """When a backup begins by itself."""
        with self._lock:
            if not self._settings.has_source:
                return None
            return scheduler.next_run(self._books, self._settings.schedule, Clock(self._now(), self._zone()))


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Stopper:
    """Ends `run` from a signal handler."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.wake: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """End soon."""
        self._asked.set()
        self.wake()

    def stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._asked.is_set()


def run(home: AgentHome, stopper: Stopper, on_ready: Callable[[Enrolled, float | None], None]) -> int:
    """Serve until `stopper.stop()`; returns 0. BusyError where a service of this home runs already.

    `on_ready` is called once, when times are kept and knocks are heard; the appliance need not be there for it.
    """
    machine = enrolled(home)
    with exclusive(home, "service", lock=home.service_lock), _doorstep(home) as door:

        def start(why: Why) -> BackupProcess:
            return BackupProcess(home, why, door.knock)

        attendant: Attendant | None = None

        def said() -> None:
            if attendant is not None:
                attendant.wake()

        def tell(sentence: str) -> None:
            log.warning("%s", sentence)
            journal.keep(home, "warning", "watch", sentence)
            said()

        continuous = Continuous(
            Gathered(door.knock, tell),
            lambda selection, notes: watcher(selection, home, notes),
            walked_at=lambda: last_good(home),
        )
        service = Service(home, start=start, said=said, wake=door.knock, show=_shown_apart, continuous=continuous)
        stopper.wake = door.knock
        attendant = Attendant(machine, service)
        opener = Opener(home)
        opener.look()
        wait_s = service.turn()
        on_ready(machine, service.next_run())
        attendant.start()
        try:
            while not stopper.stopping():
                knocked = door.wait(wait_s)
                if stopper.stopping():
                    break
                if knocked:
                    opener.look()
                    service.reload()
                wait_s = service.turn()
        finally:
            opener.close()
            service.close()
            attendant.stop()
    return 0


def _shown_apart(notice: Notice) -> None:
    """A desktop that does not answer must hold up no backup."""
    threading.Thread(target=desktop.show, args=(notice,), name="notice", daemon=True).start()


@contextmanager
def _doorstep(home: AgentHome) -> Iterator[Doorstep]:
    door = Doorstep(home)
    try:
        yield door
    finally:
        door.close()
