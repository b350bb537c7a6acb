"""Frames between the web and an opener: whole, in pieces, cut, too long, not ours."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.opening import words


def reader(data: bytes, step: int) -> Callable[[int], bytes]:
    """Reads of at most `step` bytes, as pipes give them."""
    file = io.BytesIO(data)
    return lambda size: file.read(min(size, step))


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_words_arrive_whole_however_they_travel(step: int) -> None:
    said = [words.ListFolder(3, b"/a\xff"), words.Search(1, "é"), words.Archive(1, [b"/a"], "tar", "x")]
    read = reader(b"".join(map(words.frame, said)), step)
    assert [words.read_question(read) for _ in said] == said
    assert words.read_question(read) is None


def test_answers_too() -> None:
    said = words.Entries([words.Entry(b"/a", "f", 3, 4, b"m")], False)
    assert words.read_answer(reader(words.frame(said), 5)) == said


@pytest.mark.parametrize(
    "data",
    [
        words.frame(words.Search(1, "x"))[:-1],
        b"\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\1\xc1",
        b"\0\0\0\2{}",
        words.frame(words.Failed("a", "b")),
        b"\0\0\0\0",
    ],
)
def test_what_is_no_question_ends_the_conversation(data: bytes) -> None:
    with pytest.raises(words.BrokenPipeOfWords):
        words.read_question(reader(data, 7))


def test_bounds_hold() -> None:
    for word in (words.Search(1, "x" * 201), words.Search(1, ""), words.ListFolder(1, b"x" * 65_537)):
        with pytest.raises(words.BrokenPipeOfWords):
            words.read_question(reader(words.frame(word), 4096))


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with contextlib.suppress(words.BrokenPipeOfWords):
        words.read_question(reader(data, 5))
