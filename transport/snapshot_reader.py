"""Reading a snapshot's tree without trusting whoever hands it over.

Owns the order of proof: the signed commit (transport.history) gives the root digest, the root gives the
digests of its folders, a folder's digest gives its entries, and an entry's seal gives its name. Nothing is
returned before the statement above it has been checked. Rules kept: a listing is compared whole, or not used;
a name that could leave its folder is refused. Must not know sockets, files or processes: whatever supplies
data is a `SnapshotSource`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from transport.commits import StoredCommit
from transport.errors import IntegrityError, UsageError
from transport.extents import ExtentPage
from transport.history import History as History
from transport.history import Snapshot as Snapshot
from transport.history import choose_snapshot as choose_snapshot
from transport.history import verify_history as verify_history
from transport.names import (
    DIGEST_BYTES,
    FILE_LIMIT,
    ID_BYTES,
    NO_DIGEST,
    NO_VERSION,
    ROOT,
    Buffer,
    Digest,
    PathId,
    SegmentId,
    VersionId,
)
from transport.nodes import Node as Node
from transport.sealing import EntryOpener, Sealer
from transport.succession import SignedSuccession
from transport.tree import (
    BatchHeader,
    Child,
    EntryKind,
    EntryPage,
    EntryRecord,
    FileType,
    decode_metadata,
    folder_digest,
)

_CACHED_ENTRIES: Final = 100_000
"""Entries of verified folders kept, so that a thousand selected files of one folder cost one listing."""
_WALK_FOLDERS: Final = 32
_ENTRIES_PER_QUERY: Final = 500
"""A folder query is taken to cost as much as this many entries of a whole tree (20 ms against 200 KB)."""


@dataclass(frozen=True, slots=True)
class MissingSegment:
    """The source cannot give a segment, and why: a sentence for people."""

    reason: str


class SnapshotSource(Protocol):
    """Whatever can supply a repository's records: the appliance over the network, a folder on disk, memory."""

    def commits(self) -> Iterator[StoredCommit]:
        """Every commit, ascending."""
        ...

    def successions(self) -> Sequence[SignedSuccession]:
        """The signing keys that took over from the founding one, in order."""
        ...

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        """The entries of one folder in path id order; at least one page, `more` False on the last."""
        ...

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        """All entries of a snapshot in path id order; at least one page, `more` False on the last."""
        ...

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        """Extent pages of distinct versions, in the order asked; a version may come in several, `start` rising."""
        ...

    def segments(self, ids: Iterable[SegmentId]) -> Iterator[tuple[SegmentId, Buffer | MissingSegment]]:
        """Sealed segments in the order asked, one answer each, asked ahead of need where that is quicker."""
        ...


def split_path(path: bytes) -> list[bytes]:
    """The names of an absolute path (`/` gives none); UsageError for `.`, `..` and NUL, which no snapshot holds."""
    names = [name for name in path.split(b"/") if name]
    for name in names:
        if name in (b".", b"..") or b"\0" in name:
            raise UsageError(f"{path.decode(errors='backslashreplace')} is not a plain absolute path")
    return names


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


_KIND_OF_TYPE: Final = {
    FileType.FILE: EntryKind.FILE,
    FileType.FOLDER: EntryKind.FOLDER,
    FileType.SYMLINK: EntryKind.OTHER,
}


class _EntryReader:
    """Opens entries of one vault; keeps a batch's derived key for as long as its entries keep coming."""

    _OPENERS = 4096

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._path_id = sealer.keys.path_id
        self._openers: dict[BatchHeader, EntryOpener] = {}
        self._texts: dict[str, str] = {}
        self._numbers: dict[int, int] = {}

    def opener(self, header: BatchHeader) -> EntryOpener:
        """The opener of a batch."""
        opener = self._openers.get(header)
        if opener is None:
            if len(self._openers) >= self._OPENERS:
                self._openers.clear()
            opener = self._openers[header] = self._sealer.entry_opener(header)
        return opener

    def open(self, record: EntryRecord, opener: EntryOpener, claimed: Digest) -> Node:
        """The node of an entry: seal, form, name and kind checked. SealError or IntegrityError."""
        try:
            metadata = decode_metadata(opener.open(record))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise IntegrityError(f"entry {record.path_id.hex()} holds no metadata of a known form: {error}") from None
        name = metadata.name
        if not name or name == b"." or name == b".." or b"/" in name or b"\0" in name:
            raise IntegrityError(f"entry {record.path_id.hex()} carries the name {name!r}, which leaves its folder")
        if self._path_id(record.parent_id, name) != record.path_id:
            raise IntegrityError(f"the entry named {_show(name)} does not belong where the appliance shows it")
        kind = _KIND_OF_TYPE.get(metadata.type, EntryKind.OTHER)  # type: ignore[call-overload]
        if kind != record.kind:
            raise IntegrityError(f"{_show(name)} is sealed as type {metadata.type} but shown as kind {record.kind}")
        texts, numbers = self._texts, self._numbers  # one object for equal owners
        return Node(
            None,
            name,
            record.path_id,
            metadata.type,
            record.size,
            NO_VERSION if record.version_id == NO_VERSION else record.version_id,
            metadata.mode,
            metadata.mtime_ns,
            numbers.setdefault(metadata.uid, metadata.uid),
            numbers.setdefault(metadata.gid, metadata.gid),
            texts.setdefault(metadata.user, metadata.user),
            texts.setdefault(metadata.group, metadata.group),
            metadata.mac,
            metadata.target,
            metadata.link_group,
            tuple(metadata.xattrs),
            claimed if kind == EntryKind.FOLDER else NO_DIGEST,
            record.token(),
        )


