"""Retiring: snapshots that are no longer held. A record in the packs says so before the catalog does.

What retiring does to a catalog is `apply`, the same here and at rebuild. The newest snapshot is never retired: agents
stand on it. Which snapshots may go is `retention`'s to say; the bytes go with `sweep` and `compact`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from appliance.store import staging
from appliance.store.catalog import State
from appliance.store.errors import StoreError, UnknownItemError
from appliance.store.records import Kind, RetirementRecord, encode_payload
from appliance.store.repository import Repository


def retire(
    repository: Repository, numbers: Collection[int], *, now_ms: int, released: bool = False
) -> frozenset[int]:
    """Retire these snapshots durably; those that were held until now.

    `released`: what was uploaded and no snapshot took may be swept too, and its session begins anew. UnknownItemError
    for a number that is no snapshot, StoreError for the newest one; then nothing is done. Without anything to do
    nothing is written.
    """
    with repository.recording() as recording:
        connection, state = recording.connection, recording.state
        fresh = _held(connection, state, numbers)
        if fresh or (released and _anything_to_release(connection, state)):
            record = RetirementRecord(now_ms, sorted(fresh), released)
            recording.group.add(Kind.RETIREMENT, encode_payload(record))
            apply(connection, state, record)
    return fresh


def apply(connection: sqlite3.Connection, state: State, record: RetirementRecord) -> None:
    """What the record does to a catalog, in an open transaction; `state` is saved by the caller."""
    numbers = [(number,) for number in record.snapshots]
    connection.executemany("UPDATE snapshot SET retired = 1 WHERE number = ?", numbers)
    if record.released:
        staging.release(connection, state)


def _held(connection: sqlite3.Connection, state: State, numbers: Collection[int]) -> frozenset[int]:
    known: dict[int, int] = dict(connection.execute("SELECT number, retired FROM snapshot").fetchall())
    for number in sorted(numbers):
        if number not in known:
            raise UnknownItemError(f"there is no snapshot {number} to retire: list the snapshots and choose among them")
        if number == state.head:
            raise StoreError(f"snapshot {number} is the newest one and is always kept: choose older ones")
    return frozenset(number for number in numbers if not known[number])


def _anything_to_release(connection: sqlite3.Connection, state: State) -> bool:
    newest = (staging.newest_segment(connection), state.next_version - 1)
    return newest != (state.leased_segment, state.leased_version) or staging.anything_staged(connection)
