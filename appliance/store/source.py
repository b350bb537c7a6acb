"""A repository folder as a source of snapshots: no server, no network, the key alone.

Implements `transport.snapshot_reader.SnapshotSource` over an open repository. What it returns is as unproved as an
appliance's answers; readers check it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from appliance.store.repository import Repository
from transport.commits import StoredCommit
from transport.errors import PilulierError
from transport.extents import ExtentPage
from transport.names import Buffer, PathId, SegmentId, VersionId
from transport.snapshot_reader import MissingSegment
from transport.succession import SignedSuccession
from transport.tree import EntryPage

_COMMITS: Final = 500
_EXTENTS: Final = 20_000
_FIRST: Final = PathId(bytes(16))


class RepositorySource:
    """Reads an open repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.bytes_read = 0
        """Of segments."""

    def commits(self) -> Iterator[StoredCommit]:
        """Every commit, ascending."""
        after = 0
        while page := self._repository.commits(after, _COMMITS):
            yield from page
            after += len(page)

    def successions(self) -> list[SignedSuccession]:
        """The signing keys that took over, in order."""
        return self._repository.successions()

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        """The entries of one folder."""
        page = self._repository.children(snapshot, folder, _FIRST)
        yield page
        while page.more:
            page = self._repository.children(snapshot, folder, page.entries[-1].record.path_id)
            yield page

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        """All entries of a snapshot."""
        page = self._repository.tree(snapshot, _FIRST)
        yield page
        while page.more:
            page = self._repository.tree(snapshot, page.entries[-1].record.path_id)
            yield page

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        """Extent pages, in the order asked."""
        for version in versions:
            start = 0
            while True:
                page = self._repository.extents(version, start, _EXTENTS)
                yield page
                if not page.more:
                    break
                start += sum(length for _, _, length in page.extents)

    def segments(self, ids: Iterable[SegmentId]) -> Iterator[tuple[SegmentId, Buffer | MissingSegment]]:
        """Sealed segments in the order asked."""
        for segment in ids:
            try:
                sealed = self._repository.read_segment(segment)
            except PilulierError as error:
                yield segment, MissingSegment(str(error))
            else:
                self.bytes_read += len(sealed)
                yield segment, sealed
