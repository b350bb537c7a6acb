"""A snapshot is read through proof: whatever a host changes, hides, adds or rolls back is an error, not data."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.support.memory_source import HOUR_MS, Item, LyingSource, Repository
from transport.commits import StoredCommit
from transport.errors import DecodeError, IntegrityError, PilulierError, SealError, UsageError
from transport.keys import SigningKey
from transport.names import NO_DIGEST, ROOT, Digest, PathId, VaultId, VersionId
from transport.snapshot_reader import (
    Node,
    Snapshot,
    SnapshotReader,
    SnapshotSource,
    choose_snapshot,
    split_path,
    verify_history,
)
from transport.tree import EntryPage, FileType, ListedEntry


def house() -> Repository:
    """A small repository with one snapshot."""
    repository = Repository(page=3)
    repository.commit(items())
    return repository


def items() -> list[Item]:
    """Files, folders and a link; one folder with several pages."""
    return [
        Item(b"/a/b/deep.txt", b"deep"),
        Item(b"/a/one", b"1"),
        Item(b"/a/two", b"2"),
        Item(b"/a/empty", type=FileType.FOLDER),
        *(Item(b"/many/%d" % n, b"%d" % n) for n in range(10)),
        Item(b"/top-link", type=FileType.SYMLINK, target=b"a/one"),
    ]


def newest(repository: Repository) -> Snapshot:
    return choose_snapshot(verify_history(repository.commits(), repository.signing.public, None))


def reader(repository: Repository, source: SnapshotSource | None = None) -> SnapshotReader:
    return SnapshotReader(source or repository, repository.sealer, newest(repository))


def paths(nodes: list[Node]) -> list[bytes]:
    return [node.path() for node in nodes]


# --- history


def test_history_is_verified_with_and_without_a_witness() -> None:
    repository = house()
    first = repository.head
    repository.commit(items()[:2])
    for witness in (None, first, repository.head):
        history = verify_history(
            repository.commits(), repository.signing.public, witness, vault=repository.sealer.keys.vault
        )
        assert [snapshot.number for snapshot in history.snapshots] == [1, 2]
        assert history.head is history.snapshots[-1]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_rolled_back_history_is_noticed_by_the_witness(kept: int) -> None:
    repository = house()
    repository.commit(items()[:3])
    with pytest.raises(IntegrityError, match="older history than this machine has seen"):
        verify_history(list(repository.commits())[:kept], repository.signing.public, repository.head)


def test_another_history_of_the_same_length_is_noticed() -> None:
    repository, other = house(), Repository()
    other.commit(items()[:4])
    with pytest.raises(IntegrityError, match="older history"):
        verify_history(other.commits(), repository.signing.public, repository.head)


def test_a_commit_that_another_key_signed_is_refused() -> None:
    repository = house()
    forged = SigningKey(b"f" * 32).sign_commit(newest(repository).record)
    for witness in (None, repository.head):
        with pytest.raises(IntegrityError):
            verify_history([StoredCommit(forged, 1, 1, False)], repository.signing.public, witness)


def test_missing_swapped_and_repeated_commits_are_refused() -> None:
    repository = house()
    for n in range(3):
        repository.commit(items()[: n + 1])
    true = list(repository.commits())
    for wrong in (true[1:], [true[0], *true[2:]], [true[1], true[0], *true[2:]], [true[0], true[0], *true[1:]]):
        for witness in (None, repository.head):
            with pytest.raises(IntegrityError):
                verify_history(wrong, repository.signing.public, witness)


def test_every_flipped_byte_of_an_old_commit_is_noticed() -> None:
    repository = house()
    repository.commit(items()[:3])
    true = list(repository.commits())
    signed = true[0].signed
    for field in ("record", "signature"):
        data = getattr(signed, field)
        for at in range(0, len(data), 7):
            flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            wrong = msgspec.structs.replace(true[0], signed=msgspec.structs.replace(signed, **{field: flipped}))
            for witness in (None, repository.head):
                with pytest.raises((IntegrityError, DecodeError)):
                    verify_history([wrong, true[1]], repository.signing.public, witness)


def test_a_commit_of_another_vault_is_refused() -> None:
    repository = house()
    with pytest.raises(IntegrityError, match="another vault"):
        verify_history(repository.commits(), repository.signing.public, None, vault=VaultId(b"W" * 16))


def test_a_snapshot_is_chosen_by_number_and_by_time() -> None:
    repository = house()
    for _ in range(3):
        repository.commit(items())
    repository.history[0] = msgspec.structs.replace(repository.history[0], retired=True)
    history = verify_history(repository.commits(), repository.signing.public, None)
    assert choose_snapshot(history).number == 4
    assert choose_snapshot(history, number=2).number == 2
    assert choose_snapshot(history, at_ms=3 * HOUR_MS).number == 3
    assert choose_snapshot(history, at_ms=4 * HOUR_MS - 1).number == 3
    with pytest.raises(UsageError, match=r"no longer held; available: 2 \(1970-01-01T02:00:00Z\) to 4"):
        choose_snapshot(history, number=1)
    with pytest.raises(UsageError, match="no snapshot 5; available: 2"):
        choose_snapshot(history, number=5)
    with pytest.raises(UsageError, match="or before; available: 2"):
        choose_snapshot(history, at_ms=HOUR_MS)
    with pytest.raises(UsageError, match="not by both"):
        choose_snapshot(history, number=2, at_ms=1)
    with pytest.raises(UsageError, match="run a backup first"):
        choose_snapshot(verify_history([], repository.signing.public, None))


# --- reading


def test_listing_walk_and_whole_tree_agree() -> None:
    repository = house()
    read = reader(repository)
    whole = read.whole_tree()
    assert paths(whole) == paths(list(read.walk(None)))
    assert len(whole) == newest(repository).record.entry_count
    assert paths(read.listing(b"/")) == [b"/a", b"/many", b"/top-link"]
    assert paths(read.listing(b"/a/")) == [b"/a/b", b"/a/empty", b"/a/one", b"/a/two"]
    assert paths(read.listing(b"/a/one")) == [b"/a/one"]
    assert read.listing(b"/a/empty") == []
    link = read.find(b"/top-link")
    assert link is not None and link.target == b"a/one"
    assert read.find(b"/a/none") is None
    assert read.find(b"/a/one/below-a-file") is None
    with pytest.raises(UsageError, match="not in snapshot 1"):
        read.listing(b"/nowhere")


def test_a_path_costs_one_query_a_component_and_none_twice() -> None:
    repository = house()
    read = reader(repository)
    assert read.find(b"/a/b/deep.txt") is not None
    assert len(repository.asked_folders) == 3 and repository.asked_trees == 0
    assert read.find(b"/a/one") is not None
    assert len(repository.asked_folders) == 3


def test_an_empty_snapshot_reads_as_empty() -> None:
    repository = Repository()
    repository.commit([])
    assert reader(repository).whole_tree() == []
    assert reader(repository).listing(b"/") == []


def test_selection_of_outermost_paths() -> None:
    repository = house()
    chosen = reader(repository).select([b"/a/b/deep.txt", b"/a/b", b"/many/3", b"/gone", b"/a/b/"])
    assert paths(chosen.nodes) == [b"/a/b", b"/a/b/deep.txt", b"/many/3"]
    assert paths(chosen.ancestors) == [b"/a", b"/many"]
    assert chosen.missing == [b"/gone"]
    assert repository.asked_trees == 0


def test_a_large_selection_reads_the_tree_instead_and_selects_the_same() -> None:
    repository = Repository(page=100)
    repository.commit(
        [Item(b"/s/x/%d/f" % n, b"x") for n in range(60)] + [Item(b"/s/single", b"1"), Item(b"/t", b"2")]
    )
    read = reader(repository)
    chosen = read.select([b"/s/x", b"/t", b"/missing"])
    assert repository.asked_trees == 1
    start = read.find(b"/s/x")
    assert start is not None
    assert paths(chosen.nodes) == [b"/s/x", *paths(list(read.walk(start))), b"/t"]
    assert paths(chosen.ancestors) == [b"/s"]
    assert chosen.missing == [b"/missing"]


@pytest.mark.parametrize("path", [b"/a/../b", b"/./a", b"..", b"/a/\0b"])
def test_paths_that_no_snapshot_holds_are_usage_errors(path: bytes) -> None:
    with pytest.raises(UsageError):
        split_path(path)


# --- a hostile agent, or a host with a confided key


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/", b"nul\0byte", b"../../etc/passwd"])
def test_names_that_leave_their_folder_are_refused(name: bytes) -> None:
    repository = Repository()
    repository.commit([Item(b"/a/x", b"1", name=name)])
    for read in (lambda r: r.whole_tree(), lambda r: r.listing(b"/a"), lambda r: list(r.walk(None))):
        with pytest.raises(IntegrityError, match="leaves its folder"):
            read(reader(repository))


# --- a hostile host

Lie = Callable[[list[EntryPage]], list[EntryPage]]


def every(change: Callable[[ListedEntry], ListedEntry | None]) -> Lie:
    """Change, or drop, entries one by one."""

    def lie(pages: list[EntryPage]) -> list[EntryPage]:
        return [
            msgspec.structs.replace(page, entries=[kept for e in page.entries if (kept := change(e)) is not None])
            for page in pages
        ]

    return lie


def with_record(entry: ListedEntry, **changes: object) -> ListedEntry:
    return msgspec.structs.replace(entry, record=msgspec.structs.replace(entry.record, **changes))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]


def hide_first(pages: list[EntryPage]) -> list[EntryPage]:
    first = msgspec.structs.replace(pages[0], entries=pages[0].entries[1:])
    return [first, *pages[1:]] if first.entries or not first.more else pages[1:]


def add_one(pages: list[EntryPage]) -> list[EntryPage]:
    last = pages[-1]
    if not last.entries:
        return pages
    entry = with_record(last.entries[-1], path_id=PathId(b"\xff" * 16))
    return [*pages[:-1], msgspec.structs.replace(last, entries=[*last.entries, entry])]


def swap_sealed(pages: list[EntryPage]) -> list[EntryPage]:
    page = pages[0]
    if len(page.entries) < 2:
        return pages
    one, two = page.entries[:2]
    swapped = [with_record(one, sealed=two.record.sealed), with_record(two, sealed=one.record.sealed)]
    return [msgspec.structs.replace(page, entries=swapped + page.entries[2:]), *pages[1:]]


LIES: dict[str, Lie] = {
    "hide an entry": hide_first,
    "add an entry": add_one,
    "swap metadata": swap_sealed,
    "hide everything": lambda pages: [EntryPage([], [], False)],
    "no page": lambda pages: [],
    "lose the last page": lambda pages: pages[:-1],
    "repeat a page": lambda pages: [*pages, pages[-1]],
    "reorder pages": lambda pages: pages[::-1],
    "never end": lambda pages: [msgspec.structs.replace(p, more=True) for p in pages],
    "empty page": lambda pages: [EntryPage([], [], True), *pages],
    "wrong batch": every(lambda e: msgspec.structs.replace(e, batch=99)),
    "negative batch": every(lambda e: msgspec.structs.replace(e, batch=-1)),
    "flip path id": every(lambda e: with_record(e, path_id=flip(e.record.path_id, 0))),
    "flip parent": every(lambda e: with_record(e, parent_id=flip(e.record.parent_id, 3))),
    "flip version": every(lambda e: with_record(e, version_id=flip(e.record.version_id, 15))),
    "other size": every(lambda e: with_record(e, size=e.record.size + 1)),
    "huge size": every(lambda e: with_record(e, size=1 << 63)),
    "negative size": every(lambda e: with_record(e, size=-1)),
    "other kind": every(lambda e: with_record(e, kind=(e.record.kind + 1) % 3)),
    "unknown kind": every(lambda e: with_record(e, kind=300)),
    "flip seal, first byte": every(lambda e: with_record(e, sealed=flip(e.record.sealed, 0))),
    "flip seal, last byte": every(lambda e: with_record(e, sealed=flip(e.record.sealed, -1)[: len(e.record.sealed)])),
    "cut seal": every(lambda e: with_record(e, sealed=e.record.sealed[:-1])),
    "no seal": every(lambda e: with_record(e, sealed=b"")),
    "other index": every(lambda e: with_record(e, index=e.record.index + 1)),
    "impossible index": every(lambda e: with_record(e, index=-1)),
    "short id": every(lambda e: with_record(e, path_id=e.record.path_id[:-1])),
    "long version": every(lambda e: with_record(e, version_id=VersionId(b"v" * 17))),
    "other folder digest": every(lambda e: msgspec.structs.replace(e, folder_digest=Digest(b"\x01" * 32))),
    "no folder digest": every(lambda e: msgspec.structs.replace(e, folder_digest=Digest(b""))),
    "flip salt": lambda pages: [
        msgspec.structs.replace(
            p, headers=[msgspec.structs.replace(h, salt=flip(h.salt, 5)) for h in p.headers]
        )
        for p in pages
    ],
    "flip commitment": lambda pages: [
        msgspec.structs.replace(
            p, headers=[msgspec.structs.replace(h, commitment=flip(h.commitment, 31)) for h in p.headers]
        )
        for p in pages
    ],
    "future epoch": lambda pages: [
        msgspec.structs.replace(p, headers=[msgspec.structs.replace(h, epoch=9) for h in p.headers]) for p in pages
    ],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_no_lie_about_entries_is_believed(lie: Lie) -> None:
    repository = house()
    liar = LyingSource(repository, entries=lie)
    with pytest.raises((IntegrityError, SealError)):
        reader(repository, liar).whole_tree()
    with pytest.raises((IntegrityError, SealError)):
        list(reader(repository, liar).walk(None))


def test_an_older_entry_and_an_older_tree_are_noticed() -> None:
    repository = house()
    changed = [Item(b"/a/one", b"new content") if item.path == b"/a/one" else item for item in items()]
    repository.commit(changed)
    old = {e.record.path_id: e for page in repository.tree(1) for e in page.entries}
    old_headers = {
        e.record.path_id: page.headers[e.batch] for page in repository.tree(1) for e in page.entries
    }
    one = repository.sealer.keys.path_id(repository.sealer.keys.path_id(ROOT, b"a"), b"one")

    def roll_back(pages: list[EntryPage]) -> list[EntryPage]:
        lied = []
        for page in pages:
            entries, headers = list(page.entries), list(page.headers)
            for at, entry in enumerate(entries):
                if entry.record.path_id == one:
                    headers.append(old_headers[one])
                    entries[at] = msgspec.structs.replace(old[one], batch=len(headers) - 1)
            lied.append(EntryPage(headers, entries, page.more))
        return lied

    for source in (LyingSource(repository, entries=roll_back), LyingSource(_OldTree(repository))):
        with pytest.raises(IntegrityError):
            reader(repository, source).whole_tree()
        with pytest.raises(IntegrityError):
            reader(repository, source).listing(b"/a")


class _OldTree(LyingSource):
    """Answers every question about the tree from snapshot 1."""

    def __init__(self, honest: Repository) -> None:
        super().__init__(honest)
        self._repository = honest

    def children(self, snapshot: int, folder: PathId):  # type: ignore[no-untyped-def]
        return self._repository.children(1, folder)

    def tree(self, snapshot: int):  # type: ignore[no-untyped-def]
        return self._repository.tree(1)


def test_a_wrong_root_or_count_is_noticed() -> None:
    repository = Repository()
    repository.commit(items(), root=Digest(b"\x07" * 32))
    with pytest.raises(IntegrityError, match="content of the root"):
        reader(repository).whole_tree()
    with pytest.raises(IntegrityError, match="content of the root"):
        reader(repository).listing(b"/")
    for count in (3, 300):
        repository = Repository()
        repository.commit(items(), count=count)
        with pytest.raises(IntegrityError, match=f"signed {count} entries"):
            reader(repository).whole_tree()


def test_entries_outside_of_every_folder_are_noticed() -> None:
    repository = house()
    tree = repository.trees[1]
    stray = next(iter(tree.entries.values()))
    orphan = repository.sealer.seal_entries()
    record = msgspec.structs.replace(stray[0], path_id=PathId(b"\x01" * 16), parent_id=PathId(b"\x02" * 16), kind=0)
    from transport.tree import Metadata, encode_metadata

    parent = PathId(b"\x02" * 16)
    record = msgspec.structs.replace(record, path_id=repository.sealer.keys.path_id(parent, b"x"))
    sealed = orphan.seal(
        record, encode_metadata(Metadata(b"x", 0, 0o644, 0, 0, 0, "", "", b"", b"", b"", []))
    )
    repository.commit_entries({**tree.entries, sealed.path_id: (sealed, orphan.header)})
    with pytest.raises(IntegrityError, match="outside of every folder"):
        reader(repository).whole_tree()


def test_another_machines_key_opens_nothing() -> None:
    repository = house()
    other = Repository()
    from transport.sealing import Sealer, vault_keys

    other.sealer = Sealer(vault_keys(b"k" * 32, repository.sealer.keys.vault))
    with pytest.raises(PilulierError):
        SnapshotReader(repository, other.sealer, newest(repository)).whole_tree()
    assert newest(repository).record.root != NO_DIGEST
