"""The commit record of a run: what is signed of the tree that the ledger and its staged rows make."""

from __future__ import annotations

import time
from dataclasses import dataclass

from agent import __version__
from agent.enrolling import Enrolled
from agent.ledger import Ledger
from transport.commits import COMMIT_FORMAT, COMMIT_LABEL, FIRST_PREVIOUS, CommitRecord
from transport.names import Digest


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run is told of its contract."""

    over_quota: bool
    retention_floor_days: int


def commit_record(
    machine: Enrolled,
    ledger: Ledger,
    *,
    epoch: int,
    began_ms: int,
    complete: bool,
    retention_floor_days: int,
    added: Digest,
) -> CommitRecord:
    """The record that follows the ledger's head. `began_ms`: when the run began, milliseconds since 1970."""
    settings, head, after = machine.settings, ledger.head(), ledger.tree_after()
    return CommitRecord(
        label=COMMIT_LABEL,
        format=COMMIT_FORMAT,
        vault=settings.vault,
        repository=settings.machine,
        installation=settings.installation,
        epoch=epoch,
        number=head.decoded().number + 1 if head else 1,
        previous=head.hash() if head else FIRST_PREVIOUS,
        root=after.root,
        entry_count=after.entry_count,
        bytes_source=after.bytes_source,
        started_ms=began_ms,
        ended_ms=int(time.time() * 1000),
        complete=complete,
        selection=settings.selection.digest(),
        retention_floor_days=retention_floor_days,
        agent_version=__version__,
        added=added,
    )
