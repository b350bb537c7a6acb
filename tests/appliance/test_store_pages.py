"""Extent pages against a flat byte-array model, and their bounds."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.store import pages
from appliance.store.pages import ZERO_PAGE, Layout, Resolved, flat_extents, resolve, span_for, unpack_extents
from transport.errors import DecodeError
from transport.extents import Copy, Extent, Fragment, Operation, Zero
from transport.names import FILE_LIMIT, ZERO_SEGMENT, SegmentId

A, B = SegmentId(b"a" * 16), SegmentId(b"b" * 16)
MIB = 1 << 20


class Shelf:
    """Keeps pages and knows every segment's bytes."""

    def __init__(self) -> None:
        self.pages: dict[int, bytes] = {}
        self.segments = {A: random.Random(1).randbytes(MIB), B: random.Random(2).randbytes(MIB)}
        self.loaded = 0

    def load(self, numbers: list[int]) -> dict[int, bytes]:
        self.loaded += len(numbers)
        return {number: self.pages[number] for number in numbers}

    def resolve(self, size: int, operations: Sequence[Operation], base: Layout | None = None) -> Resolved:
        plain = {segment: len(data) for segment, data in self.segments.items()}
        resolved = resolve(size, operations, base, self.load, plain, len(self.pages) + 1)
        for page in resolved.pages:
            assert page.number not in self.pages and page.number != ZERO_PAGE
            assert sum(extent[2] for extent in unpack_extents(page.extents)) == page.length_bytes
            self.pages[page.number] = page.extents
        return resolved

    def extents(self, layout: Layout, limit: int = 10**9) -> list[Extent]:
        found: list[Extent] = []
        start, more = 0, True
        while more:
            part, more = flat_extents(layout, self.load, start, limit)
            assert len(part) <= limit
            found += part
            start += sum(extent[2] for extent in part)
        assert start == layout.size_bytes
        return found

    def read(self, layout: Layout, limit: int = 10**9) -> bytes:
        out = bytearray()
        for segment, offset, length in self.extents(layout, limit):
            out += bytes(length) if segment == ZERO_SEGMENT else self.segments[segment][offset : offset + length]
        return bytes(out)


def model(operations: Sequence[Operation], base: bytes, shelf: Shelf) -> bytes:
    out = bytearray()
    for operation in operations:
        if isinstance(operation, Copy):
            out += base[operation.offset : operation.offset + operation.length]
        elif isinstance(operation, Fragment):
            out += shelf.segments[operation.segment][operation.offset : operation.offset + operation.length]
        else:
            out += bytes(operation.length)
    return bytes(out)


@st.composite
def plans(draw: st.DrawFn, small: bool) -> list[list[tuple[str, int, int]]]:
    """Generations of operations in relative form: (kind, position in thousandths or offset, length)."""
    length = st.integers(1, 400) if small else st.integers(1, 700_000)
    operation = st.tuples(st.sampled_from("ccccfz="), st.integers(0, 999), length)
    return draw(st.lists(st.lists(operation, min_size=0, max_size=12), min_size=1, max_size=4))


def play(generations: list[list[tuple[str, int, int]]]) -> None:
    shelf = Shelf()
    base, layout = b"", None
    for generation in generations:
        operations: list[Operation] = []
        size = 0
        for kind, place, length in generation:
            if kind in "c=" and layout is not None and base:
                offset = size if kind == "=" and size < len(base) else place * (len(base) - 1) // 999
                operations.append(Copy(offset, min(length, len(base) - offset)))
            elif kind == "z":
                operations.append(Zero(length))
            else:
                at = min(place * 700, MIB - 1)
                operations.append(Fragment(A if place % 2 else B, at, min(length, MIB - at)))
            size += operations[-1].length
        expected = model(operations, base, shelf)
        layout = shelf.resolve(size, operations, layout).layout
        assert hashlib.sha256(shelf.read(layout)).digest() == hashlib.sha256(expected).digest()
        assert shelf.extents(layout, 2) == shelf.extents(layout) or shelf.read(layout, 2) == expected
        base = expected


@given(plans(small=False))
def test_any_operations_over_any_base_read_as_the_model(generations: list[list[tuple[str, int, int]]]) -> None:
    play(generations)


@given(plans(small=True))
def test_the_same_with_tiny_spans(generations: list[list[tuple[str, int, int]]]) -> None:
    patch = pytest.MonkeyPatch()
    try:
        patch.setattr(pages, "SPAN_BYTES", 64)
        patch.setattr(pages, "INLINE_BYTES", 100)
        patch.setattr(pages, "PAGES_PER_VERSION", 32)
        play(generations)
    finally:
        patch.undo()


def big(shelf: Shelf, mib: int = 8) -> Layout:
    return shelf.resolve(mib * MIB, [Fragment(A, 0, MIB)] * mib).layout


def test_scattered_edits_share_every_page_that_they_do_not_touch() -> None:
    shelf = Shelf()
    base = big(shelf)
    operations: list[Operation] = [
        Copy(0, 1_000_000), Fragment(B, 0, 200), Copy(1_000_200, 4_000_000), Fragment(B, 200, 200),
        Copy(5_000_400, 8 * MIB - 5_000_400),
    ]  # fmt: skip
    resolved = shelf.resolve(8 * MIB, operations, base)
    assert len(resolved.pages) == 2
    before, after = base.page_numbers(), resolved.layout.page_numbers()
    assert len(before) == len(after) == 32
    assert [index for index in range(32) if before[index] != after[index]] == [3, 19]


