"""Putting files together: segments opened, pieces scattered, whole files proved, then named.

Owns what happens between a sealed segment and a restored file, and the record of what became of each file. Rules
kept: a file gets its name only after its MAC was checked; a file that failed once gets no further byte; chunks that
arrive whole are hashed where they are opened, others are read back as they stand on the disk. `Writer` is the one
thread that decides and names; opening may run in any thread, large pieces are copied by a second. Must not know the
source or the tree.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import msgspec

from agent.landing import Folder, Landing, LandingError, Unfinished
from agent.landing_rules import DiskFullError, Keep
from transport.contents import CHUNK_BYTES, ZERO_CHUNK, ZERO_CHUNK_DIGEST, chunk_digest, file_mac, same_mac
from transport.errors import SealError
from transport.names import Buffer
from transport.restore_plan import Piece, RestorePlan
from transport.sealing import Sealer
from transport.snapshot_reader import Node

IN_FLIGHT: Final = 16
"""Segments between fetching and writing; each holds up to 1 MiB sealed and 1 MiB open, so 32 MiB in all."""
BESIDE_BYTES: Final = 256 * 1024
BESIDE_AHEAD: Final = 4
"""Large pieces that may wait for the second writing thread."""
ALTERED: Final = "its content is not what was backed up (the whole-file check failed): it was not restored"


class RestoreError(msgspec.Struct, frozen=True):
    """A path that was not restored, or was kept as it stood, and why."""

    path: bytes
    reason: str


class Opened(msgspec.Struct, frozen=True):
    """A segment's plaintext, its pieces, and for each the digest of the whole chunk it makes, if it makes one."""

    plaintext: bytes
    pieces: list[Piece]
    digests: list[bytes | None]


class Unusable(msgspec.Struct, frozen=True):
    """A segment that did not come or did not open."""

    pieces: list[Piece]
    reason: str


class _Assembly:
    """A file made of several pieces, under way."""

    __slots__ = ("digests", "remaining", "unfinished", "writes")

    def __init__(self, unfinished: Unfinished, size: int, pieces: int) -> None:
        self.unfinished = unfinished
        self.remaining = pieces
        self.writes: list[Future[None]] = []
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
        if index not in self.settled:
            self.settled[index] = reason
            self.error(self.nodes[index], reason)
            with self._lock:
                self.files_done += 1

    def written(self, size: int) -> None:
        """Count bytes as done with."""
        with self._lock:
            self.bytes_done += size

    def restored(self, index: int, identity: tuple[int, int]) -> None:
        """Record that a file stands under its name."""
        with self._lock:
            self.files += 1
            self.bytes += self.nodes[index].size
            self.files_done += 1
        if index in self.linked:
            self.landed[index] = identity


