"""One copy in one run: the thread that alone touches its medium, and what is waiting for it.

Order: the medium's id was seen → repository opened, session begun → messages of the run, staged in groups → commit.
Rules: whoever hands something over waits only while the thread gets on, at most `patience_s` without a step, and then
the copy is given up and the run goes on; where the medium is full the oldest snapshots go, and the newest stays.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from agent.onsite import room
from agent.onsite.medium import Medium, NotAnsweringError, marked
from agent.packing import SealedSegment, VersionBatch, version_portions
from agent.settings import Settings
from appliance.store.errors import DiskFullError
from appliance.store.intake import Item, StageMessage
from appliance.store.repository import Repository
from transport import messages as m
from transport.commits import FIRST_PREVIOUS, CommitRecord
from transport.errors import IntegrityError, PilulierError
from transport.extents import VersionRecord
from transport.keys import SigningKey
from transport.names import NO_VERSION, Digest, PathId, SegmentId, SessionId, VersionId, random_id
from transport.tree import EMPTY_FOLDER, EntryBatch

PATIENCE_S: Final = 60.0
"""How long a medium may take for one step. A group is 8 MiB: what needs over a minute for that is broken."""
GROUP_BYTES: Final = 8 << 20
_QUEUE: Final = 24
_HELD_PAGE: Final = 10_000

_T = TypeVar("_T")


class CopyState(StrEnum):
    """What became of a copy in a run."""

    WRITTEN = "written"
    ABSENT = "not there"
    BEHIND = "behind"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What a run did with one copy. `snapshot` is the copy's own newest number, 0 where none is known."""

    id: str
    name: str
    state: CopyState
    snapshot: int = 0
    bytes_written: int = 0
    reason: str = ""


class _Given(PilulierError):
    """The copy was given up: the reason is kept."""

    code = "onsite"


