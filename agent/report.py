"""What a backup did and is doing: figures, warnings, progress. Decides nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

from agent.client import Client
from agent.onsite.writing import CopyOutcome, CopyState
from agent.sending import How
from agent.settings import Settings
from agent.uploader import Uploader
from transport import messages as m

StartedBy = Literal["manual", "scheduled", "missed", "asked", "continuous"]
TELL_S: Final = 1.0
LINE_S: Final = 60.0
"""Between two lines about progress in the machine's log: a first backup of weeks must not fill it."""
_SENDS: Final = 64 * 1024
"""More bytes than this since the last word, or not acknowledged: contents travel, not only questions."""


class Phase(StrEnum):
    """What mostly went on since the last word."""

    SCANNING = "scanning"
    READING = "reading"
    SENDING = "sending"
    COMMITTING = "committing"


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
    onsite: tuple[CopyOutcome, ...] = ()
    """What became of the copies on site."""


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """Where a backup stands; totals are 0 while unknown, else what was counted or what the last snapshot held."""

    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


def used_configuration(settings: Settings, started_by: StartedBy) -> m.UsedConfiguration:
    """What a run goes by, as the appliance keeps it."""
    delta = settings.delta
    return m.UsedConfiguration(
        started_by=started_by,
        schedule=settings.schedule,
        includes=len(settings.selection.include),
        excludes=len(settings.selection.exclude),
        settings_version=settings.remote.applied,
        delta_minimum_bytes=delta.minimum_bytes,
        delta_literal_share=delta.literal_share,
        delta_seconds_per_gib=min(delta.seconds_per_gib, 1e9),
    )


def size_text(size: int) -> str:
    """`3.0 GB`, in steps of 1000."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def progression(files: int, done: int, total: int) -> str:
    """`Progression : 28 933 files 100 % – 3.0 GB/3.0 GB`; without a share while the total is unknown."""
    count = f"{files:,}".replace(",", " ")
    if not total:
        return f"Progression : {count} files – {size_text(done)}"
    return f"Progression : {count} files {min(100, 100 * done // total)} % – {size_text(done)}/{size_text(total)}"


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
        self._line_at = self._began + LINE_S
        self._read_since = 0
        self._sent_before = client.channel.bytes_sent
        self._said = self._began
        self._committing = False
        self._lock = threading.Lock()
        self.bytes_read = 0
        self.deleted = 0
        self.bytes_mended = 0
        self.warnings: list[Warned] = []

    def warn(self, path: bytes, reason: str) -> None:
        """Something to tell the person about."""
        self.warnings.append(Warned(path, reason))

    def file(self, how: How, size: int) -> None:
        """One file of the snapshot."""
        self._files[how] += 1
        self._bytes_source += size

    @property
    def lost(self) -> int:
        """Files that are gone and did not turn up elsewhere."""
        return max(0, self.deleted - self._files[How.MOVED])

    def say(self, level: str, module: str, text: str) -> None:
        """A line for the machine's log; counts and labels only."""
        self._uploader.hint(m.LogLine(level, module, text))

    def files(self, how: How, count: int, size: int) -> None:
        """`count` files of the snapshot, `size` bytes together."""
        self._files[how] += count
        self._bytes_source += size

    def advance(self, size: int) -> None:
        """So many more bytes were read."""
        self._count(size, size)

    def passed(self, size: int) -> None:
        """So many more bytes are done with that nobody had to read."""
        self._count(size, 0)

    def commits(self, begun: bool) -> None:
        """A commit is on its way, or was confirmed."""
        self._committing = begun
        self._said = 0.0

    def _count(self, size: int, read: int) -> None:
        with self._lock:
            self._bytes_done += size
            self._read_since += read
            now = time.monotonic()
            if self._tell is None or now - self._told < TELL_S:
                return
            self._told = now
        self._tell(self._progress(Phase.SENDING))

    def _progress(self, phase: Phase) -> BackupProgress:
        done = sum(self._files.values())
        files = max(self.expected_files, done) if self.expected_files else 0
        total = max(self.expected_bytes, self._bytes_done) if self.expected_bytes else 0
        return BackupProgress(str(phase), done, files, self._bytes_done, total)

    def words(self) -> list[m.Progress | m.LogLine]:
        """What the appliance is to hear now, for the thread that owns the connection: it asks often.

        Progress once a second at most, however long nothing moves; a line for the log each `LINE_S`.
        """
        now = time.monotonic()
        if now - self._said < TELL_S:
            return []
        self._said = now
        sent = self._client.channel.bytes_sent
        with self._lock:
            if max(sent - self._sent_before, self._uploader.unacknowledged_bytes) > _SENDS:
                phase = Phase.SENDING  # also while a commit waits behind contents that are under way
            elif self._committing:
                phase = Phase.COMMITTING
            else:
                phase = Phase.READING if self._read_since else Phase.SCANNING
            self._sent_before, self._read_since = sent, 0
        progress = self._progress(phase)
        told: list[m.Progress | m.LogLine] = [
            m.Progress(
                progress.phase, progress.files_done, progress.files_total, progress.bytes_done, progress.bytes_total
            )
        ]
        if now >= self._line_at:
            self._line_at = now + LINE_S
            line = progression(progress.files_done, progress.bytes_done, progress.bytes_total)
            told.append(m.LogLine("info", "progress", line))
        return told

    def tell_end(self) -> None:
        """The last lines of a run that only has to be committed."""
        files = sum(self._files.values())
        self.say("info", "progress", progression(files, self._bytes_source, self._bytes_source))
        if self.warnings:
            count = len(self.warnings)
            paths = "1 path was" if count == 1 else f"{count} paths were"
            self.say("warning", "source", f"{paths} not backed up as they should be; the machine names them")

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

    def with_copies(self, report: BackupReport, copies: tuple[CopyOutcome, ...]) -> BackupReport:
        """The report with its copies on site. One that failed is a warning; one that is away is none, since disks
        alternate: the appliance raises an alert when none was written for days."""
        quiet = (CopyState.WRITTEN, CopyState.ABSENT)
        told = [Warned(f"copy on site {c.name}".encode(), c.reason) for c in copies if c.state not in quiet]
        seconds = time.monotonic() - self._began
        return replace(report, onsite=copies, warnings=(*report.warnings, *told), seconds=seconds)

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
            warnings=tuple(self.warnings),
        )