class Assembler:
    """Carries out a plan for the files of its share: those whose index leaves `share` when divided by `shares`.

    `open` is thread-safe; everything else belongs to one writing thread.
    """

    def __init__(
        self, landing: Landing, sealer: Sealer, plan: RestorePlan, records: FileRecords, share: int = 0, shares: int = 1
    ) -> None:
        self._landing = landing
        self._share = share
        self._shares = shares
        self._sealer = sealer
        self._content_key = sealer.keys.content
        self._plan = plan
        self._records = records
        self._assemblies: dict[int, _Assembly] = {}
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="restore-scatter")
        self._writing: deque[Future[None]] = deque()

    def close(self) -> None:
        """Wait for what is still being written."""
        self._beside.shutdown(wait=True, cancel_futures=True)

    def open(self, position: int, sealed: Buffer) -> Opened | Unusable:
        """Open and hash one segment; runs in any thread."""
        plan, nodes = self._plan, self._records.nodes
        pieces = plan.pieces(position)
        try:
            plaintext = self._sealer.open_segment(plan.segments[position], sealed)
        except SealError as error:
            return Unusable(pieces, f"a part of it is damaged (segment {plan.segments[position].hex()}: {error})")
        view = memoryview(plaintext)
        digests: list[bytes | None] = []
        for piece in pieces:
            start, length = piece.file_offset, piece.length
            whole = start % CHUNK_BYTES == 0 and (
                length == CHUNK_BYTES or start + length == nodes[piece.file].size
            )
            at = piece.segment_offset
            digests.append(chunk_digest(view[at : at + length]) if whole else None)
        return Opened(plaintext, pieces, digests)

    def begin(self) -> None:
        """Files that no segment is needed for: empty, or all hole."""
        for index in range(self._share, len(self._records.nodes), self._shares):
            node = self._records.nodes[index]
            if index in self._records.settled or self._plan.piece_counts[index]:
                continue
            try:
                if node.size == 0:
                    self._put_small(index, node, memoryview(b""), [])
                else:
                    assembly = _Assembly(self._landing.create(self._records.folders[index], node.size), node.size, 0)
                    self._assemblies[index] = assembly
                    self._complete(index, assembly)
            except LandingError as error:
                self._fail(index, str(error))

    def write(self, opened: Opened) -> None:
        """Scatter one segment."""
        view = memoryview(opened.plaintext)
        nodes, settled = self._records.nodes, self._records.settled
        for piece, digest in zip(opened.pieces, opened.digests, strict=True):
            index = piece.file
            if index % self._shares != self._share or index in settled:
                continue
            start = piece.segment_offset
            part = view[start : start + piece.length]
            if len(part) != piece.length:
                self._fail(index, f"an extent reaches beyond its segment ({start} + {piece.length} of {len(view)})")
                continue
            node = nodes[index]
            try:
                if digest is not None and piece.length == node.size:
                    self._put_small(index, node, part, [digest])
                    self._records.written(node.size)
                    continue
                assembly = self._assemblies.get(index)
                if assembly is None:
                    unfinished = self._landing.create(self._records.folders[index], node.size)
                    assembly = _Assembly(unfinished, node.size, self._plan.piece_counts[index])
                    self._assemblies[index] = assembly
                if piece.length >= BESIDE_BYTES:
                    self._write_beside(assembly, part, piece.file_offset)
                else:
                    self._landing.write(assembly.unfinished, part, piece.file_offset)
                self._records.written(piece.length)
                if digest is not None:
                    assembly.digests[piece.file_offset // CHUNK_BYTES] = digest
                assembly.remaining -= 1
                if assembly.remaining == 0:
                    self._complete(index, assembly)
            except LandingError as error:
                self._fail(index, str(error))

    def _write_beside(self, assembly: _Assembly, part: memoryview, offset: int) -> None:
        """Large pieces are copied by a second thread, while this one creates the next small files."""
        while len(self._writing) >= BESIDE_AHEAD:
            error = self._writing.popleft().exception()
            if isinstance(error, DiskFullError):
                raise error
        write = self._landing.write_beside(self._beside, assembly.unfinished, part, offset)
        if len(assembly.writes) > 16 * BESIDE_AHEAD:
            assembly.writes = [w for w in assembly.writes if not w.done() or w.exception() is not None]
        assembly.writes.append(write)
        self._writing.append(write)

    def give_up(self, unusable: Unusable) -> None:
        """Name the files that needed a segment which cannot be had."""
        for piece in unusable.pieces:
            if piece.file % self._shares == self._share and piece.file not in self._records.settled:
                self._fail(piece.file, unusable.reason)

    def _put_small(self, index: int, node: Node, data: memoryview, digests: list[bytes]) -> None:
        if not same_mac(file_mac(self._content_key, node.size, digests), node.mac):
            self._fail(index, ALTERED)
            return
        put = self._landing.put(self._records.folders[index], node, data)
        if isinstance(put, Keep):
            self._fail(index, put.reason)
        else:
            self._records.restored(index, put.identity)

    def _complete(self, index: int, assembly: _Assembly) -> None:
        node, digests = self._records.nodes[index], assembly.digests
        for write in assembly.writes:
            write.result()
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
                digest = chunk_digest(self._landing.read(assembly.unfinished, start, length))
            proved.append(digest)
        if not same_mac(file_mac(self._content_key, node.size, proved), node.mac):
            self._fail(index, ALTERED)
            return
        kept = self._landing.place(assembly.unfinished, node)
        if kept is not None:
            self._fail(index, kept.reason)
            return
        del self._assemblies[index]
        self._records.restored(index, assembly.unfinished.identity)

    def _fail(self, index: int, reason: str) -> None:
        self._records.fail(index, reason)
        assembly = self._assemblies.pop(index, None)
        if assembly is not None:
            concurrent.futures.wait(assembly.writes)
            with contextlib.suppress(LandingError):
                self._landing.discard(assembly.unfinished)


Task = Future[Opened | Unusable] | Unusable
"""A segment on its way to the writers."""


class Writer(threading.Thread):
    """A thread that lands its assembler's share of the files while segments are fetched, in the order of the plan."""

    def __init__(self, assembler: Assembler) -> None:
        super().__init__(name="restore-write", daemon=True)
        self.assembler = assembler
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.slots = threading.Semaphore(IN_FLIGHT)
        self.stop = False
        self.failure: BaseException | None = None

    def finish(self) -> None:
        """Nothing more comes: end the thread."""
        self.tasks.put(None)
        self.join()
        self.assembler.close()

    def run(self) -> None:
        """Until the end mark. After a failure it only empties the queue, so that the feeder never hangs."""
        try:
            self.assembler.begin()
        except BaseException as error:  # the edge of a thread: the feeder raises it
            self.failure = error
        while (task := self.tasks.get()) is not None:
            try:
                if not self.stop and self.failure is None:
                    result = task.result() if isinstance(task, Future) else task
                    if isinstance(result, Opened):
                        self.assembler.write(result)
                    else:
                        self.assembler.give_up(result)
            except BaseException as error:  # the edge of a thread: the feeder raises it
                self.failure = error
            finally:
                self.slots.release()
