"""Comparing originals with what was backed up: the sealed MACs, and a sample of sealed segments.

Owns the judgement (same, changed since, damaged) and the whole-file MAC of a stream of chunks. A file whose
size or time differ was changed since the backup and proves nothing; one with the same size and time but other
content was damaged on this disk, or in silence. Must not know the appliance: nodes and sample are handed in.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from agent.sources.places import TOP
from agent.system import descriptors
from agent.system.paths import native
from transport.contents import CHUNK_BYTES, chunk_digest, file_mac, same_mac
from transport.errors import SealError
from transport.names import Buffer, SegmentId
from transport.sealing import Sealer
from transport.snapshot_reader import MissingSegment, Node
from transport.tree import FileType


class Original(Protocol):
    """A file of this machine while it is open."""

    def size_and_mtime_ns(self) -> tuple[int, int]:
        """As they are now."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The content in chunks of CHUNK_BYTES, only the last shorter."""
        ...


ReadFile = Callable[[bytes], contextlib.AbstractContextManager[Original]]
"""Opens the original at an absolute path; FileNotFoundError or NotADirectoryError where it is gone."""


class UnreadableFile(msgspec.Struct, frozen=True):
    """An original that could not be read, and why."""

    path: bytes
    reason: str


class DamagedSegment(msgspec.Struct, frozen=True):
    """A sampled segment that is missing or does not open, and why."""

    segment: SegmentId
    reason: str


class VerifyProgress(msgspec.Struct, frozen=True):
    """Where a comparison stands."""

    files_done: int
    bytes_done: int


class VerifyReport(msgspec.Struct):
    """The outcome. `files_checked` = same + changed since + damaged; unreadable originals are not checked."""

    files_checked: int = 0
    files_same: int = 0
    files_changed_since: int = 0
    files_damaged: int = 0
    bytes_read: int = 0
    damaged: list[bytes] = msgspec.field(default_factory=list)
    unreadable: list[UnreadableFile] = msgspec.field(default_factory=list)
    segments_checked: int = 0
    segments_damaged: list[DamagedSegment] = msgspec.field(default_factory=list)


def content_mac(chunks: Iterable[bytes], key: bytes) -> tuple[int, bytes]:
    """(size in bytes, MAC) of a content given in chunks of CHUNK_BYTES, only the last shorter.

    The MAC is empty, and so equals none, where a file that grows meanwhile broke that rule.
    """
    size = 0
    digests: list[bytes] = []
    for chunk in chunks:
        if size % CHUNK_BYTES:
            return size + len(chunk), b""
        size += len(chunk)
        digests.append(chunk_digest(chunk))
    return size, file_mac(key, size, digests)


def read_chunks(handle: int) -> Iterator[bytes]:
    """The content of an open file from its beginning, in full chunks."""
    offset = 0
    while chunk := descriptors.read_fully(handle, CHUNK_BYTES, offset):
        yield chunk
        offset += len(chunk)


class _DiskOriginal:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def size_and_mtime_ns(self) -> tuple[int, int]:
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns

    def chunks(self) -> Iterator[bytes]:
        return read_chunks(self._handle)


@contextlib.contextmanager
def disk_original(path: bytes) -> Iterator[Original]:
    """The original at `path` on this machine, never through a last symbolic link; OSError where it cannot be read."""
    handle = os.open(native(path), descriptors.READ)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileNotFoundError(f"{os.fsdecode(path)} is no regular file any more")
        yield _DiskOriginal(handle)
    finally:
        os.close(handle)


def compare(
    nodes: Iterable[Node],
    read_file: ReadFile,
    content_key: bytes,
    *,
    progress: Callable[[VerifyProgress], None] | None = None,
) -> VerifyReport:
    """Compare every file of `nodes` with its original; folders, links and dumps (which have none) are passed over."""
    report = VerifyReport()
    dumps = b"/" + TOP + b"/"
    for node in nodes:
        if node.type != FileType.FILE:
            continue
        path = node.path()
        if path.startswith(dumps):
            continue
        recorded = (node.size, node.mtime_ns)
        try:
            with read_file(path) as original:
                if original.size_and_mtime_ns() != recorded:
                    same = None
                else:
                    size, mac = content_mac(original.chunks(), content_key)
                    report.bytes_read += size
                    same = same_mac(mac, node.mac)
                    # Written to while it was read: that is a change, not damage.
                    if not same and original.size_and_mtime_ns() != recorded:
                        same = None
        except (FileNotFoundError, NotADirectoryError):
            same = None
        except OSError as error:
            report.unreadable.append(UnreadableFile(path, error.strerror or str(error)))
            continue
        report.files_checked += 1
        if same is None:
            report.files_changed_since += 1
        elif same:
            report.files_same += 1
        else:
            report.files_damaged += 1
            report.damaged.append(path)
        if progress is not None:
            progress(VerifyProgress(report.files_checked, report.bytes_read))
    return report


def open_sample(
    sealer: Sealer, sample: Iterable[tuple[SegmentId, Buffer | MissingSegment]], report: VerifyReport
) -> None:
    """Open each segment that the appliance chose, and count those that are missing or do not open in `report`."""
    for segment, sealed in sample:
        report.segments_checked += 1
        if isinstance(sealed, MissingSegment):
            report.segments_damaged.append(DamagedSegment(segment, sealed.reason))
            continue
        try:
            sealer.open_segment(segment, sealed)
        except SealError as error:
            report.segments_damaged.append(DamagedSegment(segment, str(error)))
