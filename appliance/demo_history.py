"""Made-up backups of made-up machines: statistics, configurations, changes and logs of many days.

Pure but for the inserts. A machine's fate says how its history ends; until its last days it is an ordinary one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from appliance.control.database import Database
from appliance.control.running import Board
from transport.messages import UsedConfiguration
from transport.schedule import Schedule

_FIGURES_OF_LINE: Final = 10**9


class Fate(StrEnum):
    """How a machine stands at the end."""

    OK = "ok"
    LATE = "late"
    FAILED = "failed"
    WARNING = "warning"
    NEVER = "never"
    REVOKED = "revoked"
    SUSPICIOUS = "suspicious"


@dataclass(frozen=True, slots=True)
class DemoMachine:
    """A machine and what its history is made from; `hour` in UTC, sizes as of its last day."""

    id: bytes
    name: str
    fate: Fate
    created_at: float
    source_bytes: int
    files: int
    hour: float
    twice: bool
    agent_version: str
    platform: str


def _times(machine: DemoMachine, dice: Random, now: float, days: int) -> Iterator[float]:
    """When it was backed up, oldest first."""
    if machine.fate is Fate.NEVER:
        return
    silent_days = {Fate.LATE: dice.randint(3, 12), Fate.REVOKED: 30}.get(machine.fate, 0)
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for back in range(days, -1, -1):
        for hour in (12.25, machine.hour) if machine.twice else (machine.hour,):
            missed = dice.random() < 0.03 and back > 3
            at = (midnight - timedelta(days=back)).timestamp() + hour * 3600 + dice.uniform(0, 1200)
            if not missed and machine.created_at < at <= now - 600 and back >= silent_days:
                yield at


def write(db: Database, dice: Random, machines: list[DemoMachine], now: float, days: int) -> tuple[int, int]:
    """All histories, inside the caller's transaction; the numbers of snapshots and of log lines."""
    snapshots = 0
    lines: list[tuple[float, bytes, str, str, str]] = []
    for machine in machines:
        times = list(_times(machine, dice, now, days))
        # Older machines have had snapshots before, which retention dropped.
        before = max(0, int((now - machine.created_at) / 86400) - days)
        for number, at in enumerate(times, before + 1):
            _snapshot(db, dice, machine, number, at, first=number == 1, last=at == times[-1], lines=lines)
        snapshots += len(times)
        _end(db, dice, machine, times, now, lines)
    lines.sort(key=lambda line: (line[0], line[1]))
    for at, machine_id, level, module, text in lines:
        db.execute(
            "INSERT INTO machine_log (machine_id, at, level, module, text) VALUES (?, ?, ?, ?, ?)",
            [machine_id, at, level, module, text],
        )
    return snapshots, len(lines)


