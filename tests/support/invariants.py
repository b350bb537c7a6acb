"""What must be true of a repository whatever happened to it, looked at from outside.

Owns `Expected`, what an agent may rely on after the acknowledgements it got; `PackReader`, a slow reader of the packs
written from FORMAT.md that shares no code with the store; and `check_invariants`, which compares the two with what the
repository's own façade answers. Raises `Loss`, one sentence each. Knows no column of the catalog.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import struct
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.store.catalog import connect
from appliance.store.errors import DamagedRecordError
from appliance.store.layout import Layout
from appliance.store.repository import Repository
from appliance.store.upkeep.compare import compare
from appliance.store.upkeep.rebuild import rebuild_catalog
from transport.names import (
    NO_VERSION,
    ROOT,
    ZERO_SEGMENT,
    PathId,
    RepositoryId,
    SegmentId,
    SessionId,
    VaultId,
    VersionId,
)
from transport.sealing import Sealer, VaultKeys
from transport.tree import EntryRecord

Tree = dict[PathId, EntryRecord]

_FAST: Final = Path("/dev/shm")
_EXTENTS_PER_PAGE: Final = 3000
_SEGMENTS_PER_PAGE: Final = 1000
_RECORD_HEAD: Final = struct.Struct(">4sBBBBI32s")
_EXTENT: Final = struct.Struct(">16sIQ")
_PACK: Final = re.compile(r"([0-9]{8})(?:-([0-9]+))?\.pack")
_NUMBER_IN_COMMIT: Final = 6
"""The place of the snapshot's number in a signed commit record."""
_SUCCESSOR_IN_SUCCESSION: Final = 7
"""The place of the new key in a signed succession."""
_REPOINTS_IN_ORDER: Final = 5
"""The place of the slices in a signed order to mend."""


class Loss(AssertionError):
    """Something acknowledged is gone, or the repository says two different things."""


