"""Checking a repository without a key and without mending anything: packs, catalog, chain, tree, extents.

Reads packs once, in order and in large blocks, only as far as the catalog knew when the check began, so it can run
beside a writer. Every finding names pack and offset, or the catalog. Knows neither sessions nor messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.store import snapshots, staging
from appliance.store.catalog import Catalog, select_in
from appliance.store.layout import Layout, pack_name
from appliance.store.packs import Damage, Found, PackWalk
from appliance.store.pages import ZERO_PAGE, unpack_extents
from appliance.store.pages import Layout as VersionLayout
from appliance.store.records import (
    CommitRecordOnDisk,
    DeathsRecord,
    EntriesRecord,
    HeaderRecord,
    Kind,
    PagesRecord,
    VersionsRecord,
    decode_payload,
    sealed_plain_length,
    segment_id_of,
)
from transport.commits import FIRST_PREVIOUS
from transport.errors import DecodeError, IntegrityError
from transport.extents import Extent
from transport.keys import verify_commit
from transport.names import ID_BYTES, NO_VERSION, ROOT, ZERO_SEGMENT, Digest, PathId, SegmentId
from transport.tree import EMPTY_FOLDER, Child, EntryKind, EntryRecord, folder_digest

ERROR_LIMIT: Final = 1000
"""A report stops growing here; the first findings say enough."""
_ROWS: Final = 500
_PAGE_ROWS: Final = 64
"""A hostile page may be 900 KiB long."""


@dataclass(frozen=True, slots=True)
class CheckError:
    """One finding. `pack` is a file name, or "catalog" with offset 0; `kind` the record kind or what was compared."""

    pack: str
    offset: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. `bytes_read` counts bytes of packs."""

    ok: bool
    records_checked: int
    bytes_read: int
    errors: list[CheckError]


def check_repository(layout: Layout, catalog: Catalog, *, read_data: bool) -> CheckReport:
    """Everything that can be checked without a key; with `read_data`, the checksum of every segment too."""
    checker = _Checker(layout, catalog, read_data)
    checker.packs()
    checker.chain()
    checker.tree()
    checker.versions()
    return CheckReport(not checker.errors, checker.records, checker.bytes_read, checker.errors)


def live_bytes(catalog: Catalog) -> int:
    """Sealed bytes of the segments that a held version names or that no snapshot covers yet."""
    top = catalog.state().committed_segment
    live: set[int] = set()
    for portion in _extent_portions(catalog):
        named = {segment for segment, _, _ in portion if segment != ZERO_SEGMENT}
        rows = select_in(catalog.connection, "SELECT number FROM segment WHERE id IN ({})", named)
        live.update(row[0] for row in rows)
    total = 0
    for number, length in catalog.connection.execute("SELECT number, length FROM segment"):
        if number > top or number in live:
            total += length - ID_BYTES
    return total


def _extent_portions(catalog: Catalog) -> Iterator[list[Extent]]:
    """All extents of inline versions and of pages, in portions, each from one short statement."""
    for _, rows in _chunks(catalog, "SELECT id, body FROM version WHERE span = 0 AND id > ? ORDER BY id", b""):
        yield [extent for row in rows for extent in unpack_extents(row[1])]
    statement = "SELECT number, extents FROM page WHERE number > ? ORDER BY number"
    for _, rows in _chunks(catalog, statement, 0, _PAGE_ROWS):
        yield [extent for row in rows for extent in unpack_extents(row[1])]


def _chunks(
    catalog: Catalog, statement: str, first: Any, limit: int = _ROWS
) -> Iterator[tuple[Any, list[tuple[Any, ...]]]]:
    """Rows in portions, going on after the first column of the last row: (that value, rows)."""
    after = first
    while rows := catalog.connection.execute(f"{statement} LIMIT {limit}", (after,)).fetchall():
        after = rows[-1][0]
        yield after, rows


