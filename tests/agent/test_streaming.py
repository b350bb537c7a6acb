"""Streams: what is read once comes back byte for byte, whatever changed and wherever the budget ends."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agent import reading
from agent.reading import Content
from agent.sources import streaming
from agent.sources.streaming import StreamFile, send_stream_delta
from tests.agent.test_reading import BASE, KEY, VERSION, Wire, mac_of, sums_of
from transport import delta as deltas
from transport.contents import CHUNK_BYTES
from transport.errors import DeltaBudgetError

NEVER = deltas.Budget(floor_s=1e9)


def reader(data: bytes, step: int = 70_001) -> Callable[[int], bytes]:
    """Gives the bytes in uneven pieces, as a pipe does."""
    at = 0

    def read(limit: int) -> bytes:
        nonlocal at
        piece = data[at : at + min(limit, step)]
        at += len(piece)
        return piece

    return read


def standing() -> float:
    return 0.0


def delta(
    data: bytes, base: bytes, wire: Wire, budget: deltas.Budget = NEVER, clock: Callable[[], float] = standing
) -> Content:
    stream = StreamFile(reader(data), len(base))
    return send_stream_delta(stream, VERSION, BASE, sums_of(base), wire.packer, KEY, budget, clock=clock)


def rows(count: int, seed: int, *, without: frozenset[int] = frozenset()) -> bytes:
    """A dump: lines of some 90 bytes, of which the ones in `without` are another's."""
    rng, other = random.Random(seed), random.Random(seed + 1)
    lines = []
    for number in range(count):
        mine, theirs = rng.randbytes(36).hex(), other.randbytes(36).hex()
        lines.append(f"{number}\t{theirs if number in without else mine}\n")
    return "".join(lines).encode()


@pytest.mark.parametrize("size", [1, 65_536, CHUNK_BYTES, 3 * CHUNK_BYTES + 777])
def test_a_whole_stream_has_mac_and_signature(size: int) -> None:
    data = random.Random(size).randbytes(size)
    wire = Wire()
    content = reading.send_whole(
        StreamFile(reader(data), 0), VERSION, wire.packer, KEY, with_signature=True
    )
    assert (content.size, content.mac) == (size, mac_of(data)) and wire.bytes_of(content.draft) == data
    assert content.sums == (sums_of(data) if size >= deltas.MIN_DELTA_BYTES else None)


def test_rows_that_moved_and_changed_cost_little_and_the_next_signature_is_exact() -> None:
    base = rows(60_000, 1)
    new = b"a new first line\n" + rows(60_000, 1, without=frozenset(range(0, 60_000, 6_000))) + b"and a last one\n"
    wire = Wire()
    content = delta(new, base, wire)
    assert wire.bytes_of(content.draft, base) == new and content.mac == mac_of(new)
    assert wire.sent() < 40_000 and content.copied_bytes > len(new) - 40_000
    assert content.sums == sums_of(new)
    assert content.draft is not None and content.draft.base_id == BASE


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("keep", [0, 1_500_000, 3_000_000])
def test_past_the_literal_limit_it_goes_on_whole_from_where_it_stands(share: float, keep: int) -> None:
    rng = random.Random(keep)
    base = rng.randbytes(4_000_000)
    new = base[:keep] + rng.randbytes(2_000_000) + base[keep:] + rng.randbytes(700_000)
    wire = Wire()
    content = delta(new, base, wire, deltas.Budget(floor_s=1e9, literal_share=share, literal_floor_bytes=0))
    assert wire.bytes_of(content.draft, base) == new and content.mac == mac_of(new)
    assert content.sums == sums_of(new)
    assert wire.sent() <= len(new) + 50_000, "something was sent twice"


def ticking(step_s: float) -> Callable[[], float]:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += step_s
        return now

    return clock


def test_out_of_time_it_goes_on_whole() -> None:
    rng = random.Random(9)
    base, new = rng.randbytes(3_000_000), rng.randbytes(3_000_000)
    wire = Wire()
    budget = deltas.Budget(floor_s=3.0, seconds_per_gib=0.0, literal_share=1e9)
    content = delta(new, base, wire, budget, ticking(1.0))
    assert wire.bytes_of(content.draft, base) == new and content.mac == mac_of(new) and content.sums == sums_of(new)


def test_out_of_time_inside_a_copy_it_waits_for_its_end_or_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 2 * CHUNK_BYTES)
    base = random.Random(3).randbytes(12 * CHUNK_BYTES)
    new = base + random.Random(4).randbytes(3 * CHUNK_BYTES)
    wire = Wire()
    # Each read costs a second of librsync's: time is up at the fifth chunk, inside the copy, which ends in time.
    content = delta(new, base, wire, deltas.Budget(5.0, 0.0, 1e9, 0), ticking(0.9))
    assert wire.bytes_of(content.draft, base) == new and content.mac == mac_of(new)
    assert content.copied_bytes >= 11 * CHUNK_BYTES
    monkeypatch.setattr(streaming, "HOPELESS", 1.5)
    with pytest.raises(DeltaBudgetError, match="inside a long copy"):
        delta(new, base, Wire(), deltas.Budget(5.0, 0.0, 1e9, 0), ticking(0.9))


def test_the_time_of_others_is_not_librsyncs() -> None:
    base = rows(30_000, 2)
    waits = 0.0

    def clock() -> float:
        return waits

    def slow(limit: int) -> bytes:
        nonlocal waits
        waits += 1000.0
        return read(limit)

    read = reader(base)
    wire = Wire()
    budget = deltas.Budget(1.0, 0.0, 0.5, 0)
    stream = StreamFile(slow, len(base))
    content = send_stream_delta(stream, VERSION, BASE, sums_of(base), wire.packer, KEY, budget, clock=clock)
    assert content.copied_bytes == len(base) and wire.sent() == 0


def test_a_stream_that_breaks_raises_and_ends_its_thread() -> None:
    base = rows(30_000, 2)

    def broken(limit: int) -> bytes:
        raise OSError("the program died")

    for read in (broken, _after(reader(base), broken, 9)):
        with pytest.raises(OSError, match="died"):
            send_stream_delta(StreamFile(read, len(base)), VERSION, BASE, sums_of(base), Wire().packer, KEY, NEVER)


def _after(first: Callable[[int], bytes], then: Callable[[int], bytes], times: int) -> Callable[[int], bytes]:
    left = times

    def read(limit: int) -> bytes:
        nonlocal left
        left -= 1
        return first(limit) if left >= 0 else then(limit)

    return read
