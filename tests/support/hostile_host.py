"""A host that lies: everything it can do to an answer, as a table of mutations.

The host holds packs, catalog, transport and, under the escrow that is the default, even the machine key: it seals
metadata and segments that open, and computes digests. It does not hold the installation's Ed25519 signing key.
Each lie names the layer it attacks and the error that must answer it: here HISTORY and TREE, those about contents
stand in hostile_content. Nothing here knows how a restore works.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.memory_source import Item, LyingSource, Repository
from transport import sealing
from transport.commits import SignedCommit, StoredCommit, encode_commit
from transport.keys import SigningKey
from transport.names import ROOT, Digest, PathId, RepositoryId, SegmentId, VaultId, VersionId
from transport.sealing import Sealer, vault_keys
from transport.snapshot_reader import SnapshotSource
from transport.tree import (
    BatchHeader,
    EntryPage,
    EntryRecord,
    FileType,
    ListedEntry,
    Metadata,
    encode_metadata,
)

replace = msgspec.structs.replace
OLDER, NEWEST = 2, 3
ENDLESS = 1_000_000
"""Answers after which an endless stream ends after all: a reader that took them all has no bound."""


def seal_anything(sealer: Sealer, segment: SegmentId, body: bytes, codec: int, length: int) -> bytes:
    """What only a holder of the machine key can make: a seal that holds, around any body, with any claims."""
    header = sealing._HEADER.pack(sealing.MAGIC, 1, sealing.KIND_SEGMENT, codec, 1, 1, length)
    salt = bytes(32)
    key, commitment = sealing._record_key(sealer.keys.epoch_key(1), salt, sealing.KIND_SEGMENT, 1)
    aad = header + sealer.keys.vault + segment
    return header + salt + commitment + AESGCM(key).encrypt(bytes(12), body, aad)


@dataclass(frozen=True)
class Stage:
    """A true repository of three snapshots below `prefix`, and what each of them holds."""

    repository: Repository
    prefix: bytes
    items: dict[int, list[Item]]
    others: Repository
    """Another machine's, with keys of its own."""

    def path(self, name: bytes) -> bytes:
        """The absolute path of a name below the prefix."""
        return self.prefix + b"/" + name


def _items(prefix: bytes, snapshot: int) -> list[Item]:
    chance = random.Random(7)
    base = bytearray(chance.randbytes(150_000))
    base[70_000 : 70_000 + snapshot] = b"#" * snapshot
    mtime = 1_600_000_000_000_000_000 + snapshot * 1_000_000_000
    made = [
        Item(b"doc/letter", (b"letter %d " % snapshot) * 300, mtime_ns=mtime),
        Item(b"doc/bill", (b"bill %d .. " % snapshot)[:9] * 300, mtime_ns=mtime),
        Item(b"base", bytes(base), scatter=True, mtime_ns=mtime),
        Item(b"hole", bytes(5000) + b"x%d" % snapshot, holes=[(0, 5000)], mtime_ns=mtime),
        Item(b"empty", mtime_ns=mtime),
        Item(b"link", type=FileType.SYMLINK, target=b"doc/letter", mtime_ns=mtime),
        Item(b"twin-1", b"twins %d" % snapshot, link_group=b"g", mtime_ns=mtime),
        Item(b"twin-2", b"twins %d" % snapshot, link_group=b"g", mtime_ns=mtime),
        *(Item(b"small/%02d" % n, chance.randbytes(900 + n) + b"%d" % snapshot, mtime_ns=mtime) for n in range(12)),
        Item(b"doc/old" if snapshot < NEWEST else b"doc/new", b"came or went", mtime_ns=mtime),
    ]
    for item in made:
        item.path = prefix + b"/" + item.path
    return made


def stage(prefix: bytes) -> Stage:
    """The stage, made anew."""
    repository = Repository(page=3, span=4, segment_bytes=40_000)
    items = {number: _items(prefix, number) for number in (1, OLDER, NEWEST)}
    for number in items:
        assert repository.commit(items[number]) == number
    others = Repository(page=3)
    others.sealer = Sealer(vault_keys(b"k" * 32, VaultId(b"W" * 16)))
    others.signing = SigningKey(b"o" * 32)
    others.random = random.Random(99)
    for number in items:
        others.commit(items[number])
    return Stage(repository, prefix, items, others)


