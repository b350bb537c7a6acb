"""Shrinking selections: what is called not smaller must select all that was selected before."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.errors import SelectionError
from agent.selection import Selection
from agent.shrinking import shrinks

NAMES = (b"a", b"b", b"c.tmp")
PATHS = [b"/" + b"/".join(names) for depth in (1, 2, 3, 4) for names in itertools.product(NAMES, repeat=depth)]
RULES = [*PATHS[:39], b"*.tmp", b"a", b"a/b", b"**/b/c.tmp", b"/a/*", b"/*/b", b"b/**", b"/a/**"]


def made(include: list[bytes], exclude: list[bytes] = []) -> Selection:  # noqa: B006
    return Selection.of(include, exclude)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (made([b"/a"]), made([b"/a"]), False),
        (made([b"/a"]), made([b"/a", b"/b"]), False),
        (made([b"/a"]), made([b"/"]), False),
        (made([b"/a", b"/b"]), made([b"/a"]), True),
        (made([b"/a", b"/a/b"]), made([b"/a"]), False),
        (made([b"/a"]), made([]), True),
        (made([]), made([b"/a"], [b"*.tmp"]), False),
        (made([b"/a"]), made([b"/a"], [b"/a/b"]), True),
        (made([b"/a"]), made([b"/a"], [b"/z"]), False),
        (made([b"/a"]), made([b"/a"], [b"*.tmp"]), True),
        (made([b"/a"], [b"*.tmp"]), made([b"/a"]), False),
        (made([b"/a"], [b"/a/b"]), made([b"/a"]), False),
        (made([b"/a", b"/a/b/c"], [b"/a/b"]), made([b"/a"], [b"/a/b"]), True),
        (made([b"/a", b"/a/c.tmp"], [b"*.tmp"]), made([b"/a"], [b"*.tmp"]), True),
    ],
)
def test_examples(before: Selection, after: Selection, expected: bool) -> None:
    assert shrinks(before, after) is expected


_rules = st.lists(st.sampled_from(RULES), max_size=3)
_paths = st.lists(st.sampled_from(PATHS[:39]), max_size=3)


@settings(max_examples=400)
@given(_paths, _rules, _paths, _rules)
def test_not_smaller_means_that_nothing_is_lost(
    include: list[bytes], exclude: list[bytes], include_after: list[bytes], exclude_after: list[bytes]
) -> None:
    try:
        before, after = Selection.of(include, exclude), Selection.of([*include_after, *include[:1]], exclude_after)
    except SelectionError:
        assume(False)
    if not shrinks(before, after):
        lost = [path for path in PATHS if before.selects(path) and not after.selects(path)]
        assert not lost
