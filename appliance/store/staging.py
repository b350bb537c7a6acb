"""Staging: what each kind of record does to the catalog, the same at intake and at rebuild.

Works on an open transaction and a `State`; decides nothing about what a peer may say (`intake` does) and never
touches packs. Entries are born and die with the next snapshot, which nobody can see until its commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from appliance.store.catalog import FOREVER, State, select_in
from appliance.store.errors import DamagedRepositoryError
from appliance.store.pages import Layout
from appliance.store.records import PageRow, VersionRow
from transport.errors import ProtocolError
from transport.names import ID_BYTES, Digest, PathId, SegmentId, SessionId, VersionId
from transport.tree import AddedDigest, EntryBatch, EntryKind

_STAGED_ENTRIES: Final = 0
_STAGED_DEATHS: Final = 1
_TOKEN_BYTES: Final = 32

_EntryRow = tuple[PathId, PathId, int, int, int, int, VersionId, int, int, Digest, bytes]

SegmentRow = tuple[SegmentId, int, int, int, int]
"""(id, pack, offset of the record, payload length, plaintext length), as executemany wants it."""


def add_segments(connection: sqlite3.Connection, rows: Sequence[SegmentRow]) -> None:
    """Segments in the order of their arrival; ProtocolError where one exists."""
    try:
        connection.executemany(
            "INSERT INTO segment (id, pack, offset, length, plain) VALUES (?, ?, ?, ?, ?)", rows
        )
    except sqlite3.IntegrityError:
        held = held_segments(connection, {row[0] for row in rows})
        name = next(iter(held)).hex() if held else "?"
        raise ProtocolError(f"segment {name} is held already: a segment id is used once") from None


def held_segments(connection: sqlite3.Connection, ids: Collection[SegmentId]) -> dict[SegmentId, int]:
    """Plaintext length of those segments that are held."""
    return dict(select_in(connection, "SELECT id, plain FROM segment WHERE id IN ({})", ids))


def load_pages(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, bytes]:
    """Packed extents of pages; DamagedRepositoryError where one is missing."""
    found: dict[int, bytes] = dict(
        select_in(connection, "SELECT number, extents FROM page WHERE number IN ({})", numbers)
    )
    for number in numbers:
        if number not in found:
            raise DamagedRepositoryError(
                f"extent page {number} is not in the catalog: keep the packs, rebuild the catalog"
            )
    return found


def add_pages(connection: sqlite3.Connection, rows: Iterable[PageRow]) -> None:
    """New pages."""
    connection.executemany(
        "INSERT INTO page VALUES (?, ?, ?)", [(row.number, row.length_bytes, row.extents) for row in rows]
    )


def add_versions(connection: sqlite3.Connection, state: State, rows: Sequence[VersionRow]) -> None:
    """New versions, numbered in the order of their arrival; ProtocolError where one exists."""
    first = state.next_version
    state.next_version += len(rows)
    try:
        connection.executemany(
            "INSERT INTO version (id, number, size, span, body) VALUES (?, ?, ?, ?, ?)",
            [
                (row.version_id, number, row.size_bytes, row.span_bytes, row.body)
                for number, row in enumerate(rows, first)
            ],
        )
    except sqlite3.IntegrityError:
        raise ProtocolError("a version of this message is held already: a version id is used once") from None


def version_layout(connection: sqlite3.Connection, version: VersionId) -> Layout | None:
    """Where a version's bytes stand, or None if it is not held."""
    row = connection.execute("SELECT size, span, body FROM version WHERE id = ?", (version,)).fetchone()
    return None if row is None else Layout(*row)


def stage_entries(connection: sqlite3.Connection, state: State, number: int, batch: EntryBatch) -> None:
    """Entries of one batch; what lives under the same path id dies with the next snapshot."""
    born = state.next_snapshot
    header = batch.header
    connection.execute(
        "INSERT INTO batch VALUES (?, ?, ?, ?, ?)", (number, header.epoch, header.salt, header.commitment, born)
    )
    tokens: list[Digest] = []
    last: dict[PathId, int] = {}
    rows: list[_EntryRow] = []
    touched: set[PathId] = set()
    for record in batch.entries:
        token = record.token()
        tokens.append(token)
        last[record.path_id] = len(rows)
        touched.add(record.parent_id)
        if record.kind == EntryKind.FOLDER:
            touched.add(record.path_id)
        rows.append(
            (
                record.parent_id,
                record.path_id,
                born,
                FOREVER,
                record.kind,
                record.size,
                record.version_id,
                number,
                record.index,
                token,
                record.sealed,
            )
        )
    if len(last) != len(rows):
        rows = [rows[index] for index in sorted(last.values())]
    replaced = _end_live(connection, state, list(last), touched, {row[1]: row[0] for row in rows})
    rows.sort(key=_place)  # neighbours in the table's own order: fewer pages of the index are visited twice
    connection.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    state.live_entries += len(rows) - replaced
    state.next_batch = max(state.next_batch, number + 1)
    _note(connection, _STAGED_ENTRIES, b"".join(tokens), touched)


def _place(row: _EntryRow) -> tuple[bytes, bytes]:
    return row[0], row[1]


