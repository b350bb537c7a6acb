"""A repository in memory, sealed and signed for real, and a host that lies about it.

`Repository` plays agent and fair appliance at once; it is strict: it refuses questions that an appliance would
refuse (unknown snapshots, ids asked twice, versions that do not exist). `LyingSource` wraps a source and lets a
test replace any of its answers.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from transport.commits import COMMIT_FORMAT, COMMIT_LABEL, FIRST_PREVIOUS, CommitRecord, SignedCommit, StoredCommit
from transport.contents import CHUNK_BYTES, chunk_digest, file_mac
from transport.extents import Extent, ExtentPage
from transport.keys import SigningKey
from transport.names import (
    NO_DIGEST,
    NO_VERSION,
    ROOT,
    SEGMENT_LIMIT,
    ZERO_SEGMENT,
    Digest,
    InstallationId,
    PathId,
    RepositoryId,
    SegmentId,
    VaultId,
    VersionId,
)
from transport.sealing import Sealer, vault_keys
from transport.snapshot_reader import MissingSegment, SnapshotSource
from transport.succession import SignedSuccession
from transport.tree import (
    BatchHeader,
    EntryKind,
    EntryPage,
    EntryRecord,
    FileType,
    ListedEntry,
    Metadata,
    digest_of_tree,
    encode_metadata,
)

HOUR_MS = 3_600_000
KINDS = {FileType.FILE: EntryKind.FILE, FileType.FOLDER: EntryKind.FOLDER}


@dataclass
class Item:
    """A path as a test describes it. `holes` are (offset, length) of `content` that is stored nowhere."""

    path: bytes
    content: bytes = b""
    type: int = FileType.FILE
    mode: int = 0o644
    mtime_ns: int = 1_700_000_000_123_456_789
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    user: str = ""
    group: str = ""
    target: bytes = b""
    link_group: bytes = b""
    xattrs: list[tuple[bytes, bytes]] = field(default_factory=list)
    name: bytes | None = None
    """Another name inside the seal than the path's last: a hostile agent."""
    holes: list[tuple[int, int]] = field(default_factory=list)
    scatter: bool = False
    """Store in many small pieces over several segments, as after a year of edits."""


@dataclass
class _Tree:
    entries: dict[PathId, tuple[EntryRecord, BatchHeader]]
    digests: dict[PathId, Digest]


