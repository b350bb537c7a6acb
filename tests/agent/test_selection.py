"""agent.selection: which rule wins, what patterns mean, what is refused."""

from __future__ import annotations

import pytest

from agent.errors import SelectionError
from agent.selection import Selection, Take, escaped_pattern


def test_the_deepest_path_rule_wins() -> None:
    selection = Selection.of([b"/a", b"/a/b/c"], [b"/a/b", b"/a/b/c/d"])
    assert selection.selects(b"/a") and selection.selects(b"/a/x/y")
    assert not selection.selects(b"/a/b") and not selection.selects(b"/a/b/x")
    assert selection.selects(b"/a/b/c") and selection.selects(b"/a/b/c/x")
    assert not selection.selects(b"/a/b/c/d/e")
    assert not selection.selects(b"/ab") and not selection.selects(b"/")


@pytest.mark.parametrize(
    ("pattern", "out", "kept"),
    [
        (b"*.tmp", [b"/r/x.tmp", b"/r/a/b.tmp", b"/r/d.tmp/inside"], [b"/r/x.tmpl", b"/r/tmp"]),
        (b"node_modules", [b"/r/node_modules", b"/r/p/node_modules/x"], [b"/r/node_modules2"]),
        (b"**/cache/**", [b"/r/cache/x", b"/r/a/cache/b/c"], [b"/r/cache", b"/r/a/cache", b"/r/cached/x"]),
        (b"build/*.o", [b"/r/build/x.o", b"/r/a/build/x.o"], [b"/r/build/a/x.o", b"/r/x.o"]),
        (b"a/**/z", [b"/r/a/z", b"/r/a/b/z", b"/r/q/a/b/c/z"], [b"/r/z", b"/r/a"]),
        (b"/r/*/t", [b"/r/x/t", b"/r/x/t/u"], [b"/r/t", b"/r/x/y/t"]),
        (b"/r/**/t", [b"/r/t", b"/r/x/y/t"], [b"/r/x"]),
        (b"?.log", [b"/r/a.log", "/r/é.log".encode()], [b"/r/ab.log"]),
        (b"[ab]*", [b"/r/apple", b"/r/x/b"], [b"/r/c"]),
        (b"\xff*", [b"/r/\xff", b"/r/\xff\xfe"], [b"/r/\xfe"]),
        (b"/r/[*]x", [b"/r/*x"], [b"/r/ax"]),
        (b"cache/", [b"/r/cache"], [b"/r/caches"]),
    ],
)
def test_patterns(pattern: bytes, out: list[bytes], kept: list[bytes]) -> None:
    selection = Selection.of([b"/r"], [pattern])
    assert [path for path in out if selection.selects(path)] == []
    assert [path for path in kept if not selection.selects(path)] == []


def test_an_included_path_wins_over_patterns() -> None:
    selection = Selection.of([b"/r", b"/r/cache/keep", b"/r/x.tmp"], [b"cache", b"*.tmp"])
    assert not selection.selects(b"/r/cache") and selection.selects(b"/r/x.tmp")
    assert selection.selects(b"/r/cache/keep/a") and not selection.selects(b"/r/cache/keep/a.tmp")
    assert selection.scope().enter(b"r", Take.WHOLE).take(b"cache") is Take.THROUGH
    inside = Selection.of([b"/r/cache"], [b"**/cache/**", b"/r/*/**"])
    assert inside.selects(b"/r/cache/x") and not inside.selects(b"/r/cache/cache/x")


def test_a_walk_without_rules_shares_one_scope() -> None:
    selection = Selection.of([b"/a"], [b"*.tmp"])
    scope = selection.scope().enter(b"a", Take.WHOLE)
    assert scope.enter(b"x", Take.WHOLE) is scope.enter(b"x", Take.WHOLE).enter(b"y", Take.WHOLE)
    assert Selection.of([b"/"]).scope().selected


def test_spellings_are_one() -> None:
    assert Selection.of([b"/a/", b"//a/./"], [b"**/x", b"x/"]) == Selection.of([b"/a"], [b"x"])
    assert Selection.of([b"/b", b"/a"]).digest() == Selection.of([b"/a", b"/b"]).digest()
    assert Selection.of([b"/a"], [b"b"]).digest() != Selection.of([b"/a", b"/b"]).digest()
    assert escaped_pattern(b"/a/*[x]") == b"/a/[*][[]x]"


@pytest.mark.parametrize(
    ("include", "exclude", "sentence"),
    [
        ([b"a/b"], [], "a/b is not an absolute path"),
        ([b""], [], "is not a path"),
        ([b"/a/../b"], [], r"contains '\.\.'"),
        ([b"/a\0"], [], "is not a path"),
        ([b"/a"], [b"/a/"], "/a is both included and excluded"),
        ([b"/a"], [b"**"], "would leave everything out"),
        ([b"/a"], [b"*"], "would leave everything out"),
        ([b"/a"], [b"../x*"], "only looks downwards"),
        ([b"/a"], [b""], "neither a path nor a pattern"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(include: list[bytes], exclude: list[bytes], sentence: str) -> None:
    with pytest.raises(SelectionError, match=sentence):
        Selection.of(include, exclude)


def test_ticks_and_crosses() -> None:
    selection = Selection.of([b"/a"]).excluding(b"/a/b").including(b"/a/b").excluding(b"/a").excluding(b"*.tmp")
    assert selection == Selection.of([b"/a/b"], [b"/a", b"*.tmp"])
    assert selection.without(b"*.tmp").without(b"a/b", b"/a/b") == Selection.of([], [b"/a"])
    with pytest.raises(SelectionError, match="/x is neither included nor excluded"):
        selection.without(b"/x")
