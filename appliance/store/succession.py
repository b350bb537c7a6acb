"""Which keys sign a repository's commits: the one it was founded with, and those that followed.

Owns the SUCCESSION record and the catalog's table of them. A succession is taken only right behind the head, so that
what a former key signed stays as it is and nothing more of it comes; from then on commits and orders to mend are the
new key's alone. Whether the approver is one to believe is not decided here: the appliance takes only what its own
identity approved, and readers say whom they believe. The table is made with the first succession, and the catalog is
of format 3 from then on: a program that knows no successions then refuses it instead of calling history forged.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from appliance.store import snapshots
from appliance.store.catalog import WITH_SUCCESSIONS, State
from appliance.store.errors import StaleHeadError
from appliance.store.packs import Group, Identity
from appliance.store.records import Kind, SuccessionRecord, encode_payload
from transport.errors import IntegrityError
from transport.keys import verify_mend, verify_succession
from transport.mending import MendOrder, SignedMend
from transport.signers import Signers
from transport.succession import SignedSuccession, Succession

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS succession (number INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, "
    "record BLOB NOT NULL, signature BLOB NOT NULL)"
)


def records(connection: sqlite3.Connection) -> list[SuccessionRecord]:
    """All of them, in order, as they stand in the packs."""
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'succession'").fetchone()
    if there is None:
        return []
    rows = connection.execute("SELECT received_ms, record, signature FROM succession ORDER BY number").fetchall()
    return [SuccessionRecord(row[0], SignedSuccession(row[1], row[2])) for row in rows]


def signed_successions(connection: sqlite3.Connection) -> list[SignedSuccession]:
    """All of them, in order."""
    return [record.signed for record in records(connection)]


def signers(connection: sqlite3.Connection, identity: Identity) -> Signers:
    """Who may sign what; IntegrityError or DecodeError where the catalog is not what was signed."""
    return Signers.of(identity.public_key, signed_successions(connection))


def take(
    connection: sqlite3.Connection, identity: Identity, state: State, group: Group, record: SuccessionRecord
) -> None:
    """Put a succession behind the head, in the packs and in the catalog; nothing where it is the newest one already.

    StaleHeadError where it stands behind another snapshot, IntegrityError where it is not what follows here.
    """
    if signed_successions(connection)[-1:] == [record.signed]:
        return
    succession = verify_succession(record.signed)
    if (succession.after, succession.head) != (state.head, snapshots.head_hash(connection, state.head)):
        raise StaleHeadError(
            f"succession {succession.number} stands behind snapshot {succession.after}, and the newest one is "
            f"{state.head}: recover again"
        )
    _add(connection, identity, succession, record)
    group.add(Kind.SUCCESSION, encode_payload(record))


def replay(connection: sqlite3.Connection, identity: Identity, record: SuccessionRecord) -> None:
    """What a record in the packs does to a catalog that is made anew. One that is known changes nothing."""
    known = records(connection)
    if record not in known:
        _add(connection, identity, verify_succession(record.signed), record)


def _add(
    connection: sqlite3.Connection, identity: Identity, succession: Succession, record: SuccessionRecord
) -> None:
    if (succession.vault, succession.repository) != (identity.vault, identity.repository):
        raise IntegrityError(f"succession {succession.number} was made for another repository or vault than this one")
    signers(connection, identity).followed_by(succession)
    connection.execute(_TABLE)
    connection.execute("UPDATE state SET format = ?", (WITH_SUCCESSIONS,))
    connection.execute(
        "INSERT INTO succession VALUES (?, ?, ?, ?)",
        (succession.number, record.received_ms, record.signed.record, record.signed.signature),
    )


def verify_any_mend(connection: sqlite3.Connection, identity: Identity, mend: SignedMend) -> MendOrder:
    """The order, signed by any key of this repository: one in the packs was taken when that key was in force."""
    keys = signers(connection, identity).keys
    for key in keys[:0:-1]:
        try:
            return verify_mend(key, mend)
        except IntegrityError:
            continue
    return verify_mend(keys[0], mend)
