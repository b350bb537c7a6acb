"""This machine as the pages see it: its settings, what runs, what is being counted or restored. One a process."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import tzinfo

from flask import current_app

from agent.backup_process import BackupProcess
from agent.bookkeeping import next_run
from agent.enrolling import enrolled
from agent.knocking import knock
from agent.onsite import nearer
from agent.remote_settings import chosen_here
from agent.selection import Selection
from agent.settings import AgentHome, Settings, change_settings, load_settings
from agent.system.zone import LocalZone
from agent.ui.basket import Basket
from agent.ui.counting import Counter
from agent.ui.gate import IDLE_S, Seats
from agent.ui.lookout import Lookout
from agent.ui.restoring import Restores
from agent.under_way import UnderWay, read_under_way
from transport.errors import PilulierError
from transport.schedule import Schedule


class Machine:
    """Everything that outlives a request. Any thread."""

    def __init__(self, home: AgentHome) -> None:
        self.home = home
        self.seats = Seats()
        self.counter = Counter(home)
        self.lookout = Lookout(home)
        self.restores = Restores(home)
        self.basket = Basket(home)
        self.account = ""
        """The address that opened a restore last, so that it need not be typed again."""
        self._zone = LocalZone()
        self._lock = threading.Lock()
        self._backup: BackupProcess | None = None

    def settings(self) -> Settings:
        """As they stand on the disk now. SettingsError."""
        return load_settings(self.home)

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def zone(self) -> tzinfo:
        """The machine's."""
        return self._zone()

    def next_run(self, settings: Settings) -> float | None:
        """When a backup begins by itself."""
        return next_run(self.home, settings, self.now(), self.zone())

    def choose(self, *, selection: Selection | None = None, schedule: Schedule | None = None) -> Settings:
        """What the person here decides; the service takes it up at once."""
        chosen: dict[str, object] = {} if schedule is None else {"schedule": schedule}
        settings = change_settings(self.home, lambda now: chosen_here(now, selection=selection, **chosen))
        knock(self.home)
        return settings

    def near_copy(self, snapshot: int) -> str:
        """The name of a copy on site that is here and holds a snapshot; empty where none does."""
        owner = enrolled(self.home)
        if not owner.settings.onsite.copies:
            return ""
        with nearer.opened(owner) as copies:
            try:
                found = nearer.choose(owner, copies, "auto", snapshot, None)
            except PilulierError:
                return ""
            return found.copy.place.name if found is not None else ""

    # backups

    def under_way(self) -> UnderWay | None:
        """The run that goes on now, whoever started it."""
        return read_under_way(self.home)

    def starts(self) -> bool:
        """Whether a backup was started here and has not come to its end."""
        with self._lock:
            return self._poll()

    def _poll(self) -> bool:
        if self._backup is not None and self._backup.poll() is not None:
            self._backup = None
        return self._backup is not None

    def back_up(self) -> bool:
        """Start a backup in a process of its own; False where one goes on. OSError where none can be started.

        It goes on when this interface ends: what was begun by a person is not dropped for a closed window.
        """
        with self._lock:
            if self._poll() or self.under_way() is not None:
                return False
            self._backup = BackupProcess(self.home, "manual", lambda: None)
            return True

    # the end

    def forgotten(self) -> bool:
        """Nobody has looked for long, and nothing goes on that somebody waits for."""
        return self.seats.idle_s() > IDLE_S and not self.starts() and not self.restores.running()

    def close(self) -> None:
        """End what runs here."""
        with contextlib.suppress(OSError):
            self.restores.close()
        self.counter.close()
        self.lookout.close()
        self.basket.close()


def this() -> Machine:
    """The machine of the request."""
    machine: Machine = current_app.extensions["machine"]
    return machine
