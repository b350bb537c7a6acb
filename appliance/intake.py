"""Intake: what an agent's backup session does to its repository, and what the control database hears of it.

Runs on worker threads, one at a time per machine. Order: pack records, fsync, catalog, and only then the
acknowledgement (the repository does the first three). Knows nothing of sockets: answers are returned.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from appliance.connections import Connection, credit_for
from appliance.control import configurations, machine_logs, machines, observations, statistics
from appliance.control.configurations import MachineConfiguration
from appliance.control.database import Database
from appliance.control.machines import AuthorisedMachine
from appliance.errors import PausedError
from appliance.store.repository import Repository
from transport import messages as m
from transport.errors import RefusedError
from transport.names import Digest, InstallationId, SegmentId, SessionId

Staged = tuple[m.PutSegment | m.PutVersions | m.PutEntries | m.PutDeaths | m.PutMend, bytes]


class InstallationError(RefusedError):
    """Another installation of this machine has taken over."""

    code = "installation"


def begin(
    message: m.BackupBegin,
    connection: Connection,
    machine: AuthorisedMachine,
    installation: InstallationId,
    repository: Repository,
    promised_bytes: int,
) -> m.BackupBegun:
    """Open or resume an upload session; `promised_bytes` is the credit of all others."""
    if machine.paused:
        raise PausedError(
            f"contract {machine.client_id} is paused, so no backup is accepted; restores go on. "
            "Ask whoever manages the contract to resume it"
        )
    if installation != machine.installation:
        raise InstallationError(
            f"machine {machine.name} was taken over by another installation (a resync on another PC): "
            "if this PC is the right one, run pilulier-agent resync here; if it is a copy, enrol it as a new machine"
        )
    received_upto = repository.begin(SessionId(message.session), Digest(message.head))
    connection.put_failed = False
    connection.credit_bytes = credit_for(promised_bytes)
    return m.BackupBegun(received_upto, connection.credit_bytes, repository.held_count())


def put(items: Sequence[Staged], repository: Repository) -> m.Acknowledged:
    """Make a group of numbered messages durable."""
    return m.Acknowledged(repository.stage(items, now_ms=int(time.time() * 1000)))


def commit(
    message: m.PutCommit,
    connection: Connection,
    machine: AuthorisedMachine,
    repository: Repository,
    database: Database,
) -> m.Committed:
    """Make a snapshot of what was staged, then write its statistics."""
    now = time.time()
    number = repository.commit(
        message.seq, message.commit, received_ms=int(now * 1000), bytes_received=connection.wire_bytes
    )
    connection.wire_bytes = 0
    record, hello = message.commit.decoded(), connection.hello
    complete = record.complete
    with database.write():
        statistics.record(database, machine.machine_id, number, complete=complete, figures=message.figures, now=now)
        configurations.record(
            database,
            machine.machine_id,
            number,
            MachineConfiguration(
                agent_version=record.agent_version,
                platform=hello.platform if hello else "",
                pid=hello.pid if hello else 0,
                selection=record.selection.hex(),
                retention_floor_days=record.retention_floor_days,
                key_epoch=record.epoch,
                used=message.configuration,
            ),
        )
        if message.observed is not None:
            observations.record(database, machine.machine_id, number, message.observed, now)
    if complete:
        figures = message.figures
        text = (
            f"Backup ok: snapshot {number}, {figures.files_total} files, {figures.files_full} full, "
            f"{figures.files_delta} delta, {figures.bytes_sent} bytes sent"
        )
        if machine.over_quota:
            text += "; the contract is over its allocated volume"
        level = "warning" if figures.warnings or machine.over_quota else "info"
        machine_logs.add(database, machine.machine_id, level=level, module="backup", text=text, now=now)
    return m.Committed(message.seq, number, message.commit.hash())


def log_line(message: m.LogLine, machine: AuthorisedMachine, database: Database) -> None:
    """Keep a line that an agent sent."""
    machine_logs.add(
        database, machine.machine_id, level=message.level, module=message.module, text=message.text, now=time.time()
    )


def held(message: m.HeldQuery, repository: Repository) -> m.Held:
    """A page of uncommitted segments."""
    return m.Held(repository.held_after(SegmentId(message.after), m.IDS_PER_MESSAGE))


def has_versions(message: m.HasVersions, repository: Repository) -> m.Versions:
    """Which versions can serve as bases."""
    return m.Versions(repository.has_versions(message.versions))


def hello(message: m.Hello, machine: AuthorisedMachine, database: Database) -> None:
    """Note that the machine was seen."""
    machines.seen(
        database,
        machine.machine_id,
        agent_version=message.agent_version,
        platform=message.platform,
        now=time.time(),
    )