def expect(condition: bool, sentence: str) -> None:
    """Loss with this sentence unless the condition holds."""
    if not condition:
        raise Loss(sentence)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the acknowledgements promise. `perhaps` and `leaving` were asked for and not answered: either is right."""

    repository: RepositoryId
    vault: VaultId
    keys: VaultKeys
    snapshots: Mapping[int, Tree]
    """Acknowledged, and no retirement of them was asked for: each restores bit-exact."""
    perhaps: Mapping[int, Tree] = field(default_factory=dict)
    """There whole, or not at all."""
    retired: frozenset[int] = frozenset()
    """Acknowledged as retired: they never come back."""
    leaving: frozenset[int] = frozenset()
    contents: Mapping[VersionId, bytes] = field(default_factory=dict)
    segments: Mapping[SegmentId, bytes] = field(default_factory=dict)
    """Acknowledged sealed segments that no snapshot took yet."""
    session: SessionId | None = None
    """The upload that is open, if any; `received` was acknowledged of it."""
    received: int = 0
    sweeping: bool = False
    """A sweep was asked for and not answered: what it has not forgotten yet may still count as live."""
    damaged: frozenset[SegmentId] = frozenset()
    """Segments whose records a disk damaged (their payload, behind the id). The records may stay, or go once mended."""
    unmended: frozenset[SegmentId] = frozenset()
    """Of these, those without an acknowledged order to mend: what needs them may fail, and is named."""
    left: frozenset[SegmentId] = frozenset()
    """Acknowledged in uploads that ended without a snapshot: a lease may keep them though nothing names them."""
    signers: tuple[bytes, ...] = ()
    """The signing keys whose succession was acknowledged, the founding one first."""
    successor: bytes | None = None
    """Another one that was asked for and not answered."""


def check_invariants(repository: Repository, folder: Path, expected: Expected, *, rebuild: bool = True) -> None:
    """All five of them (the fourth only with `rebuild`), and a full check; Loss otherwise."""
    reader = PackReader(folder, expected.damaged)
    report = repository.check(read_data=True)
    known = {reader.damaged.get(segment) for segment in expected.unmended}
    errors = [error for error in report.errors if (error.pack, error.offset) not in known]
    expect(not errors, f"the check finds {[str(error) for error in errors[:3]]}")
    check_identity(repository, folder, reader, expected)
    check_snapshots(repository, expected)
    check_signers(repository, reader, expected)
    check_liveness(repository, reader, expected)
    if rebuild:
        check_rebuild(folder)


# 1 and 2: what was acknowledged restores, what is held is listed


def check_snapshots(repository: Repository, expected: Expected) -> None:
    """Every acknowledged snapshot is listed and restores bit-exact through extents and real seals."""
    commits = repository.commits(0, 1 << 20)
    retired = {number for number, commit in enumerate(commits, 1) if commit.retired}
    numbers = [commit.signed.decoded().number for commit in commits]
    expect(numbers == list(range(1, len(commits) + 1)), f"the chain of commits reads {numbers}")
    top = max([*expected.snapshots, *expected.retired, *expected.leaving, 0])
    expect(len(commits) >= top, f"snapshot {top} was acknowledged and {len(commits)} are there")
    known = {*expected.snapshots, *expected.perhaps, *expected.retired, *expected.leaving}
    expect(set(numbers) <= known, f"snapshots {sorted(set(numbers) - known)} were never asked for")
    expect(expected.retired <= retired, f"snapshots {sorted(expected.retired - retired)} came back")
    expect(
        retired <= expected.retired | expected.leaving,
        f"snapshots {sorted(retired - expected.retired - expected.leaving)} were retired, and nobody asked for it",
    )
    held = {**expected.snapshots, **{n: tree for n, tree in expected.perhaps.items() if n in numbers}}
    restored: set[VersionId] = set()
    opened: dict[SegmentId, bytes] = {}
    for number, tree in held.items():
        if number in retired:
            continue
        expect(listed(repository, number) == tree, f"snapshot {number} lists otherwise than it was committed")
        for entry in tree.values():
            if entry.version_id != NO_VERSION and entry.version_id not in restored:
                restored.add(entry.version_id)
                try:
                    data = restore(repository, expected.keys, entry.version_id, opened)
                except DamagedRecordError:
                    expect(bool(expected.unmended), f"snapshot {number}: what was mended is damaged")
                    continue
                expect(
                    data == expected.contents[entry.version_id],
                    f"snapshot {number}: version {entry.version_id.hex()} restores otherwise",
                )
    for segment, sealed in expected.segments.items():
        expect(bytes(repository.read_segment(segment)) == sealed, f"segment {segment.hex()} reads otherwise")


def check_signers(repository: Repository, reader: PackReader, expected: Expected) -> None:
    """The keys are those that were acknowledged, in the façade as in the packs."""
    keys = repository.signers().keys
    expect(keys[1:] == tuple(reader.successors), f"the packs tell {len(reader.successors)} successions")
    known = (expected.signers, (*expected.signers, expected.successor))
    expect(not expected.signers or keys in known, f"{len(keys)} signing keys, not {len(expected.signers)}")


def listed(repository: Repository, snapshot: int) -> Tree:
    """Every entry of a snapshot."""
    found: Tree = {}
    after = ROOT
    while True:
        page = repository.tree(snapshot, after)
        for entry in page.entries:
            found[entry.record.path_id] = entry.record
        if not page.more:
            return found
        after = page.entries[-1].record.path_id


def restore(
    repository: Repository, keys: VaultKeys, version: VersionId, opened: dict[SegmentId, bytes]
) -> bytes:
    """A version's bytes; `opened` keeps plaintexts from one call to the next."""
    sealer = Sealer(keys)
    out = bytearray()
    start = 0
    while True:
        page = repository.extents(version, start, _EXTENTS_PER_PAGE)
        for segment, offset, length in page.extents:
            if segment == ZERO_SEGMENT:
                out += bytes(length)
                continue
            if segment not in opened:
                opened[segment] = sealer.open_segment(segment, repository.read_segment(segment))
            out += opened[segment][offset : offset + length]
        if not page.more:
            return bytes(out)
        start += sum(extent[2] for extent in page.extents)


# 3: liveness, from the packs alone


