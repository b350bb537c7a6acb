"""Numbers as readers type them, in each language: read right, or refused, never read as something else."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui import formats


@pytest.mark.parametrize(
    ("typed", "language", "read"),
    [
        ("1 234,5", "fr", "1234.5"),
        ("1\xa0234,5", "fr", "1234.5"),
        ("1\u202f234,5", "fr", "1234.5"),
        ("1234.5", "fr", "1234.5"),
        (" 50 ", "fr", "50"),
        ("0,000000001", "fr", "0.000000001"),
        ("1,234.5", "en", "1234.5"),
        ("1.234,5", "de", "1234.5"),
        ("0,5", "de", "0.5"),
    ],
)
def test_numbers_are_read_as_they_are_written(typed: str, language: str, read: str) -> None:
    assert formats.parse_decimal(typed, language) == Decimal(read)


@pytest.mark.parametrize(
    ("typed", "language"),
    [
        *((text, "fr") for text in ("", " ", "-1", "+1", "1e5", "nan", "Infinity", "1,2,3", "1.2.3", "1,", ",5", "٣")),
        *(("1.234,5", "fr"), ("1,5", "en"), ("12,34.5", "en"), ("1.5", "de"), ("9" * 41, "fr")),
    ],
)
def test_what_is_no_number_is_refused(typed: str, language: str) -> None:
    with pytest.raises(ValueError):
        formats.parse_decimal(typed, language)


@given(st.integers(0, 9 * 10**15), st.sampled_from(["fr", "en", "de"]))
def test_what_a_field_shows_reads_back_the_same(size_bytes: int, language: str) -> None:
    value = Decimal(size_bytes) / 10**9
    assert formats.parse_decimal(formats.number(value, language), language) == value


@given(st.text(max_size=50), st.sampled_from(["fr", "en", "de"]))
def test_anything_typed_is_a_number_or_a_refusal(typed: str, language: str) -> None:
    with contextlib.suppress(ValueError):
        assert formats.parse_decimal(typed, language) >= 0
