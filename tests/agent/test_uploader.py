"""The uploader against an appliance that a test plays: credit, resuming, stopping."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import pytest

from agent.client import Client
from agent.errors import BackupInterrupted
from agent.packing import SealedSegment
from agent.pending import PendingSegments
from agent.uploader import QUEUE_ITEMS, Uploader
from transport import messages as m
from transport.commits import SignedCommit
from transport.errors import ProtocolError, UnreachableError
from transport.names import Digest, PathId, SegmentId, SessionId, VersionId, random_id
from transport.session import Session
from transport.tree import BatchHeader, EntryBatch, EntryRecord

_R = TypeVar("_R")
FIGURES = m.BackupFigures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0)
CREDIT = 2 << 20


class PlayedClient:
    """Stands for Client: keeps what is said, answers from a list, breaks where it is told to."""

    def __init__(self) -> None:
        self.session = Session()
        self.last_heard = 1e18
        self.said: list[tuple[m.Message, int]] = []
        self.answers: collections.deque[m.Message] = collections.deque()
        self.acknowledging = False
        self.breaks_at = -1
        self.begun = m.BackupBegun(0, CREDIT, 0)
        self.open_bytes = 0
        self.most_open_bytes = 0
        self.spoken = threading.Semaphore(0)

    def connect(self) -> m.Welcome:
        self.open_bytes = 0
        return cast(m.Welcome, type("Welcome", (), {"head": None}))

    def ask(self, question: m.Message, expected: type[_R]) -> _R:
        if isinstance(question, m.CareQuery):
            return cast(_R, m.Care([]))
        assert isinstance(question, m.BackupBegin)
        return cast(_R, self.begun)

    def say(self, message: m.Message, payload: bytes = b"") -> None:
        if len(self.said) == self.breaks_at:
            self.breaks_at = -1
            raise UnreachableError("broken")
        self.said.append((message, len(payload)))
        if isinstance(message, (m.PutSegment, m.PutEntries, m.PutDeaths)):
            self.open_bytes += len(m.encode(message)) + len(payload) + 512
            self.most_open_bytes = max(self.most_open_bytes, self.open_bytes)
        self.spoken.release()

    def hear(self, timeout_s: float = 60.0) -> tuple[m.Message, bytes] | None:
        if self.answers:
            return self.answers.popleft(), b""
        if self.acknowledging and self.open_bytes:
            self.open_bytes = 0
            return m.Acknowledged(self.said[-1][0].seq), b""  # type: ignore[attr-defined]
        return None


@pytest.fixture
def client() -> PlayedClient:
    return PlayedClient()


@pytest.fixture
def uploader(client: PlayedClient, tmp_path: Path) -> Iterator[Uploader]:
    with PendingSegments.open(tmp_path / "pending.log") as pending:
        made = Uploader(cast(Client, client), SessionId(random_id()), pending)
        made.begin(Digest(bytes(32)))
        yield made
        made.abort()


def segment(size: int = 1 << 20) -> SealedSegment:
    return SealedSegment(SegmentId(random_id()), random_id() * 2, size, bytes(size))


def entries() -> EntryBatch:
    """About 300 KB."""
    one = EntryRecord(PathId(random_id()), PathId(random_id()), 0, 0, VersionId(bytes(16)), 0, bytes(200))
    return EntryBatch(BatchHeader(1, bytes(32), bytes(32)), [one] * 1000)


def drive(uploader: Uploader, done: Callable[[], bool]) -> None:
    """Run the uploader's steps here until there is nothing more to do."""
    for _ in range(1000):
        if done():
            return
        assert uploader._step()
    pytest.fail("it did not come to an end")


@pytest.mark.parametrize("make", [segment, entries])
def test_credit_counts_headers_as_well(
    client: PlayedClient, uploader: Uploader, make: Callable[[], SealedSegment | EntryBatch]
) -> None:
    client.acknowledging = True
    for _ in range(QUEUE_ITEMS):
        uploader.put(make())
    drive(uploader, lambda: len(client.said) == QUEUE_ITEMS)
    assert client.most_open_bytes <= CREDIT


def test_what_is_sent_again_keeps_to_the_new_credit(client: PlayedClient, uploader: Uploader) -> None:
    client.begun = m.BackupBegun(0, 16 << 20, 0)
    uploader.begin(Digest(bytes(32)))
    for _ in range(13):
        uploader.put(segment())
    client.breaks_at = 12
    drive(uploader, lambda: len(client.said) == 12)
    assert client.most_open_bytes > 4 * CREDIT
    client.begun, client.most_open_bytes, client.acknowledging = m.BackupBegun(3, CREDIT, 0), 0, True
    drive(uploader, lambda: len(client.said) == 12 + 13 - 3)
    assert [cast(m.PutSegment, said).seq for said, _ in client.said[12:]] == list(range(4, 14))
    assert client.most_open_bytes <= CREDIT
    assert uploader.reconnections == 1


def test_stopping_lets_waiting_producers_go(client: PlayedClient, uploader: Uploader) -> None:
    """Ctrl-C while the queue is full: the readers must not wait for a thread that has gone."""
    uploader.start()
    ended: list[BaseException] = []

    def produce() -> None:
        try:
            while True:
                uploader.put(segment())
        except BaseException as error:
            ended.append(error)

    readers = [threading.Thread(target=produce) for _ in range(2)]
    for reader in readers:
        reader.start()
    assert client.spoken.acquire(timeout=10)
    uploader.abort()
    for reader in readers:
        reader.join(10)
        assert not reader.is_alive()
    assert [type(error) for error in ended] == [BackupInterrupted] * 2
    with pytest.raises(BackupInterrupted):
        uploader.check()


def test_a_confirmation_of_another_commit_is_not_believed(client: PlayedClient, uploader: Uploader) -> None:
    uploader.start()
    client.answers.append(m.Committed(1, 1, bytes(32)))
    with pytest.raises(ProtocolError, match="not sent"):
        uploader.commit(SignedCommit(b"record", b"signature"), lambda: FIGURES)


def test_the_last_word_may_get_lost(client: PlayedClient, uploader: Uploader) -> None:
    uploader.start()
    client.breaks_at = 0
    uploader.close()