class Layer(Enum):
    """What a lie attacks, and so which questions must notice it."""

    HISTORY = "history"
    NEWEST = "newest"
    """The history, where the newest snapshot is asked for."""
    TREE = "tree"
    EXTENTS = "extents"
    SEGMENTS = "segments"


@dataclass(frozen=True)
class Mutation:
    """One lie. `code` and `says` are of the error that ends the job; with `code` empty each file that cannot be had is
    reported with a reason that `says` matches, and the others are restored. `whole` is the code where the tree is read
    as a whole, where entries are opened before their folder is proved."""

    layer: Layer
    lie: Callable[[Stage], SnapshotSource]
    code: str
    says: str
    whole: str = ""
    witness_only: bool = False
    """Known limit, by design: an older or other history signed by this installation is noticed only by a witness."""
    opens: bool = False
    """The segments open, since the host holds the key: a sample proves nothing, the whole-file check does."""


# --- history

Commits = Callable[[list[StoredCommit]], list[StoredCommit]]


def flip(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def _commits(change: Commits) -> Callable[[Stage], SnapshotSource]:
    return lambda stage: LyingSource(stage.repository, commits=change)


def _signed(change: Callable[[SignedCommit], SignedCommit], *, at: int = -1) -> Callable[[Stage], SnapshotSource]:
    def lie(commits: list[StoredCommit]) -> list[StoredCommit]:
        changed = list(commits)
        changed[at] = replace(commits[at], signed=change(commits[at].signed))
        return changed

    return _commits(lie)


def _record(**changes: object) -> Callable[[SignedCommit], SignedCommit]:
    return lambda signed: replace(signed, record=encode_commit(replace(signed.decoded(), **changes)))


def _resigned(**changes: object) -> Callable[[SignedCommit], SignedCommit]:
    return lambda signed: SigningKey(b"host" * 8).sign_commit(replace(signed.decoded(), **changes))


def _stored(**changes: object) -> Callable[[Stage], SnapshotSource]:
    return _commits(lambda commits: [*commits[:-1], replace(commits[-1], **changes)])


def _fork_of_the_head(stage: Stage) -> SnapshotSource:
    fork = stage.repository.fork()
    del fork.history[-1]
    fork.commit(stage.items[OLDER][:5])
    return fork


def _other_vault(stage: Stage) -> SnapshotSource:
    fork = stage.repository.fork()
    fork.history, fork.trees = [], {}
    fork.sealer = Sealer(vault_keys(bytes(range(32)), VaultId(b"N" * 16)))
    for number in stage.items:
        fork.commit(stage.items[number])
    return fork


def _other_repository(stage: Stage) -> SnapshotSource:
    fork = stage.repository.fork()
    fork.history, fork.trees, fork.id = [], {}, RepositoryId(b"copy on site. . ")
    for number in stage.items:
        fork.commit(stage.items[number])
    return fork


class _EndlessCommits(LyingSource):
    """The true history, then unsigned commits without end, each of them the successor of the last."""

    def commits(self) -> Iterator[StoredCommit]:
        last = None
        for last in self._honest.commits():
            yield last
        assert last is not None
        for number in itertools.count(last.signed.decoded().number + 1):
            assert number < ENDLESS, "the reader takes whatever comes"
            record = replace(last.signed.decoded(), number=number, previous=last.signed.hash())
            last = replace(last, signed=SignedCommit(encode_commit(record), last.signed.signature))
            yield last


def _history(lie: Callable[[Stage], SnapshotSource], says: str, code: str = "integrity", **more: bool) -> Mutation:
    return Mutation(Layer.HISTORY, lie, code, says, **more)


_OLDER = "older history than this machine has seen"
_SIGNATURE = "this machine's signature"
_BROKEN = "history jumps|does not continue"

HISTORY: dict[str, Mutation] = {
    "no history at all": _history(_commits(lambda c: []), _OLDER, witness_only=True),
    "rolled back by one": _history(_commits(lambda c: c[:-1]), _OLDER, witness_only=True),
    "rolled back to the first": _history(_commits(lambda c: c[:1]), _OLDER, witness_only=True),
    "a fork of the head": _history(_fork_of_the_head, "is another one", witness_only=True),
    "the first commit missing": _history(_commits(lambda c: c[1:]), _BROKEN),
    "a commit in the middle missing": _history(_commits(lambda c: [c[0], *c[2:]]), _BROKEN),
    "commits reordered": _history(_commits(lambda c: [c[1], c[0], *c[2:]]), _BROKEN),
    "a commit twice": _history(_commits(lambda c: [c[0], c[0], *c[1:]]), _BROKEN),
    "another machine's history": _history(lambda stage: stage.others, _SIGNATURE + "|another vault"),
    "another machine's head": _history(
        lambda stage: LyingSource(stage.repository, commits=lambda c: [*c[:-1], stage.others.history[-1]]), _BROKEN
    ),
    "another vault under the same signature": _history(_other_vault, "belongs to another vault"),
    "another repository of the same machine": _history(_other_repository, "belongs to another machine"),
    "the head signed by another key": _history(_signed(_resigned()), _SIGNATURE),
    "the first signed by another key": _history(_signed(_resigned(), at=0), f"{_BROKEN}|{_SIGNATURE}"),
    "signature flipped": _history(_signed(lambda s: replace(s, signature=flip(s.signature, 9))), _SIGNATURE),
    "signature cut": _history(_signed(lambda s: replace(s, signature=s.signature[:-1])), _SIGNATURE),
    "signature empty": _history(_signed(lambda s: replace(s, signature=b"")), _SIGNATURE),
    "signature of another commit": _history(
        _commits(lambda c: [*c[:-1], replace(c[-1], signed=replace(c[-1].signed, signature=c[0].signed.signature))]),
        _SIGNATURE,
    ),
    "number changed": _history(_signed(_record(number=4)), _BROKEN),
    "root changed": _history(_signed(_record(root=Digest(b"r" * 32))), _SIGNATURE),
    "entry count changed": _history(_signed(_record(entry_count=1)), _SIGNATURE),
    "predecessor changed": _history(_signed(_record(previous=Digest(b"p" * 32))), _BROKEN),
    "vault changed": _history(_signed(_record(vault=VaultId(b"x" * 16))), _SIGNATURE),
    "completeness changed": _history(_signed(_record(complete=False)), _SIGNATURE),
    "commit with trailing bytes": _history(
        _signed(lambda s: replace(s, record=s.record + b"\0")), "not a commit record", "decode"
    ),
    "commit cut": _history(_signed(lambda s: replace(s, record=s.record[:-1])), "not a commit record", "decode"),
    "commit too large": _history(_signed(lambda s: replace(s, record=s.record + bytes(5000))), "is over", "decode"),
    "commit of another format": _history(
        _signed(lambda s: replace(s, record=encode_commit(replace(s.decoded(), format=2)))), "of format", "decode"
    ),
    "commit with text that is none": _history(
        _signed(lambda s: replace(s, record=s.record.replace(b"0.1.0", b"\xff.1.0"))), "not a commit record", "decode"
    ),
    "received at no time": _history(_stored(received_ms=1 << 62), "no clock shows"),
    "received before all time": _history(_stored(received_ms=-1), "no clock shows"),
    "the newest hidden as retired": Mutation(
        Layer.NEWEST, _stored(retired=True), "integrity", "no longer holds snapshot 3, the newest"
    ),
    "all hidden as retired": Mutation(
        Layer.TREE,
        _commits(lambda c: [replace(one, retired=True) for one in c]),
        "integrity",
        "no longer holds snapshot 3|holds none of 3 snapshots",
    ),
    "unsigned commits without end": _history(lambda stage: _EndlessCommits(stage.repository), _SIGNATURE),
}

# --- tree

Pages = Callable[[list[EntryPage]], list[EntryPage]]


def _pages(change: Pages) -> Callable[[Stage], SnapshotSource]:
    return lambda stage: LyingSource(stage.repository, entries=change)


def _each(change: Callable[[ListedEntry], ListedEntry]) -> Callable[[Stage], SnapshotSource]:
    return _pages(lambda pages: [replace(page, entries=[change(entry) for entry in page.entries]) for page in pages])


def _entry(**changes: Callable[[EntryRecord], object]) -> Callable[[Stage], SnapshotSource]:
    def change(entry: ListedEntry) -> ListedEntry:
        made = {name: value(entry.record) for name, value in changes.items()}
        return replace(entry, record=replace(entry.record, **made))

    return _each(change)


def _headers(change: Callable[[BatchHeader], BatchHeader]) -> Callable[[Stage], SnapshotSource]:
    return _pages(lambda pages: [replace(page, headers=[change(header) for header in page.headers]) for page in pages])


def _hide_first(pages: list[EntryPage]) -> list[EntryPage]:
    first = replace(pages[0], entries=pages[0].entries[1:])
    return [first, *pages[1:]] if first.entries or not first.more else pages[1:]


def _add_garbage(pages: list[EntryPage]) -> list[EntryPage]:
    last = pages[-1]
    record = EntryRecord(PathId(b"\xff" * 16), ROOT, 0, 3, VersionId(b"v" * 16), 0, b"s" * 90)
    if last.entries:
        record = replace(last.entries[-1].record, path_id=PathId(b"\xff" * 16))
    header = last.headers or [BatchHeader(1, b"s" * 32, b"c" * 32)]
    return [*pages[:-1], EntryPage(header, [*last.entries, ListedEntry(0, record, Digest(b"d" * 32))], False)]


def _swap_sealed(pages: list[EntryPage]) -> list[EntryPage]:
    entries = [entry for page in pages for entry in page.entries]
    if len(entries) < 2:
        return _add_garbage(pages)
    one, two = entries[0].record.path_id, entries[1].record.path_id
    sealed = {one: entries[1].record.sealed, two: entries[0].record.sealed}
    return [
        replace(page, entries=[
            replace(e, record=replace(e.record, sealed=sealed.get(e.record.path_id, e.record.sealed)))
            for e in page.entries
        ])
        for page in pages
    ]


class _Elsewhere(LyingSource):
    """Answers questions about the tree with what belongs to another question."""

    def __init__(self, stage: Stage, *, snapshot: int | None = None, folder: bool = False) -> None:
        super().__init__(stage.repository)
        self._stage, self._snapshot, self._folder = stage, snapshot, folder

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        shown = self._snapshot or snapshot
        entries = self._stage.repository.trees[shown].entries.values()
        folders = [record.path_id for record, _ in entries if record.kind == 1]
        if self._folder:
            folder = next(one for one in folders if one != folder)
        return self._stage.repository.children(shown, folder)

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        if self._folder:
            return self.children(snapshot, ROOT)
        return self._stage.repository.tree(self._snapshot or snapshot)


def _older_entries(stage: Stage) -> SnapshotSource:
    """Every file as it was in the first snapshot, in the folders of today."""
    old = stage.repository.trees[1].entries

    def lie(pages: list[EntryPage]) -> list[EntryPage]:
        changed = []
        for page in pages:
            headers, entries = list(page.headers), list(page.entries)
            for at, entry in enumerate(entries):
                record, header = old.get(entry.record.path_id, (entry.record, headers[entry.batch]))
                headers.append(header)
                entries[at] = replace(entry, record=record, batch=len(headers) - 1)
            changed.append(EntryPage(headers, entries, page.more))
        return changed

    return LyingSource(stage.repository, entries=lie)


class _EndlessTree(LyingSource):
    """Pages without end, path ids ascending: hostile at its most patient."""

    taken = 0

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        page = next(iter(self._honest.children(snapshot, folder)))
        entry = page.entries[0]
        for number in itertools.count(1):
            self.taken = number
            assert number < ENDLESS, "the reader takes whatever comes"
            record = replace(entry.record, path_id=PathId(number.to_bytes(16, "big")))
            yield EntryPage(page.headers, [replace(entry, record=record)], True)

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        return self.children(snapshot, ROOT)


class _EmptyForEver(LyingSource):
    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        return itertools.islice(itertools.repeat(EntryPage([], [], True)), ENDLESS)

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        return self.children(snapshot, ROOT)


class _Forged(LyingSource):
    """A host with the machine key: entries sealed and MACed, segments sealed, all digests recomputed.

    Only the signed root cannot follow. `items` are what it would have us believe each snapshot holds.
    """

    def __init__(
        self,
        stage: Stage,
        change: Callable[[Stage, list[Item]], list[Item]],
        sign: Callable[[SignedCommit], SignedCommit] | None = None,
    ) -> None:
        self.forged = stage.repository.fork()
        number = self.forged.commit(change(stage, [dataclasses.replace(item) for item in stage.items[NEWEST]]))
        super().__init__(self.forged)
        self._number, self._true, self._sign = number, stage.repository, sign

    def commits(self) -> Iterator[StoredCommit]:
        true = list(self._true.commits())
        if self._sign is None:
            return iter(true)
        root = self.forged.history[-1].signed.decoded()
        signed = true[-1].signed
        record = replace(signed.decoded(), root=root.root, entry_count=root.entry_count)
        return iter([*true[:-1], replace(true[-1], signed=self._sign(replace(signed, record=encode_commit(record))))])

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        return self.forged.children(self._number, folder)

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        return self.forged.tree(self._number)


def _forge(change: Callable[[Stage, list[Item]], list[Item]]) -> Callable[[Stage], SnapshotSource]:
    return lambda stage: _Forged(stage, change)


def _edited(**changes: object) -> Callable[[Stage, list[Item]], list[Item]]:
    """The letter changed."""

    def change(stage: Stage, items: list[Item]) -> list[Item]:
        for item in items:
            if item.path == stage.path(b"doc/letter"):
                for name, value in changes.items():
                    setattr(item, name, value)
        return items

    return change


def _without_letter(stage: Stage, items: list[Item]) -> list[Item]:
    return [item for item in items if item.path != stage.path(b"doc/letter")]


def _with(*more: Callable[[Stage], Item]) -> Callable[[Stage, list[Item]], list[Item]]:
    return lambda stage, items: [*items, *(make(stage) for make in more)]


def _folder_to_link(stage: Stage, items: list[Item]) -> list[Item]:
    doc = stage.path(b"doc")
    kept = [item for item in items if not item.path.startswith(doc)]
    return [*kept, Item(doc, type=FileType.SYMLINK, target=b"/etc")]


class _SealedNonsense(LyingSource):
    """Entries whose seals hold, in their places, around metadata that is none."""

    def __init__(self, stage: Stage, metadata: bytes) -> None:
        super().__init__(stage.repository, entries=self._changed)
        batch = stage.repository.sealer.seal_entries()
        self._batch, self._metadata = batch, metadata

    def _changed(self, pages: list[EntryPage]) -> list[EntryPage]:
        return [
            EntryPage([self._batch.header], [
                replace(entry, batch=0, record=self._batch.seal(entry.record, self._metadata)) for entry in page.entries
            ], page.more)
            for page in pages
        ]


def _nonsense(metadata: bytes) -> Callable[[Stage], SnapshotSource]:
    return lambda stage: _SealedNonsense(stage, metadata)


_PLAIN = encode_metadata(Metadata(b"x", 0, 0, 0, 0, 0, "", "", b"", b"", b"", []))


def _tree(lie: Callable[[Stage], SnapshotSource], says: str, code: str = "integrity", whole: str = "") -> Mutation:
    return Mutation(Layer.TREE, lie, code, says, whole or code)


_NOT_SIGNED = "is not what snapshot"
_COUNT = "signed [0-9]+ entries"
_ENTRY = "was altered or belongs elsewhere"
_ANY = f"{_NOT_SIGNED}|{_ENTRY}|{_COUNT}"
_CONFUSED = "twice or out of order|goes on after its end|of another folder"

TREE: dict[str, Mutation] = {
    "an entry hidden": _tree(_pages(_hide_first), f"{_NOT_SIGNED}|{_COUNT}"),
    "an entry of garbage added": _tree(_pages(_add_garbage), f"{_ANY}|another folder"),
    "all entries hidden": _tree(_pages(lambda p: [EntryPage([], [], False)]), f"{_NOT_SIGNED}|{_COUNT}"),
    "no page": _tree(_pages(lambda p: []), "ends early"),
    "the last page withheld": _tree(_pages(lambda p: p[:-1]), "ends early"),
    "a page twice": _tree(_pages(lambda p: [*p, p[-1]]), _CONFUSED),
    "the first page twice": _tree(
        _pages(lambda p: [replace(p[0], more=True), *p]), _CONFUSED
    ),
    "pages reordered": _tree(
        _pages(lambda p: [replace(one, more=True) for one in p[::-1]] + [p[-1]]), _CONFUSED
    ),
    "entries reordered within pages": _tree(
        _pages(lambda p: [
            replace(one, entries=one.entries[::-1] if len(one.entries) > 1 else one.entries * 2) for one in p
        ]),
        _CONFUSED,
    ),
    "an entry twice": _tree(
        _pages(lambda p: [replace(one, entries=[e for e in one.entries for _ in (0, 1)]) for one in p]), _CONFUSED
    ),
    "more, for ever": _tree(_pages(lambda p: [replace(one, more=True) for one in p]), "ends early"),
    "empty pages for ever": _tree(lambda stage: _EmptyForEver(stage.repository), "empty page"),
    "entries for ever": _tree(
        lambda stage: _EndlessTree(stage.repository), f"{_COUNT}|{_ENTRY}|more than|of another folder", whole="seal"
    ),
    "a batch that is not there": _tree(_each(lambda e: replace(e, batch=99)), "names batch"),
    "a negative batch": _tree(_each(lambda e: replace(e, batch=-1)), "names batch"),
    "a future key epoch": _tree(_headers(lambda h: replace(h, epoch=9)), "key epoch", "seal"),
    "a negative key epoch": _tree(_headers(lambda h: replace(h, epoch=-1)), "key epoch", "seal"),
    "salt flipped": _tree(_headers(lambda h: replace(h, salt=flip(h.salt, 3))), "under another key", "seal"),
    "salt cut": _tree(_headers(lambda h: replace(h, salt=h.salt[:-1])), "wrong lengths", "seal"),
    "commitment flipped": _tree(
        _headers(lambda h: replace(h, commitment=flip(h.commitment, 31))), "under another key", "seal"
    ),
    "the header of another batch": _tree(
        lambda stage: LyingSource(stage.repository, entries=lambda pages: [
            replace(page, headers=[stage.repository.sealer.seal_entries().header for _ in page.headers])
            for page in pages
        ]),
        _ENTRY,
        "seal",
    ),
    "another machine's batch header": _tree(
        lambda stage: LyingSource(stage.repository, entries=lambda pages: [
            replace(page, headers=[stage.others.sealer.seal_entries().header for _ in page.headers]) for page in pages
        ]),
        "under another key",
        "seal",
    ),
    "another index in the batch": _tree(_entry(index=lambda r: r.index + 1), _ENTRY, "seal"),
    "a negative index": _tree(_entry(index=lambda r: -1), _ENTRY, "seal"),
    "an impossible index": _tree(_entry(index=lambda r: (1 << 64) - 1), _ENTRY, "seal"),
    "seal flipped, first byte": _tree(_entry(sealed=lambda r: flip(r.sealed, 0)), _ANY, whole="seal"),
    "seal flipped, last byte": _tree(_entry(sealed=lambda r: flip(r.sealed, -1)), _ANY, whole="seal"),
    "seal cut": _tree(_entry(sealed=lambda r: r.sealed[:-1]), _ANY, whole="seal"),
    "seal cut to less than a tag": _tree(_entry(sealed=lambda r: r.sealed[:5]), _ANY, whole="seal"),
    "no seal": _tree(_entry(sealed=lambda r: b""), _ANY, whole="seal"),
    "metadata of two entries swapped": _tree(_pages(_swap_sealed), f"{_ANY}|another folder", whole="seal"),
    "path ids flipped": _tree(
        _entry(path_id=lambda r: PathId(flip(r.path_id, 15))), f"{_ANY}|{_CONFUSED}", whole="seal"
    ),
    "a short path id": _tree(_entry(path_id=lambda r: PathId(r.path_id[:-1])), "bytes long"),
    "children moved to another folder": _tree(
        _entry(parent_id=lambda r: PathId(flip(r.parent_id, 2))), "another folder|" + _ENTRY, whole="seal"
    ),
    "another version": _tree(_entry(version_id=lambda r: VersionId(b"v" * 16)), _ANY, whole="seal"),
    "a long version id": _tree(_entry(version_id=lambda r: VersionId(b"v" * 17)), "bytes long"),
    "sizes lied about": _tree(_entry(size=lambda r: r.size + 1), _ANY, whole="seal"),
    "a huge size": _tree(_entry(size=lambda r: 1 << 63), "is of kind"),
    "a negative size": _tree(_entry(size=lambda r: -1), "is of kind"),
    "files shown as links": _tree(_entry(kind=lambda r: 2 if r.kind == 0 else 0), f"{_ANY}|is of kind", whole="seal"),
    "an unknown kind": _tree(_entry(kind=lambda r: 77), "is of kind"),
    "folder digests replaced": _tree(
        _each(lambda e: replace(e, folder_digest=Digest(b"\x01" * 32))), _NOT_SIGNED
    ),
    "folder digests left out": _tree(_each(lambda e: replace(e, folder_digest=Digest(b""))), "carries no digest"),
    "the tree of the first snapshot": _tree(lambda stage: _Elsewhere(stage, snapshot=1), f"{_NOT_SIGNED}|{_COUNT}"),
    "the children of another folder": _tree(
        lambda stage: _Elsewhere(stage, folder=True), f"another folder|{_COUNT}|{_NOT_SIGNED}"
    ),
    "older entries in the folders of today": _tree(_older_entries, _NOT_SIGNED),
    "another machine's tree": _tree(
        lambda stage: _TreeOfAnother(stage.repository, stage.others),
        f"{_NOT_SIGNED}|under another key",
        whole="seal",
    ),
    "forged with the machine key: a file hidden": _tree(_forge(_without_letter), f"{_NOT_SIGNED}|{_COUNT}"),
    "forged with the machine key: other content": _tree(_forge(_edited(content=b"pay me")), _NOT_SIGNED),
    "forged with the machine key: an older content": _tree(
        lambda stage: _Forged(stage, _edited(content=stage.items[1][0].content)), _NOT_SIGNED
    ),
    "forged with the machine key: emptied": _tree(_forge(_edited(content=b"")), _NOT_SIGNED),
    "forged with the machine key: a file added": _tree(
        _forge(_with(lambda s: Item(s.path(b"doc/READ-ME-TO-PAY"), b"1 BTC"))), f"{_NOT_SIGNED}|{_COUNT}"
    ),
    "forged with the machine key: set-uid": _tree(_forge(_edited(mode=0o6755)), _NOT_SIGNED),
    "forged with the machine key: a folder turned into a link out": _tree(
        _forge(_folder_to_link), f"{_NOT_SIGNED}|{_COUNT}"
    ),
    "forged with the machine key: the name ..": _tree(
        _forge(_with(lambda s: Item(s.path(b"doc/x"), b"x", name=b".."))), f"{_NOT_SIGNED}|leaves its folder|{_COUNT}"
    ),
    "forged with the machine key: absurd times and owners": _tree(
        _forge(_edited(mtime_ns=(1 << 63) - 1, uid=(1 << 63) - 1, gid=-5, mode=-1)), _NOT_SIGNED
    ),
    "forged with the machine key: giant attributes": _tree(
        _forge(_edited(xattrs=[(b"user.%d" % n, b"v" * 10_000) for n in range(60)])), _NOT_SIGNED
    ),
    "sealed nonsense: no metadata": _tree(_nonsense(b"\xc0"), f"{_NOT_SIGNED}|no metadata of a known form"),
    "sealed nonsense: nested without end": _tree(
        _nonsense(bytes([_PLAIN[0] + 1]) + _PLAIN[1:] + b"\x91" * 5000 + b"\xc0"),
        f"{_NOT_SIGNED}|no metadata of a known form",
    ),
    "sealed nonsense: text that is none": _tree(
        _nonsense(_PLAIN.replace(b"\xa0\xa0", b"\xa1\xff\xa0")), f"{_NOT_SIGNED}|no metadata of a known form"
    ),
    "sealed nonsense: another's name": _tree(_nonsense(_PLAIN), f"{_NOT_SIGNED}|does not belong where"),
}

HISTORY |= {
    "forged with the machine key, signed by the host": _history(
        lambda stage: _Forged(stage, _edited(content=b"pay me"), _resigned()),
        _SIGNATURE,
    ),
    "forged with the machine key, root changed, signature kept": _history(
        lambda stage: _Forged(stage, _edited(content=b"pay me"), lambda s: s), _SIGNATURE
    ),
}


class _TreeOfAnother(LyingSource):
    """The true history over another machine's tree."""

    def __init__(self, history: Repository, tree: Repository) -> None:
        super().__init__(tree)
        self._history = history

    def commits(self) -> Iterator[StoredCommit]:
        return self._history.commits()

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        # Its ids are other ones: the host shows what it has in the same place.
        mine = self._history.trees[snapshot].entries
        if folder != ROOT and folder in mine:
            depth = 0
            at = folder
            while at != ROOT:
                at, depth = mine[at][0].parent_id, depth + 1
            folder = ROOT
        return self._honest.children(snapshot, folder)
