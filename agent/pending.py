"""Segments that the appliance has acknowledged but no snapshot names yet, so that a killed agent need not resend.

Owns one append-only file of fixed records: segment id, SHA-256 that recognises its plaintext, length, CRC-32. It is a
cache: what does not check is ignored and costs only bytes sent twice. A plain file, unsynced, because it is written at
every acknowledgement while the sending thread waits (a database held that thread for half of a first backup, measured);
a killed process loses nothing by that. Found segments are never trusted without the appliance: `restrict_to` keeps what
it says it still holds. Digests fingerprint plaintext, so the file stays on this machine. Thread-safe.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.errors import LedgerError
from transport.names import SegmentId

_BODY = struct.Struct(">16s32sI")
_CHECK = struct.Struct(">I")
_RECORD_BYTES: Final = _BODY.size + _CHECK.size


class PendingSegments:
    """An open pending file; `PendingSegments.open(path)`."""

    def __init__(self, path: Path, descriptor: int, found: dict[tuple[bytes, int], SegmentId]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._found = found
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> PendingSegments:
        """The file and what it holds; made where it is missing. LedgerError where the disk refuses."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read()
        except OSError as error:
            raise LedgerError(f"{path} cannot be opened: {error.strerror}") from None
        found: dict[tuple[bytes, int], SegmentId] = {}
        for at in range(0, len(data) - _RECORD_BYTES + 1, _RECORD_BYTES):
            body = data[at : at + _BODY.size]
            if _CHECK.unpack_from(data, at + _BODY.size)[0] == zlib.crc32(body):
                segment, digest, length = _BODY.unpack(body)
                found[digest, length] = SegmentId(segment)
        return cls(path, descriptor, found)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def __enter__(self) -> PendingSegments:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._found)

    def add_many(self, segments: Iterable[tuple[SegmentId, bytes, int]]) -> None:
        """Remember acknowledged segments: (id, digest of the plaintext, its length in bytes)."""
        with self._lock:
            added = list(segments)
            self._append(added)
            for segment, digest, length in added:
                self._found[digest, length] = segment

    def find(self, digest: bytes, length: int) -> SegmentId | None:
        """A held segment with exactly this plaintext."""
        return self._found.get((digest, length))

    def restrict_to(self, held: Iterable[SegmentId]) -> None:
        """Forget what the appliance does not hold (any more)."""
        held = frozenset(held)
        with self._lock:
            self._found = {key: segment for key, segment in self._found.items() if segment in held}
            self._truncate()
            self._append((segment, digest, length) for (digest, length), segment in self._found.items())

    def clear(self) -> None:
        """Forget all: a commit names them now."""
        with self._lock:
            self._found = {}
            self._truncate()

    def _append(self, segments: Iterable[tuple[SegmentId, bytes, int]]) -> None:
        out = bytearray()
        for segment, digest, length in segments:
            body = _BODY.pack(segment, digest, length)
            out += body + _CHECK.pack(zlib.crc32(body))
        try:
            os.write(self._descriptor, out)
        except OSError as error:
            raise LedgerError(f"{self._path} cannot be written: {error.strerror}") from None

    def _truncate(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise LedgerError(f"{self._path} cannot be written: {error.strerror}") from None
