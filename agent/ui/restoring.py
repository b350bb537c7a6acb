"""Restores that the pages begin: the quarter of an hour that a code opens, the one that runs, how the last one ended.

*One code, fifteen minutes?* **The connection on which the appliance accepted the code is kept, and every restore that
begins within the quarter of an hour goes over it.** The appliance still decides: nothing is kept here but that
connection, and its secret is in this process's memory alone. A restore that began in time may end later.

One restore at a time; it holds the home's lock as the command line does, runs in a thread of its own, and can be
cancelled between two segments: what stands complete under its name then stays, and nothing half done is left.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from agent import deliveries, diary, under_way
from agent.client import Client
from agent.enrolling import check_welcome, enrolled
from agent.landing_attributes import Note
from agent.ledger import last_head
from agent.onsite import nearer
from agent.pacing import for_restores
from agent.remote import RemoteSource
from agent.restore import RestoreError, RestoreProgress, RestoreReport, restore
from agent.settings import AgentHome, exclusive
from agent.system import owners
from transport.errors import PilulierError, RefusedError, UnreachableError

WINDOW_S: Final = 900.0
_AGAIN: Final = 10_000
"""Paths of which the appliance is asked for what a copy could not give."""
_ALIVE_S: Final = 4.0
"""How often an idle connection is listened to, so that the appliance's heartbeats are answered."""


class CancelledError(PilulierError):
    """The person stopped it."""

    code = "cancelled"


class NoCodeError(PilulierError):
    """The quarter of an hour is over, or never began."""

    code = "code-needed"


@dataclass(frozen=True, slots=True)
class Order:
    """What to restore, and where to: `target` None is where it was.

    A `delivery` that was sent here says itself what, and lands in a folder of its own.
    """

    snapshot: int
    paths: tuple[bytes, ...]
    target: bytes | None
    overwrite: bool = False
    delivery: int = 0
    near: bool = False
    """A copy on site that is here holds it: the key is enough. What it lacks comes by a code, where one is open."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a restore ended: with a report, or with an error."""

    order: Order
    report: RestoreReport | None
    error: BaseException | None
    target: bytes | None
    """Where it went; None for where it was."""

    @property
    def errors(self) -> list[RestoreError]:
        """Paths that were not restored."""
        return self.report.errors if self.report is not None else []

    @property
    def notes(self) -> list[Note]:
        """Attributes that were not put back."""
        return self.report.notes if self.report is not None else []


