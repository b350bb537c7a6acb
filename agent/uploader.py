"""The uploader: the thread that owns the connection during a backup, and resumes it when it breaks.

Messages are numbered; what is not acknowledged stays here (within the appliance's byte credit) and is sent again
after a reconnection, from exactly where the appliance says it stopped. Acknowledged segments are remembered in the
pending list, so that a killed agent need not send them twice. Producers block when more than `QUEUE_BYTES` wait.
"""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from agent.client import ApplianceRefused, Client, refusal
from agent.errors import BackupInterrupted
from agent.pacing import SMOOTH, Bucket
from agent.packing import VERSIONS_BYTES, Outgoing, SealedSegment, VersionBatch, version_portions
from agent.pending import PendingSegments
from transport import messages as m
from transport.commits import SignedCommit
from transport.errors import ProtocolError, RefusedError, UnreachableError
from transport.extents import VersionRecord
from transport.mending import SignedMend
from transport.names import Buffer, Digest, PathId, SegmentId, SessionId, VersionId
from transport.tree import EntryBatch

_T = TypeVar("_T")

QUEUE_ITEMS = 24
"""Outgoing items that may wait, about as many MiB: bounds memory while sealing runs ahead of the network."""
_MESSAGE_BYTES = 600
"""Charged for each message beside payload and long headers: no less than the appliance charges."""
_RECONNECT_S = 600.0
_SILENCE_S = 90.0
_PING_S = 15.0
_HANDSHAKE_PATIENCE_S = 15.0
"""A connection that breaks in its handshake (a proxy before an appliance that restarts) looks like a wrong key. The
key was right a moment ago, so it is tried for so long; a revoked machine is told a little later."""


@dataclass(frozen=True, slots=True)
class _Commit:
    signed: SignedCommit
    figures: Callable[[], m.BackupFigures]
    done: queue.SimpleQueue[m.Committed | BaseException] = field(default_factory=queue.SimpleQueue)


@dataclass(frozen=True, slots=True)
class _Ask:
    versions: list[VersionId]
    done: queue.SimpleQueue[frozenset[VersionId] | BaseException] = field(default_factory=queue.SimpleQueue)


class _Stop:
    pass


_Item = (
    SealedSegment
    | VersionBatch
    | EntryBatch
    | list[PathId]
    | SignedMend
    | _Commit
    | _Ask
    | m.Progress
    | m.LogLine
    | _Stop
)


@dataclass(slots=True)
class _Unacknowledged:
    seq: int
    message: m.Message
    payload: Buffer
    sent: SealedSegment | None
    size: int
    """What it takes of the credit, as the appliance counts it."""


