"""What a backup did and is doing: figures, warnings, progress. Decides nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.client import Client
from agent.sending import How
from agent.uploader import Uploader
from transport import messages as m


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that was not backed up as it should be."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup did. `warnings` make exit code 3."""

    snapshot: int
    state: str
    files_total: int
    files_full: int
    files_delta: int
    files_unchanged: int
    files_moved: int
    files_deleted: int
    bytes_source: int
    bytes_read: int
    bytes_sent: int
    bytes_received: int
    seconds: float
    over_quota: bool
    reconnections: int
    bytes_mended: int
    """Given back because the appliance had lost them."""
    warnings: tuple[Warned, ...]


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """Where a backup stands; totals are 0 while unknown, else what was counted or what the last snapshot held."""

    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


class Figures:
    """Counts for one run. `advance` may be called from any thread, the rest from one."""

    def __init__(
        self,
        client: Client,
        uploader: Uploader,
        over_quota: bool,
        expected_bytes: int,
        tell: Callable[[BackupProgress], None] | None,
    ) -> None:
        self._client = client
        self._uploader = uploader
        self._over_quota = over_quota
        self.expected_bytes = expected_bytes
        """What the run will come to, as far as known; a counting thread may correct it."""
        self.expected_files = 0
        self._tell = tell
        self._began = time.monotonic()
        self._files = dict.fromkeys(How, 0)
        self._bytes_source = 0
        self._bytes_done = 0
        self._told = 0.0
        self._lock = threading.Lock()
        self.bytes_read = 0
        self.deleted = 0
        self.bytes_mended = 0
        self._warnings: list[Warned] = []

    def warn(self, path: bytes, reason: str) -> None:
        """Something to tell the person about."""
        self._warnings.append(Warned(path, reason))

    def file(self, how: How, size: int) -> None:
        """One file of the snapshot."""
        self._files[how] += 1
        self._bytes_source += size

    def advance(self, size: int) -> None:
        """So many more bytes are done with; tells at most once a second."""
        with self._lock:
            self._bytes_done += size
            now = time.monotonic()
            if now - self._told < 1.0:
                return
            self._told = now
        done = sum(self._files.values())
        files = max(self.expected_files, done) if self.expected_files else 0
        total = max(self.expected_bytes, self._bytes_done) if self.expected_bytes else 0
        progress = BackupProgress("sending", done, files, self._bytes_done, total)
        if self._tell is not None:
            self._tell(progress)
        self._uploader.hint(
            m.Progress(progress.phase, done, progress.files_total, progress.bytes_done, progress.bytes_total)
        )

    def message(self) -> m.BackupFigures:
        """The figures as they travel with a commit."""
        report = self.report(0)
        return m.BackupFigures(
            files_total=report.files_total,
            files_full=report.files_full,
            files_delta=report.files_delta,
            files_unchanged=report.files_unchanged,
            files_moved=report.files_moved,
            files_deleted=report.files_deleted,
            bytes_source=report.bytes_source,
            bytes_read=report.bytes_read,
            bytes_sent=report.bytes_sent,
            bytes_received=report.bytes_received,
            seconds=report.seconds,
            transfer_seconds=self._uploader.transfer_s,
            warnings=len(report.warnings),
        )

    def report(self, snapshot: int) -> BackupReport:
        """Everything counted so far."""
        return BackupReport(
            snapshot=snapshot,
            state="complete",
            files_total=sum(self._files.values()),
            files_full=self._files[How.FULL],
            files_delta=self._files[How.DELTA],
            files_unchanged=self._files[How.SAME],
            files_moved=self._files[How.MOVED],
            files_deleted=self.deleted,
            bytes_source=self._bytes_source,
            bytes_read=self.bytes_read,
            bytes_sent=self._client.channel.bytes_sent,
            bytes_received=self._client.channel.bytes_received,
            seconds=time.monotonic() - self._began,
            over_quota=self._over_quota,
            reconnections=self._uploader.reconnections,
            bytes_mended=self.bytes_mended,
            warnings=tuple(self._warnings),
        )
