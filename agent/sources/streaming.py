"""Sending what can be read only once: a dump as it comes out of its program, as a delta against the last one.

Owns the one pass that feeds MAC, delta and the next signature together. The delta needs nothing but the signature of
the last version, and librsync never looks back; two things of a file's delta do, and are done otherwise here:

- the next signature is made by a thread beside the delta, from the same bytes, instead of from a second look at what no
  copy carried over;
- a delta that outruns its budget goes on as literals from where it stands: the few bytes that librsync took and did
  not answer for yet are kept in a window. Only where a copy grew past the window (its bytes were let go, since a copy
  needs none) and time was up at just that moment does DeltaBudgetError leave this module; the caller then dumps once
  more, whole. A copy of the dump on the disk would spare that second dump and cost its size at every backup.

The budget counts librsync's own time: a slow server, a slow line and a busy packer are no reason to give up deltas.
"""

from __future__ import annotations

import collections
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.differing import Assembly
from agent.packing import Packer, VersionDraft
from agent.reading import Chunks, Content, nothing
from agent.signatures import FileSums
from transport import delta as deltas
from transport import librsync
from transport.contents import CHUNK_BYTES, file_mac
from transport.errors import DeltaBudgetError, LibrsyncError
from transport.names import VersionId

WINDOW_BYTES: Final = 16 << 20
"""Far more than librsync holds back without a copy under way: a step of input and a block."""
HOPELESS: Final = 4
"""So many times its time a delta may take while it waits for the end of a copy."""
_SIGNING_AHEAD: Final = 4


class StreamFile:
    """A stream read once, in chunks. `read(limit)` gives b"" at a proved end only, and raises where there is none."""

    def __init__(self, read: Callable[[int], bytes], expected_bytes: int, keep: Path | None = None) -> None:
        self._source = read
        self._keep = keep
        """A file that is to hold the stream as well; it goes where it cannot be written to its end."""
        if keep is not None:
            keep.unlink(missing_ok=True)
        self.size = max(expected_bytes, deltas.MIN_DELTA_BYTES)
        self.bytes_read = 0
        self._chunks = 0
        self._ended = False

    def chunk(self, index: int) -> bytes:
        """The next chunk, shorter only at the end."""
        if index != self._chunks:
            raise ValueError(f"chunk {index} of a stream that stands at {self._chunks}")
        parts: list[bytes] = []
        missing = CHUNK_BYTES
        while missing and not self._ended:
            piece = self._source(missing)
            self._ended = not piece
            parts.append(piece)
            missing -= len(piece)
        data = b"".join(parts)
        self._chunks += bool(data)
        self.bytes_read += len(data)
        if self._keep is not None and data:
            self._append(self._keep, data)
        return data

    def _append(self, path: Path, data: bytes) -> None:
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                file.write(data)
        except OSError:
            self._keep = None
            path.unlink(missing_ok=True)

    def changed(self) -> bool:
        """Never: a dump is of one moment."""
        return False


class _Signer:
    """librsync's signature of chunks as they pass, in a thread. A context manager: it ends with its block."""

    def __init__(self, block_bytes: int) -> None:
        self._chunks: queue.Queue[bytes] = queue.Queue(_SIGNING_AHEAD)
        self._parts: list[bytes] = []
        self._over = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(block_bytes,), name="signing", daemon=True)

    def __enter__(self) -> _Signer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._over:
            self._end()

    def _run(self, block_bytes: int) -> None:
        try:
            librsync.library().signature(self, self, block_bytes)
        except BaseException as error:  # the edge of a thread: whoever feeds it is told
            self._error = error

    def read(self, limit: int, /) -> bytes:
        """For librsync: one chunk a step, as it asks for."""
        return self._chunks.get()

    def write(self, data: bytes, /) -> None:
        """For librsync."""
        self._parts.append(data)

    def feed(self, chunk: bytes) -> None:
        """The next chunk; waits where the thread is behind."""
        while True:
            try:
                return self._chunks.put(chunk, timeout=1.0)
            except queue.Full:
                if not self._thread.is_alive():
                    raise LibrsyncError(f"the signature of a stream failed: {self._error}") from self._error

    def finish(self) -> bytes:
        """The whole signature."""
        self._end()
        if self._error is not None:
            raise LibrsyncError(f"the signature of a stream failed: {self._error}") from self._error
        return b"".join(self._parts)

    def _end(self) -> None:
        self._over = True
        while self._thread.is_alive():
            try:
                self._chunks.put(b"", timeout=0.2)
            except queue.Full:
                continue
            break
        self._thread.join()


