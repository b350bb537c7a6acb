"""History in the catalog against what was signed: the chain of commits, the tree of every held snapshot, extents.

A tree is checked folder by folder: whatever changed a folder, between any two held snapshots, must show in its digest,
and the digests of the root must be the signed ones. So one pass over the entries stands for all snapshots, and memory
holds one folder at a time. Reads no pack; every finding is about the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from appliance.store import snapshots, staging, succession
from appliance.store.catalog import Catalog, select_in
from appliance.store.pages import ZERO_PAGE, unpack_extents
from appliance.store.pages import Layout as VersionLayout
from appliance.store.upkeep.findings import Findings, View, moment
from transport.commits import FIRST_PREVIOUS
from transport.errors import DecodeError, IntegrityError
from transport.extents import Extent
from transport.keys import verify_commit
from transport.names import NO_VERSION, ROOT, ZERO_SEGMENT, Digest, PathId, SegmentId
from transport.signers import Signers
from transport.tree import EMPTY_FOLDER, Child, EntryKind, EntryRecord, folder_digest

_ROWS: Final = 500
_PAGE_ROWS: Final = 64
"""A hostile page may be 900 KiB long."""


@dataclass(frozen=True, slots=True)
class _Entry:
    path: PathId
    born: int
    died: int
    kind: int
    token: Digest


@dataclass(frozen=True, slots=True)
class _Dated:
    """A folder's digest with its interval."""

    born: int
    died: int
    digest: Digest


