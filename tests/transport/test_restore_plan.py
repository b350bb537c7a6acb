"""A plan fetches each segment once, covers each file exactly, and refuses extents that do not make it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.errors import IntegrityError
from transport.extents import Extent, ExtentPage
from transport.names import NO_VERSION, SEGMENT_LIMIT, ZERO_SEGMENT, SegmentId, VersionId
from transport.restore_plan import RestorePlan, WantedFile, plan_restore, versions_to_ask


def segment(n: int) -> SegmentId:
    return SegmentId(b"S" + n.to_bytes(15, "big"))


def version(n: int) -> VersionId:
    return VersionId(b"v" + n.to_bytes(15, "big"))


def pages_of(version_id: VersionId, extents: list[Extent], span: int = 2) -> list[ExtentPage]:
    size = sum(length for _, _, length in extents)
    pages, start = [], 0
    for at in range(0, max(1, len(extents)), span):
        part = extents[at : at + span]
        pages.append(ExtentPage(version_id, size, start, part, at + span < len(extents)))
        start += sum(length for _, _, length in part)
    return pages


def rebuild(plan: RestorePlan, files: list[WantedFile]) -> list[list[Extent | None]]:
    """Each file byte by byte, as (segment, offset) pairs; a byte written twice is an error."""
    result: list[list[object]] = [[None] * file.size for file in files]
    for position, segment_id in enumerate(plan.segments):
        for piece in plan.pieces(position):
            for n in range(piece.length):
                assert result[piece.file][piece.file_offset + n] is None
                result[piece.file][piece.file_offset + n] = (segment_id, piece.segment_offset + n)
    for index in range(len(files)):
        for hole in plan.holes(index):
            for n in range(hole.length):
                assert result[index][hole.offset + n] is None
                result[index][hole.offset + n] = (ZERO_SEGMENT, 0)
    return result  # type: ignore[return-value]


_extent = st.tuples(st.integers(0, 6), st.integers(0, 50), st.integers(1, 9)).map(
    lambda t: (ZERO_SEGMENT, 0, t[2]) if t[0] == 0 else (segment(t[0]), t[1], t[2])
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    versions=st.lists(st.lists(_extent, max_size=8), min_size=1, max_size=6),
    picks=st.lists(st.integers(0, 5), max_size=8),
    span=st.integers(1, 4),
)
def test_every_byte_is_planned_exactly_once(versions: list[list[Extent]], picks: list[int], span: int) -> None:
    sizes = [sum(length for _, _, length in extents) for extents in versions]
    chosen = [pick % len(versions) for pick in picks]
    files = [WantedFile(version(n), sizes[n]) for n in chosen]
    asked = versions_to_ask(files)
    assert len(set(asked)) == len(asked)
    answer = [page for v in asked for page in pages_of(v, versions[v[-1]], span)]
    plan = plan_restore(files, answer)
    assert len(set(plan.segments)) == len(plan.segments)
    expected = [
        [(s, 0) if s == ZERO_SEGMENT else (s, o + n) for s, o, length in versions[v] for n in range(length)]
        for v in chosen
    ]
    assert rebuild(plan, files) == expected
    counted = [0] * len(files)
    for position in range(len(plan.segments)):
        assert plan.pieces(position)
        for piece in plan.pieces(position):
            counted[piece.file] += 1
    assert counted == list(plan.piece_counts) and sum(counted) == plan.piece_total


@settings(max_examples=150, deadline=None, derandomize=True)
@given(extents=st.lists(_extent, min_size=1, max_size=8), seed=st.integers(0, 10_000))
def test_any_change_of_coverage_is_refused(extents: list[Extent], seed: int) -> None:
    rng = random.Random(seed)
    size = sum(length for _, _, length in extents)
    pages = pages_of(version(1), extents)
    at = rng.randrange(len(pages))
    page = pages[at]
    change = rng.choice(["drop", "repeat", "longer", "shorter", "start", "size", "more"])
    if change == "drop":
        del pages[at]
    elif change == "repeat":
        pages.insert(at, page)
    else:
        wrong = list(page.extents)
        step = {"longer": 1, "shorter": -1}.get(change, 0)
        s, o, length = wrong[-1]
        wrong[-1] = (s, o, length + step)
        pages[at] = ExtentPage(
            page.version_id,
            page.size + (change == "size"),
            page.start + (change == "start"),
            wrong,
            page.more != (change == "more"),
        )
    with pytest.raises(IntegrityError):
        plan_restore([WantedFile(version(1), size)], pages)
    plan = plan_restore([WantedFile(version(1), size)], pages, strict=False)
    assert [refused.file for refused in plan.refused] == [0]
    assert plan.segments == [] and plan.piece_total == 0


@pytest.mark.parametrize(
    ("extents", "numbers"),
    [
        ([(segment(1), 0, 9)], "covered 9 of 10"),
        ([(segment(1), 0, 11)], "offset=0, length=11, size=10"),
        ([(segment(1), 0, 5), (segment(2), 0, 6)], "offset=5, length=6, size=10"),
        ([(segment(1), SEGMENT_LIMIT - 5, 10)], f"offset={SEGMENT_LIMIT - 5}, length=10"),
        ([(segment(1), -1, 10)], "offset=-1"),
        ([(segment(1), 0, 0), (segment(1), 0, 10)], "length=0"),
        ([(segment(1), 0, -4), (segment(1), 0, 14)], "length=-4"),
        ([(SegmentId(b"short"), 0, 10)], "beyond its segment"),
        ([], "covered 0 of 10"),
    ],
)
def test_errors_carry_the_numbers(extents: list[Extent], numbers: str) -> None:
    with pytest.raises(IntegrityError, match=numbers):
        plan_restore([WantedFile(version(1), 10)], [ExtentPage(version(1), 10, 0, extents, False)])


def test_a_bad_version_costs_its_own_files_only() -> None:
    files = [WantedFile(version(n), 10) for n in (1, 2, 3, 2)] + [WantedFile(version(9), 4)]
    answer = [
        *pages_of(version(1), [(segment(1), 0, 10)]),
        ExtentPage(version(2), 10, 0, [(segment(2), 0, 4), (ZERO_SEGMENT, 0, 2)], True),
        ExtentPage(version(2), 10, 8, [(segment(2), 0, 2)], False),
        *pages_of(version(3), [(segment(3), 0, 10)]),
    ]
    plan = plan_restore(files, answer, strict=False)
    assert sorted(refused.file for refused in plan.refused) == [1, 3, 4]
    assert plan.segments == [segment(1), segment(3)]
    assert list(plan.piece_counts) == [1, 0, 1, 0, 0] and plan.holes(1) == []
    with pytest.raises(IntegrityError, match="leave a gap"):
        plan_restore(files, answer)


def test_answers_out_of_turn_and_files_without_version_are_refused() -> None:
    files = [WantedFile(version(1), 1), WantedFile(version(2), 1)]
    one, two = (pages_of(version(n), [(segment(n), 0, 1)]) for n in (1, 2))
    for answer in ([*two, *one], [*one, *two, *one], [*one, *two, *pages_of(version(3), [(segment(3), 0, 1)])]):
        with pytest.raises(IntegrityError):
            plan_restore(files, answer, strict=True)
    with pytest.raises(IntegrityError, match="out of turn"):
        plan_restore(files, [*two, *one], strict=False)
    with pytest.raises(IntegrityError, match="names no version"):
        plan_restore([WantedFile(NO_VERSION, 5)], [])
    assert plan_restore([WantedFile(NO_VERSION, 0)], []).segments == []


def test_segments_come_in_the_order_of_first_need() -> None:
    files = [WantedFile(version(n), 2) for n in range(4)]
    lists = [[(segment(5), 0, 2)], [(segment(5), 2, 2)], [(segment(2), 0, 1), (segment(5), 4, 1)], [(segment(9), 0, 2)]]
    plan = plan_restore(files, [page for n in range(4) for page in pages_of(version(n), lists[n])])
    assert plan.segments == [segment(5), segment(2), segment(9)]
    assert [piece.file for piece in plan.pieces(0)] == [0, 1, 2]


def test_a_large_fragmented_file_plans_compactly() -> None:
    extents = [(segment(n * 7919 % 1000), n % 100 * 4096, 4096) for n in range(100_000)]
    plan = plan_restore(
        [WantedFile(version(1), 4096 * 100_000)], pages_of(version(1), extents, 5000)
    )
    assert len(plan.segments) == 1000 and plan.piece_total == 100_000
