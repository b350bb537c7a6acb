"""A restore that begins with what was used last: the order itself, and what it costs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.restore import restore
from agent.restore_order import recent_first
from tests.support.memory_source import Item, Repository
from transport.history import choose_snapshot, verify_history
from transport.names import Buffer, SegmentId
from transport.snapshot_reader import MissingSegment, SnapshotReader
from transport.tree import FileType

DAY_NS = 86_400 * 10**9
NOW_NS = 1_700_000_000 * 10**9


def _repository() -> Repository:
    """Ten folders of ten files; folder 7 was used last, then 3, the others long ago. Few files share a segment."""
    age = {7: 0, 3: 1}
    items = [
        Item(
            b"/data/folder-%d/file-%d" % (folder, number),
            os.urandom(3000),
            mtime_ns=NOW_NS - (age.get(folder, 100 + folder) * 10 + number) * DAY_NS,
        )
        for folder in range(10)
        for number in range(10)
    ]
    items.append(Item(b"/data/link", type=FileType.SYMLINK, target=b"folder-7"))
    items.append(Item(b"/data/empty", type=FileType.FOLDER))
    repository = Repository(segment_bytes=10_000)
    repository.commit(items)
    return repository


class _Watched:
    """Notes which segments are asked for, in order."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.asked: list[SegmentId] = []
        self.commits, self.successions = repository.commits, repository.successions
        self.children, self.tree, self.extents = repository.children, repository.tree, repository.extents

    def segments(self, ids: Iterable[SegmentId]) -> Iterator[tuple[SegmentId, Buffer | MissingSegment]]:
        for segment, data in self._repository.segments(ids):
            self.asked.append(segment)
            yield segment, data


def test_folders_come_by_their_newest_file() -> None:
    repository = _repository()
    chosen = choose_snapshot(verify_history(repository.commits(), repository.signing.public, None))
    nodes = list(SnapshotReader(repository, repository.sealer, chosen).whole_tree())
    ordered = recent_first(nodes)
    assert sorted(map(id, ordered)) == sorted(map(id, nodes))
    first_file = next(at for at, node in enumerate(ordered) if node.type == FileType.FILE)
    assert all(node.type == FileType.FILE for node in ordered[first_file:])
    files = [node.path() for node in ordered[first_file:]]
    assert files[:2] == [b"/data/folder-7/file-0", b"/data/folder-7/file-1"]
    folders = list(dict.fromkeys(os.path.dirname(path) for path in files))
    assert folders == [b"/data/folder-%d" % number for number in (7, 3, 0, 1, 2, 4, 5, 6, 8, 9)]
    assert ordered[:first_file] == [node for node in nodes if node.type != FileType.FILE], "parents before children"


def test_what_was_used_last_is_there_first_and_no_segment_comes_twice(tmp_path: Path) -> None:
    repository = _repository()
    source = _Watched(repository)
    report = restore(
        source,
        repository.sealer,
        repository.signing.public,
        witness=None,
        target=os.fsencode(tmp_path),
        recent_first=True,
    )
    assert report.files == 100 and not report.errors
    assert len(source.asked) == len(set(source.asked)) == len(repository.sealed)
    plain = _Watched(repository)
    other = tmp_path / "other"
    restore(
        plain, repository.sealer, repository.signing.public, witness=None, target=os.fsencode(other)
    )
    assert sorted(plain.asked) == sorted(source.asked) and plain.asked != source.asked
    # The first segments asked for are those of folder 7: at most one more than its bytes fill.
    wanted = {
        segment
        for version in repository.versions
        for segment, _, _ in repository.versions[version][1]
        if _belongs(repository, version, b"/data/folder-7/")
    }
    assert set(source.asked[: len(wanted)]) == wanted
    for path in (tmp_path / "data").rglob("file-*"):
        assert path.read_bytes() == (other / path.relative_to(tmp_path)).read_bytes()


def _belongs(repository: Repository, version: bytes, prefix: bytes) -> bool:
    chosen = choose_snapshot(verify_history(repository.commits(), repository.signing.public, None))
    nodes = SnapshotReader(repository, repository.sealer, chosen).whole_tree()
    return any(node.version_id == version and node.path().startswith(prefix) for node in nodes)
