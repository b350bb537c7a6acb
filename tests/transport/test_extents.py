"""Operations from outside: within bounds, in total exactly the announced size, or refused with the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import DecodeError
from transport.extents import (
    OPS_PER_RECORD,
    Copy,
    Fragment,
    Zero,
    decode_operations,
    encode_operations,
    merge_extents,
    slice_extents,
)
from transport.names import FILE_LIMIT, SEGMENT_LIMIT, ZERO_SEGMENT, SegmentId

SEGMENT = SegmentId(b"s" * 16)
operations = st.lists(
    st.one_of(
        st.builds(Copy, st.integers(0, 1000), st.integers(1, 1000)),
        st.builds(Fragment, st.just(SEGMENT), st.integers(0, 1000), st.integers(1, 1000)),
        st.builds(Zero, st.integers(1, 10**12)),
    ),
    max_size=20,
)


@given(operations)
def test_round_trip(ops: list[Copy | Fragment | Zero]) -> None:
    size = sum(op.length for op in ops)
    assert decode_operations(encode_operations(ops), size=size, base_size=2000) == ops


@given(operations.filter(bool), st.data())
def test_any_cut_or_extra_byte_is_refused(ops: list[Copy | Fragment | Zero], data: st.DataObject) -> None:
    encoded = encode_operations(ops)
    size = sum(op.length for op in ops)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for bad in (encoded[:cut], encoded + b"\x00", encoded + b"\x03"):
        with pytest.raises(DecodeError):
            decode_operations(bad, size=size, base_size=2000)


@pytest.mark.parametrize(
    ("ops", "size", "base", "message"),
    [
        ([Copy(0, 10)], 10, 6, r"copy out of bounds \(offset=0, length=10, base=6\)"),
        ([Copy(2**63, 2**63)], 10, 6, "copy out of bounds"),
        ([Copy(0, 0)], 0, 6, "copy out of bounds"),
        ([Copy(0, 1)], 1, None, "without a base"),
        ([Fragment(SEGMENT, SEGMENT_LIMIT, 1)], 1, None, "fragment out of bounds"),
        ([Fragment(SEGMENT, 0, 0)], 0, None, "fragment out of bounds"),
        ([Fragment(ZERO_SEGMENT, 0, 1)], 1, None, "reserved"),
        ([Zero(0)], 0, None, "hole of no bytes"),
        ([Zero(5)], 4, None, "5 bytes or more of a version of 4"),
        ([Zero(5)], 6, None, "5 bytes of a version of 6"),
        ([], FILE_LIMIT + 1, None, "outside"),
    ],
)
def test_out_of_bounds(ops: list[Copy | Fragment | Zero], size: int, base: int | None, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode_operations(encode_operations(ops), size=size, base_size=base)


def test_too_many_operations() -> None:
    with pytest.raises(DecodeError, match="more than"):
        decode_operations(encode_operations([Zero(1)] * (OPS_PER_RECORD + 1)), size=10**6, base_size=None)


def test_slices_and_merges() -> None:
    extents = [(SEGMENT, 0, 10), (ZERO_SEGMENT, 0, 10), (SEGMENT, 50, 10)]
    starts = [0, 10, 20]
    assert list(slice_extents(extents, starts, 5, 20)) == [
        (SEGMENT, 5, 5),
        (ZERO_SEGMENT, 0, 10),
        (SEGMENT, 50, 5),
    ]
    assert merge_extents([(SEGMENT, 0, 4), (SEGMENT, 4, 6), (ZERO_SEGMENT, 0, 1), (ZERO_SEGMENT, 0, 2)]) == [
        (SEGMENT, 0, 10),
        (ZERO_SEGMENT, 0, 3),
    ]
