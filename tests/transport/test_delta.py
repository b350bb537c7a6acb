"""Deltas against real librsync: every edit of every file comes back, signatures carry over, rdiff agrees."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport import delta as deltas
from transport import librsync
from transport.contents import CHUNK_BYTES, LEAF_BYTES
from transport.errors import DeltaBudgetError, LibrsyncError

BACKENDS = [librsync.WheelLibrary, librsync.SystemLibrary]


def _library(kind: type) -> librsync.Library:
    try:
        return kind()
    except (ImportError, LibrsyncError) as error:
        pytest.skip(f"{kind.__name__} is not here: {error}")


class Collected:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


def signature_of(data: bytes, block: int, library: librsync.Library | None = None) -> bytes:
    sink = Collected()
    (library or librsync.library()).signature(deltas.BytesSource(data), sink, block)
    return bytes(sink.data)


def delta_stream(new: bytes, signature: bytes, library: librsync.Library | None = None) -> bytes:
    sink = Collected()
    (library or librsync.library()).delta(deltas.BytesSource(new), deltas.BytesSource(signature), sink)
    return bytes(sink.data)


def applied(base: bytes, stream: bytes, step: int = 0) -> tuple[bytes, deltas.PlacedCopies]:
    out = bytearray()
    placed = deltas.PlacedCopies()

    def copy(offset: int, length: int) -> None:
        placed.copies.append((len(out), deltas.Copy(offset, length)))
        out.extend(base[offset : offset + length])

    parser = deltas.DeltaParser(copy, out.extend, len(base))
    for at in range(0, len(stream), step or max(1, len(stream))):
        parser.write(stream[at : at + (step or len(stream))])
    parser.close()
    return bytes(out), placed


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes]:
    rng = random.Random(draw(st.integers(0, 2**32)))
    base = rng.randbytes(draw(st.integers(0, 40_000)))
    new = bytearray(base)
    for _ in range(draw(st.integers(0, 6))):
        at = rng.randrange(len(new) + 1)
        match draw(st.sampled_from(["insert", "delete", "change", "move", "append", "zeros"])):
            case "insert":
                new[at:at] = rng.randbytes(rng.randrange(300))
            case "delete":
                del new[at : at + rng.randrange(5000)]
            case "change":
                new[at : at + 200] = rng.randbytes(min(200, len(new) - at))
            case "move":
                piece = new[at : at + 4096]
                del new[at : at + 4096]
                new[0:0] = piece
            case "append":
                new += rng.randbytes(rng.randrange(3000))
            case "zeros":
                new[at:at] = bytes(rng.randrange(4000))
    return base, bytes(new)


@settings(max_examples=60, deadline=None)
@given(edited(), st.sampled_from([1024, 2048]), st.sampled_from([0, 1, 7, 1000]))
def test_any_edit_comes_back(pair: tuple[bytes, bytes], block: int, step: int) -> None:
    base, new = pair
    stream = delta_stream(new, signature_of(base, block))
    assert applied(base, stream, step)[0] == new


@settings(max_examples=60, deadline=None)
@given(edited(), st.sampled_from([1024, 2048]))
def test_carried_signature_equals_signing_again(pair: tuple[bytes, bytes], block: int) -> None:
    base, new = pair
    old = signature_of(base, block)
    _, placed = applied(base, delta_stream(new, old))
    carried = deltas.carried_signature(
        deltas.SignatureBytes(old),
        len(base),
        placed,
        len(new),
        LEAF_BYTES,
        lambda index, data: data == new[index * LEAF_BYTES : (index + 1) * LEAF_BYTES],
        lambda index: new[index * LEAF_BYTES : (index + 1) * LEAF_BYTES],
    )
    assert bytes(carried) == signature_of(new, block)


def test_blocks_that_changed_under_us_match_nothing() -> None:
    base = random.Random(1).randbytes(300_000)
    new = base[:1000] + b"x" * 500 + base[1500:]
    old = signature_of(base, 1024)
    _, placed = applied(base, delta_stream(new, old))
    changed = b"y" * len(new)
    carried = bytes(
        deltas.carried_signature(
            deltas.SignatureBytes(old), len(base), placed, len(new), CHUNK_BYTES, lambda *_: False, lambda _: changed
        )
    )
    truth = signature_of(new, 1024)
    entry, header = librsync.BLOCK_SUM_BYTES, librsync.SIGNATURE_HEADER_BYTES
    differing = [
        i
        for i in range((len(truth) - header) // entry)
        if carried[header + i * entry :][:entry] != truth[header + i * entry :][:entry]
    ]
    assert differing == [0, 1]
    assert applied(new, delta_stream(new, carried))[0] == new


@pytest.mark.parametrize("kind", BACKENDS)
def test_both_ways_to_librsync_agree(kind: type) -> None:
    library = _library(kind)
    rng = random.Random(2)
    base = rng.randbytes(1_500_000)
    new = base[:700_000] + b"inserted" + base[700_000:1_400_000] + rng.randbytes(5000)
    signature = signature_of(base, 2048, library)
    assert signature == signature_of(base, 2048)
    assert applied(base, delta_stream(new, signature, library))[0] == new
    assert deltas.SignatureBytes(signature).blocks == -(-len(base) // 2048)


@pytest.mark.skipif(shutil.which("rdiff") is None, reason="Debian's rdiff is not installed")
def test_rdiff_takes_our_signatures_and_deltas_and_we_take_its(tmp_path: Path) -> None:
    rng = random.Random(3)
    base = rng.randbytes(400_000)
    new = base[:100_000] + rng.randbytes(70) + base[100_000:]
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "new").write_bytes(new)

    def rdiff(*arguments: str) -> None:
        subprocess.run(["rdiff", *arguments], cwd=tmp_path, check=True, timeout=60)

    (tmp_path / "our.sig").write_bytes(signature_of(base, 1024))
    rdiff("delta", "our.sig", "new", "their.delta")
    assert applied(base, (tmp_path / "their.delta").read_bytes())[0] == new
    rdiff("-b", "1024", "-S", "32", "-R", "rollsum", "-H", "blake2", "signature", "base", "roll.sig")
    rdiff("-b", "1024", "-S", "32", "signature", "base", "their.sig")
    assert (tmp_path / "their.sig").read_bytes() == (tmp_path / "our.sig").read_bytes()
    (tmp_path / "our.delta").write_bytes(delta_stream(new, (tmp_path / "their.sig").read_bytes()))
    rdiff("patch", "base", "our.delta", "patched")
    assert (tmp_path / "patched").read_bytes() == new


def test_time_budget_ends_a_delta() -> None:
    clock = iter(range(100))
    source = deltas.BudgetedSource(deltas.BytesSource(bytes(2_000_000)), 3.0, lambda: float(next(clock)))
    signature = signature_of(bytes(1000), 1024)
    with pytest.raises(DeltaBudgetError):
        librsync.library().delta(source, deltas.BytesSource(signature), Collected())


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"rs\x026\x45\x00\x07", "copy out of bounds"),
        (b"rs\x026\x45\x00\x00", "copy out of bounds"),
        (b"rs\x026\xff", "unknown delta command"),
        (b"rs\x026\x00\x01", "goes on after its end"),
        (b"rs\x01\x36\x00", "begins with"),
        (b"rs\x026\x05abc", "ended early"),
        (b"rs\x026", "ended early"),
        (b"rs\x026\x41", "ended early"),
    ],
)
def test_delta_streams_that_are_none(stream: bytes, reason: str) -> None:
    for step in (1, len(stream)):
        with pytest.raises(LibrsyncError, match=reason):
            applied(b"base12", stream, step)


def test_signatures_that_are_none() -> None:
    good = signature_of(b"x" * 5000, 1024)
    for bad in (b"", good[:11], good[:-1], good + b"1", b"rs\x016" + good[4:]):
        with pytest.raises(LibrsyncError):
            deltas.SignatureBytes(bad)


def test_block_length_grows_with_the_file() -> None:
    assert deltas.block_bytes_for(1 << 20) == 1024
    assert deltas.block_bytes_for(1 << 30) == 2048
    assert deltas.block_bytes_for(4 << 30) == 4096
    for size in (1 << 30, 1 << 36, 1 << 40):
        assert size <= deltas.block_bytes_for(size) * deltas.BLOCKS_LIMIT
    assert deltas.block_bytes_for(1 << 50) == CHUNK_BYTES
