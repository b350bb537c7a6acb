"""A run without the appliance: the copies on site are written all the same, and the run still ends as unreachable.

Question: what does such a run build on, since the appliance's history must not move? **On a copy of the ledger, thrown
away afterwards.** The ledger itself stays at the last snapshot that the appliance has, so the next run with it finds
everything that changed since; the copies, which are ahead in their own way, are brought level by comparing trees like
any copy that was away. It costs that what changed is read and kept once more then. The signed record of the copied
ledger never leaves this machine; what copies get is signed for their own chains.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.backup import Run
from agent.client import Client
from agent.committing import Terms
from agent.enrolling import Enrolled
from agent.errors import LedgerError, LedgerLost
from agent.ledger import Ledger
from agent.onsite.copies import Copies, TeeingUploader
from agent.onsite.medium import found_within
from agent.onsite.standing import read_standing
from agent.onsite.writing import PATIENCE_S, CopyState
from agent.report import BackupProgress, BackupReport, StartedBy, Warned
from agent.settings import AgentHome
from transport import messages as m
from transport.commits import SignedCommit
from transport.errors import UnreachableError
from transport.names import Digest, SessionId, VersionId, random_id

log = logging.getLogger("pilulier-agent")

REST_S: Final = 3600.0
"""Scheduled runs are tried again every few minutes while there is no network: a copy is written once an hour then."""
FLOOR_DAYS: Final = 3
_ENTRIES: Final = ("guards.json", "stale.json", "canaries.json", "large-databases.json")


class OnlyOnSite(UnreachableError):
    """The appliance did not answer; copies on site were written."""

    code = "only-on-site"


class _AsideHome(AgentHome):
    """The home with all that a run changes in a folder aside."""

    @property
    def aside(self) -> Path:
        """That folder."""
        return self.path / "alone"

    @property
    def ledger(self) -> Path:
        """A copy."""
        return self.aside / "ledger.db"

    @property
    def pending(self) -> Path:
        """Nothing is pending for the appliance."""
        return self.aside / "pending.log"

    @property
    def guards(self) -> Path:
        """A copy."""
        return self.aside / "guards.json"

    @property
    def stale(self) -> Path:
        """A copy."""
        return self.aside / "stale.json"

    @property
    def canaries(self) -> Path:
        """A copy: the appliance must still be told what is found here."""
        return self.aside / "canaries.json"

    @property
    def large_databases(self) -> Path:
        """A copy."""
        return self.aside / "large-databases.json"


class _Nowhere(TeeingUploader):
    """An uploader to the copies alone."""

    def begin(self, head: Digest) -> None:
        """Nobody is asked."""

    def start(self) -> None:
        """Nothing to start."""

    def put(self, item: object) -> None:
        """To the copies."""
        self.check()
        self.hand_on(item)

    def hint(self, item: m.Progress | m.LogLine) -> None:
        """Nobody hears it."""

    def commit(self, signed: SignedCommit, figures: Callable[[], m.BackupFigures]) -> m.Committed:
        """In the copies alone."""
        self.copies.commit(signed)
        return m.Committed(0, signed.decoded().number, signed.hash())

    def held_versions(self, versions: list[VersionId]) -> frozenset[VersionId]:
        """What all copies hold: a file whose base one lacks goes whole, from the same read."""
        return self.copies.held_versions(versions)

    def check(self) -> None:
        """Without any copy left there is nothing to go on for."""
        if not self.copies.taking_part:
            raise UnreachableError(f"the copies on site failed: {self.copies.reasons}")

    def close(self) -> None:
        """Nothing to end."""

    def abort(self) -> None:
        """Nothing to end."""


class _Alone(Run):
    def uploader(self, client: Client) -> TeeingUploader:
        self._copies = Copies(self._machine, alone=True)
        return _Nowhere(client, SessionId(random_id()), self._pending, self._copies)

    def wind_up(self, number: int) -> BackupReport:
        """Nothing of it is remembered but what the copies hold."""
        with contextlib.closing(self._dumped):
            copies = self._copies.finish(self._ledger, None)
        return self._figures.with_copies(self._figures.report(0), copies)


def back_up_alone(
    machine: Enrolled,
    client: Client,
    error: UnreachableError,
    started_by: StartedBy,
    progress: Callable[[BackupProgress], None] | None,
    warnings: tuple[Warned, ...],
    pause: Callable[[float], None],
) -> None:
    """Write the copies that are here; OnlyOnSite where one was written. Returns where there is nothing to write to."""
    settings = machine.settings
    if started_by != "manual":
        written_ms = max((one.written_ms for one in read_standing(machine.home).copies.values()), default=0)
        if time.time() - written_ms / 1000 < REST_S:
            return
    if not found_within(settings, settings.onsite, PATIENCE_S):
        return
    home = _AsideHome(machine.home.path)
    shutil.rmtree(home.aside, ignore_errors=True)
    try:
        home.aside.mkdir(mode=0o700)
        with contextlib.suppress(LedgerLost):  # without a ledger everything is read and compared by the copies
            if machine.home.ledger.exists():
                Ledger.duplicate(machine.home, home.ledger)
        for name in _ENTRIES:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(machine.home.path / name, home.aside / name)
        with Ledger.open(home) as ledger:
            aside = dataclasses.replace(machine, home=home)
            terms = Terms(over_quota=False, retention_floor_days=FLOOR_DAYS)
            run = _Alone(aside, ledger, client, terms, False, progress, False, float("inf"), started_by, None)
            report = run.run(warnings, 0, pause)
    except (OSError, LedgerError) as problem:
        log.warning("the copy on site was not written without the appliance: %s", problem)
        return
    finally:
        shutil.rmtree(home.aside, ignore_errors=True)
    written = [copy for copy in report.onsite if copy.state is CopyState.WRITTEN]
    if written:
        names = ", ".join(f"{copy.name} (its snapshot {copy.snapshot})" for copy in written)
        raise OnlyOnSite(
            f"{error}. The copy on site was written all the same: {names}; the appliance gets what changed with the "
            "next backup that reaches it"
        )
