"""A prepared MAC is the MAC: held against the standard library's, and so are those made of it."""

from __future__ import annotations

import hmac
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.contents import CHUNK_BYTES, chunk_digest, file_mac, small_file_macs
from transport.names import ID_BYTES, random_ids
from transport.prepared_mac import prepared_mac


@given(key=st.binary(max_size=64), messages=st.lists(st.binary(max_size=300), max_size=5))
def test_it_is_hmac_sha256(key: bytes, messages: list[bytes]) -> None:
    mac = prepared_mac(key)
    assert [mac(message) for message in messages] == [hmac.digest(key, message, "sha256") for message in messages]


def test_a_longer_key_is_refused() -> None:
    with pytest.raises(ValueError, match="65 bytes"):
        prepared_mac(bytes(65))


@given(key=st.binary(min_size=32, max_size=32), content=st.binary(max_size=2000))
def test_a_small_file_has_the_mac_of_any_file(key: bytes, content: bytes) -> None:
    digests = [chunk_digest(content)] if content else []
    assert small_file_macs(key)(len(content), b"".join(digests)) == file_mac(key, len(content), digests)


@pytest.mark.parametrize(("size", "digest"), [(0, bytes(32)), (1, b""), (1, bytes(31)), (CHUNK_BYTES + 1, bytes(32))])
def test_a_small_file_has_one_digest_or_none(size: int, digest: bytes) -> None:
    with pytest.raises(ValueError, match="in one chunk"):
        small_file_macs(bytes(32))(size, digest)


def test_threads_share_a_prepared_key() -> None:
    mac = prepared_mac(b"k" * 32)
    wrong: list[int] = []

    def many() -> None:
        for number in range(5000):
            message = number.to_bytes(4, "big")
            if mac(message) != hmac.digest(b"k" * 32, message, "sha256"):
                wrong.append(number)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_ids_are_new_each_time() -> None:
    ids = list(itertools.islice(random_ids(), 2000))
    assert len(set(ids)) == len(ids) and {len(one) for one in ids} == {ID_BYTES}
    assert set(itertools.islice(random_ids(), 2000)).isdisjoint(ids)