class _Checker:
    def __init__(self, layout: Layout, catalog: Catalog, read_data: bool) -> None:
        self._layout = layout
        self._catalog = catalog
        self._connection = catalog.connection
        self._read_data = read_data
        # Sizes before the rest: rows added later by a writer stand beyond them and are not looked for.
        self._state = catalog.state()
        self._packs = catalog.packs()
        self._commits: set[int] = set()
        self.records = 0
        self.bytes_read = 0
        self.errors: list[CheckError] = []

    def _report(self, pack: str, offset: int, kind: str, detail: str) -> None:
        if len(self.errors) < ERROR_LIMIT:
            self.errors.append(CheckError(pack, offset, kind, detail))

    def _catalog_error(self, kind: str, detail: str) -> None:
        self._report("catalog", 0, kind, detail)

    # Packs against the catalog

    def packs(self) -> None:
        """Walk every pack, and look in it for everything that the catalog says is there."""
        for number in self._packs:
            found = len(self.errors), self.records
            self._pack(number)
            while (now := self._catalog.pack(number)).generation != self._packs[number].generation:
                # It was compacted meanwhile, so places were compared that belong to two generations.
                self._packs[number] = now
                del self.errors[found[0] :]
                self.records = found[1]
                self._pack(number)

    def _name(self, number: int) -> str:
        return pack_name(number, self._packs[number].generation)

    def _pack(self, number: int) -> None:
        name, size = self._name(number), self._packs[number].size_bytes
        path = self._layout.pack(number, self._packs[number].generation)
        try:
            actual = path.stat().st_size
        except OSError as error:
            self._report(name, 0, "pack", f"is missing ({error.strerror}): put it back from a copy")
            return
        if actual < size:
            self._report(name, actual, "pack", f"is {actual} bytes long, but {size} were acknowledged")
        try:
            self._walk(number, PackWalk(path, min(size, actual), read_data=self._read_data))
        except OSError as error:
            self._report(name, 0, "pack", f"cannot be read ({error.strerror}): check the disk")

    def _walk(self, number: int, walk: PackWalk) -> None:
        expected = {
            row[1]: row
            for row in self._connection.execute(
                "SELECT id, offset, length, plain FROM segment WHERE pack = ? AND offset < ?",
                (number, self._packs[number].size_bytes),
            ).fetchall()
        }
        damaged: list[tuple[int, int]] = []
        for step in walk:
            if isinstance(step, Damage):
                self._report(self._name(number), step.offset, step.kind, step.detail)
                damaged.append((step.offset, step.end))
                continue
            self.records += 1
            try:
                self._record(number, step, expected)
            except DecodeError as error:
                self._report(self._name(number), step.offset, step.kind.name, str(error))
        self.bytes_read += walk.bytes_read
        for segment, offset, *_ in expected.values():
            if not any(start <= offset < end for start, end in damaged):
                detail = f"segment {segment.hex()} should stand here and does not"
                self._report(self._name(number), offset, Kind.SEGMENT.name, detail)

    def _record(self, number: int, found: Found, expected: dict[int, Any]) -> None:
        payload, name = found.payload, self._name(number)
        if found.offset == 0 and found.kind != Kind.HEADER:
            self._report(name, 0, found.kind.name, "a pack that does not begin with a header")
        if found.kind == Kind.SEGMENT:
            row = expected.pop(found.offset, None)
            segment = segment_id_of(payload)
            plain = sealed_plain_length(payload[ID_BYTES:], found.length_bytes - ID_BYTES)
            if row is None or (row[0], row[2], row[3]) != (segment, found.length_bytes, plain):
                self._report(name, found.offset, "SEGMENT", f"the catalog knows segment {segment.hex()} otherwise")
        elif found.kind == Kind.HEADER:
            header = decode_payload(payload, HeaderRecord)
            ours = self._catalog.identity
            if (header.repository, header.vault, header.public_key, header.pack) != (
                ours.repository,
                ours.vault,
                ours.public_key,
                number,
            ):
                self._report(name, found.offset, "HEADER", "this pack belongs to another repository or place")
        elif found.kind == Kind.PAGES:
            self._pages(name, found.offset, decode_payload(payload, PagesRecord))
        elif found.kind == Kind.VERSIONS:
            self._version_rows(name, found.offset, decode_payload(payload, VersionsRecord))
        elif found.kind == Kind.ENTRIES:
            decode_payload(payload, EntriesRecord)
        elif found.kind == Kind.DEATHS:
            decode_payload(payload, DeathsRecord)
        else:
            self._commit(number, found.offset, decode_payload(payload, CommitRecordOnDisk))

    def _pages(self, name: str, offset: int, record: PagesRecord) -> None:
        numbers = [page.number for page in record.pages]
        statement = "SELECT number, length, extents FROM page WHERE number IN ({})"
        held = {row[0]: row[1:] for row in select_in(self._connection, statement, numbers)}
        for page in record.pages:
            if held.get(page.number) != (page.length_bytes, page.extents):
                self._report(name, offset, "PAGES", f"the catalog knows page {page.number} otherwise")

    def _version_rows(self, name: str, offset: int, record: VersionsRecord) -> None:
        ids = [row.version_id for row in record.versions]
        statement = "SELECT id, size, span, body FROM version WHERE id IN ({})"
        held = {row[0]: row[1:] for row in select_in(self._connection, statement, ids)}
        for row in record.versions:
            if held.get(row.version_id) != (row.size_bytes, row.span_bytes, row.body):
                self._report(name, offset, "VERSIONS", f"the catalog knows version {row.version_id.hex()} otherwise")

    def _commit(self, number: int, offset: int, record: CommitRecordOnDisk) -> None:
        row = self._connection.execute(
            "SELECT number, record, signature, received_ms, bytes_received FROM snapshot WHERE pack = ? AND offset = ?",
            (number, offset),
        ).fetchone()
        held = (record.signed.record, record.signed.signature, record.received_ms, record.bytes_received)
        if row is None or row[1:] != held:
            self._report(self._name(number), offset, "COMMIT", "the catalog knows this snapshot otherwise")
        else:
            self._commits.add(row[0])

    # Chain and tree

    def chain(self) -> None:
        """Every commit in the packs, signed by this machine, each after the one before."""
        previous, number = FIRST_PREVIOUS, 0
        while commits := snapshots.stored_commits(self._connection, number, _ROWS):
            for stored in commits:
                number += 1
                if number > self._state.head:
                    return
                try:
                    record = verify_commit(self._catalog.identity.public_key, stored.signed)
                except (IntegrityError, DecodeError) as error:
                    self._catalog_error("COMMIT", f"snapshot {number}: {error}")
                else:
                    ours = (self._catalog.identity.repository, self._catalog.identity.vault)
                    if record.number != number or record.previous != previous:
                        self._catalog_error("COMMIT", f"snapshot {number} does not follow the one before it")
                    if (record.repository, record.vault) != ours:
                        self._catalog_error("COMMIT", f"snapshot {number} belongs to another repository")
                if number not in self._commits:
                    self._catalog_error("COMMIT", f"snapshot {number} stands in no pack")
                previous = stored.signed.hash()
        if number < self._state.head:
            self._catalog_error("COMMIT", f"snapshot {number + 1} of {self._state.head} is missing")

    def tree(self) -> None:
        """The head's tree: every token, every folder's digest from its children's, up to the signed root.

        A folder that vouches for its children by their digests, which are checked the same way, makes the root
        stand for all; one pass in folder order, a folder at a time in memory.
        """
        head = self._state.head
        signed = snapshots.signed_commit(self._connection, head)
        if signed is None:
            return
        try:
            record = signed.decoded()
        except DecodeError:
            return  # named by `chain`
        count = 0
        seen: set[bytes] = set()
        group: list[Child] = []
        parent: PathId | None = None
        for row in self._entries(head):
            if row[0] != parent:
                self._folder(head, parent, group, seen)
                parent, group = row[0], []
            count += 1
            entry = EntryRecord(row[1], row[0], row[3], row[4], row[5], row[6], row[8])
            if entry.token() != row[7]:
                self._catalog_error("ENTRIES", f"entry {row[1].hex()} is not what its token was made from")
            digest = self._digest(head, row[1]) if row[3] == EntryKind.FOLDER else None
            if row[3] == EntryKind.FOLDER and digest is None:
                self._catalog_error("tree", f"folder {row[1].hex()} has no digest")
                digest = EMPTY_FOLDER
            group.append(Child(row[1], row[7], digest))
        self._folder(head, parent, group, seen)
        root = self._digest(head, ROOT) or EMPTY_FOLDER
        if root != record.root:
            self._catalog_error("tree", f"snapshot {head}: its folders make another root than the signed one")
        if count != record.entry_count:
            self._catalog_error("tree", f"snapshot {head} holds {count} entries, {record.entry_count} were signed")
        self._empty_folders(head, seen)

    def _entries(self, head: int) -> Iterator[tuple[Any, ...]]:
        parent, path, born = b"", b"", -1
        while rows := self._connection.execute(
            "SELECT parent, path, born, kind, size, version, idx, token, sealed, died FROM entry "
            f"WHERE (parent, path, born) > (?, ?, ?) ORDER BY parent, path, born LIMIT {_ROWS}",
            (parent, path, born),
        ).fetchall():
            parent, path, born = rows[-1][:3]
            for row in rows:
                if row[2] <= head < row[9]:
                    yield row

    def _digest(self, head: int, folder: bytes) -> Digest | None:
        row = self._connection.execute(
            "SELECT digest FROM folder WHERE path = ? AND died > ? AND born <= ? ORDER BY died LIMIT 1",
            (folder, head, head),
        ).fetchone()
        return Digest(row[0]) if row else None

    def _folder(self, head: int, folder: PathId | None, group: list[Child], seen: set[bytes]) -> None:
        if folder is None:
            return
        seen.add(folder)
        if self._digest(head, folder) != folder_digest(group):
            self._catalog_error("tree", f"folder {folder.hex()} has another digest than its entries make")
        if folder == ROOT:
            return
        row = self._connection.execute(
            "SELECT kind FROM entry WHERE path = ? AND born <= ? AND died > ?", (folder, head, head)
        ).fetchone()
        if row is None or row[0] != EntryKind.FOLDER:
            self._catalog_error("tree", f"entries stand in {folder.hex()}, which is no folder of snapshot {head}")

    def _empty_folders(self, head: int, seen: set[bytes]) -> None:
        """Folders without entries must have the digest of an empty one."""
        after = b""
        while rows := self._connection.execute(
            f"SELECT path, digest FROM folder WHERE path > ? AND born <= ? AND died > ? ORDER BY path LIMIT {_ROWS}",
            (after, head, head),
        ).fetchall():
            after = rows[-1][0]
            for path, digest in rows:
                if path not in seen and digest != EMPTY_FOLDER:
                    self._catalog_error("tree", f"folder {path.hex()} lost its entries")

    # Versions

    def versions(self) -> None:
        """Extents within their segments, pages of the right length, versions of the right size, entries served."""
        statement = "SELECT number, length, extents FROM page WHERE number > ? ORDER BY number"
        for _, rows in _chunks(self._catalog, statement, 0, _PAGE_ROWS):
            self._extents([(f"page {row[0]}", row[1], row[2]) for row in rows])
        for _, rows in _chunks(self._catalog, "SELECT id, size, span, body FROM version WHERE id > ? ORDER BY id", b""):
            self._extents([(f"version {row[0].hex()}", row[1], row[3]) for row in rows if not row[2]])
            for version, size, span, body in rows:
                if span:
                    self._paged(f"version {version.hex()}", VersionLayout(size, span, body))
        row = self._connection.execute(
            "SELECT e.path FROM entry e LEFT JOIN version v ON v.id = e.version "
            "WHERE e.version != ? AND e.born <= ? AND (v.size IS NULL OR v.size != e.size) LIMIT 1",
            (NO_VERSION, self._state.head),
        ).fetchone()
        if row is not None:
            self._catalog_error("VERSIONS", f"entry {row[0].hex()} names a version that is not held with its size")

    def _extents(self, items: list[tuple[str, int, bytes]]) -> None:
        lists: list[tuple[str, int, list[Extent]]] = []
        for what, length, body in items:
            try:
                lists.append((what, length, unpack_extents(body)))
            except DecodeError as error:
                self._catalog_error("extents", f"{what}: {error}")
        named: set[SegmentId] = {segment for _, _, extents in lists for segment, _, _ in extents}
        plain = staging.held_segments(self._connection, named)
        for what, length, extents in lists:
            for segment, offset, size in extents:
                if segment != ZERO_SEGMENT and offset + size > plain.get(segment, 0):
                    self._catalog_error(
                        "extents", f"{what}: extent out of bounds (offset={offset}, length={size}, "
                        f"segment={segment.hex()} of {plain.get(segment, 0)})"
                    )
            if sum(extent[2] for extent in extents) != length:
                self._catalog_error("extents", f"{what}: its extents do not make {length} bytes")

    def _paged(self, what: str, layout: VersionLayout) -> None:
        try:
            numbers = layout.page_numbers()
        except DecodeError:
            numbers = []
        expected = -(-layout.size_bytes // layout.span_bytes)
        if len(numbers) != expected:
            self._catalog_error("extents", f"{what} has {len(numbers)} pages, not {expected}")
            return
        statement = "SELECT number, length FROM page WHERE number IN ({})"
        lengths: dict[int, int] = dict(select_in(self._connection, statement, set(numbers)))
        for index, number in enumerate(numbers):
            if number != ZERO_PAGE and lengths.get(number) != layout.page_bytes(index):
                self._catalog_error("extents", f"{what}: page {number} does not span its place {index}")
                return

