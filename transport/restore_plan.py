"""Planning a restore: from files and their extents to segments, each fetched and opened once.

Owns the order of a restore and the proof that a version's extents cover it exactly. Pure: no keys, no files,
no network. Compact: an extent costs 28 bytes, so a year of scattered edits of a large file, or 300,000 small
files, plan within tens of megabytes. Extents are the appliance's word; the bytes they lead to are proved later
by the file's MAC.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import msgspec

from transport.errors import IntegrityError
from transport.extents import ExtentPage
from transport.names import FILE_LIMIT, ID_BYTES, NO_VERSION, SEGMENT_LIMIT, ZERO_SEGMENT, SegmentId, VersionId

PIECES_LIMIT: Final = 20_000_000
"""Extents in one plan at most (about 600 MB of columns): a listing of one-byte extents ends here."""
PAGES_LIMIT: Final = 10_000
"""Pages in one plan beyond one for each version; 20,000,000 extents fill some 800. Byte by byte they never end."""


class WantedFile(msgspec.Struct, frozen=True, gc=False):
    """A file to restore: its version and its authenticated size in bytes."""

    version_id: VersionId
    size: int


class Piece(msgspec.Struct, frozen=True, gc=False):
    """`length` bytes at `segment_offset` of a segment's plaintext belong at `file_offset` of file number `file`."""

    file: int
    file_offset: int
    segment_offset: int
    length: int


class Hole(msgspec.Struct, frozen=True, gc=False):
    """`length` zero bytes at `offset` of a file, stored nowhere."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A file whose extents do not make it, and why."""

    file: int
    reason: str


class RestorePlan:
    """What to fetch, in order, and where it goes. Files are named by their index in the list planned for."""

    def __init__(self, columns: _Columns, segments: list[SegmentId], files: int, refused: list[Refused]) -> None:
        self.refused = refused
        starts, permutation = _by_segment(columns.ordinal, len(segments))
        # Segments that only refused versions named are not fetched.
        kept = [n for n in range(len(segments)) if starts[n + 1] > starts[n]]
        self.segments: list[SegmentId] = [segments[n] for n in kept]
        self._first = array("Q", [starts[n] for n in kept])
        self._after = array("Q", [starts[n + 1] for n in kept])
        self._permutation = permutation
        self._file = columns.file
        self._file_offset = columns.file_offset
        self._segment_offset = columns.segment_offset
        self._length = columns.length
        self._hole_file = columns.hole_file
        self._hole_offset = columns.hole_offset
        self._hole_length = columns.hole_length
        self.piece_counts = array("I", bytes(4 * files))
        """Pieces of each file; a file with none is empty, all hole, or refused."""
        for file in columns.file:
            self.piece_counts[file] += 1

    @property
    def piece_total(self) -> int:
        """Extents to write, holes not counted."""
        return len(self._file)

    def pieces(self, position: int) -> list[Piece]:
        """Where the plaintext of segment number `position` of the plan goes, in the order of files."""
        return [
            Piece(self._file[at], self._file_offset[at], self._segment_offset[at], self._length[at])
            for at in self._permutation[self._first[position] : self._after[position]]
        ]

    def holes(self, file: int) -> list[Hole]:
        """The holes of a file, ascending."""
        low, high = bisect_left(self._hole_file, file), bisect_right(self._hole_file, file)
        return [Hole(self._hole_offset[at], self._hole_length[at]) for at in range(low, high)]


class _Columns:
    """Pieces and holes by column while they are gathered; `cut` forgets those of a version that proved false."""

    def __init__(self) -> None:
        self.file = array("I")
        self.file_offset = array("Q")
        self.segment_offset = array("I")
        self.length = array("I")
        self.ordinal = array("I")
        self.hole_file = array("I")
        self.hole_offset = array("Q")
        self.hole_length = array("Q")

    def marks(self) -> tuple[int, int]:
        """Where pieces and holes stand."""
        return len(self.file), len(self.hole_file)

    def cut(self, pieces: int, holes: int) -> None:
        """Forget what came after the marks."""
        for column in (self.file, self.file_offset, self.segment_offset, self.length, self.ordinal):
            del column[pieces:]
        for column in (self.hole_file, self.hole_offset, self.hole_length):
            del column[holes:]

    def repeat(self, file: int, pieces: range, holes: range) -> None:
        """The same pieces and holes for another file of the same version."""
        self.file.extend([file] * len(pieces))
        for column in (self.file_offset, self.segment_offset, self.length, self.ordinal):
            column.extend(column[pieces.start : pieces.stop])
        self.hole_file.extend([file] * len(holes))
        for column in (self.hole_offset, self.hole_length):
            column.extend(column[holes.start : holes.stop])


def _by_segment(ordinal: array[int], segments: int) -> tuple[list[int], array[int]]:
    """A stable counting sort: where each segment's pieces start, and the pieces in segment order."""
    counts = [0] * (segments + 1)
    for number in ordinal:
        counts[number + 1] += 1
    starts = list(accumulate(counts))
    free = starts[:-1]
    permutation = array("I", bytes(4 * len(ordinal)))
    for at, number in enumerate(ordinal):
        permutation[free[number]] = at
        free[number] += 1
    return starts, permutation


def versions_to_ask(files: Sequence[WantedFile]) -> list[VersionId]:
    """The distinct versions whose extents a plan needs, in the order of the files; empty files need none."""
    return list(dict.fromkeys(file.version_id for file in files if file.size and file.version_id != NO_VERSION))