class _Raw(msgspec.Struct, frozen=True, gc=False):
    """An entry of a verified listing that has not been opened: most of a folder need not be."""

    record: EntryRecord
    header: BatchHeader
    claimed: Digest


def _entries(pages: Iterable[EntryPage], what: str) -> Iterator[_Raw]:
    """The entries of a listing, form and order checked; IntegrityError for anything a fair source would not send."""
    last = ROOT
    more = True
    for page in pages:
        if not more:
            raise IntegrityError(f"the listing of {what} goes on after its end")
        more = page.more
        if more and not page.entries:
            raise IntegrityError(f"the listing of {what} holds an empty page that is not the last")
        headers = page.headers
        for listed in page.entries:
            record = listed.record
            path_id = record.path_id
            if len(path_id) != ID_BYTES or len(record.parent_id) != ID_BYTES or len(record.version_id) != ID_BYTES:
                raise IntegrityError(f"the listing of {what} holds an id that is not {ID_BYTES} bytes long")
            if path_id <= last:
                raise IntegrityError(f"the listing of {what} shows entry {path_id.hex()} twice or out of order")
            last = path_id
            if not 0 <= record.kind <= EntryKind.OTHER or not 0 <= record.size <= FILE_LIMIT:
                raise IntegrityError(f"entry {path_id.hex()} is of kind {record.kind} and {record.size} bytes")
            if record.kind == EntryKind.FOLDER and len(listed.folder_digest) != DIGEST_BYTES:
                raise IntegrityError(f"folder {path_id.hex()} carries no digest")
            if not 0 <= listed.batch < len(headers):
                raise IntegrityError(f"entry {path_id.hex()} names batch {listed.batch} of {len(headers)}")
            yield _Raw(record, headers[listed.batch], listed.folder_digest)
    if more:
        raise IntegrityError(f"the listing of {what} ends early")


def _child(raw: _Raw) -> Child:
    record = raw.record
    return Child(record.path_id, record.token(), raw.claimed if record.kind == EntryKind.FOLDER else None)


