"""Putting a database back out of a snapshot: found by its name, restored and proved, handed to its own program.

The dump lands on the disk first, in a folder that goes afterwards: its MAC is only known at its end, and before that an
appliance that lies could have put other bytes of this machine in its place, lines that `psql` would take for commands.
Nothing that was not proved is ever run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.enrolling import Enrolled
from agent.errors import DatabaseError
from agent.history import reader_for
from agent.ledger import last_head
from agent.remote import RemoteSource
from agent.restore import RestoreProgress, restore
from agent.sources import mariadb, postgresql, sqlite
from agent.sources.configured import Connection, SqliteSource
from agent.sources.places import dump_named, folder_path
from transport.errors import PilulierError, UsageError


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be put back, and where."""

    name: str
    into: str
    """A database, or for SQLite a file."""
    replace: bool
    connection: Connection | None
    """None: as the source of this name says."""
    scratch: Path | None
    """The folder on whose disk the dump lands; None: the agent's home, for SQLite the folder of `into`."""
    snapshot: int | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """What was done. `kept_as`: what became of a former database, empty where there was none or it is gone."""

    name: str
    kind: str
    snapshot: int
    into: str
    bytes: int
    seconds: float
    kept_as: str


def restore_database(
    machine: Enrolled,
    source: RemoteSource,
    wish: Wish,
    progress: Callable[[RestoreProgress], None] | None = None,
) -> PutBack:
    """Carry it out over an opened restore session; the sentence of the error says what was left as it was."""
    began = time.monotonic()
    reader = reader_for(machine, source, last_head(machine.home), wish.snapshot, wish.at_ms)
    top = reader.find(folder_path())
    found = dump_named(reader.children(top), wish.name) if top is not None else None
    if found is None:
        where = os.fsdecode(folder_path())
        raise UsageError(
            f"snapshot {reader.snapshot.number} holds no database {wish.name!r}: ls {where} shows which it holds; an "
            "earlier one (--snapshot, --at) may hold what is not dumped any more"
        )
    node, kind = found
    into = Path(wish.into).absolute()
    scratch = wish.scratch or (into.parent if kind == "sqlite" else machine.home.dumps)
    if scratch == machine.home.dumps:
        scratch.mkdir(mode=0o700, exist_ok=True)
    if not scratch.is_dir():
        raise UsageError(f"{scratch} is no folder: make it first")
    free = shutil.disk_usage(scratch).free
    if free < node.size:
        raise UsageError(
            f"the dump needs {node.size / 1e6:.0f} MB in {scratch}, and {free / 1e6:.0f} MB are free: "
            "name a folder on a larger disk with --scratch"
        )
    with tempfile.TemporaryDirectory(prefix=".pilulier-restoring-", dir=scratch) as folder:
        report = restore(
            source,
            machine.sealer(),
            machine.keys.signing.public,
            witness=last_head(machine.home),
            target=os.fsencode(folder),
            paths=[node.path()],
            snapshot=reader.snapshot.number,
            repository=machine.settings.machine,
            approver=machine.settings.appliance.identity,
            progress=progress,
        )
        if report.errors:
            raise DatabaseError(f"the dump could not be restored whole: {report.errors[0].reason}")
        file = Path(folder) / os.fsdecode(node.path()).lstrip("/")
        kept = _hand_over(machine, wish, kind, file, into)
    return PutBack(
        wish.name,
        kind,
        reader.snapshot.number,
        str(into) if kind == "sqlite" else wish.into,
        node.size,
        time.monotonic() - began,
        kept,
    )


def _hand_over(machine: Enrolled, wish: Wish, kind: str, file: Path, into: Path) -> str:
    stamp = datetime.now().strftime("%Y%m%dT%H%M%S")
    if kind == "sqlite":
        return sqlite.put_back(file, into, replace=wish.replace, stamp=stamp)
    connection = wish.connection or _configured(machine, wish.name)
    load = postgresql.put_back if kind == "postgresql" else mariadb.put_back
    return load(connection, file, wish.into, replace=wish.replace, stamp=stamp)


def _configured(machine: Enrolled, name: str) -> Connection:
    """As the source says; on a machine that has none of this name, what the client programs find by themselves."""
    try:
        source = machine.settings.databases.named(name)
    except PilulierError:
        return Connection()
    return Connection() if isinstance(source, SqliteSource) else source.connection