def plan_restore(files: Sequence[WantedFile], pages: Iterable[ExtentPage], *, strict: bool = True) -> RestorePlan:
    """The plan for `files` from the pages of `versions_to_ask(files)`, in that order.

    Segments come in the order in which the files first need them: close to the order they were packed in, so
    that a small file is complete soon after it was begun. IntegrityError with the numbers where extents are
    short, beyond the size, overlapping or malformed; with `strict` False such a file stands in `refused` and the
    others are planned. An answer that is out of order is always an error.
    """
    wanted: dict[VersionId, list[int]] = {}
    columns = _Columns()
    ordinals: dict[SegmentId, int] = {}
    refused: list[Refused] = []

    def refuse(indices: Iterable[int], reason: str) -> None:
        if strict:
            raise IntegrityError(reason)
        refused.extend(Refused(index, reason) for index in indices)

    for index, file in enumerate(files):
        if not 0 <= file.size <= FILE_LIMIT:
            raise IntegrityError(f"a file of {file.size} bytes is outside 0..{FILE_LIMIT}")
        if file.size:
            wanted.setdefault(file.version_id, []).append(index)
    answers = _by_version(_bounded(pages, len(wanted) + PAGES_LIMIT))
    answer = next(answers, None)
    for version, indices in wanted.items():
        if version == NO_VERSION:
            refuse(indices, f"a file of {files[indices[0]].size} bytes names no version")
            continue
        if answer is None or answer[0] != version:
            refuse(indices, f"the appliance gave no extents for version {version.hex()}")
            continue
        pieces, holes = columns.marks()
        try:
            sizes = {files[index].size for index in indices}
            if len(sizes) > 1:
                raise IntegrityError(f"version {version.hex()} is named with several sizes: {sorted(sizes)}")
            _add_version(columns, ordinals, indices[0], files[indices[0]].size, version, answer[1])
        except _EndlessError:
            raise
        except IntegrityError as error:
            columns.cut(pieces, holes)
            refuse(indices, str(error))
        else:
            pieces_after, holes_after = columns.marks()
            for index in indices[1:]:
                columns.repeat(index, range(pieces, pieces_after), range(holes, holes_after))
        answer = next(answers, None)
    if answer is not None:
        raise IntegrityError(f"the appliance gave extents of version {answer[0].hex()} out of turn")
    _sort_holes(columns)
    return RestorePlan(columns, list(ordinals), len(files), refused)


class _EndlessError(IntegrityError):
    """Ends the plan, not just the version that it struck in."""


def _bounded(pages: Iterable[ExtentPage], limit: int) -> Iterator[ExtentPage]:
    """The pages, those of refused versions too, but no more than `limit`."""
    for count, page in enumerate(pages):
        if count >= limit:
            raise _EndlessError(f"the appliance sends extents without end ({limit} pages and more)")
        yield page


def _by_version(pages: Iterable[ExtentPage]) -> Iterator[tuple[VersionId, Iterator[ExtentPage]]]:
    """Runs of pages of one version; what a consumer leaves of a run is skipped."""
    stream = iter(pages)
    page = next(stream, None)
    while page is not None:
        version = page.version_id
        ended = False

        def run(version: VersionId = version) -> Iterator[ExtentPage]:
            nonlocal page, ended
            while page is not None and page.version_id == version:
                yield page
                page = next(stream, None)
            ended = True

        pages_of = run()
        yield version, pages_of
        if not ended:
            for _ in pages_of:
                pass


def _add_version(
    columns: _Columns,
    ordinals: dict[SegmentId, int],
    file: int,
    size: int,
    version: VersionId,
    pages: Iterator[ExtentPage],
) -> None:
    """Append the pieces and holes of one version for one file; IntegrityError where they do not make it exactly."""
    name = version.hex()
    at = 0
    more = True
    for page in pages:
        if not more:
            raise IntegrityError(f"version {name}: extents go on after their last page")
        if page.size != size:
            raise IntegrityError(f"version {name}: extents of {page.size} bytes for a file of {size}")
        if page.start != at:
            word = "overlap" if page.start < at else "leave a gap"
            raise IntegrityError(f"version {name}: extents {word} (page starts at {page.start}, covered {at})")
        more = page.more
        if more and not page.extents:
            raise IntegrityError(f"version {name}: an empty page of extents that is not the last")
        for segment, offset, length in page.extents:
            if length <= 0 or at + length > size:
                raise IntegrityError(
                    f"version {name}: extent beyond its file (offset={at}, length={length}, size={size})"
                )
            if segment == ZERO_SEGMENT:
                columns.hole_file.append(file)
                columns.hole_offset.append(at)
                columns.hole_length.append(length)
            else:
                if len(segment) != ID_BYTES or offset < 0 or offset + length > SEGMENT_LIMIT:
                    raise IntegrityError(
                        f"version {name}: extent beyond its segment "
                        f"(offset={offset}, length={length}, limit={SEGMENT_LIMIT})"
                    )
                ordinal = ordinals.setdefault(segment, len(ordinals))
                columns.ordinal.append(ordinal)
                columns.file.append(file)
                columns.file_offset.append(at)
                columns.segment_offset.append(offset)
                columns.length.append(length)
            at += length
        if len(columns.file) > PIECES_LIMIT:
            raise IntegrityError(f"version {name}: more than {PIECES_LIMIT} extents to restore")
    if at != size or more:
        raise IntegrityError(f"version {name}: extents are short (covered {at} of {size} bytes)")


def _sort_holes(columns: _Columns) -> None:
    """Holes in file order: files that share a version come out of turn."""
    order = sorted(range(len(columns.hole_file)), key=columns.hole_file.__getitem__)
    columns.hole_file = array("I", [columns.hole_file[at] for at in order])
    columns.hole_offset = array("Q", [columns.hole_offset[at] for at in order])
    columns.hole_length = array("Q", [columns.hole_length[at] for at in order])
