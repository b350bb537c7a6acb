"""Making a snapshot of what was staged: the tree is checked and its digests computed, then compared with the commit.

Only folders that the staged records touched, and their ancestors, are computed again: a commit without changes
reads nothing of the tree. Works on an open transaction; whatever is refused leaves everything as it was, since the
caller rolls back. Signatures are checked by the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from appliance.store import staging
from appliance.store.catalog import FOREVER, State
from appliance.store.changed_folders import ChangedFolders
from appliance.store.errors import CommitRefusedError, LedgerDriftError, StaleHeadError
from transport.commits import FIRST_PREVIOUS, CommitRecord, SignedCommit, StoredCommit
from transport.names import NO_VERSION, ROOT, Digest, PathId
from transport.tree import EMPTY_FOLDER, Child, EntryKind, ordered_folder_digest

_COMMIT_COLUMNS: Final = "record, signature, received_ms, bytes_received, retired"


def head_hash(connection: sqlite3.Connection, head: int) -> Digest:
    """The hash of snapshot `head`, FIRST_PREVIOUS for 0."""
    row = connection.execute("SELECT hash FROM snapshot WHERE number = ?", (head,)).fetchone()
    return Digest(row[0]) if row else FIRST_PREVIOUS


def check_head(connection: sqlite3.Connection, state: State, head: Digest, *, resumed: bool) -> None:
    """StaleHeadError unless `head` is the newest snapshot's hash, or in a resumed session one that it stood on."""
    if head == head_hash(connection, state.head):
        return
    if resumed:
        row = connection.execute("SELECT number FROM snapshot WHERE hash = ?", (head,)).fetchone()
        number = 0 if head == FIRST_PREVIOUS else row[0] if row else -1
        if number >= state.session_start:
            return
    raise StaleHeadError(
        f"the newest snapshot of this repository is number {state.head}, and the agent stands on another one: "
        "if this PC was restored from an image, resync it; if two PCs share this machine's keys, enrol one anew"
    )


def signed_commit(connection: sqlite3.Connection, number: int) -> SignedCommit | None:
    """One commit as it was signed."""
    row = connection.execute("SELECT record, signature FROM snapshot WHERE number = ?", (number,)).fetchone()
    return SignedCommit(*row) if row else None


def stored_commits(connection: sqlite3.Connection, after: int, limit: int) -> list[StoredCommit]:
    """Commits numbered above `after`, ascending."""
    rows = connection.execute(
        f"SELECT {_COMMIT_COLUMNS} FROM snapshot WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
    ).fetchall()
    return [StoredCommit(SignedCommit(row[0], row[1]), row[2], row[3], bool(row[4])) for row in rows]


def check_place(connection: sqlite3.Connection, state: State, record: CommitRecord) -> None:
    """StaleHeadError unless the commit stands right after the head."""
    if record.number != state.next_snapshot or record.previous != head_hash(connection, state.head):
        raise StaleHeadError(
            f"snapshot {record.number} does not follow this repository's newest one, number {state.head}: "
            "read the head again, rebuild the ledger from it, and go on from there"
        )


def apply_staged(connection: sqlite3.Connection, state: State, record: CommitRecord) -> None:
    """Check what is staged, write the new folder digests, and compare all with `record`.

    CommitRefusedError for a tree that is broken, LedgerDriftError where only the agent's sums differ from ours.
    """
    number = state.next_snapshot
    _check_versions(connection, number)
    root = write_digests(connection, number)
    if record.entry_count != state.live_entries:
        raise LedgerDriftError(
            f"snapshot {number} counts {record.entry_count} entries, the catalog {state.live_entries}: "
            "the agent's ledger has drifted, rebuild it"
        )
    if record.added != staging.added_digest(connection):
        raise LedgerDriftError(
            f"snapshot {number} was signed over other additions than those received: the agent's ledger has "
            "drifted, rebuild it"
        )
    if record.root != root:
        raise LedgerDriftError(
            f"snapshot {number} has root {record.root.hex()}, the catalog {root.hex()}: the agent's ledger has "
            "drifted, rebuild it"
        )


def add_snapshot(
    connection: sqlite3.Connection,
    state: State,
    signed: SignedCommit,
    *,
    received_ms: int,
    bytes_received: int,
    pack: int,
    offset: int,
) -> None:
    """The snapshot stands; what was staged is now part of history, and what was uploaded is committed."""
    connection.execute(
        "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        (
            state.next_snapshot,
            signed.hash(),
            signed.record,
            signed.signature,
            state.live_entries,
            received_ms,
            bytes_received,
            pack,
            offset,
        ),
    )
    staging.forget_staging(connection)
    state.head = state.next_snapshot
    row = connection.execute("SELECT max(number) FROM segment").fetchone()
    state.committed_segment = row[0] or 0
    state.committed_version = state.next_version - 1


def _check_versions(connection: sqlite3.Connection, number: int) -> None:
    row = connection.execute(
        "SELECT e.path, e.version, e.size, v.size FROM touched t "
        "CROSS JOIN entry e ON e.parent = t.folder AND e.born = ? "
        "LEFT JOIN version v ON v.id = e.version "
        "WHERE e.version != ? AND (v.size IS NULL OR v.size != e.size) LIMIT 1",
        (number, NO_VERSION),
    ).fetchone()
    if row is None:
        return
    path, version, size, held = row
    if held is None:
        raise CommitRefusedError(f"entry {path.hex()} names version {version.hex()}, which is not held")
    raise CommitRefusedError(f"entry {path.hex()} of {size} bytes names version {version.hex()} of {held} bytes")


def write_digests(connection: sqlite3.Connection, number: int) -> Digest:
    """Write the digests of all folders that changed, deepest first; the root's digest."""
    folders = ChangedFolders(connection, lambda folder: _set_digest(connection, number, folder, None))
    for folder in folders.deepest_first():
        _set_digest(connection, number, folder, ordered_folder_digest(_children(connection, folder)))
    row = connection.execute(
        "SELECT digest FROM folder WHERE path = ? AND died = ?", (ROOT, FOREVER)
    ).fetchone()
    return Digest(row[0]) if row else EMPTY_FOLDER


def _children(connection: sqlite3.Connection, folder: PathId) -> Iterator[Child]:
    """In the order of their path ids; a folder may have a million."""
    rows = connection.execute(
        "SELECT e.path, e.token, e.kind, f.digest FROM entry e "
        f"LEFT JOIN folder f ON e.kind = {int(EntryKind.FOLDER)} AND f.path = e.path AND f.died = {FOREVER} "
        f"WHERE e.parent = ? AND e.died = {FOREVER} ORDER BY e.path",
        (folder,),
    )
    for path, token, kind, digest in rows:
        if kind == EntryKind.FOLDER and digest is None:
            raise CommitRefusedError(f"folder {path.hex()} has no digest: keep the packs, rebuild the catalog")
        yield Child(path, token, digest)


def _set_digest(connection: sqlite3.Connection, number: int, folder: PathId, digest: Digest | None) -> None:
    """End the folder's present digest and, unless it is gone, begin the new one."""
    row = connection.execute(
        "SELECT digest FROM folder WHERE path = ? AND died = ?", (folder, FOREVER)
    ).fetchone()
    if row is not None:
        if row[0] == digest:
            return
        connection.execute("UPDATE folder SET died = ? WHERE path = ? AND died = ?", (number, folder, FOREVER))
    if digest is not None:
        connection.execute("INSERT INTO folder VALUES (?, ?, ?, ?)", (folder, FOREVER, number, digest))
