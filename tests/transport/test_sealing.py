"""Sealed means bound to its place: every flipped byte, truncation, swap or foreign key is a clean error."""

from __future__ import annotations

import os

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import sealing
from transport.errors import SealError
from transport.names import NO_VERSION, ROOT, SEGMENT_LIMIT, PathId, SegmentId, VaultId, VersionId
from transport.sealing import Sealer, rotated, vault_keys
from transport.tree import BatchHeader, EntryRecord

KEY, VAULT = bytes(range(32)), VaultId(b"v" * 16)
ONE, TWO = SegmentId(b"1" * 16), SegmentId(b"2" * 16)


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(vault_keys(KEY, VAULT))


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=200_000), st.integers(1, 50))
def test_segments_round_trip(data: bytes, times: int) -> None:
    data = (data * times)[:SEGMENT_LIMIT]
    sealer = Sealer(vault_keys(KEY, VAULT))
    sealed = sealer.seal_segment(ONE, data)
    assert sealer.open_segment(ONE, sealed) == data
    assert len(sealed) <= len(data) + sealing.SEGMENT_OVERHEAD


def test_compression_only_where_it_pays(sealer: Sealer) -> None:
    assert len(sealer.seal_segment(ONE, bytes(SEGMENT_LIMIT))) < 1000
    noise = os.urandom(SEGMENT_LIMIT)
    assert len(sealer.seal_segment(ONE, noise)) == SEGMENT_LIMIT + sealing.SEGMENT_OVERHEAD
    half = os.urandom(SEGMENT_LIMIT // 2) + bytes(SEGMENT_LIMIT // 2)
    assert len(sealer.seal_segment(ONE, half)) < 0.6 * SEGMENT_LIMIT


def test_every_flipped_byte_and_every_length_is_refused(sealer: Sealer) -> None:
    sealed = sealer.seal_segment(ONE, b"some plaintext, short enough to try every byte")
    for at in range(len(sealed)):
        with pytest.raises(SealError):
            sealer.open_segment(ONE, sealed[:at] + bytes([sealed[at] ^ 0x41]) + sealed[at + 1 :])
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            sealer.open_segment(ONE, sealed[:length])
    with pytest.raises(SealError):
        sealer.open_segment(ONE, sealed + b"x")


def test_a_segment_opens_only_in_its_place_vault_and_key(sealer: Sealer) -> None:
    sealed = sealer.seal_segment(ONE, b"data")
    with pytest.raises(SealError, match="altered or belongs elsewhere"):
        sealer.open_segment(TWO, sealed)
    with pytest.raises(SealError, match="another key"):
        Sealer(vault_keys(KEY, VaultId(b"w" * 16))).open_segment(ONE, sealed)
    with pytest.raises(SealError, match="another key"):
        Sealer(vault_keys(bytes(32), VAULT)).open_segment(ONE, sealed)


def test_a_later_epoch_opens_earlier_segments_and_not_the_reverse() -> None:
    keyring = rotated(KEY)
    first, second = Sealer(vault_keys(KEY, VAULT)), Sealer(vault_keys(keyring, VAULT))
    assert (first.keys.epoch, second.keys.epoch) == (1, 2)
    assert second.open_segment(ONE, first.seal_segment(ONE, b"old")) == b"old"
    assert second.keys.path == first.keys.path and second.keys.content == first.keys.content
    with pytest.raises(SealError, match="epoch 2"):
        first.open_segment(ONE, second.seal_segment(ONE, b"new"))


def test_a_new_epoch_does_not_follow_from_the_machine_key() -> None:
    one, other = rotated(KEY), rotated(KEY)
    sealed = Sealer(vault_keys(one, VAULT)).seal_segment(ONE, b"new")
    with pytest.raises(SealError, match="another key"):
        Sealer(vault_keys(other, VAULT)).open_segment(ONE, sealed)


def test_a_keyring_has_whole_keys_and_an_end() -> None:
    for wrong in (b"", bytes(31), bytes(33), bytes(32 * 65)):
        with pytest.raises(SealError, match="bytes long"):
            vault_keys(wrong, VAULT)
    with pytest.raises(SealError, match="63 times"):
        rotated(bytes(32 * 64))


def test_decompression_is_capped_by_the_authenticated_length(sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    monkeypatch.setattr(sealing, "_compress", lambda data: bomb)
    sealed = sealer.seal_segment(ONE, b"x" * 1000)
    with pytest.raises(SealError, match="another length"):
        sealer.open_segment(ONE, sealed)


def test_two_seals_of_one_plaintext_share_nothing(sealer: Sealer) -> None:
    a, b = sealer.seal_segment(ONE, b"same"), sealer.seal_segment(ONE, b"same")
    assert a[16:] != b[16:] and a[16:48] != b[16:48]


def entry(path: bytes = b"p" * 16, size: int = 5) -> EntryRecord:
    return EntryRecord(PathId(path), ROOT, 0, size, VersionId(b"V" * 16), 0, b"")


def test_entries_are_bound_to_every_clear_field(sealer: Sealer) -> None:
    batch = sealer.seal_entries()
    first, second = batch.seal(entry(), b"meta one"), batch.seal(entry(b"q" * 16), b"meta two")
    opener = sealer.entry_opener(batch.header)
    assert opener.open(first) == b"meta one" and opener.open(second) == b"meta two"
    fields = {
        "path_id": b"x" * 16,
        "parent_id": b"x" * 16,
        "kind": 1,
        "size": 6,
        "version_id": NO_VERSION,
        "index": 1,
        "sealed": second.sealed,
    }
    for name, value in fields.items():
        altered = EntryRecord(**{**{f: getattr(first, f) for f in first.__struct_fields__}, name: value})
        with pytest.raises(SealError):
            opener.open(altered)
        if name != "index":
            assert altered.token() != first.token()


def test_entry_batches_know_their_key(sealer: Sealer) -> None:
    header = sealer.seal_entries().header
    with pytest.raises(SealError, match="another key"):
        Sealer(vault_keys(bytes(32), VAULT)).entry_opener(header)
    with pytest.raises(SealError, match="lengths"):
        sealer.entry_opener(BatchHeader(1, b"short", header.commitment))


def test_a_batch_never_reuses_a_nonce(sealer: Sealer) -> None:
    batch = sealer.seal_entries()
    indexes = [batch.seal(entry(), b"").index for _ in range(batch.LIMIT)]
    assert indexes == list(range(batch.LIMIT))
    with pytest.raises(SealError):
        batch.seal(entry(), b"")


def test_keys_never_show_themselves() -> None:
    assert KEY.hex() not in repr(vault_keys(KEY, VAULT)) and "_machine" not in repr(vault_keys(KEY, VAULT))