def check_liveness(repository: Repository, reader: PackReader, expected: Expected) -> None:
    """The trees that the packs tell are those of the façade; what they need is held; and live bytes add up."""
    commits = repository.commits(0, 1 << 20)
    expect(len(commits) == reader.head, f"the packs hold {reader.head} commits and the catalog {len(commits)}")
    for number, commit in enumerate(commits, 1):
        expect(commit.retired == (number in reader.retired), f"packs and catalog differ on retired snapshot {number}")
    needed: set[VersionId] = set()
    for number, tree in reader.trees.items():
        if number in reader.retired:
            continue
        expect(listed(repository, number) == tree, f"the packs tell another snapshot {number} than the catalog")
        needed.update(entry.version_id for entry in tree.values())
    needed.discard(NO_VERSION)
    held = set(repository.has_versions(list(reader.versions)))
    # What cannot be read is kept, and not offered as a base.
    held |= {version for version in needed if reader.segments_of(version) & expected.unmended}
    expect(needed <= held, f"{len(needed - held)} versions that held snapshots name are not held")
    live = {segment for version in held for segment in reader.segments_of(version)}
    live.update(repository.held_after(SegmentId(bytes(16)), _SEGMENTS_PER_PAGE))
    expect(live <= set(reader.segments), f"{len(live - set(reader.segments))} live segments stand in no pack")
    stats = repository.stats()
    live_bytes = sum(reader.segments[segment] for segment in live)
    leased_bytes = sum(reader.segments.get(segment, 0) for segment in expected.left - live)
    expect(
        live_bytes <= stats.bytes_live <= live_bytes + leased_bytes
        or (expected.sweeping and stats.bytes_live > live_bytes),
        f"{stats.bytes_live} bytes are said to be live, {live_bytes} are",
    )
    expect(stats.bytes_stored == reader.bytes, f"{stats.bytes_stored} bytes are said to be stored, {reader.bytes} are")


# 4: the packs alone make the same catalog


def check_rebuild(folder: Path) -> None:
    """A catalog made from packs alone equals the live one, and the packs tell their story without a gap."""
    layout = Layout(folder)
    with tempfile.TemporaryDirectory(dir=_FAST if _FAST.is_dir() else None) as scratch:
        target = Path(scratch, "rebuilt.sqlite")
        rebuilt = rebuild_catalog(layout, target)
        expect(not rebuilt.differences, f"rebuilding finds {rebuilt.differences[:3]}")
        live, fresh = connect(layout.catalog, read_only=True), connect(target, read_only=True)
        try:
            differences = compare(live, fresh, ("the live catalog", "the rebuilt one"))
        finally:
            live.close()
            fresh.close()
    expect(not differences, f"a rebuild differs: {differences[:3]}")


# 5: nobody reads another's


def check_identity(repository: Repository, folder: Path, reader: PackReader, expected: Expected) -> None:
    """Every pack header, the catalog and every commit say the same repository and vault."""
    wanted = (expected.repository, expected.vault)
    expect((repository.repository, repository.vault) == wanted, "the catalog belongs to another repository")
    with sqlite3.connect(f"{(folder / 'catalog.sqlite').as_uri()}?mode=ro", uri=True) as connection:
        row = connection.execute("SELECT repository, vault FROM state").fetchone()
    connection.close()
    expect(tuple(row) == wanted, "the catalog's file belongs to another repository")
    for name, header in reader.headers.items():
        expect((header[1], header[2]) == wanted, f"{name} belongs to another repository")
        expect(header[4] == int(name[:8]), f"{name} says that it is pack {header[4]}")
    for commit in repository.commits(0, 1 << 20):
        record = commit.signed.decoded()
        expect((record.repository, record.vault) == wanted, f"snapshot {record.number} belongs to another repository")


