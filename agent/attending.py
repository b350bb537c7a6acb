"""The service's connection to the appliance between backups: asks every few seconds what is wanted, says what changed.

One thread owns the connection; it is opened anew after any trouble, with growing pauses. What is heard is handed to
whoever owns the books (`Master`), which answers at once. Knows no schedule and starts no backup.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import Final, Protocol

from agent import journal, receiving, reporting
from agent.client import ApplianceFailed, ApplianceRefused, Client
from agent.enrolling import Enrolled, check_welcome
from agent.settings import Settings
from transport import messages as m
from transport.errors import PilulierError, RefusedError

log = logging.getLogger("pilulier.service")

PAUSES_S: Final = (2.0, 5.0, 10.0, 20.0, 40.0)
"""After trouble with the line; the last one for ever: a change is to be picked up within a minute of its return."""
REFUSED_S: Final = 300.0
"""After a refusal: this machine was revoked, or is a copy. Nothing helps but someone's decision."""
PATIENCE: Final = 12
"""Connections that break in their handshake before that counts as a refusal: an appliance that restarts does so too."""
_OLD: Final = m.Attended(0, 0, False, "", 0, 300)
"""What an appliance says that knows no attending yet: backups go on, nothing is set from there."""
ANSWER_S: Final = 20.0
FIRST_S: Final = 8.0
"""For a connection to stand."""

class Master(Protocol):
    """Owns the settings and the books; each call may come from the attending thread."""

    def attended(self, told: m.Attended) -> None:
        """The appliance was heard."""

    def out_of_reach(self, reason: str) -> None:
        """It cannot be heard now."""

    def take_over(self, wanted: m.WantedSettings) -> None:
        """Settings that the appliance wants."""

    def asked(self, number: int) -> m.BackupAnswer:
        """A backup is asked for; the same number once more gets the same answer."""

    def settings(self) -> Settings:
        """As they are now."""

    def next_run(self) -> float | None:
        """When a backup begins by itself."""

class Attendant:
    """Start it, `wake` it when something is to be said, `stop` it."""

    def __init__(self, machine: Enrolled, master: Master) -> None:
        self._machine = machine
        self._master = master
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="attending", daemon=True)
        self._last_trouble: str | None = None
        """None before the first word, empty while all is well."""
        self._told: m.SettingsReport | None = None
        self._delivery = 0
        """The newest delivery that is known to wait here."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look now instead of at the next turn."""
        self._woken.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End; a thread that waits for an answer is left to die with the process."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            client = self._machine.client()
            pause_s = REFUSED_S
            try:
                check_welcome(self._machine, client.connect(FIRST_S))
                failures = 0
                self._converse(client)
            except ApplianceRefused as error:
                # Its own word: a no stays for a while, a word too many passes.
                pause_s = PAUSES_S[-1] if error.code in ("busy", "throttled") else REFUSED_S
                self._trouble(str(error))
            except PilulierError as error:
                pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
                failures += 1
                if isinstance(error, RefusedError) and failures > PATIENCE:
                    pause_s = REFUSED_S
                self._trouble(str(error))
            except Exception as error:  # the edge of a thread: the service goes on, and tries again
                pause_s = PAUSES_S[-1]
                log.exception("attending met an unexpected %s", type(error).__name__)
                self._trouble(f"unexpected {type(error).__name__}")
            finally:
                client.close()
            if not self._stopping.is_set():
                # A crowd that lost its appliance at one moment must not come back at one moment.
                self._pause(pause_s * random.uniform(0.5, 1.0))

    def _pause(self, seconds: float) -> bool:
        """Wait; whether someone woke this."""
        woken = self._woken.wait(seconds)
        self._woken.clear()
        return woken

    def _trouble(self, reason: str) -> None:
        if reason != self._last_trouble:
            log.warning("the appliance is not there: %s", reason)
        self._last_trouble = reason
        self._master.out_of_reach(reason)

    def _converse(self, client: Client) -> None:
        if self._last_trouble != "":
            log.info("the appliance is there")
        self._last_trouble = ""
        journal.send(self._machine.home, client)
        while not self._stopping.is_set():
            told = self._attend(client)
            self._master.attended(told)
            if told.settings > self._master.settings().remote.answered:
                self._master.take_over(client.ask(m.SettingsQuery(), m.WantedSettings, ANSWER_S))
            if told.backup:
                client.ask(self._master.asked(told.backup), m.Noted, ANSWER_S)
            if told.delivery != self._delivery:
                offered = receiving.ask(self._machine.home, client)
                if told.delivery > self._delivery:
                    log.info("%d deliveries are here: pilulier-agent deliveries", len(offered))
                self._delivery = told.delivery
            if told is not _OLD:
                self._report(client)
            if self._pause(told.again_s):
                journal.send(self._machine.home, client)

    def _attend(self, client: Client) -> m.Attended:
        try:
            return client.ask(m.Attend(), m.Attended, ANSWER_S)
        except ApplianceFailed as error:
            if error.code not in ("decode", "protocol"):
                raise
            check_welcome(self._machine, client.connect(FIRST_S))  # it reads no further after a word it does not know
            return _OLD

    def _report(self, client: Client) -> None:
        """Say what changed. What was said last is compared in memory: the disk is not asked every few seconds."""
        settings, following = self._master.settings(), self._master.next_run()
        report = reporting.report_of(settings, following, None)
        if report == self._told:
            return
        reporting.report_if_changed(self._machine.home, settings, client, following)
        self._told = report
