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
"""Entries: a year of a backup a day and some restores; of continuous mode some days."""
NAMED: Final = 20
"""Paths that one entry names."""
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


def add(home: AgentHome, entry: Entry) -> None:
    """Write an entry down; the oldest of too many go."""
    line = msgspec.json.encode(entry) + b"\n"
    with contextlib.suppress(OSError):
        lines = _lines(home)
        if len(lines) < KEPT + KEPT // 4:
            with open(os.open(home.diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                file.write(line)
            return
        new = home.diary.with_name(f"{home.diary.name}.{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(b"".join(one + b"\n" for one in lines[-KEPT + 1 :]) + line)
        os.replace(new, home.diary)


def entries(home: AgentHome) -> list[Entry]:
    """All entries, newest first; lines that cannot be read are passed over."""
    found = []
    for line in reversed(_lines(home)):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            found.append(msgspec.json.decode(line, type=Entry))
    return found


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