class PackReader:
    """The packs of a folder, read once, in order, as FORMAT.md tells it. Slow and simple; every byte must be a record.

    Of a pack the highest generation counts. `trees` are those of all snapshots that the packs still tell. The records
    of the segments `known` may be damaged behind their ids.
    """

    def __init__(self, folder: Path, known: Collection[SegmentId] = ()) -> None:
        self._known = known
        self.damaged: dict[SegmentId, tuple[str, int]] = {}
        """Pack and offset of each damaged record."""
        self.headers: dict[str, Sequence[Any]] = {}
        self.segments: dict[SegmentId, int] = {}
        """Sealed length by id."""
        self.versions: dict[VersionId, tuple[int, bytes]] = {}
        """Span and body by id."""
        self.pages: dict[int, bytes] = {}
        self.trees: dict[int, Tree] = {}
        self.retired: set[int] = set()
        self.mends: list[Sequence[Any]] = []
        self.successors: list[bytes] = []
        self.head = 0
        self.bytes = 0
        self._live: Tree = {}
        self._staged: list[tuple[str, Any]] = []
        self._intake = 0
        records: list[tuple[int, Any]] = []
        for path in newest_generations(folder / "packs"):
            records += self._read(path)
        begin = _whole_checkpoint(records)
        for place, (kind, payload) in enumerate(records):
            if kind != _CHECKPOINT and place < begin:
                continue
            if kind == _CHECKPOINT and (begin < 0 or payload[0] != records[begin][1][0]):
                continue
            _TAKE[kind](self, payload)

    def _read(self, path: Path) -> list[tuple[int, Any]]:
        data = path.read_bytes()
        self.bytes += len(data)
        found: list[tuple[int, Any]] = []
        at = 0
        while at < len(data):
            where = f"{path.name} at byte {at}"
            expect(len(data) - at >= _RECORD_HEAD.size, f"{where}: a tail of {len(data) - at} bytes")
            magic, form, kind, algorithm, flags, length, checksum = _RECORD_HEAD.unpack_from(data, at)
            expect((magic, form, algorithm, flags) == (b"PLR1", 1, 1, 0), f"{where}: no record begins here")
            payload = data[at + 44 : at + 44 + length]
            digest = hashlib.sha256(data[at : at + 12] + payload).digest()
            if kind == _SEGMENT and len(payload) == length and digest != checksum and payload[:16] in self._known:
                self.damaged[SegmentId(payload[:16])] = (path.name, at)
            else:
                expect(len(payload) == length and digest == checksum, f"{where}: the record is not whole")
            expect((at == 0) == (kind == _HEADER), f"{where}: a header stands first, and nowhere else")
            if kind == _HEADER:
                self.headers[path.name] = msgspec.msgpack.decode(payload)
            elif kind == _SEGMENT:
                expect(payload[:16] not in self.segments, f"{where}: segment {payload[:16].hex()} stands there twice")
                self.segments[SegmentId(payload[:16])] = length - 16
            else:
                found.append((kind, msgspec.msgpack.decode(payload)))
            at += 44 + length
        return found

    def segments_of(self, version: VersionId) -> set[SegmentId]:
        """The segments that a version's extents name."""
        span, body = self.versions[version]
        parts = [body]
        if span:
            numbers = [number for (number,) in struct.iter_unpack(">Q", body) if number]
            parts = [self.pages[number] for number in numbers]
        found = {segment for part in parts for segment, _, _ in _EXTENT.iter_unpack(part)}
        return {SegmentId(segment) for segment in found if segment != ZERO_SEGMENT}

    def _pages(self, payload: Any) -> None:
        self.pages.update({row[0]: row[2] for row in payload[0]})

    def _versions(self, payload: Any) -> None:
        self.versions.update({VersionId(row[0]): (row[2], row[3]) for row in payload[0]})

    def _intake_of(self, by: Sequence[Any]) -> None:
        if by[1] != self._intake:
            self._staged, self._intake = [], by[1]

    def _entries(self, payload: Any) -> None:
        self._intake_of(payload[0])
        self._staged += [("entry", row) for row in payload[2][1]]

    def _deaths(self, payload: Any) -> None:
        self._intake_of(payload[0])
        self._staged += [("death", path) for path in payload[1]]

    def _commit(self, payload: Any) -> None:
        number = msgspec.msgpack.decode(payload[3][0])[_NUMBER_IN_COMMIT]
        if number <= self.head:
            return  # told by the checkpoint
        self._intake_of(payload[0])
        for what, item in self._staged:
            if what == "death":
                self._live.pop(item, None)
            else:
                self._live[item[0]] = EntryRecord(*item)
        self._staged = []
        self.head = number
        self.trees[self.head] = dict(self._live)

    def _retirement(self, payload: Any) -> None:
        self.retired.update(payload[1])

    def _mend(self, payload: Any) -> None:
        self.mends.append(payload)
        slices = msgspec.msgpack.decode(payload[1][0])[_REPOINTS_IN_ORDER]
        self.pages = {number: _repointed(packed, slices) for number, packed in self.pages.items()}
        for version, (span, body) in self.versions.items():
            if not span:
                self.versions[version] = (span, _repointed(body, slices))

    def _succession(self, payload: Any) -> None:
        successor = msgspec.msgpack.decode(payload[1][0])[_SUCCESSOR_IN_SUCCESSION]
        if successor not in self.successors:
            self.successors.append(successor)

    def _checkpoint(self, payload: Any) -> None:
        tag, *content = payload[2]
        if tag == 0:
            self.head, self._intake = content[0], content[4]
        elif tag == 1:
            self._pages(content)
        elif tag == 2:
            self._versions(content)
        elif tag == 4:
            for row in content[0]:
                path, parent, born, died, kind, size, version, _, index, sealed = row
                entry = EntryRecord(path, parent, kind, size, version, index, sealed)
                for number in range(born, (died or self.head + 1)):
                    self.trees.setdefault(number, {})[path] = entry
                if not died:
                    self._live[path] = entry
        elif tag == 6:
            self.retired.update(row[0] for row in content[0] if row[4])
            for row in content[0]:
                self.trees.setdefault(row[0], {})
        elif tag == 8:
            for row in content[0]:
                self._succession(row)


