"""Reading a snapshot: its entries by folder or whole, and the extents of versions, in bounded pages.

Single short statements only, each stopped when its page is full: a reader's lock would hold up the writer's commit.
An entry is true in snapshot n when born <= n < died, so no page changes while a writer goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from appliance.store import staging
from appliance.store.catalog import select_in
from appliance.store.errors import DamagedRepositoryError, UnknownItemError
from appliance.store.pages import EXTENT, Layout, flat_extents, unpack_extents
from transport.errors import ProtocolError
from transport.extents import ExtentPage
from transport.names import NO_DIGEST, Digest, PathId, VersionId, checked_id
from transport.tree import BatchHeader, EntryKind, EntryPage, EntryRecord, ListedEntry

PAGE_LIMIT_BYTES: Final = 700_000
_ENTRY_OVERHEAD_BYTES: Final = 3 * 18 + 34 + 40
_HEADER_OVERHEAD_BYTES: Final = 80
_VERSIONS_PER_QUERY: Final = 64
"""A version's body is 128 KiB at most, so a group's is 8 MiB."""
_PAGE_COST: Final = 2
"""What a page takes beside its extents, as extents."""

_COLUMNS: Final = (
    "SELECT e.path, e.parent, e.kind, e.size, e.version, e.idx, e.sealed, e.batch, "
    "(SELECT f.digest FROM folder f WHERE e.kind = 1 AND f.path = e.path AND f.died > :n AND f.born <= :n "
    "ORDER BY f.died LIMIT 1) "
    "FROM entry e "
)
_CHILDREN: Final = (
    _COLUMNS + "WHERE e.parent = :folder AND e.path > :after AND e.born <= :n AND e.died > :n "
    "ORDER BY e.path"
)
_TREE: Final = (
    _COLUMNS + "WHERE e.path > :after AND e.born <= :n AND e.died > :n ORDER BY e.path"
)


def check_snapshot(connection: sqlite3.Connection, snapshot: int) -> None:
    """UnknownItemError unless the snapshot exists and its tree is held."""
    row = connection.execute("SELECT retired FROM snapshot WHERE number = ?", (snapshot,)).fetchone()
    if row is None:
        raise UnknownItemError(f"there is no snapshot {snapshot}: list the snapshots and choose one of them")
    if row[0]:
        raise UnknownItemError(f"snapshot {snapshot} is no longer held: choose a newer one")


def children(
    connection: sqlite3.Connection, snapshot: int, folder: PathId, after: PathId, limit_bytes: int
) -> EntryPage:
    """Entries of one folder with path ids above `after`, in their order, under `limit_bytes` once encoded."""
    values: dict[str, int | bytes] = {
        "n": snapshot,
        "folder": checked_id(folder, "a folder id"),
        "after": checked_id(after, "a path id"),
    }
    return _page(connection, _CHILDREN, values, limit_bytes)


def tree(connection: sqlite3.Connection, snapshot: int, after: PathId, limit_bytes: int) -> EntryPage:
    """Entries of the whole snapshot with path ids above `after`, in their order."""
    return _page(connection, _TREE, {"n": snapshot, "after": checked_id(after, "a path id")}, limit_bytes)


def _page(
    connection: sqlite3.Connection, statement: str, values: dict[str, int | bytes], limit_bytes: int
) -> EntryPage:
    """Entries until the page is full; always at least one, since ENTRY_SEALED_LIMIT keeps one small enough."""
    batches: dict[int, int] = {}
    entries: list[ListedEntry] = []
    used, more = 0, False
    cursor = connection.execute(statement, values)
    for row in cursor:
        batch = row[7]
        cost = len(row[6]) + _ENTRY_OVERHEAD_BYTES + (0 if batch in batches else _HEADER_OVERHEAD_BYTES)
        if entries and used + cost > limit_bytes:
            more = True
            break
        used += cost
        index = batches.setdefault(batch, len(batches))
        digest = row[8] if row[2] == EntryKind.FOLDER and row[8] is not None else NO_DIGEST
        entries.append(ListedEntry(index, EntryRecord(*row[:7]), Digest(digest)))
    cursor.close()
    wanted = "SELECT number, epoch, salt, commitment FROM batch WHERE number IN ({})"
    headers = {row[0]: BatchHeader(*row[1:]) for row in select_in(connection, wanted, batches)}
    if len(headers) != len(batches):
        raise DamagedRepositoryError("an entry's batch is not in the catalog: keep the packs, rebuild the catalog")
    return EntryPage([headers[number] for number in batches], entries, more)


def extent_pages(
    connection: sqlite3.Connection, versions: Sequence[VersionId], start: int, limit: int
) -> list[ExtentPage]:
    """Pages of at most `limit` merged extents of these versions, the first one from byte `start`, in their order.

    Ends where the limit is used up: the last page may have `more`, and the versions behind it have none. Versions are
    looked up in groups: one query and one lock for each of 30,000 small files were a tenth of what a restore cost the
    appliance (measured).
    """
    pages: list[ExtentPage] = []
    for at in range(0, len(versions), _VERSIONS_PER_QUERY):
        group = versions[at : at + _VERSIONS_PER_QUERY]
        wanted = "SELECT id, size, span, body FROM version WHERE id IN ({})"
        layouts = {row[0]: Layout(*row[1:]) for row in select_in(connection, wanted, group)}
        for version in group:
            page = _extents(connection, version, layouts.get(version), start, limit)
            pages.append(page)
            limit -= len(page.extents) + _PAGE_COST
            start = 0
            if page.more or limit <= 0:
                return pages
    return pages


def extents(connection: sqlite3.Connection, version: VersionId, start: int, limit: int) -> ExtentPage:
    """At most `limit` merged extents of a version from byte `start`, where a former page ended."""
    return _extents(connection, version, staging.version_layout(connection, version), start, limit)


def _extents(
    connection: sqlite3.Connection, version: VersionId, layout: Layout | None, start: int, limit: int
) -> ExtentPage:
    if limit < 1:
        raise ProtocolError(f"{limit} extents were asked for")
    if layout is None:
        raise UnknownItemError(f"version {version.hex()} is not held")
    if not start and len(layout.body) == EXTENT.size and not layout.span_bytes:
        return ExtentPage(version, layout.size_bytes, 0, unpack_extents(layout.body), False)  # as most files are
    if not 0 <= start <= layout.size_bytes:
        raise ProtocolError(f"extents from byte {start} of a version of {layout.size_bytes} bytes")

    def load(numbers: list[int]) -> dict[int, bytes]:
        return staging.load_pages(connection, numbers)

    found, more = flat_extents(layout, load, start, limit)
    return ExtentPage(version, layout.size_bytes, start, found, more)


_FILES: Final = (
    "SELECT path, version FROM entry WHERE path > ? AND kind = 0 AND born <= ? AND died > ? ORDER BY path LIMIT ?"
)
_SELECTED: Final = "SELECT path, kind, version FROM entry WHERE path IN ({}) AND born <= ? AND died > ?"
_BELOW: Final = "SELECT path, kind, version FROM entry WHERE parent = ? AND born <= ? AND died > ?"
_FILES_AT_ONCE: Final = 10_000


def file_versions(connection: sqlite3.Connection, snapshot: int, paths: Sequence[PathId]) -> Iterator[VersionId]:
    """The versions of the files of a snapshot under these paths, themselves included; of all its files for none.

    No key is needed: which folder a path lies in stands in clear. A path may come twice where one lies below another.
    """
    n = (snapshot, snapshot)
    if not paths:
        after = b""
        while rows := connection.execute(_FILES, (after, *n, _FILES_AT_ONCE)).fetchall():
            yield from (VersionId(version) for _, version in rows)
            after = rows[-1][0]
        return
    pending: list[bytes] = []
    for path in paths:
        checked_id(path, "a path id")
    for at in range(0, len(paths), _VERSIONS_PER_QUERY):
        group = paths[at : at + _VERSIONS_PER_QUERY]
        marks = ", ".join("?" * len(group))
        for path, kind, version in connection.execute(_SELECTED.format(marks), (*group, *n)).fetchall():
            if kind == EntryKind.FILE:
                yield VersionId(version)
            elif kind == EntryKind.FOLDER:
                pending.append(path)
    while pending:
        for path, kind, version in connection.execute(_BELOW, (pending.pop(), *n)).fetchall():
            if kind == EntryKind.FILE:
                yield VersionId(version)
            elif kind == EntryKind.FOLDER:
                pending.append(path)