class CopyWriter:
    """Everything may be called from any thread, `begin` first. Nothing raises but `call`."""

    def __init__(
        self, medium: Medium, settings: Settings, signing: SigningKey, *, patience_s: float = PATIENCE_S
    ) -> None:
        self.medium = medium
        self.place = medium.place
        self._settings = settings
        self._signing = signing
        self._patience_s = patience_s
        self._tasks: queue.Queue[Callable[[], object] | SealedSegment] = queue.Queue(_QUEUE)
        self._moved = time.monotonic()
        self._repository: Repository | None = None
        self._session = SessionId(random_id())
        self._seq = 0
        self._group: list[Item] = []
        self._group_bytes = 0
        self._fresh: set[VersionId] = set()
        self._remarks: list[str] = []
        self.level = False
        """Whether the copy's newest snapshot is the tree on which the run builds."""
        self.exact = True
        """Whether its newest snapshot holds all that the appliance's does."""
        self.held: frozenset[SegmentId] = frozenset()
        """Segments of earlier runs that no snapshot of the copy names yet."""
        self.failure: str = ""
        self.snapshot = 0
        self.bytes_written = 0
        self._thread = threading.Thread(target=self._run, name=f"copy {self.place.name}", daemon=True)

    # for the run

    def begin(self, root: Digest) -> bool:
        """Open the medium; whether the copy takes part. `root` is the tree on which the run builds."""
        self._thread.start()
        with contextlib.suppress(_Given):
            self.call(lambda: self._open(root))
        return not self.failure

    def put(self, item: SealedSegment | VersionBatch | EntryBatch | list[PathId]) -> None:
        """Something of the run. Entries and deaths count for a level copy only."""
        if self.failure:
            return
        if isinstance(item, SealedSegment):
            self._enqueue(item)
        elif isinstance(item, VersionBatch):
            self._enqueue(lambda: self.take_versions(item.records))
        elif self.level:
            self._enqueue(lambda: self.take_entries(item))

    def commit(self, record: CommitRecord) -> None:
        """A snapshot of the run: a level copy gets it too."""
        if self.level and not self.failure:
            self._enqueue(lambda: self._commit_level(record))

    def call(self, work: Callable[[], _T]) -> _T:
        """Carry something out on the thread, after all that was put before. PilulierError where the copy gave up."""
        done: queue.SimpleQueue[tuple[bool, object]] = queue.SimpleQueue()

        def carry_out() -> None:
            try:
                done.put((True, work()))
            except BaseException as error:
                done.put((False, error))
                raise

        self._enqueue(carry_out)
        while True:
            try:
                good, got = done.get(timeout=0.2)
            except queue.Empty:
                self._wait_on()
                continue
            if not good:
                raise _Given(self.failure or str(got))
            return got  # type: ignore[return-value]

    def finish(self) -> CopyOutcome:
        """End, and say what became of it."""
        with contextlib.suppress(_Given):
            self.call(self._close)
        self._tasks.put(_END) if not self.failure else None
        state = CopyState.FAILED if self.failure else CopyState.WRITTEN if self.level else CopyState.BEHIND
        reason = self.failure or "; ".join(self._remarks)
        return CopyOutcome(self.place.id, self.place.name, state, self.snapshot, self.bytes_written, reason)

    def give_up(self, reason: str) -> None:
        """Nothing more is written; what the medium holds stays as it is."""
        self.failure = self.failure or reason

    def remark(self, text: str) -> None:
        """What is to be said although the copy was written."""
        self._remarks.append(text)

    def moves(self, _: object = None) -> None:
        """The thread got on."""
        self._moved = time.monotonic()
        if self.failure:
            raise _Given(self.failure)

    def _enqueue(self, task: Callable[[], object] | SealedSegment) -> None:
        while not self.failure:
            try:
                self._tasks.put(task, timeout=0.2)
                return
            except queue.Full:
                with contextlib.suppress(_Given):
                    self._wait_on()

    def _wait_on(self) -> None:
        if not self.failure and time.monotonic() - self._moved > self._patience_s:
            self.give_up(f"{self.medium.folder} does not answer: nothing moved for {self._patience_s:.0f} s")
        if self.failure:
            raise _Given(self.failure)

    # the thread

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            self._moved = time.monotonic()
            if task is _END:
                return
            try:
                if self.failure:
                    raise _Given(self.failure)
                if isinstance(task, SealedSegment):
                    self.stage(m.PutSegment(0, task.segment_id), task.sealed)
                else:
                    task()
            except _Given:
                pass
            except Exception as error:  # the edge of a thread: a copy that fails is told, and the backup goes on
                self.give_up(_reason(error))
            self._moved = time.monotonic()
            if self.failure:
                self._let_go()
                return

    def _let_go(self) -> None:
        if self._repository is not None:
            with contextlib.suppress(Exception):  # the edge of a failed medium: nothing on it is certain any more
                self._repository.close()
            self._repository = None

    def _open(self, root: Digest) -> None:
        self._repository = self._opened()
        repository = self._repository
        if repository.vault != self._settings.vault or repository.public_key != self._signing.public:
            raise IntegrityError(
                "it holds the history of another vault or signing key: take it out with onsite remove, and add "
                "another folder"
            )
        head = repository.head
        self.snapshot = repository.head_number
        self.level = (head.decoded().root if head is not None else EMPTY_FOLDER) == root
        self._begin()
        held: set[SegmentId] = set()
        after = SegmentId(bytes(16))
        while page := repository.held_after(after, _HELD_PAGE):
            held.update(page)
            after = page[-1]
        self.held = frozenset(held)

    def _opened(self) -> Repository:
        if marked(self.medium.folder, self._settings) != self.place.id:
            raise NotAnsweringError(f"{self.medium.folder} is gone: was the medium pulled out?")
        return Repository.open(
            self.medium.repository,
            disk=room.disk_of(self.place, self.medium.repository),
            reserve_bytes=room.reserve_of(self.place),
        )

    @property
    def repository(self) -> Repository:
        """The open repository, on the thread only."""
        if self._repository is None:
            raise _Given(self.failure or "the copy is closed")
        return self._repository

    def _begin(self) -> None:
        head = self.repository.head
        self._seq = self.repository.begin(self._session, head.hash() if head is not None else FIRST_PREVIOUS)

    def begin_anew(self) -> None:
        """Forget the entries that were staged: segments and versions stay."""
        self._group, self._group_bytes = [], 0
        self._session = SessionId(random_id())
        self._begin()

    def stage(self, message: StageMessage, payload: bytes | memoryview | bytearray = b"") -> None:
        """One message; durable with its group."""
        self._seq += 1
        data = payload if isinstance(payload, bytes | memoryview) else memoryview(payload)
        self._group.append((msgspec.structs.replace(message, seq=self._seq), data))
        self._group_bytes += len(data) + (0 if isinstance(message, m.PutSegment) else len(m.encode(message)))
        if self._group_bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make durable what was staged."""
        if self._group:
            group = self._group
            self._with_room(lambda: self.repository.stage(group, now_ms=_now_ms()))
            self.bytes_written += self._group_bytes
            self._group, self._group_bytes = [], 0
            self._moved = time.monotonic()

    def take_versions(self, records: Sequence[VersionRecord]) -> None:
        """Versions, but for those whose base the copy does not hold: it is brought level afterwards."""
        if not self.level:
            bases = {r.base_id for r in records if r.base_id != NO_VERSION and r.base_id not in self._fresh}
            if bases:
                self.flush()
                absent = bases - set(self.repository.has_versions(list(bases)))
                records = [r for r in records if r.base_id not in absent]
            self._fresh.update(r.version_id for r in records)
        for portion in version_portions(records):
            self.stage(m.PutVersions(0, portion))

    def take_entries(self, item: EntryBatch | list[PathId]) -> None:
        """Entries of one batch, or deaths."""
        if isinstance(item, EntryBatch):
            self.stage(m.PutEntries(0, item))
            return
        for at in range(0, len(item), m.IDS_PER_MESSAGE):
            self.stage(m.PutDeaths(0, item[at : at + m.IDS_PER_MESSAGE]))

    def _commit_level(self, record: CommitRecord) -> None:
        try:
            self.make_snapshot(record)
        except IntegrityError as error:
            # The catalog is not what its root said, or a session was taken apart: compare entry by entry instead.
            self.remark(f"compared with the ledger entry by entry ({error})")
            self.level = False
            self.begin_anew()

    def make_snapshot(self, record: CommitRecord) -> None:
        """Commit what is staged under the copy's own chain; `record` says what tree it is."""
        self.flush()
        head = self.repository.head
        signed = self._signing.sign_commit(
            msgspec.structs.replace(
                record,
                repository=self.repository.repository,
                number=self.repository.head_number + 1,
                previous=head.hash() if head is not None else FIRST_PREVIOUS,
            )
        )
        written = self.bytes_written
        seq = self._seq + 1
        self.snapshot = self._with_room(
            lambda: self.repository.commit(seq, signed, received_ms=_now_ms(), bytes_received=written)
        )
        self._seq = seq

    def _with_room(self, work: Callable[[], _T]) -> _T:
        while True:
            try:
                return work()
            except DiskFullError:
                self.repository.close()
                self._repository = None
                if not room.drop_oldest(self.place, self.medium.repository, _now_ms(), self.moves):
                    limit = " of its limit" if self.place.limit_bytes else ""
                    raise DiskFullError(
                        f"{self.medium.folder} has no room left{limit}, and only its newest snapshot is held, which is "
                        "kept: free some room, give it a larger limit, or take a larger medium"
                    ) from None
                self.remark("the oldest snapshot was dropped to make room")
                self._repository = self._opened()
                head = self._repository.head
                # The same session: what is durable of it stays, and numbers that were given stay right.
                self._repository.begin(self._session, head.hash() if head is not None else FIRST_PREVIOUS)

    def _close(self) -> None:
        self.flush()
        self.repository.close()
        self._repository = None
        with contextlib.suppress(DiskFullError):
            room.drop_aged(self.place, self.medium.repository, _now_ms(), self.moves)


def _end() -> None:
    """Ends the thread: told from other tasks by what it is."""


_END: Final = _end


def _now_ms() -> int:
    return int(time.time() * 1000)


def _reason(error: Exception) -> str:
    if isinstance(error, PilulierError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    return f"unexpected {type(error).__name__}: {error}"