class _Window:
    """The source of a delta: hands chunks on, keeps what is not answered for yet, and counts librsync's time."""

    def __init__(self, chunks: Chunks, deadline_s: float, clock: Callable[[], float]) -> None:
        self._chunks = chunks
        self._deadline_s = deadline_s
        self._clock = clock
        self._kept: collections.deque[tuple[int, bytes]] = collections.deque()
        self._kept_bytes = 0
        self._held_from = 0
        self._spent_s = 0.0
        self._left_at = clock()
        self.runs = [[0, 0]]
        """For the assembly: one changed run, as long as what was read."""
        self.position: Callable[[], int] = lambda: 0
        """How far the assembly is."""

    def read(self, limit: int, /) -> bytes:
        """For librsync: the next bytes; DeltaBudgetError when its time is up."""
        self._spent_s += self._clock() - self._left_at
        if self._spent_s > self._deadline_s and (self.reaches() or self._spent_s > HOPELESS * self._deadline_s):
            raise DeltaBudgetError("the delta ran past its time")
        try:
            return self.take()
        finally:
            self._left_at = self._clock()

    def outside(self, seconds: float) -> None:
        """So long somebody else was at work inside librsync's call."""
        self._left_at += seconds

    def take(self) -> bytes:
        """The next chunk of the stream."""
        self._forget()
        piece = self._chunks.next()
        if piece:
            self._kept.append((self.runs[0][1], piece))
            self._kept_bytes += len(piece)
            self.runs[0][1] += len(piece)
        return piece

    def _forget(self) -> None:
        done = self.position()
        while self._kept:
            offset, piece = self._kept[0]
            if offset + len(piece) > done and self._kept_bytes <= WINDOW_BYTES:
                return
            self._kept.popleft()
            self._kept_bytes -= len(piece)
            self._held_from = offset + len(piece)

    def reaches(self) -> bool:
        """Whether all that is not answered for is still here."""
        return self._held_from <= self.position()

    def held(self) -> list[bytes]:
        """What is not answered for; DeltaBudgetError where a part of it was let go."""
        done = self.position()
        if not self.reaches():
            raise DeltaBudgetError("the delta of a stream ran past its time inside a long copy")
        return [piece[max(0, done - offset) :] for offset, piece in self._kept if offset + len(piece) > done]


class _Watched:
    """librsync's sink: the time behind it is not librsync's."""

    def __init__(self, parser: deltas.DeltaParser, window: _Window, clock: Callable[[], float]) -> None:
        self._parser, self._window, self._clock = parser, window, clock

    def write(self, data: bytes, /) -> None:
        began = self._clock()
        try:
            self._parser.write(data)
        finally:
            self._window.outside(self._clock() - began)


def send_stream_delta(
    stream: StreamFile,
    version: VersionId,
    base: VersionId,
    base_sums: FileSums,
    packer: Packer,
    key: bytes,
    budget: deltas.Budget,
    progress: Callable[[int], None] = nothing,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Content:
    """The stream as copies of its base and literals. DeltaBudgetError: it must be sent whole, from its beginning."""
    with _Signer(deltas.block_bytes_for(base_sums.size)) as signer:
        chunks = Chunks(stream, lambda chunk, _: signer.feed(chunk), progress)
        window = _Window(chunks, budget.deadline_s(base_sums.size), clock)
        limit = max(budget.literal_floor_bytes, int(base_sums.size * budget.literal_share))
        assembly = Assembly(packer, limit, window.runs)
        window.position = lambda: assembly.position
        parser = deltas.DeltaParser(assembly.copy, assembly.literal, base_sums.size)
        try:
            librsync.library().delta(
                window, deltas.BytesSource(base_sums.signature), _Watched(parser, window, clock)
            )
            parser.close()
        except DeltaBudgetError:
            parser.stop()
            assembly.lift_limit()
            for piece in window.held():
                assembly.literal(piece)
            while piece := window.take():
                assembly.literal(piece)
        assembly.flush()
        if assembly.position != chunks.size:
            raise LibrsyncError(f"the delta of a stream makes {assembly.position} bytes of {chunks.size}")
        signature = signer.finish()
    sums = FileSums(chunks.size, bytes(chunks.leaves), signature) if chunks.size >= deltas.MIN_DELTA_BYTES else None
    return Content(
        chunks.size,
        file_mac(key, chunks.size, chunks.digests),
        False,
        VersionDraft(version, chunks.size, assembly.operations, base, base_sums.size),
        sums,
        literal_bytes=assembly.literal_bytes,
        copied_bytes=chunks.size - assembly.literal_bytes,
    )
