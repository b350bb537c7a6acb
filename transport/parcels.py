"""Parcels: a selection of one machine's files, sealed anew for another machine that gets no key of the first.

A parcel is a row of sealed chunks under a random key of its own, which is wrapped to a key that the receiving machine
made for this delivery (`transport.escrow`, HPKE) and bound to that machine. Chunk n's segment id is n, so that none can
be swapped; the plaintexts end to end are a stream of entries, whose end is an entry too, so that none can be cut off.

Stream: frames of four bytes of length and a msgpack `Entry`. A file's frame is followed by its content, `size` bytes,
and one byte: 1 where the content proved to be what its machine signed, 0 where it did not and must be thrown away.
An entry without names is the end; its size is the number of entries before it. Memory: one chunk, whatever the size.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from transport.errors import IntegrityError
from transport.escrow import EscrowKey, EscrowPublic, unwrap_confided, wrap_confided
from transport.names import FILE_LIMIT, ID_BYTES, SEGMENT_LIMIT, RepositoryId, SegmentId, VaultId, random_id
from transport.sealing import MACHINE_KEY_BYTES, Sealer, vault_keys
from transport.tree import FileType

ENTRY_LIMIT: Final = 256 * 1024
"""Bytes of one entry's frame; what needs more is left out by the writer."""
DEPTH_LIMIT: Final = 1000
CHUNKS_LIMIT: Final = 1 << 40
_LENGTH: Final = struct.Struct(">I")

Name = Annotated[bytes, Meta(max_length=4096)]


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One path of a parcel. `names` from the top, its own last; none for the end. Owners do not travel: another
    machine's people are not this one's."""

    names: Annotated[list[Name], Meta(max_length=DEPTH_LIMIT)]
    type: int
    size: Annotated[int, Meta(ge=0, le=FILE_LIMIT)]
    mode: Annotated[int, Meta(ge=0, le=0o177777)]
    mtime_ns: int
    target: Annotated[bytes, Meta(max_length=65_536)]
    xattrs: Annotated[list[tuple[bytes, bytes]], Meta(max_length=200)]


_decoder: Final = msgspec.msgpack.Decoder(Entry)
_encoder: Final = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What lets the receiving machine open a parcel: the wrapped key, and the id that all of it is bound to."""

    envelope: bytes
    vault: VaultId


def new_parcel(receiving: EscrowPublic, machine: RepositoryId) -> tuple[Sealer, Wrapping]:
    """A sealer of a new parcel for a machine, and its wrapping; SealError where the receiving key is none."""
    key, vault = os.urandom(MACHINE_KEY_BYTES), VaultId(random_id())
    return Sealer(vault_keys(key, vault)), Wrapping(wrap_confided(receiving, key, machine, vault), vault)


def opened_parcel(receiving: EscrowKey, wrapping: Wrapping, machine: RepositoryId) -> Sealer:
    """What opens a parcel's chunks; SealError where it was made for another machine or another key."""
    return Sealer(vault_keys(unwrap_confided(receiving, wrapping.envelope, machine, wrapping.vault), wrapping.vault))


def chunk_id(number: int) -> SegmentId:
    """The segment id of chunk `number`, from 1 on."""
    return SegmentId(number.to_bytes(ID_BYTES, "big"))


def chunk_number(segment: bytes) -> int:
    """The other way."""
    return int.from_bytes(segment, "big")


class ParcelWriter:
    """Turns entries and contents into chunks of plaintext, each handed to `put` as it is full."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._held = bytearray()
        self.entries = 0

    def entry(self, entry: Entry) -> bool:
        """Write an entry's frame; False, and nothing written, where it would be too long."""
        frame = _encoder.encode(entry)
        if len(frame) > ENTRY_LIMIT:
            return False
        self._add(_LENGTH.pack(len(frame)) + frame)
        self.entries += 1
        return True

    def content(self, part: bytes) -> None:
        """Write some of a file's content."""
        self._add(part)

    def verdict(self, proved: bool) -> None:
        """After the last of a file's bytes."""
        self._add(b"\1" if proved else b"\0")

    def end(self) -> None:
        """Write the end and what is held."""
        frame = _encoder.encode(Entry([], FileType.FOLDER, self.entries, 0, 0, b"", []))
        self._add(_LENGTH.pack(len(frame)) + frame)
        if self._held:
            self._put(bytes(self._held))
            self._held.clear()

    def _add(self, data: bytes) -> None:
        self._held += data
        while len(self._held) >= SEGMENT_LIMIT:
            self._put(bytes(self._held[:SEGMENT_LIMIT]))
            del self._held[:SEGMENT_LIMIT]


class ParcelReader:
    """Reads a parcel's stream, entry by entry; IntegrityError for whatever no writer makes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = bytearray()
        self._entries = 0

    def next(self) -> Entry | None:
        """The next entry; None after the end. A file's content must be read before the one after."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > ENTRY_LIMIT:
            raise IntegrityError(f"a parcel holds an entry of {length} bytes, over {ENTRY_LIMIT}")
        try:
            entry = _decoder.decode(self._exactly(length))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise IntegrityError(f"a parcel holds no entry of a known form: {error}") from None
        if entry.names:
            self._entries += 1
            return entry
        if entry.size != self._entries or self._held or next(self._chunks, None) is not None:
            raise IntegrityError("a parcel goes on after its end, or ends before it")
        return None

    def content(self, entry: Entry) -> Iterator[bytes]:
        """A file's content in parts of a chunk at most; read to its end before `verdict`."""
        left = entry.size
        while left:
            if not self._held:
                self._more()
            part = bytes(self._held[: min(left, len(self._held))])
            del self._held[: len(part)]
            left -= len(part)
            yield part

    def verdict(self) -> bool:
        """Whether the content proved itself where it was read."""
        return self._exactly(1) == b"\1"

    def _exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            self._more()
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if not chunk:
            raise IntegrityError("a parcel was cut short")
        self._held += chunk