def _snapshot(
    db: Database,
    dice: Random,
    machine: DemoMachine,
    number: int,
    at: float,
    *,
    first: bool,
    last: bool,
    lines: list[tuple[float, bytes, str, str, str]],
) -> None:
    # A slow, wavy growth up to the size of today, so that charts have a shape.
    age_days = max(0.0, (at - machine.created_at) / 86400)
    source = int(machine.source_bytes * (0.9 + 0.1 * min(1.0, age_days / 90)) * (1 + 0.01 * math.sin(age_days / 5)))
    if last:
        source = machine.source_bytes
    files = max(1, int(machine.files * source / machine.source_bytes))
    full = files if first else max(1, int(dice.lognormvariate(3.2, 0.8)))
    delta = 0 if first else int(dice.lognormvariate(1.8, 0.9))
    sent = int(source * (0.68 if first else dice.lognormvariate(-4.9, 0.7)))
    warnings = 0
    if (machine.fate is Fate.WARNING and last) or (not last and dice.random() < 0.015):
        warnings = dice.randint(1, 12)
    transfer_s = sent / dice.uniform(0.8e6, 4.5e6) + 2
    seconds = transfer_s + files / 9000 + dice.uniform(3, 40)
    complete = not (not last and not first and dice.random() < 0.01)
    db.execute(
        "INSERT INTO snapshot_statistics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *(machine.id, number, at, int(complete), files, full, delta, max(0, files - full - delta)),
            *(dice.randint(0, 3), dice.randint(0, 9), source, sent * 2, sent, 40_000 + files, seconds, transfer_s),
            warnings,
        ],
    )
    pid = dice.randint(800, 30_000)
    minutes = {int(machine.hour * 60), 735} if machine.twice else {int(machine.hour * 60)}
    used = UsedConfiguration(
        "manual" if first else "scheduled", Schedule(tuple(sorted(minutes))), 2, 3, 0, 65536, 0.5, 60.0
    )
    db.execute(
        "INSERT INTO snapshot_configuration VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *(machine.id, number, machine.agent_version, machine.platform, pid, machine.id * 2, 7, 1),
            msgspec.json.encode(used).decode(),
        ],
    )
    ended = int(files * 0.82) if machine.fate is Fate.SUSPICIOUS and last else min(files, full + delta)
    db.execute("INSERT INTO snapshot_change VALUES (?, ?, ?, ?)", [machine.id, number, files, 0 if first else ended])
    size = f"{source / 1e9:.1f} GB"
    told = [
        (at - seconds, "info", "scheduler", "Backup started"),
        (at - transfer_s, "info", "scanner", f"{files} files, {full} full, {delta} diff"),
        (at - 1, "info", "uploader", f"Progression : {files:,} files 100 % – {size}/{size}".replace(",", " ")),
    ]
    if warnings:
        told.append((at - 2, "warning", "source", f"{warnings} files were open in another program and were left out"))
    if complete:
        text = f"Backup ok: snapshot {number}, {files} files, {full} full, {delta} delta, {sent} bytes sent"
        told.append((at, "warning" if warnings else "info", "backup", text))
    else:
        told.append((at, "warning", "backup", "The line broke; what was sent is kept and the next backup goes on"))
    lines += [(when, machine.id, level, module, text) for when, level, module, text in told]


def _end(
    db: Database,
    dice: Random,
    machine: DemoMachine,
    times: list[float],
    now: float,
    lines: list[tuple[float, bytes, str, str, str]],
) -> None:
    """How it stands now."""
    seen: float | None = times[-1] if times else None
    if machine.fate in (Fate.OK, Fate.WARNING, Fate.SUSPICIOUS, Fate.FAILED):
        seen = now - dice.randint(20, 7000)
    if machine.fate is Fate.FAILED and times:
        at = max(times[-1] + 60, now - dice.randint(900, 20_000))
        text = dice.choice(
            (
                "Backup failed: the disk D: is not there any more",
                "Backup failed: the appliance could not be reached after 12 tries",
                "Backup failed: the database dump ended with code 3",
            )
        )
        lines.append((at, machine.id, "error", "backup", text))
        db.execute("UPDATE machine SET last_error_at = ?, last_error = ? WHERE id = ?", [at, text, machine.id])
    db.execute("UPDATE machine SET last_seen_at = ? WHERE id = ?", [seen, machine.id])


def pretend_running(db: Database, path: Path, seed: int, now: float, count: int = 4) -> int:
    """Write a few running backups into the file that the web interface reads; they count for 90 seconds."""
    dice = Random(seed)
    machines = db.rows("SELECT id FROM machine WHERE state = 'active' ORDER BY id")
    board = Board(path)
    for row in dice.sample(machines, min(count, len(machines))):
        total, files = dice.randint(2, 60) * _FIGURES_OF_LINE, dice.randint(4_000, 90_000)
        share, began = dice.uniform(0.1, 0.9), now - dice.randint(60, 1500)
        machine = row["id"].hex()
        board.note(machine, "sending", 0, files, 0, total, began)
        board.note(machine, "sending", int(files * share), files, int(total * share), total, now)
    board.flush(now, at_once=True)
    return min(count, len(machines))