class Uploader:
    """Start it after `begin`; `put` from any thread; `commit` waits for the appliance's word."""

    def __init__(self, client: Client, session: SessionId, pending: PendingSegments) -> None:
        self._client = client
        self._session = session
        self._pending = pending
        self._queue: queue.Queue[_Item] = queue.Queue(QUEUE_ITEMS)
        self._unacked: collections.deque[_Unacknowledged] = collections.deque()
        self._inflight = 0
        self._credit = 0
        self._seq = 0
        self._head = Digest(bytes(32))
        self._versions: list[VersionRecord] = []
        self._versions_bytes = 0
        self._waiting: collections.deque[_Commit] = collections.deque()
        self._asked: collections.deque[_Ask] = collections.deque()
        self._failure: BaseException | None = None
        self._pinged = 0.0
        self._aborted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)
        self.care: list[m.CareRange] = []
        """What the appliance wants to have again, as it said at the beginning."""
        self.words: Callable[[], list[m.Progress | m.LogLine]] = lambda: []
        """What is to be said of the run now; asked often, by the thread."""
        self.configuration: m.UsedConfiguration | None = None
        """What the run goes by, for its commits; set before the first one."""
        self.bucket: Bucket | None = None
        """Keeps what is sent to a rate; set before the first word."""
        self.observed: m.Observed | None = None
        """What the guards saw, for the next commit."""
        self.reconnections = 0
        self.transfer_s = 0.0

    def begin(self, head: Digest) -> None:
        """Open the session on the current connection; pending keeps only what the appliance still holds."""
        self._head = head
        begun = self._client.ask(m.BackupBegin(self._session, head), m.BackupBegun)
        self._credit = max(begun.credit_bytes, 2 << 20)
        held: set[SegmentId] = set()
        after = SegmentId(bytes(16))
        if begun.held_count and len(self._pending):
            while page := self._client.ask(m.HeldQuery(after), m.Held).segments:
                if page[-1] <= after:
                    raise ProtocolError("the appliance lists segments that do not go forward")
                held.update(page)
                after = page[-1]
        self._pending.restrict_to(held)
        self.care = self._client.ask(m.CareQuery(), m.Care).ranges

    def start(self) -> None:
        """Let the thread take the connection."""
        self._thread.start()

    def put(self, item: Outgoing | EntryBatch | list[PathId] | SignedMend | m.Progress | m.LogLine) -> None:
        """Queue something; blocks while the queue is full, raises what stopped the upload."""
        self._enqueue(item)

    def _enqueue(self, item: _Item) -> None:
        while True:
            self._raise_failure()
            try:
                self._queue.put(item, timeout=0.5)
                return
            except queue.Full:
                continue

    def commit(self, signed: SignedCommit, figures: Callable[[], m.BackupFigures]) -> m.Committed:
        """Send a commit after all that was put before, and wait until it stands."""
        request = _Commit(signed, figures)
        self._enqueue(request)
        answer = self._await(request.done)
        self._head = Digest(answer.hash)
        return answer

    def held_versions(self, versions: list[VersionId]) -> frozenset[VersionId]:
        """Which of these the appliance can take as bases."""
        request = _Ask(versions)
        self._enqueue(request)
        return self._await(request.done)

    def _await(self, answers: queue.SimpleQueue[_T | BaseException]) -> _T:
        while True:
            try:
                answer = answers.get(timeout=0.5)
            except queue.Empty:
                self._raise_failure()
                continue
            if isinstance(answer, BaseException):
                raise answer
            return answer

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._aborted.is_set():  # readers that wait for room must not wait for ever
            raise BackupInterrupted("the backup was stopped; what was sent is kept")

    @property
    def unacknowledged_bytes(self) -> int:
        """Sent, and not known to be on the appliance's disk."""
        return self._inflight

    def hint(self, item: m.Progress | m.LogLine) -> None:
        """Queue something that may be lost: dropped where the queue is full or the upload has stopped."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(item)

    def check(self) -> None:
        """Raise what stopped the upload, if anything did."""
        self._raise_failure()

    def close(self) -> None:
        """End the session once everything is acknowledged."""
        self._enqueue(_Stop())
        self._thread.join()
        self._raise_failure()

    def abort(self) -> None:
        """End the thread at once; what was acknowledged stays with the appliance."""
        self._aborted.set()
        if self._thread.is_alive():
            self._thread.join(30)

    # the thread

    def _run(self) -> None:
        try:
            while not self._aborted.is_set() and self._step():
                pass
            if self._aborted.is_set():
                return
            with contextlib.suppress(UnreachableError):  # the snapshot stands; the end of the session may get lost
                self._client.say(m.BackupEnd())
                self._client.session.succeeded(m.BackupEnd())
        except BaseException as error:  # the edge of a thread: whoever waits gets it
            self._failure = error
            for commit in self._waiting:
                commit.done.put(error)
            for question in self._asked:
                question.done.put(error)

    def _step(self) -> bool:
        try:
            item = self._queue.get(timeout=0.05 if not self._waiting and not self._asked else 0.001)
        except queue.Empty:
            started = time.monotonic()
            self._listen(0.2 if self._waiting or self._asked else 0.0)
            if self._waiting:
                self.transfer_s += time.monotonic() - started
            return True
        if isinstance(item, _Stop):
            while self._unacked:
                self._raise_failure()
                self._listen(1.0)
            return False
        if isinstance(item, VersionBatch):
            self._versions += item.records
            self._versions_bytes += sum(len(record.operations) + 64 for record in item.records)
            if self._versions_bytes > VERSIONS_BYTES or len(self._versions) >= 1000:
                self._send_versions()
            return True
        if isinstance(item, SealedSegment):
            started = time.monotonic()
            self._number(lambda seq: m.PutSegment(seq, item.segment_id), item.sealed, item)
            self.transfer_s += time.monotonic() - started
            return True
        if isinstance(item, EntryBatch):
            self._send_versions()
            self._number(lambda seq: m.PutEntries(seq, item))
        elif isinstance(item, list):
            for at in range(0, len(item), m.IDS_PER_MESSAGE):
                part = item[at : at + m.IDS_PER_MESSAGE]
                self._number(lambda seq, part=part: m.PutDeaths(seq, part))  # type: ignore[misc]
        elif isinstance(item, SignedMend):
            self._number(lambda seq: m.PutMend(seq, item))
        elif isinstance(item, _Commit):
            self._send_versions()
            self._waiting.append(item)
            self._number(lambda seq: m.PutCommit(seq, item.signed, item.figures(), self.configuration, self.observed))
        elif isinstance(item, _Ask):
            self._asked.append(item)
            self._guarded(lambda: self._client.say(m.HasVersions(item.versions)))
        else:
            message = item
            self._guarded(lambda: self._client.say(message))
        return True

    def _send_versions(self) -> None:
        for portion in version_portions(self._versions):
            self._number(lambda seq, batch=portion: m.PutVersions(seq, batch))  # type: ignore[misc]
        self._versions, self._versions_bytes = [], 0

    def _number(
        self, build: Callable[[int], m.Message], payload: Buffer = b"", segment: SealedSegment | None = None
    ) -> None:
        self._seq += 1
        message = build(self._seq)
        size = len(payload) + (0 if segment is not None else len(m.encode(message))) + _MESSAGE_BYTES
        entry = _Unacknowledged(self._seq, message, payload, segment, size)
        while self._unacked and self._inflight + entry.size > self._credit:
            self._raise_failure()
            self._listen(0.5)
        while (wait_s := self._pause_s()) > 0:
            self._raise_failure()
            self._listen(wait_s)
        self._unacked.append(entry)
        self._inflight += entry.size
        self._guarded(lambda: self._client.say(entry.message, entry.payload))
        self._listen(0.0)

    def _pause_s(self) -> float:
        """How long the rate has the next message wait; heartbeats and answers are sent meanwhile."""
        if self.bucket is None:
            return 0.0
        channel, wait_s = self._client.channel, self.bucket.wait_s(self._client.channel.bytes_sent)
        channel.set_pace(None if self.bucket.rate is None else SMOOTH * self.bucket.rate)
        return wait_s

    def _guarded(self, send: Callable[[], None]) -> None:
        try:
            send()
        except UnreachableError:
            self._reconnect()

    def _listen(self, wait_s: float) -> None:
        """Take whatever the appliance said, waiting at most `wait_s` for the first word."""
        try:
            for word in self.words():
                self._client.say(word)
            while (got := self._client.hear(wait_s)) is not None:
                wait_s = 0.0
                self._take(got[0])
            silence = time.monotonic() - self._client.last_heard
            if (self._unacked or self._asked) and silence > _SILENCE_S:
                raise UnreachableError("the appliance fell silent")
            if silence > _SILENCE_S / 3 and time.monotonic() - self._pinged > _PING_S:
                self._pinged = time.monotonic()
                self._client.say(m.Ping())
        except UnreachableError:
            self._reconnect()

    def _take(self, answer: m.ApplianceMessage) -> None:
        if isinstance(answer, m.Acknowledged):
            self._acknowledge(answer.upto)
        elif isinstance(answer, m.Committed):
            if not self._waiting or answer.hash != self._waiting[0].signed.hash():
                raise ProtocolError("the appliance confirmed a commit that was not sent")
            self._acknowledge(answer.seq)
            self._waiting.popleft().done.put(answer)
        elif isinstance(answer, m.Versions):
            if not self._asked:
                raise ProtocolError("the appliance answered a question that was not asked")
            self._asked.popleft().done.put(frozenset(answer.held))
        elif isinstance(answer, m.Refused):
            raise refusal(answer)
        else:
            raise ProtocolError(f"the appliance said {type(answer).__name__} during a backup")

    def _acknowledge(self, upto: int) -> None:
        done: list[SealedSegment] = []
        while self._unacked and self._unacked[0].seq <= upto:
            entry = self._unacked.popleft()
            self._inflight -= entry.size
            if entry.sent is not None:
                done.append(entry.sent)
        if done:  # written down at once, so that a killed agent does not send them again
            self._pending.add_many((s.segment_id, s.digest, s.length) for s in done)

    def _reconnect(self) -> None:
        began = time.monotonic()
        deadline = began + _RECONNECT_S
        pause_s = 0.2
        while True:
            self.reconnections += 1
            try:
                welcome = self._client.connect()
                self._resume(welcome)
                return
            except RefusedError as error:
                patient = not isinstance(error, ApplianceRefused) and not self._aborted.is_set()
                if not patient or time.monotonic() - began > _HANDSHAKE_PATIENCE_S:
                    raise
                self._aborted.wait(1.0)
            except UnreachableError as error:
                if self._aborted.is_set() or time.monotonic() > deadline:
                    raise BackupInterrupted(
                        f"the connection to the appliance broke and did not come back: {error}. "
                        "What was sent is kept; the next backup goes on from there"
                    ) from error
                self._aborted.wait(pause_s)
                pause_s = min(pause_s * 2, 15.0)

    def _resume(self, welcome: m.Welcome) -> None:
        """Begin again where the appliance stopped; a commit whose answer was lost is taken as confirmed."""
        if self._waiting and welcome.head is not None and welcome.head.hash() == self._waiting[0].signed.hash():
            waiter = self._waiting.popleft()
            self._head = waiter.signed.hash()
            committed = next(e for e in self._unacked if isinstance(e.message, m.PutCommit))
            self._acknowledge(committed.seq)
            waiter.done.put(m.Committed(committed.seq, waiter.signed.decoded().number, self._head))
        begun = self._client.ask(m.BackupBegin(self._session, self._head), m.BackupBegun)
        self._credit = max(begun.credit_bytes, 2 << 20)
        self._acknowledge(begun.received_upto)
        waiting = self._inflight
        resent = 0
        for entry in list(self._unacked):
            # The new credit may be smaller than what was under way under the old one.
            while (open_bytes := resent - (waiting - self._inflight)) > 0 and open_bytes + entry.size > self._credit:
                got = self._client.hear()
                if got is None:
                    raise UnreachableError("the appliance does not acknowledge what is sent again")
                self._take(got[0])
            while (wait_s := self._pause_s()) > 0:
                if (got := self._client.hear(wait_s)) is not None:
                    self._take(got[0])
            self._client.say(entry.message, entry.payload)
            resent += entry.size
        for question in self._asked:
            self._client.say(m.HasVersions(question.versions))