class HistoryChecker:
    """The three parts may be called in any order."""

    def __init__(self, catalog: Catalog, view: View, findings: Findings) -> None:
        self._catalog = catalog
        self._connection = catalog.connection
        self._view = view
        self._findings = findings
        self._head = view.state.head

    # Chain

    def chain(self, in_packs: set[int]) -> None:
        """Every commit up to the head, retired ones included: in the packs, signed, each after the one before."""
        previous, number = FIRST_PREVIOUS, 0
        signers = self._signers()
        ours = (self._catalog.identity.repository, self._catalog.identity.vault)
        report = self._findings.catalog
        while commits := snapshots.stored_commits(self._connection, number, _ROWS):
            for stored in commits:
                number += 1
                if number > self._head:
                    return
                try:
                    record = verify_commit(signers.at(number), stored.signed)
                    signers.check_place(number, stored.signed.hash())
                except (IntegrityError, DecodeError) as error:
                    report("COMMIT", f"snapshot {number}: {error}")
                else:
                    if record.number != number or record.previous != previous:
                        report("COMMIT", f"snapshot {number} does not follow the one before it")
                    if (record.repository, record.vault) != ours:
                        report("COMMIT", f"snapshot {number} belongs to another repository")
                if number not in in_packs:
                    report("COMMIT", f"snapshot {number} stands in no pack")
                previous = stored.signed.hash()
        if number < self._head:
            report("COMMIT", f"snapshot {number + 1} of {self._head} is missing")

    def _signers(self) -> Signers:
        """Who signs what; where the successions do not hold, the founding key alone, and that is a finding."""
        identity = self._catalog.identity
        try:
            signers = succession.signers(self._connection, identity)
            signers.check_place(0, FIRST_PREVIOUS)
            ours = (identity.repository, identity.vault)
            if any((one.repository, one.vault) != ours or one.after > self._head for one in signers.successions):
                raise IntegrityError("a succession belongs to another repository, or stands behind no snapshot of it")
        except (IntegrityError, DecodeError) as error:
            self._findings.catalog("SUCCESSION", str(error))
            return Signers(identity.public_key)
        return signers

    # Trees

    def trees(self) -> None:
        """Tokens, folder digests, roots and counts of every held snapshot."""
        _Trees(self._catalog, self._view, self._findings).check()

    # Versions

    def versions(self) -> None:
        """Extents within their segments, pages of the right length, versions of the right size, entries served."""
        statement = f"SELECT number, length, extents FROM page WHERE number > ? ORDER BY number LIMIT {_PAGE_ROWS}"
        after: Any = 0
        while True:
            with moment(self._catalog):
                rows = self._connection.execute(statement, (after,)).fetchall()
                self._extents([(f"page {row[0]}", row[1], row[2]) for row in rows])
            if not rows:
                break
            after = rows[-1][0]
        statement = f"SELECT id, size, span, body FROM version WHERE id > ? ORDER BY id LIMIT {_ROWS}"
        after = b""
        while True:
            with moment(self._catalog):
                rows = self._connection.execute(statement, (after,)).fetchall()
                self._extents([(f"version {row[0].hex()}", row[1], row[3]) for row in rows if not row[2]])
                for version, size, span, body in rows:
                    if span:
                        self._paged(f"version {version.hex()}", VersionLayout(size, span, body))
            if not rows:
                break
            after = rows[-1][0]
        row = self._connection.execute(
            "SELECT e.path FROM entry e LEFT JOIN version v ON v.id = e.version "
            "WHERE e.version != ? AND e.born <= ? AND (v.size IS NULL OR v.size != e.size) LIMIT 1",
            (NO_VERSION, self._head),
        ).fetchone()
        if row is not None:
            detail = f"entry {row[0].hex()} names a version that is not held with its size"
            self._findings.catalog("VERSIONS", detail)

    def _extents(self, items: list[tuple[str, int, bytes]]) -> None:
        report = self._findings.catalog
        lists: list[tuple[str, int, list[Extent]]] = []
        for what, length, body in items:
            try:
                lists.append((what, length, unpack_extents(body)))
            except DecodeError as error:
                report("extents", f"{what}: {error}")
        named: set[SegmentId] = {segment for _, _, extents in lists for segment, _, _ in extents}
        plain = staging.held_segments(self._connection, named)
        for what, length, extents in lists:
            for segment, offset, size in extents:
                if segment != ZERO_SEGMENT and offset + size > plain.get(segment, 0):
                    report(
                        "extents",
                        f"{what}: extent out of bounds (offset={offset}, length={size}, "
                        f"segment={segment.hex()} of {plain.get(segment, 0)})",
                    )
            if sum(extent[2] for extent in extents) != length:
                report("extents", f"{what}: its extents do not make {length} bytes")

    def _paged(self, what: str, layout: VersionLayout) -> None:
        try:
            numbers = layout.page_numbers()
        except DecodeError:
            numbers = []
        expected = -(-layout.size_bytes // layout.span_bytes)
        if len(numbers) != expected:
            self._findings.catalog("extents", f"{what} has {len(numbers)} pages, not {expected}")
            return
        statement = "SELECT number, length FROM page WHERE number IN ({})"
        lengths: dict[int, int] = dict(select_in(self._connection, statement, set(numbers)))
        for index, number in enumerate(numbers):
            if number != ZERO_PAGE and lengths.get(number) != layout.page_bytes(index):
                self._findings.catalog("extents", f"{what}: page {number} does not span its place {index}")
                return


class _Trees:
    """One check of all trees. Findings wait until the end: a snapshot that was retired meanwhile may lose its tree."""

    def __init__(self, catalog: Catalog, view: View, findings: Findings) -> None:
        self._catalog = catalog
        self._connection = catalog.connection
        self._findings = findings
        self._held = view.held
        self._head = view.state.head
        self._counts: dict[int, int] = {}
        self._seen: set[bytes] = set()
        self._found: list[tuple[int, str]] = []
        """(snapshot, what is wrong in it)."""

    def check(self) -> None:
        if not self._held:
            return
        group: list[_Entry] = []
        parent: PathId | None = None
        for row in self._rows():
            if row[0] != parent:
                self._folder(parent, group)
                parent, group = row[0], []
            entry = EntryRecord(row[1], row[0], row[3], row[4], row[5], row[6], row[8])
            if entry.token() != row[7]:
                self._findings.catalog("ENTRIES", f"entry {row[1].hex()} is not what its token was made from")
            self._counts[row[2]] = self._counts.get(row[2], 0) + 1
            self._counts[row[9]] = self._counts.get(row[9], 0) - 1
            group.append(_Entry(row[1], row[2], row[9], row[3], row[7]))
        self._folder(parent, group)
        self._empty_folders()
        self._roots()
        statement = "SELECT number FROM snapshot WHERE NOT retired AND number IN ({})"
        still = {row[0] for row in select_in(self._connection, statement, {number for number, _ in self._found})}
        for number, detail in self._found:
            if number in still:
                self._findings.catalog("tree", detail)

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        after: tuple[Any, ...] = (b"", b"", -1)
        while rows := self._connection.execute(
            "SELECT parent, path, born, kind, size, version, idx, token, sealed, died FROM entry "
            f"WHERE (parent, path, born) > (?, ?, ?) ORDER BY parent, path, born LIMIT {_ROWS}",
            after,
        ).fetchall():
            after = rows[-1][:3]
            for row in rows:
                if row[2] <= self._head:
                    yield row

    def _digests(self, folder: bytes) -> list[_Dated]:
        rows = self._connection.execute("SELECT born, died, digest FROM folder WHERE path = ? ORDER BY died", (folder,))
        return [_Dated(*row) for row in rows]

    def _folder(self, folder: PathId | None, entries: Sequence[_Entry]) -> None:
        """All of a folder's entries at once: its digest is made anew for one snapshot between any two changes."""
        if folder is None:
            return
        self._seen.add(folder)
        own = self._digests(folder)
        below = {entry.path: self._digests(entry.path) for entry in entries if entry.kind == EntryKind.FOLDER}
        changes = {moment for dated in own for moment in (dated.born, dated.died)}
        changes.update(moment for entry in entries for moment in (entry.born, entry.died))
        changes.update(moment for dates in below.values() for dated in dates for moment in (dated.born, dated.died))
        kinds = self._connection.execute("SELECT born, died, kind FROM entry WHERE path = ?", (folder,)).fetchall()
        changes.update(moment for row in kinds for moment in row[:2])
        for number in self._between(changes):
            self._folder_at(number, folder, entries, own, below)
            there = any(entry.born <= number < entry.died for entry in entries)
            is_folder = any(born <= number < died and kind == EntryKind.FOLDER for born, died, kind in kinds)
            if there and folder != ROOT and not is_folder:
                detail = f"entries stand in {folder.hex()}, which is no folder of snapshot {number}"
                self._found.append((number, detail))

    def _between(self, changes: set[int]) -> Iterator[int]:
        """The first held snapshot from each change on, before the next one."""
        ordered, at, last = sorted(changes), 0, -1
        for number in self._held:
            while at < len(ordered) and ordered[at] <= number:
                at += 1
            if at != last:
                last = at
                yield number

    def _folder_at(
        self,
        number: int,
        folder: PathId,
        entries: Sequence[_Entry],
        own: Sequence[_Dated],
        below: Mapping[PathId, Sequence[_Dated]],
    ) -> None:
        children: list[Child] = []
        for entry in entries:
            if not entry.born <= number < entry.died:
                continue
            digest = None
            if entry.kind == EntryKind.FOLDER:
                digest = _at(below[entry.path], number)
                if digest is None:
                    self._found.append((number, f"folder {entry.path.hex()} has no digest in snapshot {number}"))
                    digest = EMPTY_FOLDER
            children.append(Child(entry.path, entry.token, digest))
        held = _at(own, number)
        if held is None and not children:
            return
        if held != folder_digest(children):
            self._found.append(
                (number, f"folder {folder.hex()} has another digest than its entries make in snapshot {number}")
            )

    def _empty_folders(self) -> None:
        """Folders without any entry must have the digest of an empty one."""
        after: tuple[Any, ...] = (b"", -1)
        while rows := self._connection.execute(
            "SELECT path, died, born, digest FROM folder WHERE (path, died) > (?, ?) "
            f"ORDER BY path, died LIMIT {_ROWS}",
            after,
        ).fetchall():
            after = rows[-1][:2]
            for path, died, born, digest in rows:
                if path not in self._seen and digest != EMPTY_FOLDER:
                    number = next((number for number in self._held if born <= number < died), None)
                    if number is not None:
                        self._found.append((number, f"folder {path.hex()} lost its entries in snapshot {number}"))

    def _roots(self) -> None:
        dates = self._digests(ROOT)
        moments = sorted(self._counts)
        sums = list(accumulate(self._counts[moment] for moment in moments))
        at = 0
        for number in self._held:
            while at < len(moments) and moments[at] <= number:
                at += 1
            count = sums[at - 1] if at else 0
            signed = snapshots.signed_commit(self._connection, number)
            if signed is None:
                continue  # named by `chain`
            try:
                record = signed.decoded()
            except DecodeError:
                continue  # the same
            if (_at(dates, number) or EMPTY_FOLDER) != record.root:
                self._found.append((number, f"snapshot {number}: its folders make another root than the signed one"))
            if count != record.entry_count:
                detail = f"snapshot {number} holds {count} entries, {record.entry_count} were signed"
                self._found.append((number, detail))


def _at(dates: Sequence[_Dated], number: int) -> Digest | None:
    """The digest that is true in a snapshot."""
    for dated in dates:
        if dated.born <= number < dated.died:
            return dated.digest
    return None
