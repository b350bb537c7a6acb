"""diary.jsonl: what ran on this machine and how it ended, for the people at this machine.

The machine's log on the appliance (`agent.journal`) names no file; this one stays here, so that it may. Facts only, no
sentences: whoever shows them has the reader's language. Bounded; a disk that does not take a line loses it, no more.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from agent.report import BackupReport
from agent.settings import AgentHome
from transport.errors import PilulierError

KEPT: Final = 400
"""Entries: half a year of backups at noon and in the evening; of continuous mode two weeks."""
NAMED: Final = 20
"""Paths that one entry names."""
CONTINUOUS: Final = "continuous"
"""Started by a change."""
_GATHERED_MS: Final = 3_600_000
_TEXT: Final = 400
_LIMIT_BYTES: Final = 4 << 20

Event = Literal["backup-done", "backup-failed", "restore-done", "restore-failed"]
Level = Literal["info", "warning", "error"]


class Named(msgspec.Struct, frozen=True):
    """A path and what was wrong with it."""

    path: str
    reason: str


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened. `code` and `reason` are those of the error that ended it."""

    at_ms: int
    event: Event
    level: Level = "info"
    started_by: str = ""
    snapshot: int = 0
    files: int = 0
    """Of the snapshot, or restored."""
    bytes: int = 0
    """Of the source, or restored."""
    bytes_sent: int = 0
    seconds: float = 0.0
    problems: int = 0
    """Paths that were not backed up, or not restored, as they should be."""
    named: tuple[Named, ...] = ()
    code: str = ""
    reason: str = ""
    target: str = ""
    """Where a restore went; empty for where the files were."""
    times: int = 1
    """Backups that this one entry stands for."""
    since_ms: int = 0
    """When the first of them ended; 0 where it is the only one."""


def add(home: AgentHome, entry: Entry) -> None:
    """Write an entry down; the oldest of too many go, and what follows changes all day long is one entry an hour."""
    with contextlib.suppress(OSError):
        lines = _lines(home)
        before = _decoded(lines[-1]) if lines else None
        gathered = _gathered(before, entry) if before is not None else None
        if gathered is not None:
            del lines[-1]
        line = msgspec.json.encode(gathered or entry) + b"\n"
        if gathered is None and len(lines) < KEPT + KEPT // 4:
            with open(os.open(home.diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                file.write(line)
            return
        new = home.diary.with_name(f"{home.diary.name}.{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(b"".join(one + b"\n" for one in lines[-KEPT + 1 :]) + line)
        os.replace(new, home.diary)


def entries(home: AgentHome) -> list[Entry]:
    """All entries, newest first; lines that cannot be read are passed over."""
    return [entry for line in reversed(_lines(home)) if (entry := _decoded(line)) is not None]


def _decoded(line: bytes) -> Entry | None:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(line, type=Entry)
    return None


def _gathered(before: Entry, entry: Entry) -> Entry | None:
    """One entry for both, where both followed a change within an hour and nothing is to be told of either. Pure."""
    begun_ms = before.since_ms or before.at_ms
    alike = all(
        (one.event, one.level, one.started_by) == ("backup-done", "info", CONTINUOUS) for one in (before, entry)
    )
    if not alike or not 0 <= entry.at_ms - begun_ms < _GATHERED_MS:
        return None
    return msgspec.structs.replace(
        entry,
        bytes_sent=before.bytes_sent + entry.bytes_sent,
        seconds=round(before.seconds + entry.seconds, 1),
        times=before.times + 1,
        since_ms=begun_ms,
    )


def _lines(home: AgentHome) -> list[bytes]:
    try:
        with open(home.diary, "rb") as file:
            return file.read(_LIMIT_BYTES).splitlines()
    except OSError:
        return []


def named(problems: Iterable[tuple[bytes, str]]) -> tuple[Named, ...]:
    """The first few paths with their reasons, fit for an entry."""
    result: list[Named] = []
    for path, reason in problems:
        if len(result) == NAMED:
            break
        result.append(Named(path.decode("utf-8", "backslashreplace")[:4096], reason[:_TEXT]))
    return tuple(result)


def backup_done(home: AgentHome, started_by: str, report: BackupReport) -> None:
    """A backup came to its end."""
    add(
        home,
        Entry(
            int(time.time() * 1000),
            "backup-done",
            level="warning" if report.warnings or report.state != "complete" else "info",
            started_by=started_by,
            snapshot=report.snapshot,
            files=report.files_total,
            bytes=report.bytes_source,
            bytes_sent=report.bytes_sent,
            seconds=round(report.seconds, 1),
            problems=len(report.warnings),
            named=named((warning.path, warning.reason) for warning in report.warnings),
        ),
    )


def backup_failed(home: AgentHome, started_by: str, error: BaseException) -> None:
    """A backup did not come to its end."""
    code, reason = failure(error)
    level: Level = "warning" if code == "stopped" else "error"
    now_ms = int(time.time() * 1000)
    add(home, Entry(now_ms, "backup-failed", level=level, started_by=started_by, code=code, reason=reason))


def failure(error: BaseException) -> tuple[str, str]:
    """Code and sentence of what ended a run."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", ""
    code = error.code if isinstance(error, PilulierError) else type(error).__name__
    return code, str(error)[:_TEXT]
