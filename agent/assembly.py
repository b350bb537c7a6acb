"""Putting files together: segments opened, pieces scattered, whole files proved, then named.

Owns what happens between a sealed segment and a restored file, and the record of what became of each file. Rules
kept: a file gets its name only after its MAC was checked; a file that failed once gets no further byte; chunks that
arrive whole are hashed where they are opened, others are read back as they stand on the disk. A `Worker` opens a
segment and lands all of it, so that megabytes stay in one core's cache and nothing is handed from thread to thread
but sealed segments (a future for each was a fifth of the time that the interpreter was busy). Must not know the
source or the tree.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from typing import Final

import msgspec

from agent.landing import Folder, Landing, LandingError, Unfinished
from agent.landing_rules import Keep
from transport.contents import CHUNK_BYTES, ZERO_CHUNK, ZERO_CHUNK_DIGEST, chunk_digest, file_mac, same_mac
from transport.errors import SealError
from transport.names import Buffer
from transport.restore_plan import Piece, RestorePlan
from transport.sealing import Sealer
from transport.snapshot_reader import Node

IN_FLIGHT: Final = 16
"""Sealed segments between fetching and opening, up to 1 MiB each; of open ones each worker has one."""
_ALONE_BYTES: Final = 64 * 1024
"""Pieces of a large file from here on are written side by side, shorter ones under the lock."""
ALTERED: Final = "its content is not what was backed up (the whole-file check failed): it was not restored"


class RestoreError(msgspec.Struct, frozen=True):
    """A path that was not restored, or was kept as it stood, and why."""

    path: bytes
    reason: str


class Sealed(msgspec.Struct, frozen=True):
    """A segment as it came: its position in the plan, and its bytes."""

    position: int
    data: Buffer


class Unusable(msgspec.Struct, frozen=True):
    """A segment that did not come or did not open."""

    pieces: list[Piece]
    reason: str


Task = Sealed | Unusable


class _Assembly:
    """A file made of several pieces, under way."""

    __slots__ = ("digests", "remaining", "unfinished")

    def __init__(self, unfinished: Unfinished, size: int, pieces: int) -> None:
        self.unfinished = unfinished
        self.remaining = pieces
        """Pieces that are not yet on the disk."""
        self.digests: list[bytes | None] = [None] * ((size + CHUNK_BYTES - 1) // CHUNK_BYTES)


class FileRecords:
    """The files of one restore, by index, and what became of each."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.folders: list[Folder] = []
        self.settled: dict[int, str] = {}
        """Files that need no more work: why they failed, or nothing where the same content stands already."""
        self.linked: set[int] = set()
        """First names of hard-linked files, whose identity is kept in `landed`."""
        self.landed: dict[int, tuple[int, int]] = {}
        self.errors: list[RestoreError] = []
        self.files = 0
        self.bytes = 0
        self.files_done = 0
        self.bytes_done = 0
        self._lock = threading.Lock()

    def error(self, node: Node, reason: str) -> None:
        """Record that a path was not restored."""
        self.errors.append(RestoreError(node.path(), reason))

    def fail(self, index: int, reason: str) -> None:
        """Record that a file will not be restored; the first reason stands."""
        with self._lock:
            if index in self.settled:
                return
            self.settled[index] = reason
            self.files_done += 1
        self.error(self.nodes[index], reason)

    def written(self, size: int) -> None:
        """Count bytes as done with."""
        with self._lock:
            self.bytes_done += size

    def restored(self, index: int, identity: tuple[int, int], written: int = 0) -> None:
        """Record that a file stands under its name, and that `written` more bytes are done with."""
        with self._lock:
            self.files += 1
            self.bytes += self.nodes[index].size
            self.files_done += 1
            self.bytes_done += written
            if index in self.linked:
                self.landed[index] = identity