def test_two_copies_that_meet_within_a_span_still_share_it() -> None:
    shelf = Shelf()
    base = big(shelf)
    resolved = shelf.resolve(8 * MIB, [Copy(0, 100_000), Copy(100_000, 8 * MIB - 100_000)], base)
    assert resolved.pages == [] and resolved.layout == base


def test_an_appended_file_shares_all_full_pages_and_a_shortened_one_too() -> None:
    shelf = Shelf()
    base = shelf.resolve(3 * MIB + 100, [Fragment(A, 0, MIB)] * 3 + [Fragment(B, 0, 100)]).layout
    longer = shelf.resolve(3 * MIB + 150, [Copy(0, 3 * MIB + 100), Fragment(B, 0, 50)], base)
    assert len(longer.pages) == 1
    shorter = shelf.resolve(2 * MIB, [Copy(0, 2 * MIB)], base)
    assert shorter.pages == [] and shorter.layout.page_numbers() == base.page_numbers()[:8]


def test_a_shifted_copy_makes_new_pages() -> None:
    shelf = Shelf()
    base = big(shelf)
    resolved = shelf.resolve(8 * MIB + 1, [Fragment(B, 0, 1), Copy(0, 8 * MIB)], base)
    assert len(resolved.pages) == 33


def test_small_versions_are_inline_unless_scattered() -> None:
    shelf = Shelf()
    assert shelf.resolve(0, []).layout == Layout(0, 0, b"")
    whole = shelf.resolve(MIB, [Fragment(A, 0, MIB)])
    assert whole.layout.span_bytes == 0 and whole.pages == []
    scattered: list[Operation] = [Fragment(A, 4 * n, 2) for n in range(300)]
    assert shelf.resolve(600, scattered).layout.span_bytes == pages.SPAN_BYTES


def test_holes_cost_no_page() -> None:
    shelf = Shelf()
    resolved = shelf.resolve(FILE_LIMIT, [Fragment(A, 0, 5), Zero(FILE_LIMIT - 5)])
    assert len(resolved.pages) == 1
    assert resolved.layout.page_numbers()[1:] == [ZERO_PAGE] * (pages.PAGES_PER_VERSION - 1)
    assert shelf.extents(resolved.layout) == [(A, 0, 5), (ZERO_SEGMENT, 0, FILE_LIMIT - 5)]


@pytest.mark.parametrize("size", [0, 1, pages.SPAN_BYTES, 4 << 30, (4 << 30) + 1, 1 << 40, FILE_LIMIT])
def test_no_version_has_more_pages_than_allowed(size: int) -> None:
    assert -(-size // span_for(size)) <= pages.PAGES_PER_VERSION
    assert span_for(size) % pages.SPAN_BYTES == 0


@pytest.mark.parametrize(
    ("size", "operations", "said"),
    [
        (10, [Copy(0, 10)], r"copy out of bounds \(offset=0, length=10, base=6\)"),
        (4, [Copy(5, 4)], r"copy out of bounds"),
        (4, [Copy(-1, 4)], r"copy out of bounds"),
        (4, [Fragment(SegmentId(b"?" * 16), 0, 4)], "is not held"),
        (4, [Fragment(A, MIB - 3, 4)], r"fragment out of bounds \(offset=1048573, length=4, segment=1048576\)"),
        (4, [Fragment(A, 0, 3)], "make 3 bytes of a version of 4"),
        (4, [Fragment(A, 0, 5)], "of a version of 4"),
        (4, [Fragment(A, 0, 3), Zero(2)], "of a version of 4"),
        (4, [Zero(3)], "make 3 bytes of a version of 4"),
        (4, [Copy(0, 3), Copy(0, 3)], "of a version of 4"),
    ],
)
def test_operations_out_of_bounds_are_refused_with_numbers(size: int, operations: list[Operation], said: str) -> None:
    shelf = Shelf()
    base = shelf.resolve(6, [Fragment(A, 0, 6)]).layout
    with pytest.raises(DecodeError, match=said):
        shelf.resolve(size, operations, base)


def test_a_copy_needs_a_base() -> None:
    with pytest.raises(DecodeError, match="without a base"):
        Shelf().resolve(4, [Copy(0, 2), Copy(1, 2)])


def test_what_a_message_may_resolve_to_is_bounded() -> None:
    shelf = Shelf()
    base = big(shelf)
    with pytest.raises(DecodeError, match="extents and pages in one message"):
        resolve(8 * MIB, [Copy(0, 8 * MIB)], base, shelf.load, {}, 100, budget=31)
    with pytest.raises(DecodeError, match="extents within"):
        shelf.resolve(70_000, [Fragment(A, 2 * n, 1) for n in range(70_000)])


def test_resolving_a_delta_reads_only_the_pages_that_change() -> None:
    shelf = Shelf()
    base = big(shelf, 64)
    shelf.loaded = 0
    shelf.resolve(64 * MIB, [Copy(0, 9), Fragment(B, 0, 1), Copy(10, 64 * MIB - 10)], base)
    assert shelf.loaded == 1
