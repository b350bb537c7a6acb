"""What a backup is asked to send again: wishes that free most for least, and damage first."""

from __future__ import annotations

import random
from pathlib import Path

from appliance.store.care import SegmentUse, Wish, plan_wishes
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.retire import retire
from appliance.store.upkeep.sweep import sweep
from appliance.store.upkeep.wishing import note_wishes
from tests.appliance.store_builder import Client, make_repository
from transport.names import ZERO_SEGMENT, SegmentId, VersionId

NOW_MS = 1_700_000_000_000
MIB = 1 << 20


def segment(number: int) -> SegmentId:
    return SegmentId(bytes([number]) * 16)


def version(number: int) -> VersionId:
    return VersionId(bytes([128 + number]) * 16)


def test_what_frees_most_comes_first_within_the_budget() -> None:
    uses = [
        SegmentUse(segment(1), MIB, 300_000, 1_000_000),
        SegmentUse(segment(2), MIB, 10_000, 1_000_000),
        SegmentUse(segment(3), MIB, 900_000, 1_000_000),
    ]
    parts = {
        segment(1): [Wish(version(1), 0, 300_000)],
        segment(2): [Wish(version(2), 50_000, 10_000)],
        segment(3): [Wish(version(3), 0, 900_000)],
    }
    both = [Wish(version(1), 0, 300_000), Wish(version(2), 50_000, 10_000)]
    assert plan_wishes(uses, parts, [], budget_bytes=MIB) == both
    assert plan_wishes(uses, parts, [], budget_bytes=100_000) == [Wish(version(2), 50_000, 10_000)]
    assert plan_wishes(uses, {}, [], budget_bytes=MIB) == [], "what no present file uses waits for its snapshots"


def test_neighbours_become_one_wish() -> None:
    long_lists = [Wish(version(1), at, length) for at, length in ((0, 100), (100, 50), (120, 100))]
    long_lists.append(Wish(version(2), 0, 7))
    assert plan_wishes([], {}, long_lists) == [Wish(version(1), 0, 220), Wish(version(2), 0, 7)]


def test_a_prune_wishes_for_what_keeps_a_dead_segment_alive(tmp_path: Path) -> None:
    """A file rewritten but for one corner, and documents that shared a segment of which one is left."""
    folder = tmp_path / "r"
    noise = random.Random(4)
    client = Client(make_repository(folder))
    client.begin()
    base = client.put_file((b"big",), noise.randbytes(MIB))
    client.commit()
    client.begin()
    fresh, items = client.delta(base, [noise.randbytes(900_000), (900_000, MIB - 900_000)])
    client.stage(*items, client.entries(client.entry((b"big",), fresh)))
    client.commit()
    client.begin()
    client.repository.close()
    with Access(folder, reserve_bytes=0) as access:
        assert note_wishes(access) == 0, "the first snapshot still needs the whole of it"
        with access.turn() as repository:
            retire(repository, frozenset({1}), now_ms=NOW_MS)
        sweep(access)
        assert note_wishes(access) == MIB - 900_000
        with access.turn() as repository:
            (wish,) = repository.care()
            assert (wish.version, wish.offset, wish.length) == (fresh, 900_000, MIB - 900_000)
            assert wish.segment == ZERO_SEGMENT
            client.repository = repository
            client.begin()
            client.put_file((b"big",), b"another content altogether")
            client.commit()
            assert repository.care() == [], "the version is not present any more"


def test_a_scattered_file_is_to_be_laid_out_anew(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    noise = random.Random(5)
    client = Client(make_repository(folder))
    client.begin()
    content = noise.randbytes(4 * MIB)
    base = client.put_file((b"db",), content)
    client.commit()
    client.begin()
    parts: list[bytes | tuple[int, int] | int] = []
    for at in range(0, 4 * MIB, 600):
        length = min(600, 4 * MIB - at)
        parts += [noise.randbytes(100), (at + 100, length - 100)] if length > 100 else [(at, length)]
    fresh, items = client.delta(base, parts)
    client.stage(*items, client.entries(client.entry((b"db",), fresh)))
    client.commit()
    client.repository.close()
    with Access(folder, reserve_bytes=0) as access:
        assert note_wishes(access, budget_bytes=MIB) == MIB
        with access.turn() as repository:
            assert sum(wish.length for wish in repository.care()) == MIB
