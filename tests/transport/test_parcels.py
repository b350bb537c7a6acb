"""Parcels: what one machine's selection becomes for another, round trips, and whatever no writer makes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import IntegrityError, SealError
from transport.escrow import EscrowKey, EscrowPublic
from transport.keys import SigningKey, verify_receiving
from transport.names import SEGMENT_LIMIT, RepositoryId, VaultId
from transport.parcels import (
    ENTRY_LIMIT,
    Entry,
    ParcelReader,
    ParcelWriter,
    Wrapping,
    chunk_id,
    chunk_number,
    new_parcel,
    opened_parcel,
)
from transport.tree import FileType

MACHINE = RepositoryId(b"R" * 16)


def file(name: bytes, size: int) -> Entry:
    return Entry([b"srv", name], FileType.FILE, size, 0o644, 7, b"", [(b"user.a", b"1")])


def written(files: Sequence[tuple[bytes, bytes, bool]]) -> list[bytes]:
    """The chunks of a parcel with one folder and these files."""
    chunks: list[bytes] = []
    writer = ParcelWriter(chunks.append)
    writer.entry(Entry([b"srv"], FileType.FOLDER, 0, 0o755, 5, b"", []))
    for name, content, proved in files:
        assert writer.entry(file(name, len(content)))
        writer.content(content)
        writer.verdict(proved)
    writer.end()
    return chunks


def read(chunks: list[bytes]) -> list[tuple[bytes, bytes, bool]]:
    reader = ParcelReader(chunks)
    found = []
    while (entry := reader.next()) is not None:
        if entry.type == FileType.FILE:
            content = b"".join(reader.content(entry))
            found.append((entry.names[-1], content, reader.verdict()))
    return found


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=2000), st.booleans()), max_size=8))
def test_what_is_written_is_read(files: list[tuple[bytes, bytes, bool]]) -> None:
    assert read(written(files)) == files


def test_large_files_come_in_chunks_of_a_segment() -> None:
    content = bytes(range(256)) * 4096 * 3
    chunks = written([(b"large", content, True), (b"after", b"x", True)])
    assert [len(chunk) for chunk in chunks[:-1]] == [SEGMENT_LIMIT] * (len(chunks) - 1)
    assert read(chunks) == [(b"large", content, True), (b"after", b"x", True)]


def test_cut_extended_and_altered_streams_are_noticed() -> None:
    whole = b"".join(written([(b"a", b"content", True), (b"b", b"", True)]))
    for end in range(len(whole)):
        with pytest.raises(IntegrityError):
            read([whole[:end]] if end else [])
    with pytest.raises(IntegrityError):
        read([whole + b"\0"])
    with pytest.raises(IntegrityError):
        read([whole, b"more"])
    for at in range(4):
        with pytest.raises(IntegrityError):
            read([whole[:at] + b"\xff" + whole[at + 1 :]])


def test_an_entry_that_is_too_long_is_neither_written_nor_read() -> None:
    chunks: list[bytes] = []
    writer = ParcelWriter(chunks.append)
    long = Entry([b"n"], FileType.SYMLINK, 0, 0, 0, b"t", [(b"user.x", bytes(ENTRY_LIMIT))])
    assert not writer.entry(long)
    writer.end()
    assert read(chunks) == []
    with pytest.raises(IntegrityError, match="over"):
        read([(ENTRY_LIMIT + 1).to_bytes(4, "big") + bytes(ENTRY_LIMIT + 1)])


def test_only_the_receiving_machines_key_opens_it_and_each_chunk_in_its_place() -> None:
    key, other = EscrowKey.generate(), EscrowKey.generate()
    sealer, wrapping = new_parcel(key.public, MACHINE)
    first, second = sealer.seal_segment(chunk_id(1), b"one"), sealer.seal_segment(chunk_id(2), b"two")
    opened = opened_parcel(key, wrapping, MACHINE)
    assert opened.open_segment(chunk_id(1), first) == b"one" and chunk_number(chunk_id(2)) == 2
    for number, sealed in ((2, first), (1, second), (1, first[:-1]), (1, b"\0" + first[1:])):
        with pytest.raises(SealError):
            opened.open_segment(chunk_id(number), sealed)
    another, _ = new_parcel(key.public, MACHINE)
    with pytest.raises(SealError):
        opened.open_segment(chunk_id(1), another.seal_segment(chunk_id(1), b"of another parcel"))
    for wrong in (
        lambda: opened_parcel(other, wrapping, MACHINE),
        lambda: opened_parcel(key, wrapping, RepositoryId(b"S" * 16)),
        lambda: opened_parcel(key, Wrapping(wrapping.envelope, VaultId(b"v" * 16)), MACHINE),
        lambda: opened_parcel(key, Wrapping(wrapping.envelope[:-1], wrapping.vault), MACHINE),
        lambda: new_parcel(EscrowPublic(b"short"), MACHINE),
    ):
        with pytest.raises(SealError):
            wrong()


def test_a_receiving_key_is_its_machines_and_its_deliverys() -> None:
    signing, other = SigningKey(bytes(range(32))), SigningKey(bytes(range(1, 33)))
    signature = signing.sign_receiving(MACHINE, 3, b"key")
    verify_receiving(signing.public, signature, MACHINE, 3, b"key")
    for public, machine, number, key in (
        (other.public, MACHINE, 3, b"key"),
        (signing.public, b"S" * 16, 3, b"key"),
        (signing.public, MACHINE, 4, b"key"),
        (signing.public, MACHINE, 3, b"kez"),
    ):
        with pytest.raises(IntegrityError):
            verify_receiving(public, signature, machine, number, key)