class Assembler:
    """Carries out a plan. Thread-safe, where each thread brings a landing of its own.

    Files of one piece go through that one; the others belong to the landing given here, behind a lock.
    """

    def __init__(self, landing: Landing, sealer: Sealer, plan: RestorePlan, records: FileRecords) -> None:
        self._landing = landing
        self._sealer = sealer
        self._content_key = sealer.keys.content
        self._plan = plan
        self._records = records
        self._assemblies: dict[int, _Assembly] = {}
        self._lock = threading.Lock()

    def begin(self, own: Landing) -> None:
        """Files that no segment is needed for: empty, or all hole. By one thread, at any time."""
        for index, node in enumerate(self._records.nodes):
            if self._plan.piece_counts[index] or index in self._records.settled:
                continue
            try:
                if node.size == 0:
                    self._put(index, node, memoryview(b""), own)
                else:
                    with self._lock:
                        assembly = self._assembly(index, node)
                    self._complete(index, node, assembly)
            except LandingError as error:
                self._fail(index, str(error))

    def carry(self, sealed: Sealed, own: Landing) -> None:
        """Open one segment and put each of its pieces where it belongs."""
        pieces = self._plan.pieces(sealed.position)
        segment = self._plan.segments[sealed.position]
        try:
            view = memoryview(self._sealer.open_segment(segment, sealed.data))
        except SealError as error:
            self.give_up(Unusable(pieces, f"a part of it is damaged (segment {segment.hex()}: {error})"))
            return
        nodes, settled = self._records.nodes, self._records.settled
        for piece in pieces:
            index = piece.file
            if index in settled:
                continue
            start = piece.segment_offset
            part = view[start : start + piece.length]
            if len(part) != piece.length:
                self._fail(index, f"an extent reaches beyond its segment ({start} + {piece.length} of {len(view)})")
                continue
            node = nodes[index]
            try:
                if piece.length == node.size:
                    self._put(index, node, part, own)
                else:
                    self._scatter(index, node, part, piece.file_offset)
            except LandingError as error:
                self._fail(index, str(error))

    def give_up(self, unusable: Unusable) -> None:
        """Name the files that needed a segment which cannot be had."""
        for piece in unusable.pieces:
            if piece.file not in self._records.settled:
                self._fail(piece.file, unusable.reason)

    def _put(self, index: int, node: Node, data: memoryview, own: Landing) -> None:
        digests = [chunk_digest(data)] if data else []
        if not same_mac(file_mac(self._content_key, node.size, digests), node.mac):
            self._fail(index, ALTERED)
            return
        put = own.put(self._records.folders[index], node, data)
        if isinstance(put, Keep):
            self._fail(index, put.reason)
        else:
            self._records.restored(index, put.identity, node.size)

    def _assembly(self, index: int, node: Node) -> _Assembly:
        """The file under way, begun where it was not; behind the lock."""
        assembly = self._assemblies.get(index)
        if assembly is None:
            unfinished = self._landing.create(self._records.folders[index], node.size)
            assembly = _Assembly(unfinished, node.size, self._plan.piece_counts[index])
            self._assemblies[index] = assembly
        return assembly

    def _scatter(self, index: int, node: Node, part: memoryview, offset: int) -> None:
        """One piece of a file of several; whoever brought the last one completes it."""
        length = len(part)
        whole = offset % CHUNK_BYTES == 0 and (length == CHUNK_BYTES or offset + length == node.size)
        digest = chunk_digest(part) if whole else None
        lent = None
        with self._lock:
            if index in self._records.settled:  # failed since the caller looked
                return
            assembly = self._assembly(index, node)
            if length >= _ALONE_BYTES:
                lent = self._landing.lend(assembly.unfinished)
            else:
                self._landing.write(assembly.unfinished, part, offset)
        if lent is not None:
            self._landing.write_lent(lent, part, offset, read_again=not whole)
        with self._lock:
            assembly.remaining -= 1
            if digest is not None:
                assembly.digests[offset // CHUNK_BYTES] = digest
            last = assembly.remaining == 0 and self._assemblies.get(index) is assembly
        self._records.written(length)
        if last:
            self._complete(index, node, assembly)

    def _complete(self, index: int, node: Node, assembly: _Assembly) -> None:
        digests = assembly.digests
        for hole in self._plan.holes(index):
            first = -(-hole.offset // CHUNK_BYTES)
            for chunk in range(first, (hole.offset + hole.length) // CHUNK_BYTES):
                digests[chunk] = ZERO_CHUNK_DIGEST
            tail = node.size % CHUNK_BYTES
            if tail and hole.offset + hole.length == node.size and hole.length >= tail:
                digests[-1] = chunk_digest(memoryview(ZERO_CHUNK)[:tail])
        proved = []
        for chunk, digest in enumerate(digests):
            if digest is None:  # made of several pieces: read it back, as it stands on the disk
                start = chunk * CHUNK_BYTES
                length = min(CHUNK_BYTES, node.size - start)
                with self._lock:
                    content = self._landing.read(assembly.unfinished, start, length)
                digest = chunk_digest(content)
            proved.append(digest)
        if not same_mac(file_mac(self._content_key, node.size, proved), node.mac):
            self._fail(index, ALTERED)
            return
        with self._lock:
            kept = self._landing.place(assembly.unfinished, node)
            if kept is None:
                del self._assemblies[index]
        if kept is not None:
            self._fail(index, kept.reason)
        else:
            self._records.restored(index, assembly.unfinished.identity)

    def _fail(self, index: int, reason: str) -> None:
        self._records.fail(index, reason)
        with self._lock:
            assembly = self._assemblies.pop(index, None)
            if assembly is not None:
                with contextlib.suppress(LandingError):
                    self._landing.discard(assembly.unfinished)


class Crew:
    """The workers of one restore and what they share. `put` and `finish` belong to the thread that fetches."""

    def __init__(self, assembler: Assembler, landings: Sequence[Landing]) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(IN_FLIGHT):
            self._slots.put(None)
        self.stop = False
        self.failure: BaseException | None = None
        self._assembler = assembler
        self._threads = [
            threading.Thread(target=self._work, args=(landing, number == 0), name="restore-work", daemon=True)
            for number, landing in enumerate(landings)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, task: Task) -> None:
        """Hand a segment on; waits while too many are under way."""
        self._slots.get()
        self._tasks.put(task)

    def finish(self) -> None:
        """Nothing more comes: wait for the workers."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, own: Landing, begins: bool) -> None:
        """Until the end mark. After a failure the queue is only emptied, so that whoever feeds it never hangs."""
        if begins:
            try:
                self._assembler.begin(own)
            except BaseException as error:  # the edge of a thread: the feeder raises it
                self.failure = self.failure or error
        while (task := self._tasks.get()) is not None:
            try:
                if not self.stop and self.failure is None:
                    if isinstance(task, Sealed):
                        self._assembler.carry(task, own)
                    else:
                        self._assembler.give_up(task)
            except BaseException as error:  # the edge of a thread: the feeder raises it
                self.failure = self.failure or error
            finally:
                del task
                self._slots.put(None)
