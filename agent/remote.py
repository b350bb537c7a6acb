"""The appliance as a source of snapshots: listings, extents and segments over one connection.

Implements `transport.snapshot_reader.SnapshotSource`. Everything it returns is unproved; readers check it. Segments
are asked ahead of need, and confirmed before this side waits for more. Where the line breaks in an open restore
session, that goes on over a new one (PROTOCOL.md says why it needs no other code): what was asked and is not here yet
is asked again.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from agent.client import ANSWER_S, ApplianceRefused, Client, one_line, refusal
from agent.pacing import Bucket
from transport import messages as m
from transport.commits import StoredCommit
from transport.errors import ProtocolError, RefusedError, UnreachableError
from transport.extents import ExtentPage
from transport.names import Buffer, PathId, SegmentId, VersionId
from transport.snapshot_reader import MissingSegment
from transport.succession import SignedSuccession
from transport.tree import EntryPage

_Reply = TypeVar("_Reply", bound=m.Message)

_NO_PATH = bytes(16)
_ASK_AT_ONCE: Final = 8
_SPEAK_S: Final = 20.0
_SAMPLE_LIMIT: Final = 4096
"""Segments of one sample that this side looks at: what is bounded by the appliance alone is not bounded."""
_AHEAD: Final = 24
"""Segments asked for and not yet here: at most the appliance's window of 24 MiB."""
_AT_ONCE_S: Final = 0.02
"""Longest wait for a segment before what came is confirmed: the appliance may give little until it is."""
_PATIENCE_S: Final = 150.0
"""How long a broken line is tried again without anything coming over it: the appliance keeps a restore for 180 s."""
_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_HANDSHAKE_PATIENCE_S: Final = 15.0
"""A line that breaks in its handshake looks like a wrong key, and the key was right a moment ago."""


