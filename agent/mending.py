"""Giving back what the appliance lost, and laying out anew what keeps dead bytes alive: answers to `Care`.

The appliance names ranges of versions. A range counts as unchanged only where the file's bytes still make the leaf
digests, or the MAC, that were kept when the version was read: nothing else is ever sent under an old version. Damaged
ranges go into fresh segments with a signed order to mend; wishes become a new version that copies the rest. What cannot
be proved is left alone, and a version that stays damaged is no base for anything.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.ledger import Ledger
from agent.packing import Packer, Piece, SealedSegment, VersionDraft
from agent.reading import SourceFile
from agent.signatures import FileSums, Signatures
from agent.staging import Known
from transport.contents import LEAF_BYTES, chunk_digest, file_mac, leaf_digests
from transport.errors import ProtocolError
from transport.extents import Copy, Operation
from transport.keys import SigningKey
from transport.mending import MEND_LABEL, REPOINTS_LIMIT, MendOrder, Repoint, SignedMend
from transport.messages import CareRange
from transport.names import (
    DIGEST_BYTES,
    ID_BYTES,
    SEGMENT_LIMIT,
    ZERO_SEGMENT,
    InstallationId,
    RepositoryId,
    SegmentId,
    VaultId,
    VersionId,
    random_id,
)
from transport.sealing import Sealer

CARE_BYTES: Final = 128 << 20
"""Wishes of one backup that are heeded, twice what a fair appliance asks for: they are read into memory."""

Emit = Callable[[SealedSegment | SignedMend], None]


@dataclass(frozen=True, slots=True)
class Vault:
    """Under which names an order to mend is signed."""

    vault: VaultId
    repository: RepositoryId
    installation: InstallationId
    head: int


@dataclass(slots=True)
class Mended:
    """What was given back. `unsound` versions stay damaged: no base for a delta, and no file is a copy of them."""

    bytes_sent: int = 0
    ranges: int = 0
    unsound: frozenset[VersionId] = frozenset()


class Proof:
    """Whether ranges of an open file are still what they were in a version."""

    def __init__(self, file: SourceFile, known: Known, sums: FileSums | None, content_key: bytes) -> None:
        self._file = file
        self._known = known
        self._sums = sums if sums is not None and sums.size == known.size else None
        self._key = content_key
        self._leaves: dict[int, bytes | None] = {}
        self._whole: bytes | None = None

    def read(self, offset: int, length: int) -> bytes | None:
        """The bytes, or None where they are not proved to be the version's."""
        if offset + length > self._known.size:
            return None
        if self._sums is None:
            return self._of_whole(offset, length)
        parts = [self._leaf(at) for at in range(offset // LEAF_BYTES, (offset + length - 1) // LEAF_BYTES + 1)]
        data = b"".join(part for part in parts if part is not None)
        if None in parts:
            return None
        skip = offset % LEAF_BYTES
        return data[skip : skip + length]

    def _leaf(self, index: int) -> bytes | None:
        if index not in self._leaves:
            assert self._sums is not None
            size = min(LEAF_BYTES, self._known.size - index * LEAF_BYTES)
            data = self._file.read(index * LEAF_BYTES, size)
            expected = self._sums.leaves[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
            if len(self._leaves) >= 2 * SEGMENT_LIMIT // LEAF_BYTES:
                self._leaves.clear()
            self._leaves[index] = data if len(data) == size and leaf_digests(data) == bytes(expected) else None
        return self._leaves[index]

    def _of_whole(self, offset: int, length: int) -> bytes | None:
        """Without sums the MAC of the whole file is the only witness: small files, mostly."""
        if self._file.size != self._known.size or self._known.size > SEGMENT_LIMIT:
            return None
        if self._whole is None:
            data = self._file.read(0, self._known.size)
            mac = file_mac(self._key, len(data), [chunk_digest(data)] if data else [])
            self._whole = data if len(data) == self._known.size and mac == self._known.mac else b""
        return self._whole[offset : offset + length] if self._whole else None


@dataclass(slots=True)
class _Fresh:
    """A segment being filled for orders to mend."""

    segment: SegmentId = field(default_factory=lambda: SegmentId(random_id()))
    data: bytearray = field(default_factory=bytearray)


class Mender:
    """Makes fresh segments and the orders that point to them."""

    def __init__(
        self, sealer: Sealer, signing: SigningKey, emit: Emit, vault: Vault, signatures: Signatures
    ) -> None:
        self._sealer = sealer
        self._signing = signing
        self._emit = emit
        self._vault = vault
        self._signatures = signatures
        self._fresh = _Fresh()
        self._repoints: list[Repoint] = []
        self._covered: dict[SegmentId, list[tuple[int, int]]] = defaultdict(list)

    def mend(self, ranges: Sequence[CareRange], ledger: Ledger) -> Mended:
        """Give back what of the damaged ranges still stands unchanged on this disk."""
        wanted: dict[VersionId, list[CareRange]] = defaultdict(list)
        for one in ranges:
            if one.segment != ZERO_SEGMENT:
                wanted[one.version].append(one)
        outcome = Mended()
        unsound = set(wanted)
        for known, paths in ledger.places_of(wanted):
            given = self._give(known, paths, wanted[known.version_id], outcome)
            if given == len(wanted[known.version_id]):
                unsound.discard(known.version_id)
        outcome.unsound = frozenset(unsound)
        self._close()
        for at in range(0, len(self._repoints), REPOINTS_LIMIT):
            vault = self._vault
            order = MendOrder(
                label=MEND_LABEL,
                vault=vault.vault,
                repository=vault.repository,
                installation=vault.installation,
                head=vault.head,
                repoints=self._repoints[at : at + REPOINTS_LIMIT],
            )
            self._emit(self._signing.sign_mend(order))
        return outcome

    def _give(self, known: Known, paths: Iterable[bytes], ranges: Sequence[CareRange], outcome: Mended) -> int:
        """From the first of the paths where anything can be proved; how many ranges were given back."""
        for path in paths:
            given = 0
            try:
                with SourceFile(path) as file, self._signatures.mapped(known.version_id) as sums:
                    proof = Proof(file, known, sums, self._sealer.keys.content)
                    for one in ranges:
                        data = proof.read(one.offset, one.length)
                        if data is not None:
                            self._take(one, data)
                            given += 1
                            outcome.bytes_sent += len(data)
            except OSError:
                continue
            if given:
                outcome.ranges += given
                return given
        return 0

    def _take(self, one: CareRange, data: bytes) -> None:
        """Two files may share a damaged slice: each byte of a segment is re-pointed once."""
        for begin, end in _uncovered(self._covered[one.segment], one.segment_offset, one.segment_offset + one.length):
            at = begin
            while at < end:
                room = SEGMENT_LIMIT - len(self._fresh.data)
                if not room:
                    self._close()
                    continue
                length = min(end - at, room)
                skip = at - one.segment_offset
                self._repoints.append(
                    Repoint(one.segment, at, length, self._fresh.segment, len(self._fresh.data))
                )
                self._fresh.data += data[skip : skip + length]
                at += length

    def _close(self) -> None:
        full, self._fresh = self._fresh, _Fresh()
        if full.data:
            plaintext = bytes(full.data)
            sealed = self._sealer.seal_segment(full.segment, plaintext)
            self._emit(SealedSegment(full.segment, chunk_digest(plaintext), len(plaintext), sealed))


def _uncovered(covered: list[tuple[int, int]], begin: int, end: int) -> list[tuple[int, int]]:
    """What of [begin, end) no interval of `covered` (ascending, disjoint) holds; afterwards they hold it."""
    free: list[tuple[int, int]] = []
    at = begin
    for start, stop in covered[max(0, bisect.bisect_right(covered, (begin, end)) - 1) :]:
        if start >= end:
            break
        if at < start:
            free.append((at, start))
        at = max(at, stop)
    if at < end:
        free.append((at, end))
    for piece in free:
        bisect.insort(covered, piece)
    return free


def believable(ranges: Iterable[CareRange]) -> list[CareRange]:
    """What of the appliance's list is looked at: slices of a segment, and wishes up to CARE_BYTES in all.

    ProtocolError for numbers that no segment and no file has: read as they stand they would fill the memory, or end
    under a signature.
    """
    heeded: list[CareRange] = []
    wished = 0
    for one in ranges:
        lengths = {len(one.version), len(one.segment)}
        within = 0 <= one.segment_offset <= SEGMENT_LIMIT - one.length or one.segment == ZERO_SEGMENT
        if lengths != {ID_BYTES} or one.offset < 0 or one.length < 1 or not within:
            raise ProtocolError(f"the appliance asks for {one.length} bytes at {one.offset}, which cannot be")
        if one.segment == ZERO_SEGMENT:
            wished += one.length
            if wished > CARE_BYTES:
                continue
        heeded.append(one)
    return heeded


def wishes_of(ranges: Iterable[CareRange]) -> dict[VersionId, list[tuple[int, int]]]:
    """The (offset, length) ranges that are wished for, by version, ascending and apart."""
    wishes: dict[VersionId, list[tuple[int, int]]] = defaultdict(list)
    for one in ranges:
        if one.segment == ZERO_SEGMENT and one.length > 0:
            wishes[one.version].append((one.offset, one.length))
    return {version: list(_apart(sorted(found))) for version, found in wishes.items()}


def _apart(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    reached = 0
    for offset, length in ranges:
        start, end = max(offset, reached), offset + length
        if start < end:
            yield start, end - start
            reached = end


def lay_out_anew(
    path: bytes,
    known: Known,
    ranges: Sequence[tuple[int, int]],
    packer: Packer,
    signatures: Signatures,
    content_key: bytes,
) -> tuple[VersionId, int] | None:
    """Make a version with the content of `known`, of which `ranges` stand in fresh segments; its id and the bytes that
    travel. None where the file cannot be proved to be the same there: nothing was sent then."""
    fresh = VersionId(random_id())
    operations: list[Operation | Piece] = []
    at = sent = 0
    try:
        with SourceFile(path) as file, signatures.mapped(known.version_id) as sums:
            proof = Proof(file, known, sums, content_key)
            parts: list[tuple[int, bytes]] = []
            for offset, length in ranges:
                for piece in range(offset, offset + length, LEAF_BYTES):
                    data = proof.read(piece, min(LEAF_BYTES, offset + length - piece))
                    if data is None:
                        return None
                    parts.append((piece, data))
    except OSError:
        return None
    for offset, data in parts:
        if offset > at:
            operations.append(Copy(at, offset - at))
        operations.append(packer.add(data, chunk_digest(data)))
        at = offset + len(data)
        sent += len(data)
    if at < known.size:
        operations.append(Copy(at, known.size - at))
    copies = any(isinstance(operation, Copy) for operation in operations)
    base = (known.version_id, known.size) if copies else (VersionId(bytes(16)), 0)
    packer.finish(VersionDraft(fresh, known.size, operations, *base))
    if known.has_signature:
        signatures.copy(known.version_id, fresh)
    return fresh, sent
