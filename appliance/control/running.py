"""Backups under way, as the transport process tells the web process: one small file, replaced once a second at most.

A file and not a table: progress may be lost, and a table would cost an fsync a second and make every process that
watches the control database look again. One writer; readers see a whole file or the one before. An entry that was
not renewed for `STALE_S` is not running: its process or its line died.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.control.text import one_line

log = logging.getLogger("pilulier.running")

STALE_S: Final = 90.0
WRITE_S: Final = 1.0
_FILE_LIMIT: Final = 64 * 1024 * 1024


class Entry(msgspec.Struct, frozen=True):
    """One machine in the file. `machine` is its id in hex; times in seconds since 1970."""

    machine: str
    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    started_at: float
    updated_at: float
    heard_at: float
    """When its agent last gave a sign of life."""
    first_at: float
    first_bytes: int
    """When bytes were first spoken of, and how many were done: a resumed backup begins in the middle."""


@dataclass(frozen=True, slots=True)
class Running:
    """A backup under way, as pages show it; `seconds_left` is None where the pace says nothing yet."""

    machine_id: bytes
    machine_name: str
    contract_id: str
    client_id: str
    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    rate_bytes_s: float
    seconds_left: float | None
    started_at: float
    updated_at: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Entry])


class Board:
    """The writer's side, in the process that hears agents. `flush` is one thread's; the rest any thread's."""

    __slots__ = ("_changed", "_entries", "_lock", "_path", "_written")

    def __init__(self, path: Path) -> None:
        """An empty board; what a process before this one left behind is wiped at the first `flush`."""
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._changed = True
        self._written = 0.0

    def note(
        self, machine: str, phase: str, files_done: int, files_total: int, bytes_done: int, bytes_total: int, now: float
    ) -> None:
        """A machine (id in hex) says where its backup stands; of several words in a second the last counts."""
        with self._lock:
            before = self._entries.get(machine)
            # A first backup does not know its total, and the word of its beginning speaks of no bytes at all.
            base = before if before is not None and (before.bytes_total or before.bytes_done) else None
            self._entries[machine] = Entry(
                machine,
                one_line(phase, 60),
                files_done,
                files_total,
                bytes_done,
                bytes_total,
                now if before is None else before.started_at,
                now,
                now,
                now if base is None else base.first_at,
                bytes_done if base is None else base.first_bytes,
            )
            self._changed = True

    def alive(self, machine: str, now: float) -> None:
        """Its agent gave a sign of life, though no progress: long phases are silent."""
        with self._lock:
            entry = self._entries.get(machine)
            if entry is not None:
                self._entries[machine] = msgspec.structs.replace(entry, heard_at=now)
                self._changed = True

    def drop(self, machine: str) -> None:
        """Its backup is over; harmless where none was noted."""
        with self._lock:
            if self._entries.pop(machine, None) is not None:
                self._changed = True

    def close(self) -> None:
        """Nothing runs any more."""
        with self._lock:
            self._entries.clear()
            self._changed = True
        self.flush(0.0, at_once=True)

    def flush(self, now: float, *, at_once: bool = False) -> None:
        """Write the file if something changed, at most once in `WRITE_S`; trouble is logged and no more."""
        with self._lock:
            if not self._changed or (not at_once and time.monotonic() - self._written < WRITE_S):
                return
            self._changed = False
            self._written = time.monotonic()
            self._entries = {key: entry for key, entry in self._entries.items() if now - entry.heard_at <= STALE_S}
            content = _encoder.encode(list(self._entries.values()))
        new = self._path.with_name(self._path.name + ".new")
        try:
            new.write_bytes(content)
            os.replace(new, self._path)
        except OSError as error:
            log.warning("%s cannot be written (%s): the web interface shows no progress", self._path, error.strerror)


def _entries(path: Path, now: float) -> list[Entry]:
    """What is running now; nothing where there is no file, or none that can be read."""
    try:
        with open(path, "rb") as file:
            entries = _decoder.decode(file.read(_FILE_LIMIT))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return []
    return [entry for entry in entries if -STALE_S <= now - entry.heard_at <= STALE_S]


def ids(path: Path, now: float) -> frozenset[bytes]:
    """The machines with a backup under way, in every scope: for `control_room.rows`, which filters by itself."""
    return frozenset(bytes.fromhex(entry.machine) for entry in _entries(path, now))


def listed(db: Database, scope: Scope, path: Path, now: float, space_id: str | None = None) -> list[Running]:
    """The backups under way in a scope, by client and machine."""
    entries = {bytes.fromhex(entry.machine): entry for entry in _entries(path, now)}
    if not entries:
        return []
    where = condition(scope)
    found = []
    # Asked for all machines in scope rather than for each entry: one query, however many run.
    for row in db.rows(
        "SELECT machine.id, machine.name, contract.id AS contract_id, contract.client_id FROM machine "
        f"JOIN contract ON contract.id = machine.contract_id WHERE {where.sql} AND machine.state = 'active' "
        "AND (? IS NULL OR contract.space_id = ?) ORDER BY contract.client_id, machine.name, machine.id",
        [*where.parameters, space_id, space_id],
    ):
        entry = entries.get(row["id"])
        if entry is not None:
            found.append(_running(entry, row["id"], row["name"], row["contract_id"], row["client_id"]))
    return found


def _running(entry: Entry, machine_id: bytes, name: str, contract_id: str, client_id: str) -> Running:
    elapsed_s = entry.updated_at - entry.first_at
    rate = max(0, entry.bytes_done - entry.first_bytes) / elapsed_s if elapsed_s > 0 else 0.0
    left = max(0, entry.bytes_total - entry.bytes_done) / rate if rate > 0 and entry.bytes_total else None
    return Running(
        machine_id,
        name,
        contract_id,
        client_id,
        entry.phase,
        entry.files_done,
        entry.files_total,
        entry.bytes_done,
        entry.bytes_total,
        rate,
        left,
        entry.started_at,
        entry.updated_at,
    )