def stage_deaths(connection: sqlite3.Connection, state: State, paths: Sequence[PathId]) -> None:
    """Paths that die with the next snapshot; ProtocolError unless each is alive and named once."""
    if len(set(paths)) != len(paths):
        raise ProtocolError("a message of deaths names a path twice")
    touched: set[PathId] = set()
    ended = _end_live(connection, state, paths, touched, {})
    if ended != len(paths):
        raise ProtocolError(
            f"{len(paths) - ended} of {len(paths)} paths that are said to be gone were not there: "
            "the ledger has drifted, rebuild it"
        )
    state.live_entries -= ended
    _note(connection, _STAGED_DEATHS, b"".join(paths), touched)


def _end_live(
    connection: sqlite3.Connection,
    state: State,
    paths: Sequence[PathId],
    touched: set[PathId],
    parents: Mapping[PathId, PathId],
) -> int:
    """End what lives under these path ids; how many did. `parents` are those of the entries that come instead."""
    born_now = state.next_snapshot
    never_seen: list[tuple[bytes, bytes, int]] = []
    ending: list[tuple[int, bytes, bytes, int]] = []
    statement = f"SELECT path, parent, kind, born FROM entry WHERE died = {FOREVER} AND path IN ({{}})"
    for path, parent, kind, born in select_in(connection, statement, paths):
        if parents.get(path, parent) != parent:
            raise ProtocolError(f"entry {path.hex()} is alive in folder {parent.hex()}: it cannot be in another one")
        touched.add(parent)
        if kind == EntryKind.FOLDER:
            touched.add(path)
        if born == born_now:
            never_seen.append((parent, path, born))
        else:
            ending.append((born_now, parent, path, born))
    if never_seen:
        connection.executemany("DELETE FROM entry WHERE parent = ? AND path = ? AND born = ?", never_seen)
    if ending:
        connection.executemany("UPDATE entry SET died = ? WHERE parent = ? AND path = ? AND born = ?", ending)
    return len(never_seen) + len(ending)


def _note(connection: sqlite3.Connection, kind: int, items: bytes, touched: Iterable[PathId]) -> None:
    connection.execute("INSERT INTO staged (kind, items) VALUES (?, ?)", (kind, items))
    connection.executemany("INSERT OR IGNORE INTO touched VALUES (?)", [(folder,) for folder in touched])


def added_digest(connection: sqlite3.Connection) -> Digest:
    """Digest over what is staged, in staging order."""
    added = AddedDigest()
    for kind, items in connection.execute("SELECT kind, items FROM staged ORDER BY number"):
        if kind == _STAGED_ENTRIES:
            for at in range(0, len(items), _TOKEN_BYTES):
                added.entry(Digest(items[at : at + _TOKEN_BYTES]))
        else:
            for at in range(0, len(items), ID_BYTES):
                added.death(PathId(items[at : at + ID_BYTES]))
    return added.digest()


def drop_staged(connection: sqlite3.Connection, state: State) -> None:
    """Forget entries, deaths and half-sent versions that no commit took; segments and versions stay."""
    born = state.next_snapshot
    within = "parent IN (SELECT folder FROM touched)"
    connection.execute(f"DELETE FROM entry WHERE born = ? AND {within}", (born,))
    connection.execute(f"UPDATE entry SET died = {FOREVER} WHERE died = ? AND {within}", (born,))
    connection.execute("DELETE FROM batch WHERE born = ?", (born,))
    connection.execute("DELETE FROM partial")
    forget_staging(connection)
    row = connection.execute("SELECT entry_count FROM snapshot WHERE number = ?", (state.head,)).fetchone()
    state.live_entries = row[0] if row else 0


def anything_staged(connection: sqlite3.Connection) -> bool:
    """Whether entries, deaths or parts of a version wait for a commit."""
    row = connection.execute("SELECT EXISTS (SELECT 1 FROM staged) OR EXISTS (SELECT 1 FROM partial)").fetchone()
    return bool(row[0])


def newest_segment(connection: sqlite3.Connection) -> int:
    """The highest number of a segment, 0 for none."""
    row = connection.execute("SELECT max(number) FROM segment").fetchone()
    return row[0] or 0


def uncommitted(connection: sqlite3.Connection, state: State) -> bool:
    """Whether a session left anything that no snapshot took."""
    newest = newest_segment(connection)
    left = newest > state.committed_segment or state.next_version - 1 > state.committed_version
    return left or anything_staged(connection)


def move_lease(connection: sqlite3.Connection, state: State) -> None:
    """At the beginning of a session, before what is staged is dropped: if the one before left nothing uncommitted,
    all that came so far is the sweep's to judge. What a killed one left stays leased until it is in a commit."""
    if not uncommitted(connection, state):
        state.leased_segment, state.leased_version = newest_segment(connection), state.next_version - 1


def release(connection: sqlite3.Connection, state: State) -> None:
    """What no snapshot took counts as committed, and the session that sent it cannot be resumed."""
    if uncommitted(connection, state):
        drop_staged(connection, state)
        state.session, state.session_start, state.received_upto = SessionId(b""), state.head, 0
    state.committed_segment = state.leased_segment = newest_segment(connection)
    state.committed_version = state.leased_version = state.next_version - 1


def forget_staging(connection: sqlite3.Connection) -> None:
    """The notes that led to a commit are not needed after it."""
    connection.execute("DELETE FROM staged")
    connection.execute("DELETE FROM touched")
