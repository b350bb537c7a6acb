"""Orders to mend: which bytes of a damaged segment are to be read elsewhere from now on.

Owns the canonical bytes that the agent signs and their strict reading. An order says nothing of files: it names slices
of segments. That the fresh bytes are the old ones only a key holder can prove, and a restorer does, by the MAC of the
whole file; that the old ones are really lost, the appliance proves before it takes an order.
"""

from __future__ import annotations

from typing import Final

import msgspec

from transport.errors import DecodeError
from transport.names import ID_BYTES, SEGMENT_LIMIT, ZERO_SEGMENT, InstallationId, RepositoryId, SegmentId, VaultId

MEND_LABEL: Final = "pilulier/mend/1"
MEND_LIMIT: Final = 1 << 20
"""Largest encoded order, bytes."""
REPOINTS_LIMIT: Final = 16_384


class Repoint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """`length` bytes at `offset` of damaged `segment` are read from `fresh_offset` of `fresh`."""

    segment: SegmentId
    offset: int
    length: int
    fresh: SegmentId
    fresh_offset: int


class MendOrder(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What stands under the signature. `head` is the snapshot that the agent stood on."""

    label: str
    vault: VaultId
    repository: RepositoryId
    installation: InstallationId
    head: int
    repoints: list[Repoint]


class SignedMend(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An order's bytes with their Ed25519 signature (transport.keys)."""

    record: bytes
    signature: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(MendOrder)


def encode_mend(order: MendOrder) -> bytes:
    """The canonical bytes of an order."""
    return _encoder.encode(order)


def decode_mend(data: bytes) -> MendOrder:
    """An order out of peer bytes; DecodeError for anything but the canonical form within bounds."""
    if len(data) > MEND_LIMIT:
        raise DecodeError(f"an order to mend of {len(data)} bytes is over {MEND_LIMIT}")
    try:
        order = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(f"not an order to mend: {error}") from None
    if order.label != MEND_LABEL or encode_mend(order) != data:
        raise DecodeError("an order to mend that is not in canonical form")
    if {len(order.vault), len(order.repository), len(order.installation)} != {ID_BYTES} or order.head < 0:
        raise DecodeError("an order to mend whose ids are not of the right length")
    if not 1 <= len(order.repoints) <= REPOINTS_LIMIT:
        raise DecodeError(f"an order to mend of {len(order.repoints)} slices is outside 1..{REPOINTS_LIMIT}")
    for slice_ in order.repoints:
        _check(slice_)
    return order


def _check(slice_: Repoint) -> None:
    ids = (slice_.segment, slice_.fresh)
    if any(len(segment) != ID_BYTES or segment == ZERO_SEGMENT for segment in ids) or ids[0] == ids[1]:
        raise DecodeError("an order to mend names a segment that cannot be")
    for offset in (slice_.offset, slice_.fresh_offset):
        if offset < 0 or slice_.length < 1 or offset + slice_.length > SEGMENT_LIMIT:
            raise DecodeError(f"a slice to mend is out of bounds (offset={offset}, length={slice_.length})")
