"""Records: strict heads, canonical payloads, and the document that describes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import transport.sealing as sealing
from appliance.store import records
from appliance.store.records import (
    KINDS,
    LABEL,
    OVERHEAD_BYTES,
    DeathsRecord,
    HeaderRecord,
    Kind,
    StagedBy,
    checksum_holds,
    decode_head,
    decode_payload,
    encode_head,
    encode_payload,
    sealed_plain_length,
)
from tests.appliance.store_builder import KEY, REPOSITORY, VAULT, make_keys
from transport.errors import DecodeError
from transport.names import SEALED_LIMIT, PathId, SegmentId, SessionId
from transport.sealing import Sealer

FORMAT = Path(records.__file__).with_name("FORMAT.md")
DEATHS = DeathsRecord(StagedBy(SessionId(b"s" * 16), 1, 2), [PathId(b"p" * 16)])


def test_the_format_document_lists_exactly_these_kinds_with_their_bounds() -> None:
    rows = re.findall(r"^\|\s*(\d+)\s*\|\s*`?(\w+)`?\s*\|\s*(\d+)\s*\|\s*(\d+)\s*\|", FORMAT.read_text(), re.M)
    documented = {(int(number), name, int(low), int(high)) for number, name, low, high in rows}
    assert documented == {(kind.value, kind.name, rule.minimum, rule.limit) for kind, rule in KINDS.items()}


def test_a_head_reads_back_and_any_flipped_byte_is_noticed() -> None:
    payload = encode_payload(DEATHS)
    head = encode_head(Kind.DEATHS, [payload])
    assert len(head) == OVERHEAD_BYTES
    read = decode_head(head)
    assert (read.kind, read.length_bytes, read.size_bytes) == (Kind.DEATHS, len(payload), OVERHEAD_BYTES + len(payload))
    assert checksum_holds(head, payload)
    whole = head + payload
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1
        try:
            decode_head(bytes(broken))
        except DecodeError:
            continue
        assert not checksum_holds(bytes(broken[:OVERHEAD_BYTES]), bytes(broken[OVERHEAD_BYTES:]))


def test_heads_that_this_format_does_not_know_are_refused() -> None:
    head = bytearray(encode_head(Kind.DEATHS, [b"x"]))
    for at, value in ((4, 2), (5, 99), (6, 2), (7, 1)):
        broken = bytearray(head)
        broken[at] = value
        with pytest.raises(DecodeError):
            decode_head(bytes(broken))
    with pytest.raises(DecodeError):
        decode_head(bytes(head[:-1]))
    with pytest.raises(DecodeError):
        encode_head(Kind.HEADER, [b"short"])
    with pytest.raises(DecodeError):
        encode_head(Kind.SEGMENT, [bytes(KINDS[Kind.SEGMENT].limit + 1)])


def test_payloads_are_canonical_whole_and_without_trailing_bytes() -> None:
    data = encode_payload(DEATHS)
    assert decode_payload(data, DeathsRecord) == DEATHS
    for broken in (data[:-1], data + b"\0", b"", b"\xff" * 10, b"\x91" * 5000):
        with pytest.raises(DecodeError):
            decode_payload(broken, DeathsRecord)
    with pytest.raises(DecodeError, match="canonical"):
        decode_payload(data.replace(b"\x01\x02", b"\x01\xcc\x02", 1), DeathsRecord)


@pytest.mark.parametrize(
    "header",
    [
        HeaderRecord("other", REPOSITORY, VAULT, KEY.public, 1),
        HeaderRecord(LABEL, REPOSITORY, VAULT, KEY.public[:31], 1),
    ],
)
def test_a_foreign_repository_header_is_refused(header: HeaderRecord) -> None:
    with pytest.raises(DecodeError):
        decode_payload(encode_payload(header), HeaderRecord)


@pytest.mark.parametrize("plaintext", [b"x", b"ab" * 50_000, bytes(range(256)) * 4096])
def test_the_plain_length_is_read_from_real_seals(plaintext: bytes) -> None:
    sealed = Sealer(make_keys()).seal_segment(SegmentId(b"s" * 16), plaintext)
    assert sealed_plain_length(sealed) == len(plaintext)
    assert sealed_plain_length(sealed[:16], len(sealed)) == len(plaintext)


def test_the_seal_layout_is_the_one_of_transport() -> None:
    assert records._SEALED_HEAD.format == sealing._HEADER.format
    assert sealing.SEGMENT_OVERHEAD == records._SEALED_OVERHEAD
    assert (sealing.MAGIC, sealing.FORMAT, sealing.KIND_SEGMENT) == (b"PLS1", 1, 1)


def test_lies_in_a_sealed_header_are_refused() -> None:
    sealed = Sealer(make_keys()).seal_segment(SegmentId(b"s" * 16), b"random?" + bytes(range(200)))
    for at, value in ((0, 0), (4, 9), (5, 2), (6, 7), (7, 9), (11, 0), (12, 0xFF), (15, 0)):
        broken = bytearray(sealed)
        broken[at] = value
        with pytest.raises(DecodeError):
            sealed_plain_length(bytes(broken))
    for broken_length in (sealed[:96], sealed[:50], b"", sealed + bytes(SEALED_LIMIT)):
        with pytest.raises(DecodeError):
            sealed_plain_length(broken_length)