class Repository:
    """Builds snapshots with `commit`, and serves them. `page` entries and `span` extents make a page."""

    def __init__(self, *, page: int = 7, span: int = 5, segment_bytes: int = SEGMENT_LIMIT) -> None:
        self.random = random.Random(20)
        self.sealer = Sealer(vault_keys(bytes(range(32)), VaultId(b"V" * 16)))
        self.signing = SigningKey(bytes(range(1, 33)))
        self.id = RepositoryId(b"R" * 16)
        self.page, self.span, self.segment_bytes = page, span, segment_bytes
        self.history: list[StoredCommit] = []
        self.succeeded: list[SignedSuccession] = []
        self.trees: dict[int, _Tree] = {}
        self.sealed: dict[SegmentId, bytes] = {}
        self.versions: dict[VersionId, tuple[int, list[Extent]]] = {}
        self.asked_folders: list[PathId] = []
        self.asked_trees = 0
        self.asked_segments: list[SegmentId] = []
        self._open_id = SegmentId(self._id())
        self._open = bytearray()
        self._contents: dict[tuple[bytes, bool], VersionId] = {}

    def _id(self) -> bytes:
        return self.random.randbytes(16)

    # -- the agent's side

    def pack(self, data: bytes) -> Extent:
        """Store a piece of at most a segment."""
        if len(self._open) + len(data) > self.segment_bytes:
            self._seal_open()
        offset = len(self._open)
        self._open += data
        return (self._open_id, offset, len(data))

    def _seal_open(self) -> None:
        if self._open:
            self.sealed[self._open_id] = bytes(self.sealer.seal_segment(self._open_id, bytes(self._open)))
            self._open_id = SegmentId(self._id())
            self._open = bytearray()

    def store(self, item: Item) -> VersionId:
        """The version of an item's content; equal contents share one."""
        key = (item.content, item.scatter)
        version = self._contents.get(key)
        if version is not None and not item.holes:
            return version
        version = VersionId(self._id())
        extents: list[Extent] = []
        at = 0
        for offset, length in [*item.holes, (len(item.content), 0)]:
            extents += self._pieces(item.content[at:offset], scatter=item.scatter)
            if length:
                assert not any(item.content[offset : offset + length])
                extents.append((ZERO_SEGMENT, 0, length))
            at = offset + length
        self.versions[version] = (len(item.content), extents)
        self._contents[key] = version
        return version

    def _pieces(self, data: bytes, *, scatter: bool) -> list[Extent]:
        limit = min(self.segment_bytes, SEGMENT_LIMIT)
        if not scatter:
            return [self.pack(data[at : at + limit]) for at in range(0, len(data), limit)]
        cuts = sorted({0, len(data), *(self.random.randrange(len(data) + 1) for _ in range(len(data) // 40_000 + 3))})
        spans = [
            (at, min(at + limit, end)) for start, end in zip(cuts, cuts[1:], strict=False)
            for at in range(start, end, limit)
        ]
        order = list(spans)
        self.random.shuffle(order)
        packed = {span: self.pack(data[span[0] : span[1]]) for span in order}
        return [packed[span] for span in spans]

    def commit(self, items: Iterable[Item], *, root: Digest | None = None, count: int | None = None) -> int:
        """A snapshot of exactly these items; folders that no item describes are added. Returns its number."""
        keys = self.sealer.keys
        described = {item.path: item for item in items}
        for path in list(described):
            while (path := path.rpartition(b"/")[0]) and path not in described:
                described[path] = Item(path, type=FileType.FOLDER, mode=0o755)
        entries: dict[PathId, tuple[EntryRecord, BatchHeader]] = {}
        batch = self.sealer.seal_entries()
        for path in sorted(described):
            item = described[path]
            names = path.strip(b"/").split(b"/")
            if item.name is not None:
                names[-1] = item.name
            parent = ROOT
            for name in names[:-1]:
                parent = keys.path_id(parent, name)
            path_id = keys.path_id(parent, names[-1])
            is_file = item.type == FileType.FILE
            version = self.store(item) if is_file and item.content else NO_VERSION
            chunks = [item.content[at : at + CHUNK_BYTES] for at in range(0, len(item.content), CHUNK_BYTES)]
            mac = file_mac(keys.content, len(item.content), [chunk_digest(chunk) for chunk in chunks])
            metadata = Metadata(
                names[-1], item.type, item.mode, item.mtime_ns, item.uid, item.gid, item.user, item.group,
                mac if is_file else b"", item.target, item.link_group, sorted(item.xattrs),
            )
            kind = KINDS.get(item.type, EntryKind.OTHER)  # type: ignore[call-overload]
            size = len(item.content) if is_file else 0
            clear = EntryRecord(path_id, parent, kind, size, version, 0, b"")
            if len(entries) % 50 == 49:
                batch = self.sealer.seal_entries()
            entries[path_id] = (batch.seal(clear, encode_metadata(metadata)), batch.header)
        self._seal_open()
        return self.commit_entries(entries, root=root, count=count)

    def commit_entries(
        self,
        entries: dict[PathId, tuple[EntryRecord, BatchHeader]],
        *,
        root: Digest | None = None,
        count: int | None = None,
    ) -> int:
        """Sign a snapshot of ready-made entries."""
        children: dict[PathId, list[tuple[PathId, Digest, bool]]] = {}
        for record, _ in entries.values():
            children.setdefault(record.parent_id, []).append(
                (record.path_id, record.token(), record.kind == EntryKind.FOLDER)
            )
        digests = digest_of_tree(children, ROOT)
        number = len(self.history) + 1
        record = CommitRecord(
            label=COMMIT_LABEL, format=COMMIT_FORMAT, vault=self.sealer.keys.vault,
            repository=self.id, installation=InstallationId(b"I" * 16), epoch=1, number=number,
            previous=self.history[-1].signed.hash() if self.history else FIRST_PREVIOUS,
            root=digests[ROOT] if root is None else root,
            entry_count=len(entries) if count is None else count,
            bytes_source=sum(record.size for record, _ in entries.values()),
            started_ms=number * HOUR_MS, ended_ms=number * HOUR_MS + 1000, complete=True, selection=NO_DIGEST,
            retention_floor_days=90, agent_version="0.1.0", added=NO_DIGEST,
        )
        self.history.append(StoredCommit(self.signing.sign_commit(record), number * HOUR_MS, 1000, False))
        self.trees[number] = _Tree(dict(sorted(entries.items())), digests)
        return number

    def fork(self) -> Repository:
        """A repository that shares everything so far and goes its own way from here."""
        other = copy.copy(self)
        other.random = random.Random(21)
        other.history, other.trees = list(self.history), dict(self.trees)
        other.sealed, other.versions, other._contents = dict(self.sealed), dict(self.versions), dict(self._contents)
        other._open_id, other._open = SegmentId(other._id()), bytearray()
        other.asked_folders, other.asked_segments = [], []
        return other

    @property
    def head(self) -> SignedCommit:
        """What an agent remembers as its last head."""
        return self.history[-1].signed

    # -- the appliance's side: SnapshotSource

    def commits(self) -> Iterator[StoredCommit]:
        yield from list(self.history)

    def successions(self) -> list[SignedSuccession]:
        return list(self.succeeded)

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        tree = self.trees[snapshot]
        if folder != ROOT:
            assert tree.entries[folder][0].kind == EntryKind.FOLDER
        self.asked_folders.append(folder)
        return self._pages(tree, [pair for pair in tree.entries.values() if pair[0].parent_id == folder])

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        self.asked_trees += 1
        return self._pages(self.trees[snapshot], list(self.trees[snapshot].entries.values()))

    def _pages(self, tree: _Tree, pairs: list[tuple[EntryRecord, BatchHeader]]) -> Iterator[EntryPage]:
        for at in range(0, max(1, len(pairs)), self.page):
            part = pairs[at : at + self.page]
            headers: dict[BatchHeader, int] = {}
            listed = []
            for record, header in part:
                batch = headers.setdefault(header, len(headers))
                digest = tree.digests[record.path_id] if record.kind == EntryKind.FOLDER else NO_DIGEST
                listed.append(ListedEntry(batch, record, digest))
            yield EntryPage(list(headers), listed, at + self.page < len(pairs))

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        assert len(set(versions)) == len(versions) and NO_VERSION not in versions
        for version in versions:
            size, extents = self.versions[version]
            start = 0
            for at in range(0, max(1, len(extents)), self.span):
                part = extents[at : at + self.span]
                yield ExtentPage(version, size, start, part, at + self.span < len(extents))
                start += sum(length for _, _, length in part)

    def segments(self, ids: Iterable[SegmentId]) -> Iterator[tuple[SegmentId, bytes | MissingSegment]]:
        # Asks four ahead, as a network client does.
        waiting: list[SegmentId] = []
        asked: set[SegmentId] = set()
        for segment in ids:
            assert segment not in asked and segment != ZERO_SEGMENT
            asked.add(segment)
            self.asked_segments.append(segment)
            waiting.append(segment)
            if len(waiting) > 4:
                yield self._answer(waiting.pop(0))
        for segment in waiting:
            yield self._answer(segment)

    def _answer(self, segment: SegmentId) -> tuple[SegmentId, bytes | MissingSegment]:
        sealed = self.sealed.get(segment)
        return segment, MissingSegment("it is not in the repository") if sealed is None else sealed


Pages = Callable[[EntryPage], EntryPage]
SegmentAnswer = Callable[[SegmentId, "bytes | MissingSegment"], "bytes | MissingSegment"]


class LyingSource:
    """A source whose answers pass through what a test puts in their way."""

    def __init__(
        self,
        honest: SnapshotSource,
        *,
        commits: Callable[[list[StoredCommit]], list[StoredCommit]] | None = None,
        entries: Callable[[list[EntryPage]], list[EntryPage]] | None = None,
        extents: Callable[[list[ExtentPage]], list[ExtentPage]] | None = None,
        segment: SegmentAnswer | None = None,
    ) -> None:
        self._honest = honest
        self._commits, self._entries, self._extents, self._segment = commits, entries, extents, segment

    def commits(self) -> Iterator[StoredCommit]:
        true = list(self._honest.commits())
        yield from self._commits(true) if self._commits else true

    def successions(self) -> list[SignedSuccession]:
        return list(self._honest.successions())

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        true = list(self._honest.children(snapshot, folder))
        yield from self._entries(true) if self._entries else true

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        true = list(self._honest.tree(snapshot))
        yield from self._entries(true) if self._entries else true

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        true = list(self._honest.extents(versions))
        yield from self._extents(true) if self._extents else true

    def segments(self, ids: Iterable[SegmentId]) -> Iterator[tuple[SegmentId, bytes | MissingSegment]]:
        for segment, answer in self._honest.segments(ids):
            yield segment, self._segment(segment, answer) if self._segment else answer