class Restores:
    """Any thread."""

    def __init__(self, home: AgentHome, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._clock = clock
        self._lock = threading.Lock()
        self._line = threading.Lock()
        """Held by whoever speaks on the connection."""
        self._client: Client | None = None
        self._source: RemoteSource | None = None
        self._until = 0.0
        self._thread: threading.Thread | None = None
        self._order: Order | None = None
        self._progress: under_way.Stand | None = None
        self._cancelled = threading.Event()
        self._over = threading.Event()
        self._ended: Ended | None = None

    def open_s(self) -> float:
        """For how many more seconds no code is needed."""
        with self._lock:
            return max(0.0, self._until - self._clock()) if self._source is not None else 0.0

    def open(self, account: str, code: str) -> None:
        """Show a code to the appliance. RefusedError where it says no, UnreachableError where it does not answer."""
        machine = enrolled(self._home)
        client = machine.client()
        try:
            check_welcome(machine, client.connect())
            source = RemoteSource(client)
            source.bucket = for_restores(machine.home, machine.settings.limits)
            source.open_restore(account, code)
        except BaseException:
            client.close()
            raise
        with self._line:
            self._shut()
            with self._lock:
                self._client, self._source, self._until = client, source, self._clock() + WINDOW_S
        threading.Thread(target=self._keep_alive, args=(client,), name="window", daemon=True).start()

    def shut(self) -> None:
        """Give the rest of the quarter of an hour up."""
        if self._line.acquire(blocking=False):
            try:
                self._shut()
            finally:
                self._line.release()

    def _shut(self) -> None:
        with self._lock:
            client, self._client, self._source, self._until = self._client, None, None, 0.0
        if client is not None:
            with contextlib.suppress(PilulierError):
                client.close()

    def _keep_alive(self, client: Client) -> None:
        while not self._over.wait(_ALIVE_S):
            if not self._line.acquire(blocking=False):
                continue  # a restore speaks
            try:
                if self._client is not client:
                    return
                if self._clock() > self._until:
                    self._shut()
                    return
                with contextlib.suppress(UnreachableError):
                    client.hear(0.0)
            except PilulierError:
                self._shut()
                return
            finally:
                self._line.release()

    # the restore itself

    def running(self) -> bool:
        """Whether one goes on."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, order: Order) -> bool:
        """Begin; False where one goes on. NoCodeError where no code is open; a delivery had its code when it was sent.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            free = order.delivery or order.near
            if not free and (self._source is None or self._clock() > self._until):
                raise NoCodeError("give a code")
            self._cancelled.clear()
            self._order, self._progress, self._ended = order, None, None
            self._thread = threading.Thread(target=self._run, args=(order, self._source), name="restore", daemon=True)
            self._thread.start()
            return True

    def order(self) -> Order | None:
        """What is being restored, or was last."""
        return self._order

    def progress(self) -> under_way.Stand | None:
        """How far it is; None before its first word."""
        return self._progress

    def ended(self) -> Ended | None:
        """How the last one ended; None while one goes on, and before the first."""
        return self._ended

    def forget(self) -> None:
        """Its outcome was read."""
        with self._lock:
            if not (self._thread is not None and self._thread.is_alive()):
                self._ended = self._order = None

    def cancel(self) -> None:
        """Stop it soon."""
        self._cancelled.set()

    def _tell(self, progress: under_way.Stand) -> None:
        self._progress = progress
        if self._cancelled.is_set():
            raise CancelledError("the restore was stopped")

    def _run(self, order: Order, source: RemoteSource | None) -> None:
        report: RestoreReport | None = None
        error: BaseException | None = None
        target = order.target
        try:
            home = self._home
            with self._line, exclusive(home, "restore"), under_way.noted(home, "restore", self._tell) as tell:
                if order.delivery:
                    landed = deliveries.accept(enrolled(home), order.delivery, progress=tell)
                    report, target = landed.report, bytes(landed.folder)
                elif order.near:
                    report = self._from_copy(order, source, tell)
                elif source is not None:
                    report = self._restore(order, source, tell)
        except Exception as met:  # the edge of a thread: whatever it was, the page names it
            error = met
            if source is not None and not order.delivery:
                self._after_trouble(source, met)
        self._note(order, report, error, target)
        self._ended = Ended(order, report, error, target)

    def _from_copy(
        self, order: Order, source: RemoteSource | None, tell: Callable[[RestoreProgress], None]
    ) -> RestoreReport:
        """From the copy on site; what it could not give from the appliance, where a code is open."""
        machine = enrolled(self._home)
        with nearer.opened(machine) as copies:
            near = nearer.choose(machine, copies, "auto", order.snapshot, None)
            if near is None:
                raise NoCodeError("the copy is not there any more")
            if order.target is not None:
                make_target(order.target)
            report = restore(
                near.copy.source,
                machine.sealer(),
                machine.keys.signing.public,
                witness=None,
                target=order.target,
                paths=order.paths,
                snapshot=near.number,
                overwrite=order.overwrite,
                repository=near.copy.id,
                approver=machine.settings.appliance.identity,
                progress=tell,
            )
        lacking = tuple(dict.fromkeys(error.path for error in report.errors))[:_AGAIN]
        if not lacking or source is None or self._clock() > self._until:
            return report
        again = self._restore(replace(order, paths=lacking, near=False), source, tell)
        return msgspec.structs.replace(
            report, files=report.files + again.files, bytes=report.bytes + again.bytes, errors=again.errors
        )

    def _restore(self, order: Order, source: RemoteSource, tell: Callable[[RestoreProgress], None]) -> RestoreReport:
        machine = enrolled(self._home)
        if order.target is not None:
            make_target(order.target)
        return restore(
            source,
            machine.sealer(),
            machine.keys.signing.public,
            witness=last_head(self._home),
            target=order.target,
            paths=order.paths,
            snapshot=order.snapshot,
            overwrite=order.overwrite,
            repository=machine.settings.machine,
            approver=machine.settings.appliance.identity,
            progress=tell,
        )

    def _after_trouble(self, source: RemoteSource, error: Exception) -> None:
        """Answers may still be under way: another line under the same code, or none where that is not to be had."""
        with self._line:
            if not isinstance(error, UnreachableError | RefusedError) and self._source is source:
                with contextlib.suppress(PilulierError):
                    source.start_over()
                    return
            self._shut()

    def _note(
        self, order: Order, report: RestoreReport | None, error: BaseException | None, went: bytes | None
    ) -> None:
        now_ms = int(time.time() * 1000)
        target = "" if went is None else went.decode("utf-8", "backslashreplace")
        if report is not None:
            entry = diary.Entry(
                now_ms,
                "restore-done",
                level="warning" if report.errors else "info",
                snapshot=order.snapshot,
                files=report.files,
                bytes=report.bytes,
                seconds=round(report.seconds, 1),
                problems=len(report.errors),
                named=diary.named((one.path, one.reason) for one in report.errors),
                target=target,
            )
        else:
            assert error is not None
            code, reason = diary.failure(error)
            level: diary.Level = "warning" if code == "cancelled" else "error"
            entry = diary.Entry(
                now_ms, "restore-failed", level=level, snapshot=order.snapshot, code=code, reason=reason, target=target
            )
        diary.add(self._home, entry)

    def close(self) -> None:
        """The process ends: stop what runs, and give the code's time up."""
        self._over.set()
        self.cancel()
        if self._thread is not None:
            self._thread.join(10.0)
        self.shut()


def make_target(target: bytes) -> None:
    """Make the folder to restore to, with the owner of the folder that it lies in: the service runs as root, and what
    it brings back in somebody's home must open for them. OSError."""
    missing = []
    at = target
    while not os.path.lexists(at):
        missing.append(at)
        at = os.path.dirname(at)
    owner = os.stat(at)
    for folder in reversed(missing):
        os.mkdir(folder, 0o700)
        owners.give(folder, owner)