class RemoteSource:
    """Reads this machine's repository through a connected client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._received_bytes = 0
        self._spoke = time.monotonic()
        self._restore: bytes | None = None
        """What resumes the open restore session; kept nowhere but here."""
        self._broken_since: float | None = None
        self._first: m.Snapshots | None = None
        """The first page of commits, where it came with the successions."""
        self.reconnections = 0
        self.bucket: Bucket | None = None
        """Keeps what is fetched to a rate, by confirming it later."""

    def open_restore(self, account: str, code: str) -> m.RestoreOpened:
        """Open a restore session with an account's one-time code. From now on a broken line is taken up again."""
        opened = self._client.ask(m.RestoreOpen(account, code), m.RestoreOpened)
        self._received_bytes = 0
        self._restore = opened.session
        return opened

    def open_delivery(self, number: int) -> m.RestoreOpened:
        """Open a restore session for an accepted delivery. From now on a broken line is taken up again."""
        opened = self._client.ask(m.DeliveryOpen(number), m.RestoreOpened)
        self._received_bytes = 0
        self._restore = opened.session
        return opened

    def take_up_restore(self, session: bytes) -> m.RestoreOpened:
        """Go on with a restore session that a recovery left; from now on a broken line is taken up again."""
        opened = self._client.ask(m.RestoreResume(session), m.RestoreOpened)
        self._received_bytes = 0
        self._restore = opened.session
        return opened

    def say_delivered(self, report: m.DeliveryReport) -> None:
        """Say what became of it; asked again over another line where one breaks."""
        self._ask(report, m.Noted)

    def start_over(self) -> None:
        """Leave unheard what was asked for: the same restore session goes on over a new line. UnreachableError."""
        self._take_up_again(UnreachableError("what was under way was given up"))

    def _take_up_again(self, error: UnreachableError) -> None:
        """A new line with the same restore on it; `error` where no restore is open or the line does not come back."""
        if self._restore is None:
            raise error
        began = time.monotonic()
        if self._broken_since is None:
            self._broken_since = began
        pause_s = _PAUSE_S
        while True:
            if time.monotonic() - self._broken_since > _PATIENCE_S:
                raise UnreachableError(
                    f"the line to the appliance broke and did not come back: {error}. What stands complete under "
                    "its name stays; restore once more to the same place and it goes on from there"
                ) from error
            try:
                self._client.connect()
                self._client.ask(m.RestoreResume(self._restore), m.RestoreOpened)
            except UnreachableError as again:
                error = again
            except RefusedError as again:
                if isinstance(again, ApplianceRefused) or time.monotonic() - began > _HANDSHAKE_PATIENCE_S:
                    raise
            else:
                self._received_bytes = 0
                self._spoke = time.monotonic()
                self.reconnections += 1
                return
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _ask(self, question: m.Message, expected: type[_Reply], *, said: bool = False) -> _Reply:
        """The answer to a question (`said` already), asked again over another line where one breaks."""
        while True:
            try:
                if not said:
                    self._client.say(question)
                answer = self._client.answer(question, expected)
            except UnreachableError as error:
                self._take_up_again(error)
                said = False
            else:
                self._broken_since = None
                return answer

    def _say_ahead(self, question: m.Message) -> bool:
        """Ask what is answered later; False where the line is broken, which whoever wants the answer mends."""
        try:
            self._client.say(question)
        except UnreachableError:
            if self._restore is None:
                raise
            return False
        return True

    def commits(self) -> Iterator[StoredCommit]:
        """Every commit, ascending."""
        after = 0
        first, self._first = self._first, None
        while True:
            page = first or self._ask(m.SnapshotsQuery(after), m.Snapshots)
            first = None
            yield from page.commits
            if not page.more:
                return
            if not page.commits:
                raise ProtocolError("the appliance announced more snapshots and sent none")
            last = page.commits[-1].signed.decoded().number
            if last <= after:
                raise ProtocolError("the appliance lists snapshots that do not go forward")
            after = last

    def successions(self) -> list[SignedSuccession]:
        """The signing keys that took over, in order. The commits beside them are the first page of `commits`."""
        self._first = self._ask(m.SnapshotsQuery(0), m.Snapshots)
        return self._first.successions

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
                page, under_way = self._ask(asked, m.Entries, said=under_way).page, False
                if page.more:
                    if not page.entries or page.entries[-1].record.path_id <= after:
                        raise ProtocolError("the appliance lists entries that do not go forward")
                    after = page.entries[-1].record.path_id
                    asked = question(after)
                    if ahead:
                        under_way = self._say_ahead(asked)
                yield page
                if not page.more:
                    return
        finally:
            if under_way:
                self._hear_out()

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        """Extent pages, in the order asked; asked ahead as `tree` does."""
        waiting = collections.deque(versions)
        start = 0
        asked: m.ExtentsQuery | None = None
        under_way = False

        def ask() -> m.ExtentsQuery | None:
            nonlocal under_way
            if not waiting:
                return None
            question = m.ExtentsQuery(list(itertools.islice(waiting, m.IDS_PER_MESSAGE)), start)
            under_way = self._say_ahead(question)
            return question

        try:
            asked = ask()
            while asked is not None:
                said, under_way = under_way, False
                pages = self._ask(asked, m.Extents, said=said).pages
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
            if under_way:
                self._hear_out()

    def _hear_out(self) -> None:
        """Whoever stopped early must not take this answer for another one's."""
        try:
            self._client.hear()
        except UnreachableError:
            if self._restore is None:
                raise
            # The next question goes over another line, on which this answer never comes.

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
                    self._fetch(more, pending)
                    unconfirmed = 0
            if not pending:
                return
            answer, heard_at_once = self._next(pending, unconfirmed)
            pending.popleft()
            unconfirmed = unconfirmed + 1 if heard_at_once else 1
            yield answer

    def _fetch(self, more: list[SegmentId], pending: Sequence[SegmentId]) -> None:
        """Ask for `more` and confirm what came; where the line is broken, for all that is pending over another one."""
        try:
            self._client.say(m.FetchSegments(more, self._received_bytes))
        except UnreachableError as error:
            self._fetch_again(error, pending)
        self._spoke = time.monotonic()

    def _fetch_again(self, error: UnreachableError, pending: Sequence[SegmentId]) -> None:
        while True:
            self._take_up_again(error)
            try:
                self._client.say(m.FetchSegments(list(pending), 0))
                return
            except UnreachableError as again:
                error = again

    def _keep_alive(self) -> None:
        """Over a slow line a few segments take longer than the appliance waits for a silent agent."""
        if time.monotonic() - self._spoke > _SPEAK_S:
            self._spoke = time.monotonic()
            self._client.say(m.Ping())

    def _keep_pace(self) -> None:
        while self.bucket is not None and (wait_s := self.bucket.wait_s(self._client.channel.bytes_received)) > 0:
            self._keep_alive()
            time.sleep(wait_s)

    def _next(
        self, pending: Sequence[SegmentId], unconfirmed: int
    ) -> tuple[tuple[SegmentId, Buffer | MissingSegment], bool]:
        """The first pending segment, and whether it was here before anything had to be confirmed."""
        at_once = True
        while True:
            try:
                self._keep_pace()
                self._keep_alive()
                got = self._client.hear(_AT_ONCE_S)
                if got is None:
                    if unconfirmed and at_once:
                        self._client.say(m.FetchSegments([], self._received_bytes))
                        at_once = False
                    got = self._client.hear(ANSWER_S)
                if got is None:
                    raise UnreachableError("the appliance stopped sending")
                answer, payload = got
                if isinstance(answer, m.Refused):
                    raise refusal(answer)
            except UnreachableError as error:
                self._fetch_again(error, pending)
                at_once = False
                continue
            return self._checked(pending[0], answer, payload), at_once

    def _checked(
        self, expected: SegmentId, answer: m.Message, payload: Buffer
    ) -> tuple[SegmentId, Buffer | MissingSegment]:
        if not isinstance(answer, m.SegmentData | m.SegmentMissing) or answer.segment != expected:
            raise ProtocolError(f"the appliance sent {type(answer).__name__} instead of segment {expected.hex()}")
        self._broken_since = None
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
