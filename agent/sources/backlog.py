"""What a program has said and nobody has taken yet: in memory at first, then in a nameless file.

A database server waits for whoever reads its dump, and not for long: MariaDB hangs up after `net_write_timeout` (60 s),
PostgreSQL keeps its snapshot, and all dead rows since, until the dump is over. An upload waits for a line. So a thread
takes what the program says as fast as it comes; only what the line is behind with lies on the disk, the whole dump in
the worst case, nothing where the line keeps up. Past `disk_bytes` the program waits after all.
"""

from __future__ import annotations

import collections
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from agent.errors import DatabaseError
from agent.system import descriptors

MEMORY_BYTES: Final = 4 << 20
STALL_S: Final = 900.0
"""Without a byte for so long a dump counts as stuck: it waits for a lock that nobody gives up."""
_PIECE: Final = 1 << 18
_LOOK_S: Final = 1.0



class Backlog:
    """Drains a pipe. `read` belongs to one thread; `close` may come from any."""

    def __init__(
        self, pipe: IO[bytes], folder: Path, disk_bytes: int, check: Callable[[], None], stall_s: float = STALL_S
    ) -> None:
        self._pipe = pipe
        self._disk_bytes = disk_bytes
        self._check = check
        self._stall_s = stall_s
        self._file = tempfile.TemporaryFile(dir=folder, prefix="backlog-")  # noqa: SIM115 - closed by close()
        self._written = 0
        self._in_file = 0
        self._in_memory = 0
        self._pieces: collections.deque[bytes | tuple[int, int]] = collections.deque()
        self._state = threading.Condition()
        self._over = False
        self._closing = False
        self._error: OSError | None = None
        self.most_on_disk = 0
        """The largest the file has been."""
        self._thread = threading.Thread(target=self._drain, name="backlog", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        try:
            while piece := os.read(self._pipe.fileno(), _PIECE):
                with self._state:
                    while not self._closing and self._written + len(piece) > self._disk_bytes and self._in_file:
                        self._state.wait(_LOOK_S)
                    if self._closing:
                        return
                    self._put(piece)
                    self._state.notify_all()
        except OSError as error:
            self._error = error
        finally:
            with self._state:
                self._over = True
                self._state.notify_all()

    def _put(self, piece: bytes) -> None:
        if not self._in_file and self._in_memory + len(piece) <= MEMORY_BYTES:
            self._pieces.append(piece)
            self._in_memory += len(piece)
            return
        if not self._in_file:  # all of it was taken: begin anew
            self._written = 0
            self._file.truncate(0)
        at = 0
        while at < len(piece):
            at += descriptors.write_at(self._file.fileno(), piece[at:], self._written + at)
        self._pieces.append((self._written, len(piece)))
        self._written += len(piece)
        self._in_file += len(piece)
        self.most_on_disk = max(self.most_on_disk, self._written)

    def read(self, limit: int) -> bytes:
        """The next bytes, at most `limit`; b"" where the program closed its output. DatabaseError where it stalls."""
        since = time.monotonic()
        with self._state:
            while not self._pieces and not self._over:
                self._state.wait(_LOOK_S)
                self._check()
                if time.monotonic() - since > self._stall_s:
                    raise DatabaseError(f"the dump gave no byte for {self._stall_s:.0f} s: does it wait for a lock?")
            if not self._pieces:
                if self._error is not None:
                    raise DatabaseError(f"what the dump said could not be kept: {self._error.strerror}")
                return b""
            piece = self._pieces.popleft()
            if isinstance(piece, bytes):
                self._in_memory -= len(piece)
                data = piece[:limit]
                if len(piece) > limit:
                    self._pieces.appendleft(piece[limit:])
                    self._in_memory += len(piece) - limit
            else:
                offset, length = piece
                data = descriptors.read_at(self._file.fileno(), min(length, limit), offset)
                self._in_file -= len(data)
                if length > len(data):
                    self._pieces.appendleft((offset + len(data), length - len(data)))
            self._state.notify_all()
            return data

    def close(self) -> None:
        """Let go of the file; what was not read is lost. The program must have ended, or its pipe stays in use."""
        with self._state:
            self._closing = True
            self._pieces.clear()
            self._state.notify_all()
        self._thread.join(5.0)
        self._file.close()