def _repointed(packed: bytes, slices: Sequence[Sequence[Any]]) -> bytes:
    """Extents cut at the edges of every slice, and each piece that lies within one read from where that says."""
    pieces: list[bytes] = []
    for segment, offset, length in _EXTENT.iter_unpack(packed):
        mine = [slice_ for slice_ in slices if slice_[0] == segment]
        edges = {offset, offset + length}
        edges.update(at for _, start, size, _, _ in mine for at in (start, start + size) if 0 <= at - offset <= length)
        cuts = sorted(edges)
        for start, end in zip(cuts, cuts[1:], strict=False):
            place = (segment, start)
            for _, first, size, fresh, fresh_offset in mine:
                if first <= start and end <= first + size:
                    place = (fresh, fresh_offset + start - first)
            pieces.append(_EXTENT.pack(*place, end - start))
    return b"".join(pieces)


_HEADER, _SEGMENT, _CHECKPOINT = 1, 2, 9
_TAKE: Final[dict[int, Callable[[PackReader, Any], None]]] = {
    3: PackReader._pages,
    4: PackReader._versions,
    5: PackReader._entries,
    6: PackReader._deaths,
    7: PackReader._commit,
    8: PackReader._retirement,
    9: PackReader._checkpoint,
    10: PackReader._mend,
    11: PackReader._succession,
}


def newest_generations(folder: Path) -> list[Path]:
    """The files that count, by pack number; Loss where a number is missing."""
    found: dict[int, tuple[int, Path]] = {}
    for path in folder.iterdir():
        match = _PACK.fullmatch(path.name)
        if match:
            number, generation = int(match.group(1)), int(match.group(2) or 0)
            if number not in found or found[number][0] < generation:
                found[number] = (generation, path)
    expect(sorted(found) == list(range(1, len(found) + 1)), f"the packs are numbered {sorted(found)}")
    return [path for _, (_, path) in sorted(found.items())]


def _whole_checkpoint(records: Sequence[tuple[int, Any]]) -> int:
    """The place of the newest whole checkpoint's begin, -1 for none."""
    begins: dict[bytes, int] = {}
    parts: dict[bytes, set[int]] = {}
    best = -1
    for place, (kind, payload) in enumerate(records):
        if kind != _CHECKPOINT:
            continue
        name, part, content = payload
        if part == 0:
            begins[name] = place
        parts.setdefault(name, set()).add(part)
        if content[0] == 7 and parts[name] == set(range(content[1])) and name in begins:
            best = max(best, begins[name])
    return best
