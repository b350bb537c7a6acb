"""Looking into this machine's snapshots: lists and folders, proved against the signed history."""

from __future__ import annotations

from agent.enrolling import Enrolled, check_welcome
from agent.ledger import last_head
from agent.remote import RemoteSource
from transport.commits import SignedCommit
from transport.errors import UsageError
from transport.snapshot_reader import (
    History,
    Node,
    Snapshot,
    SnapshotReader,
    SnapshotSource,
    choose_snapshot,
    verify_history,
)
from transport.tree import FileType


def list_snapshots(machine: Enrolled) -> list[Snapshot]:
    """All snapshots, oldest first, signatures and chain checked."""
    client = machine.client()
    try:
        check_welcome(machine, client.connect())
        return list(proved(machine, RemoteSource(client), last_head(machine.home)).snapshots)
    finally:
        client.close()


def proved(machine: Enrolled, source: SnapshotSource, witness: SignedCommit | None) -> History:
    """This machine's history, every signature, link and succession of it checked."""
    return verify_history(
        source.commits(),
        machine.keys.signing.public,
        witness,
        vault=machine.settings.vault,
        repository=machine.settings.machine,
        successions=source.successions(),
        approver=machine.settings.appliance.identity,
    )


def reader_for(
    machine: Enrolled, source: SnapshotSource, witness: SignedCommit | None, number: int | None, at_ms: int | None
) -> SnapshotReader:
    """A reader of one proved snapshot (the newest by default)."""
    chosen = choose_snapshot(proved(machine, source, witness), number=number, at_ms=at_ms)
    return SnapshotReader(source, machine.sealer(), chosen)


def list_path(machine: Enrolled, path: bytes, number: int | None, at_ms: int | None) -> list[Node]:
    """What a folder holds, or a file itself."""
    client = machine.client()
    try:
        check_welcome(machine, client.connect())
        return nodes_at(reader_for(machine, RemoteSource(client), last_head(machine.home), number, at_ms), path)
    finally:
        client.close()


def nodes_at(reader: SnapshotReader, path: bytes) -> list[Node]:
    """What a folder of a snapshot holds, or a file itself; UsageError where there is neither."""
    if path.strip(b"/"):
        node = reader.find(path)
        if node is None:
            raise UsageError(
                f"snapshot {reader.snapshot.number} does not hold {path.decode('utf-8', 'backslashreplace')}"
            )
        if node.type != FileType.FOLDER:
            return [node]
    return reader.listing(path)
