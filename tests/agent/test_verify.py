"""Originals are told apart: same, changed since, damaged; and sampled segments are opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.verify import VerifyReport, compare, content_mac, disk_original, open_sample, read_chunks
from tests.support.memory_source import Item, Repository
from transport.contents import CHUNK_BYTES
from transport.history import choose_snapshot, verify_history
from transport.snapshot_reader import MissingSegment, Node, SnapshotReader
from transport.tree import FileType


def backed_up(folder: Path) -> tuple[Repository, list[Node]]:
    """What stands under `folder`, as one snapshot."""
    repository = Repository()
    items = []
    for path in sorted(folder.iterdir()):
        status = path.lstat()
        if path.is_symlink():
            items.append(Item(os.fsencode(path), type=FileType.SYMLINK, target=os.readlink(os.fsencode(path))))
        else:
            items.append(Item(os.fsencode(path), path.read_bytes(), mtime_ns=status.st_mtime_ns))
    repository.commit(items)
    snapshot = choose_snapshot(verify_history(repository.commits(), repository.signing.public, None))
    return repository, SnapshotReader(repository, repository.sealer, snapshot).whole_tree()


def rewrite(path: Path, content: bytes) -> None:
    """Other content under the same time, as a failing disk does it."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_each_original_is_judged(tmp_path: Path) -> None:
    for name in ("same", "damaged", "longer", "touched", "gone", "folder-now", "link-now", "empty"):
        (tmp_path / name).write_bytes(b"" if name == "empty" else name.encode())
    (tmp_path / "large").write_bytes(b"z" * (2 * CHUNK_BYTES + 5))
    (tmp_path / "link").symlink_to("same")
    repository, nodes = backed_up(tmp_path)
    rewrite(tmp_path / "damaged", b"DAMAGED")
    rewrite(tmp_path / "longer", b"longer!")
    os.utime(tmp_path / "touched")
    (tmp_path / "gone").unlink()
    (tmp_path / "folder-now").unlink()
    (tmp_path / "folder-now").mkdir()
    (tmp_path / "link-now").unlink()
    (tmp_path / "link-now").symlink_to("same")
    told: list[int] = []
    report = compare(
        nodes, disk_original, repository.sealer.keys.content, progress=lambda p: told.append(p.files_done)
    )
    assert report.damaged == [os.fsencode(tmp_path / "damaged")]
    assert (report.files_same, report.files_damaged) == (3, 1)
    # A link in place of a file is not followed: it could not be read as the file it was.
    assert report.files_changed_since == 4
    assert [u.path for u in report.unreadable] == [os.fsencode(tmp_path / "link-now")]
    assert report.files_checked == 8 == told[-1]


def test_sampled_segments_are_opened() -> None:
    repository = Repository(segment_bytes=4)
    repository.commit([Item(b"/f", b"abcdefgh-ijkl")])
    sealed = list(repository.sealed.items())
    wrong = [(sealed[0][0], sealed[1][1]), (sealed[2][0], MissingSegment("damaged pack"))]
    report = VerifyReport()
    open_sample(repository.sealer, [*sealed, *wrong], report)
    assert report.segments_checked == len(sealed) + 2
    assert [damaged.segment for damaged in report.segments_damaged] == [sealed[0][0], sealed[2][0]]
    assert report.segments_damaged[1].reason == "damaged pack"


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_chunks_of_a_file_are_full_but_the_last(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"\x01" * size)
    with open(tmp_path / "f", "rb") as file:
        chunks = list(read_chunks(file.fileno()))
    assert b"".join(chunks) == b"\x01" * size
    assert all(len(chunk) == CHUNK_BYTES for chunk in chunks[:-1])


def test_a_content_that_grows_under_the_reader_equals_nothing() -> None:
    assert content_mac([b"short", b"more"], b"k" * 32)[1] == b""