_MISMATCH = "the content of {what} is not what snapshot {number} signed: entries were hidden, added or replaced"


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for: `nodes` depth first, parents before children; `ancestors` lead there, not asked for."""

    nodes: list[Node]
    ancestors: list[Node]
    missing: list[bytes]
    """Paths that the snapshot does not hold."""


class SnapshotReader:
    """One snapshot's tree, read through proof. Not thread-safe."""

    def __init__(self, source: SnapshotSource, sealer: Sealer, snapshot: Snapshot) -> None:
        self._source = source
        self._snapshot = snapshot
        self._keys = sealer.keys
        self._reader = _EntryReader(sealer)
        self._cache: OrderedDict[PathId, dict[PathId, _Raw]] = OrderedDict()
        self._cached = 0

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot being read."""
        return self._snapshot

    def _listed(self, folder: Node | None) -> dict[PathId, _Raw]:
        """The verified children of a folder (None: the root), by path id, unopened."""
        folder_id = ROOT if folder is None else folder.path_id
        cached = self._cache.get(folder_id)
        if cached is not None:
            self._cache.move_to_end(folder_id)
            return cached
        what = "the root" if folder is None else _show(folder.path())
        number = self._snapshot.number
        listed: dict[PathId, _Raw] = {}
        most = self._snapshot.record.entry_count
        for raw in _entries(self._source.children(number, folder_id), what):
            if len(listed) >= most:
                raise IntegrityError(f"snapshot {number} signed {most} entries, the listing of {what} shows more")
            if raw.record.parent_id != folder_id:
                raise IntegrityError(f"the listing of {what} shows entry {raw.record.path_id.hex()} of another folder")
            listed[raw.record.path_id] = raw
        expected = self._snapshot.record.root if folder is None else folder.folder_digest
        if folder_digest(_child(raw) for raw in listed.values()) != expected:
            raise IntegrityError(_MISMATCH.format(what=what, number=number))
        self._cache[folder_id] = listed
        self._cached += len(listed)
        while self._cached > _CACHED_ENTRIES and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return listed

    def _node(self, raw: _Raw, parent: Node | None) -> Node:
        node = self._reader.open(raw.record, self._reader.opener(raw.header), raw.claimed)
        node.parent = parent
        return node

    def children(self, folder: Node | None) -> list[Node]:
        """The entries of a folder (None: the root), sorted by name. IntegrityError, SealError."""
        nodes = [self._node(raw, folder) for raw in self._listed(folder).values()]
        nodes.sort(key=_by_name)
        return nodes

    def find(self, path: bytes) -> Node | None:
        """The node of an absolute path, or None where the (verified) folder does not hold it; `/` is UsageError."""
        names = split_path(path)
        if not names:
            raise UsageError("/ is the root of the snapshot, which has no entry of its own")
        node: Node | None = None
        for name in names:
            if node is not None and not node.is_folder:
                return None
            path_id = self._keys.path_id(ROOT if node is None else node.path_id, name)
            raw = self._listed(node).get(path_id)
            if raw is None:
                return None
            node = self._node(raw, node)
        return node

    def listing(self, path: bytes = b"/") -> list[Node]:
        """What `ls` shows: a folder's entries sorted by name, or the one entry that is no folder; UsageError."""
        if not split_path(path):
            return self.children(None)
        node = self.find(path)
        if node is None:
            raise UsageError(f"{_show(path)} is not in snapshot {self._snapshot.number}")
        return self.children(node) if node.is_folder else [node]

    def walk(self, start: Node | None, *, folders: int | None = None) -> Iterator[Node]:
        """Everything below `start` (None: all), depth first, parents before children, one query a folder.

        IntegrityError, SealError; `_TooManyFolders` after more than `folders` queries where that is given.
        """
        pending = list(reversed(self.children(start)))
        queries = 1
        while pending:
            node = pending.pop()
            yield node
            if node.is_folder:
                queries += 1
                if folders is not None and queries > folders:
                    raise _TooManyFolders
                pending.extend(reversed(self.children(node)))

    def whole_tree(self, observe: Callable[[int], None] | None = None) -> list[Node]:
        """Every node, depth first, parents before children, from the pages of `tree`.

        Count, every folder digest and the root are checked before anything is returned. `observe` is told the
        number of entries read so far, now and then. IntegrityError, SealError.
        """
        number, expected = self._snapshot.number, self._snapshot.record.entry_count
        what = f"snapshot {number}"
        openers = self._reader
        below: dict[PathId, list[Node]] = {}
        tokens: dict[PathId, bytearray] = {}  # of `below`, end to end: 300,000 Child objects would cost 40 MB
        count = 0
        for raw in _entries(self._source.tree(number), what):
            count += 1
            if count > expected:
                raise IntegrityError(f"{what} signed {expected} entries, the appliance shows more")
            record = raw.record
            siblings = below.get(record.parent_id)
            if siblings is None:
                siblings = below[record.parent_id] = []
                tokens[record.parent_id] = bytearray()
            node = openers.open(record, openers.opener(raw.header), raw.claimed)
            siblings.append(node)
            tokens[record.parent_id] += node.token
            if observe is not None and count % 1024 == 0:
                observe(count)
        if count != expected:
            raise IntegrityError(f"{what} signed {expected} entries, the appliance shows {count}")
        pending = below.pop(ROOT, [])
        if _digest_of(pending, tokens.pop(ROOT, b"")) != self._snapshot.record.root:
            raise IntegrityError(_MISMATCH.format(what="the root", number=number))
        pending.sort(key=_by_name, reverse=True)
        nodes: list[Node] = []
        while pending:
            node = pending.pop()
            nodes.append(node)
            if node.is_folder:
                children = below.pop(node.path_id, [])
                if _digest_of(children, tokens.pop(node.path_id, b"")) != node.folder_digest:
                    raise IntegrityError(_MISMATCH.format(what=_show(node.path()), number=number))
                for child in children:
                    child.parent = node
                children.sort(key=_by_name, reverse=True)
                pending.extend(children)
        if below:  # entries whose folder is absent, no folder, or itself
            raise IntegrityError(f"{what} shows {expected - len(nodes)} entries outside of every folder")
        return nodes

    def select(self, paths: Sequence[bytes], observe: Callable[[int], None] | None = None) -> Selection:
        """The nodes of `paths` and all below them (no paths, or `/`: everything), each once.

        Small selections list only the folders along the way and below; once that would take more queries than
        reading the whole tree is worth, the tree is read instead. UsageError for a path that cannot be one.
        """
        wanted = _outermost(paths)
        if not wanted or wanted[0] == ():
            return Selection(self.whole_tree(observe), [], [])
        budget = _WALK_FOLDERS + self._snapshot.record.entry_count // _ENTRIES_PER_QUERY
        nodes: list[Node] = []
        missing: list[bytes] = []
        ancestors: dict[PathId, Node] = {}
        try:
            for names in wanted:
                path = b"/" + b"/".join(names)
                node = self.find(path)
                if node is None:
                    missing.append(path)
                    continue
                above = []
                parent = node.parent
                while parent is not None:
                    above.append(parent)
                    parent = parent.parent
                for ancestor in reversed(above):
                    ancestors.setdefault(ancestor.path_id, ancestor)
                nodes.append(node)
                if node.is_folder:
                    for below in self.walk(node, folders=budget):
                        nodes.append(below)
                        budget -= below.is_folder
                    budget -= 1
        except _TooManyFolders:
            return self._select_from_tree(wanted, observe)
        return Selection(nodes, list(ancestors.values()), missing)

    def select_ids(
        self, ids: Collection[PathId], above: Collection[PathId], observe: Callable[[int], None] | None = None
    ) -> Selection:
        """As `select`, by path ids (none: everything). `above` holds the folders on the way to them: no other is
        looked into. What is not found is missing, named by its id."""
        if not ids:
            return Selection(self.whole_tree(observe), [], [])
        left = set(ids)
        budget = _WALK_FOLDERS + self._snapshot.record.entry_count // _ENTRIES_PER_QUERY
        nodes: list[Node] = []
        ancestors: list[Node] = []
        pending: list[Node | None] = [None]
        try:
            while pending and left:
                for child in self.children(pending.pop()):
                    if child.path_id in left:
                        left.discard(child.path_id)
                        nodes.append(child)
                        if child.is_folder:
                            for below in self.walk(child, folders=budget):
                                nodes.append(below)
                                left.discard(below.path_id)
                                budget -= below.is_folder
                    elif child.is_folder and child.path_id in above:
                        ancestors.append(child)
                        pending.append(child)
                        budget -= 1
                        if budget < 0:
                            raise _TooManyFolders
        except _TooManyFolders:
            return self._picked_from_tree({path_id: path_id.hex().encode() for path_id in ids}, observe)
        return Selection(nodes, ancestors, [path_id.hex().encode() for path_id in left])

    def _select_from_tree(
        self, wanted: list[tuple[bytes, ...]], observe: Callable[[int], None] | None
    ) -> Selection:
        ids: dict[PathId, bytes] = {}
        for names in wanted:
            path_id = ROOT
            for name in names:
                path_id = self._keys.path_id(path_id, name)
            ids[path_id] = b"/" + b"/".join(names)
        return self._picked_from_tree(ids, observe)

    def _picked_from_tree(self, ids: dict[PathId, bytes], observe: Callable[[int], None] | None) -> Selection:
        inside: set[PathId] = set()
        nodes: list[Node] = []
        ancestors: dict[PathId, Node] = {}
        for node in self.whole_tree(observe):
            below = node.parent is not None and node.parent.path_id in inside
            if not below and node.path_id not in ids:
                continue
            nodes.append(node)
            if node.is_folder:
                inside.add(node.path_id)
            ids.pop(node.path_id, None)
            if not below:
                above = []
                parent = node.parent
                while parent is not None:
                    above.append(parent)
                    parent = parent.parent
                for ancestor in reversed(above):
                    ancestors.setdefault(ancestor.path_id, ancestor)
        return Selection(nodes, list(ancestors.values()), list(ids.values()))


def _digest_of(nodes: list[Node], tokens: bytes | bytearray) -> Digest:
    """The folder digest of opened children from their tokens, laid end to end in the same order."""
    return folder_digest(
        Child(
            node.path_id,
            Digest(bytes(tokens[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES])),
            node.folder_digest if node.is_folder else None,
        )
        for at, node in enumerate(nodes)
    )


class _TooManyFolders(Exception):
    """A walk by folders would cost more than reading the whole tree."""


def _by_name(node: Node) -> bytes:
    return node.name


def _outermost(paths: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The selected paths as names, sorted, without those that lie below another one."""
    kept: list[tuple[bytes, ...]] = []
    for names in sorted({tuple(split_path(path)) for path in paths}):
        if not kept or names[: len(kept[-1])] != kept[-1]:
            kept.append(names)
    return kept
