"""The appliance as a source of snapshots: listings, extents and segments over one connection.

Implements `transport.snapshot_reader.SnapshotSource`. Everything it returns is unproved; readers check it. Segments
are asked ahead of need, within the window that the appliance announced when the restore session opened.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from agent.client import ANSWER_S, Client, one_line, refusal
from transport import messages as m
from transport.commits import StoredCommit
from transport.errors import ProtocolError, UnreachableError
from transport.extents import ExtentPage
from transport.names import Buffer, PathId, SegmentId, VersionId
from transport.snapshot_reader import MissingSegment
from transport.tree import EntryPage

_NO_PATH = bytes(16)
_ASK_AT_ONCE: Final = 8
_SPEAK_S: Final = 20.0
_SAMPLE_LIMIT: Final = 4096
"""Segments of one sample that this side looks at: what is bounded by the appliance alone is not bounded."""
_AHEAD: Final = 24
"""Segments asked for and not yet here: at most the appliance's window of 24 MiB."""


class RemoteSource:
    """Reads this machine's repository through a connected client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._received_bytes = 0
        self._spoke = time.monotonic()

    def open_restore(self, account: str, code: str) -> m.RestoreOpened:
        """Open a restore session with an account's one-time code."""
        opened = self._client.ask(m.RestoreOpen(account, code), m.RestoreOpened)
        self._received_bytes = 0
        return opened

    def commits(self) -> Iterator[StoredCommit]:
        """Every commit, ascending."""
        after = 0
        while True:
            page = self._client.ask(m.SnapshotsQuery(after), m.Snapshots)
            yield from page.commits
            if not page.more:
                return
            if not page.commits:
                raise ProtocolError("the appliance announced more snapshots and sent none")
            last = page.commits[-1].signed.decoded().number
            if last <= after:
                raise ProtocolError("the appliance lists snapshots that do not go forward")
            after = last

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        """The entries of one folder."""
        return self._pages(lambda after: m.ChildrenQuery(snapshot, folder, after))

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        """All entries of a snapshot. The next page is asked for before one is given out: ask nothing in between."""
        return self._pages(lambda after: m.TreeQuery(snapshot, after), ahead=True)

    def _pages(self, question: Callable[[bytes], m.Message], *, ahead: bool = False) -> Iterator[EntryPage]:
        after = _NO_PATH
        asked = question(after)
        under_way = False
        try:
            while True:
                if not under_way:
                    self._client.say(asked)
                page, under_way = self._client.answer(asked, m.Entries).page, False
                if page.more:
                    if not page.entries or page.entries[-1].record.path_id <= after:
                        raise ProtocolError("the appliance lists entries that do not go forward")
                    after = page.entries[-1].record.path_id
                    asked = question(after)
                    if ahead:
                        self._client.say(asked)
                        under_way = True
                yield page
                if not page.more:
                    return
        finally:
            if under_way:
                self._client.hear()  # whoever stopped early must not take this answer for another one's

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        """Extent pages, in the order asked; asked ahead as `tree` does."""
        waiting = collections.deque(versions)
        start = 0
        asked: m.ExtentsQuery | None = None

        def ask() -> m.ExtentsQuery | None:
            if not waiting:
                return None
            question = m.ExtentsQuery(list(itertools.islice(waiting, m.IDS_PER_MESSAGE)), start)
            self._client.say(question)
            return question

        try:
            asked = ask()
            while asked is not None:
                question, asked = asked, None
                pages = self._client.answer(question, m.Extents).pages
                if not pages:
                    raise ProtocolError("the appliance sent no extents")
                for page in pages:
                    if not waiting or page.version_id != waiting[0] or page.start != start:
                        raise ProtocolError("the appliance sent extents that were not asked for")
                    if page.more:
                        covered = sum(length for _, _, length in page.extents)
                        if covered <= 0:
                            raise ProtocolError("the appliance sent an extent page that does not go forward")
                        start += covered
                    else:
                        waiting.popleft()
                        start = 0
                asked = ask()
                yield from pages
        finally:
            if asked is not None:
                self._client.hear()

    def segments(self, ids: Iterable[SegmentId]) -> Iterator[tuple[SegmentId, Buffer | MissingSegment]]:
        """Sealed segments in the order asked."""
        source = iter(ids)
        pending: collections.deque[SegmentId] = collections.deque()
        unconfirmed = 0
        while True:
            if len(pending) <= _AHEAD - _ASK_AT_ONCE or unconfirmed >= _ASK_AT_ONCE:
                more = list(itertools.islice(source, min(_ASK_AT_ONCE, _AHEAD - len(pending))))
                if more or (unconfirmed and pending):
                    pending.extend(more)
                    self._client.say(m.FetchSegments(more, self._received_bytes))
                    self._spoke = time.monotonic()
                    unconfirmed = 0
            if not pending:
                return
            yield self._next(pending.popleft())
            unconfirmed += 1

    def _keep_alive(self) -> None:
        """Over a slow line a few segments take longer than the appliance waits for a silent agent."""
        if time.monotonic() - self._spoke > _SPEAK_S:
            self._spoke = time.monotonic()
            self._client.say(m.Ping())

    def _next(self, expected: SegmentId) -> tuple[SegmentId, Buffer | MissingSegment]:
        self._keep_alive()
        got = self._client.hear(ANSWER_S)
        if got is None:
            raise UnreachableError("the appliance stopped sending")
        answer, payload = got
        if isinstance(answer, m.Refused):
            raise refusal(answer)
        if not isinstance(answer, m.SegmentData | m.SegmentMissing) or answer.segment != expected:
            raise ProtocolError(f"the appliance sent {type(answer).__name__} instead of segment {expected.hex()}")
        if isinstance(answer, m.SegmentMissing):
            return expected, MissingSegment(one_line(answer.reason))
        self._received_bytes += len(payload)
        return expected, payload

    def sample(self, percent: float) -> Iterator[tuple[SegmentId, Buffer | MissingSegment]]:
        """Segments of the appliance's own choice."""
        count = self._client.ask(m.SampleQuery(percent), m.Sample).count
        if count > _SAMPLE_LIMIT:
            raise ProtocolError(f"the appliance announced a sample of {count} segments")
        shown: set[bytes] = set()
        for _ in range(count):
            self._keep_alive()
            got = self._client.hear(ANSWER_S)
            if got is None:
                raise UnreachableError("the appliance stopped sending")
            answer, payload = got
            if isinstance(answer, m.SegmentData | m.SegmentMissing):
                if answer.segment in shown:
                    raise ProtocolError(f"the appliance showed segment {answer.segment.hex()} twice in one sample")
                shown.add(answer.segment)
            if isinstance(answer, m.SegmentData):
                yield SegmentId(answer.segment), payload
            elif isinstance(answer, m.SegmentMissing):
                yield SegmentId(answer.segment), MissingSegment(one_line(answer.reason))
            else:
                raise ProtocolError(f"the appliance sent {type(answer).__name__} instead of a sample")
