"""Reading: the bytes that a draft describes are the file's, whatever the budget, holes and edits."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from agent import differing, reading
from agent.packing import Outgoing, Packer, SealedSegment, VersionBatch, VersionDraft
from agent.reading import Content, SourceFile
from agent.signatures import FileSums, Signatures
from transport import delta as deltas
from transport.contents import CHUNK_BYTES, LEAF_BYTES, chunk_digest, file_mac, leaf_digests
from transport.extents import Copy, Fragment, VersionRecord, Zero, decode_operations
from transport.names import NO_VERSION, VaultId, VersionId
from transport.sealing import Sealer, vault_keys

SEALER = Sealer(vault_keys(bytes(32), VaultId(b"v" * 16)))
KEY = SEALER.keys.content
VERSION, BASE = VersionId(b"n" * 16), VersionId(b"b" * 16)


class Wire:
    """Takes what a packer emits and plays the appliance: gives back the bytes of a version."""

    def __init__(self) -> None:
        self.items: list[SealedSegment | VersionRecord] = []
        self.packer = Packer(SEALER, self._take, lambda digest, length: None)

    def _take(self, item: Outgoing) -> None:
        self.items.extend(item.records if isinstance(item, VersionBatch) else [item])

    def bytes_of(self, draft: VersionDraft | None, base: bytes = b"") -> bytes:
        assert draft is not None
        self.packer.finish(draft)
        self.packer.flush()
        segments = {
            item.segment_id: SEALER.open_segment(item.segment_id, item.sealed)
            for item in self.items
            if isinstance(item, SealedSegment)
        }
        out = bytearray()
        records = [item for item in self.items if isinstance(item, VersionRecord)]
        for record in records:
            base_size = len(base) if record.base_id != NO_VERSION else None
            for op in decode_operations(record.operations, size=record.size, base_size=base_size, partial=True):
                if isinstance(op, Copy):
                    out += base[op.offset : op.offset + op.length]
                elif isinstance(op, Fragment):
                    out += segments[op.segment][op.offset : op.offset + op.length]
                else:
                    out += bytes(op.length)
        return bytes(out)

    def sent(self) -> int:
        return sum(len(item.sealed) for item in self.items if isinstance(item, SealedSegment))


def mac_of(data: bytes) -> bytes:
    digests = [chunk_digest(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
    return file_mac(KEY, len(data), digests)


def whole(path: Path, wire: Wire) -> Content:
    with SourceFile(os.fsencode(path)) as file:
        return reading.send_whole(file, VERSION, wire.packer, KEY, with_signature=True)


def changed(path: Path, wire: Wire, base: bytes, budget: deltas.Budget = deltas.Budget()) -> Content:  # noqa: B008
    with SourceFile(os.fsencode(path)) as file:
        return differing.send_delta(file, VERSION, BASE, sums_of(base), wire.packer, KEY, budget)


def sums_of(data: bytes) -> FileSums:
    leaves = b"".join(leaf_digests(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES))
    return FileSums(len(data), leaves, reading.signature_of(data))


@pytest.mark.parametrize("size", [0, 1, 65_536, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 777])
def test_whole_files_come_back_with_mac_and_signature(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    wire = Wire()
    content = whole(tmp_path / "f", wire)
    assert (content.size, content.mac, content.changed) == (size, mac_of(data), False)
    assert wire.bytes_of(content.draft) == data
    assert content.sums == (sums_of(data) if size >= deltas.MIN_DELTA_BYTES else None)


def test_holes_are_neither_read_nor_sent(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
        file.seek(20 << 20)
        file.write(b"x" * 5000)
    with SourceFile(os.fsencode(path)) as source:
        wire = Wire()
        content = reading.send_whole(source, VERSION, wire.packer, KEY, with_signature=False)
        if source.status.st_blocks * 512 < source.size:
            assert source.bytes_read <= 2 * CHUNK_BYTES
    assert wire.bytes_of(content.draft) == path.read_bytes() and wire.sent() < 10_000
    assert content.mac == mac_of(path.read_bytes())


def test_a_scattered_edit_sends_blocks_and_keeps_an_exact_signature(tmp_path: Path) -> None:
    rng = random.Random(5)
    base = rng.randbytes(5_000_000)
    new = bytearray(base)
    for _ in range(10):
        at = rng.randrange(len(new))
        new[at : at + 50] = rng.randbytes(50)
    new[1_000_000:1_000_000] = b"inserted"
    (tmp_path / "f").write_bytes(new)
    wire = Wire()
    content = changed(tmp_path / "f", wire, base)
    assert wire.bytes_of(content.draft, base) == new and content.mac == mac_of(bytes(new))
    assert wire.sent() < 30_000 and content.literal_bytes < 30_000
    assert content.sums == sums_of(bytes(new))


@pytest.mark.parametrize(
    "budget",
    [
        deltas.Budget(literal_share=0.1, literal_floor_bytes=0),
        deltas.Budget(literal_share=0.5, literal_floor_bytes=100_000),
        deltas.Budget(floor_s=-1.0, seconds_per_gib=0.0),
    ],
)
@pytest.mark.parametrize("keep", [0, 1_500_000, 3_000_000])
def test_beyond_the_budget_the_rest_goes_whole_and_nothing_twice(
    tmp_path: Path, budget: deltas.Budget, keep: int
) -> None:
    rng = random.Random(keep)
    base = rng.randbytes(4_000_000)
    new = base[:keep] + rng.randbytes(4_500_000 - keep)
    (tmp_path / "f").write_bytes(new)
    wire = Wire()
    content = changed(tmp_path / "f", wire, base, budget)
    assert wire.bytes_of(content.draft, base) == new and content.mac == mac_of(new)
    assert wire.sent() <= len(new) + 10_000
    assert content.sums == sums_of(new)


def test_a_growing_file_gives_a_clean_prefix_and_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 100_000)
    with SourceFile(os.fsencode(path)) as file:
        with open(path, "ab") as more:
            more.write(b"b" * 50_000)
        wire = Wire()
        content = reading.send_whole(file, VERSION, wire.packer, KEY, with_signature=True)
    assert content.size == 100_000 and content.changed
    assert wire.bytes_of(content.draft) == b"a" * 100_000


def test_a_shrunk_file_gives_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * (CHUNK_BYTES + 500))
    with SourceFile(os.fsencode(path)) as file:
        os.truncate(path, 1000)
        wire = Wire()
        content = reading.send_whole(file, VERSION, wire.packer, KEY, with_signature=True)
    assert content.size == 1000 and content.changed and wire.bytes_of(content.draft) == b"a" * 1000


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError):
        SourceFile(os.fsencode(tmp_path / "link"))


def test_zero_chunks_are_known() -> None:
    assert reading.is_zero(bytes(10)) and reading.is_zero(bytes(CHUNK_BYTES))
    assert not reading.is_zero(b"\0\1\0") and not reading.is_zero(b"")
    assert decode_operations(b"", size=0, base_size=None) == []
    assert Zero(1).length == 1


@pytest.mark.parametrize("edit", ["none", "middle", "ends", "insert", "cut", "grow", "zeros", "swap"])
def test_every_kind_of_edit_over_leaf_borders(tmp_path: Path, edit: str) -> None:
    rng = random.Random(edit)
    base = rng.randbytes(11 * LEAF_BYTES + 4321)
    match edit:
        case "none":
            new = base
        case "middle":
            new = base[: 3 * LEAF_BYTES - 7] + b"y" * 14 + base[3 * LEAF_BYTES + 7 :]
        case "ends":
            new = b"a" + base[1:-1] + b"z"
        case "insert":
            new = base[:400_000] + b"some more" + base[400_000:]
        case "cut":
            new = base[:200_000] + base[900_000:]
        case "grow":
            new = base + rng.randbytes(2 * CHUNK_BYTES)
        case "zeros":
            new = base[: 2 * LEAF_BYTES] + bytes(3 * LEAF_BYTES) + base[5 * LEAF_BYTES :]
        case _:
            new = base[5 * LEAF_BYTES : 7 * LEAF_BYTES] + base[2 * LEAF_BYTES :]
    (tmp_path / "f").write_bytes(new)
    wire = Wire()
    content = changed(tmp_path / "f", wire, base)
    assert content.mac == mac_of(new) and content.sums == sums_of(new)
    assert wire.bytes_of(content.draft, base) == new
    limit = {"grow": 2 * CHUNK_BYTES + 20_000, "zeros": 6 * LEAF_BYTES}.get(edit, 20_000)
    assert wire.sent() < limit
    if edit == "none":
        assert content.literal_bytes == 0 and content.copied_bytes == len(base)


def test_kept_sums_come_back_and_damaged_ones_do_not(tmp_path: Path) -> None:
    signatures = Signatures(tmp_path)
    sums = sums_of(random.Random(1).randbytes(300_000))
    signatures.write(VERSION, sums)
    with signatures.mapped(VERSION) as found:
        assert found is not None and (found.size, bytes(found.leaves), bytes(found.signature)) == (
            sums.size,
            sums.leaves,
            sums.signature,
        )
        del found
    good = signatures.path(VERSION).read_bytes()
    signatures.write(BASE, FileSums(sums.size, sums.leaves, b""))
    with signatures.mapped(BASE) as found:
        assert found is not None and found.signature == b"" and bytes(found.leaves) == sums.leaves
        del found
    signatures.path(BASE).unlink()
    for bad in (b"", good[:10], good[:-1], b"X" + good[1:], good[:-36]):
        signatures.path(VERSION).write_bytes(bad)
        with signatures.mapped(VERSION) as found:
            assert found is None
    with signatures.mapped(BASE) as found:
        assert found is None


def test_a_photo_sends_only_the_leaves_that_changed(tmp_path: Path) -> None:
    assert reading.worth_signing(b"/a/base.db") and reading.worth_signing(b"/a/noext")
    assert not reading.worth_signing(b"/a/scan-1.JPG")
    rng = random.Random(9)
    base = rng.randbytes(9 * LEAF_BYTES + 99)
    new = base[: LEAF_BYTES + 5] + b"!" + base[LEAF_BYTES + 6 :] + b"more"
    (tmp_path / "f").write_bytes(new)
    sums = FileSums(len(base), sums_of(base).leaves, b"")
    wire = Wire()
    with SourceFile(os.fsencode(tmp_path / "f")) as file:
        content = differing.send_delta(file, VERSION, BASE, sums, wire.packer, KEY, deltas.Budget())
    assert wire.bytes_of(content.draft, base) == new and content.mac == mac_of(new)
    assert content.literal_bytes == LEAF_BYTES + 99 + 4
    assert content.sums == FileSums(len(new), sums_of(new).leaves, b"")


@pytest.mark.parametrize("size", [0, 1, 5000, CHUNK_BYTES])
def test_a_small_file_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.Random(size).randbytes(size))
    read = reading.read_small(os.fsencode(path))
    assert read is not None
    assert (read.content, read.changed, read.ctime_ns) == (path.read_bytes(), False, path.stat().st_ctime_ns)


def test_a_file_that_grew_beyond_a_chunk_is_a_reader_s(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(CHUNK_BYTES + 1))
    assert reading.read_small(os.fsencode(tmp_path / "file")) is None


def test_short_reads_of_a_small_file_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(range(200)))
    real = os.read
    monkeypatch.setattr(reading.os, "read", lambda descriptor, size: real(descriptor, min(size, 7)))
    read = reading.read_small(os.fsencode(tmp_path / "file"))
    assert read is not None and (read.content, read.changed) == (bytes(range(200)), False)


@pytest.mark.parametrize("size", [50, 300])
def test_a_small_file_written_to_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))
    real = os.read

    def meddling(descriptor: int, wanted: int) -> bytes:
        path.write_bytes(bytes(size))
        return real(descriptor, wanted)

    monkeypatch.setattr(reading.os, "read", meddling)
    read = reading.read_small(os.fsencode(path))
    assert read is not None and read.changed and len(read.content) == min(size, 200)
