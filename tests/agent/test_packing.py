"""Packing: order of what goes out, recognised segments, versions that wait for the segment they rest on."""

from __future__ import annotations

import hashlib
import os

from agent.packing import Outgoing, Packer, Piece, SealedSegment, VersionBatch, VersionDraft, settled
from transport.extents import OPS_PER_RECORD, Copy, Fragment, VersionRecord, Zero, decode_operations
from transport.names import SEGMENT_LIMIT, SegmentId, VaultId, VersionId
from transport.sealing import Sealer, vault_keys

SEALER = Sealer(vault_keys(bytes(32), VaultId(b"v" * 16)))


class Out:
    def __init__(self) -> None:
        self.items: list[SealedSegment | VersionRecord] = []
        self.sent: dict[tuple[bytes, int], SegmentId] = {}
        self.packer = Packer(SEALER, self._take, lambda d, n: self.sent.get((d, n)))

    def _take(self, item: Outgoing) -> None:
        self.items.extend(item.records if isinstance(item, VersionBatch) else [item])

    def kinds(self) -> list[str]:
        return ["segment" if isinstance(item, SealedSegment) else "version" for item in self.items]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def draft(number: int, size: int, *operations: Piece | Fragment | Zero | Copy) -> VersionDraft:
    return VersionDraft(VersionId(bytes([number]) * 16), size, list(operations))


def test_small_files_share_a_segment_and_follow_it() -> None:
    out = Out()
    for number in range(3):
        data = bytes([number]) * 100
        out.packer.finish(draft(number, 100, out.packer.add(data, digest(data))))
    assert out.items == []
    out.packer.flush()
    assert out.kinds() == ["segment", "version", "version", "version"]
    segment = out.items[0]
    assert isinstance(segment, SealedSegment)
    plaintext = SEALER.open_segment(segment.segment_id, segment.sealed)
    assert plaintext == b"\0" * 100 + b"\1" * 100 + b"\2" * 100
    last = out.items[3]
    assert isinstance(last, VersionRecord)
    assert decode_operations(last.operations, size=100, base_size=None) == [Fragment(segment.segment_id, 200, 100)]


def test_a_full_segment_closes_itself_and_a_version_waits_only_for_its_own() -> None:
    out = Out()
    big = os.urandom(SEGMENT_LIMIT - 10)
    out.packer.finish(draft(1, len(big), out.packer.add(big, digest(big))))
    out.packer.finish(draft(2, 20, out.packer.add(b"x" * 20, digest(b"x" * 20))))
    assert out.kinds() == ["segment", "version"]
    out.packer.finish(draft(3, 5, Zero(5)))
    assert out.kinds() == ["segment", "version", "version"]
    out.packer.flush()
    assert out.kinds() == ["segment", "version", "version", "segment", "version"]


def test_what_was_sent_before_is_named_again_and_not_sent() -> None:
    first, second = Out(), Out()
    chunk = os.urandom(SEGMENT_LIMIT)
    for out in (first, second):
        whole = out.packer.whole(chunk, digest(chunk))
        piece = out.packer.add(b"small", digest(b"small"))
        out.packer.finish(draft(1, len(chunk) + 5, Fragment(whole, 0, len(chunk)), piece))
        out.packer.flush()
        if out is first:
            assert out.kinds() == ["segment", "segment", "version"]
            for item in out.items:
                if isinstance(item, SealedSegment):
                    second.sent[item.digest, item.length] = item.segment_id
    assert second.kinds() == ["version"] and second.items[0] == first.items[2]


def test_long_versions_travel_in_parts() -> None:
    out = Out()
    operations = [Copy(i * 10, 5) for i in range(OPS_PER_RECORD + 7)]
    out.packer.finish(draft(1, 5 * len(operations), *operations))
    assert [item.more for item in out.items if isinstance(item, VersionRecord)] == [True, False]


def test_neighbours_are_joined() -> None:
    segment = SegmentId(b"s" * 16)
    assert settled(
        [Copy(0, 5), Copy(5, 5), Zero(1), Zero(2), Fragment(segment, 0, 3), Fragment(segment, 3, 4), Copy(0, 1)]
    ) == [Copy(0, 10), Zero(3), Fragment(segment, 0, 7), Copy(0, 1)]
    assert settled([]) == []
