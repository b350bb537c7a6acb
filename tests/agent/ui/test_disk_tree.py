"""The disk as rows with marks, and what presses on ticks and crosses make of a selection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.selection import Selection
from agent.stale import StaleFile
from agent.ui import disk_tree
from agent.ui.disk_tree import Mark, Marker, aged, cross, listed, path_of, tick, token_of

NAMES = st.sampled_from([b"a", b"b", b"c*d", b"[e]", b"f?", b"caf\xe9", b"x.tmp"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: b"/" + b"/".join(names))
PRESSES = st.lists(st.tuples(st.sampled_from([tick, cross]), PATHS), max_size=8)


def pressed(presses: list[tuple[object, bytes]], selection: Selection | None = None) -> Selection:
    """What a row of presses makes of a selection."""
    selection = selection or Selection()
    for press, path in presses:
        selection = press(selection, path)  # type: ignore[operator]
    return selection


@given(PRESSES, PATHS)
def test_a_tick_takes_and_a_cross_leaves_whatever_was_pressed_before(
    presses: list[tuple[object, bytes]], path: bytes
) -> None:
    before = pressed(presses)
    was = Marker(before).mark_of(path)
    ticked = tick(before, path)
    assert ticked.selects(path) is not was.taken, "a tick that is not pressed takes it; pressed, it lets go"
    assert Marker(ticked).mark_of(path).taken is ticked.selects(path), "the mark says what a backup does"
    if not was.out:
        crossed = cross(before, path)
        assert not crossed.selects(path)
        assert Marker(crossed).mark_of(path) is Mark.EXCLUDED
        assert not any(rule.startswith(path + b"/") for rule in crossed.include), "with all that it holds"


@given(PRESSES, PATHS)
def test_two_presses_are_none(presses: list[tuple[object, bytes]], path: bytes) -> None:
    before = pressed(presses)
    if Marker(before).mark_of(path) is Mark.NONE:
        assert tick(tick(before, path), path) == before
    once = cross(before, path)
    if Marker(before).mark_of(path) is Mark.INHERITED:
        assert cross(once, path).selects(path)


def test_marks_are_inherited_and_folders_say_what_is_mixed() -> None:
    selection = Selection.of([b"/srv", b"/srv/out/in"], [b"/srv/out", b"*.tmp", b"/alone"])
    marker = Marker(selection)
    marks = {
        b"/": Mark.NONE,
        b"/srv": Mark.INCLUDED,
        b"/srv/a": Mark.INHERITED,
        b"/srv/out": Mark.EXCLUDED,
        b"/srv/out/b": Mark.LEFT,
        b"/srv/out/in": Mark.INCLUDED,
        b"/srv/out/in/deep": Mark.INHERITED,
        b"/srv/a/x.tmp": Mark.LEFT,
        b"/alone": Mark.EXCLUDED,
        b"/alone/c": Mark.LEFT,
        b"/other": Mark.NONE,
    }
    assert {path: marker.mark_of(path) for path in marks} == marks
    assert marker.mixed(b"/", Mark.NONE)
    assert marker.mixed(b"/srv", Mark.INCLUDED)
    assert marker.mixed(b"/srv/out", Mark.EXCLUDED)
    assert not marker.mixed(b"/srv/a", Mark.INHERITED)
    assert marker.pattern(b"/srv/a/x.tmp") == "*.tmp"
    assert marker.pattern(b"/srv/out/b") == ""


def test_a_folder_is_listed_a_page_at_a_time(tmp_path: Path) -> None:
    for number in range(disk_tree.PAGE + 50):
        (tmp_path / f"{number:04}").touch()
    (tmp_path / "zz").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "zz")
    os.mkfifo(tmp_path / "pipe")
    with open(os.fsencode(tmp_path) + b"/\xff\xe2\x80\xaegpj.exe", "wb"):
        pass
    first = listed(os.fsencode(tmp_path), Selection(), home=b"/nowhere")
    assert (len(first.rows), first.rows[0].name, first.rows[0].kind) == (disk_tree.PAGE, "zz", "folder")
    assert first.more == 53
    whole = listed(os.fsencode(tmp_path), Selection(), home=b"/nowhere", pages=2)
    names = {row.name: row for row in whole.rows}
    assert whole.more == 0
    assert "pipe" not in names, "what is never backed up is not offered"
    assert names["link"].kind == "link"
    hostile = next(name for name in names if name.startswith("\\xff"))
    assert "\u202e" not in hostile, "no sign turns the direction of writing"
    assert all(path_of(row.token) == row.path for row in whole.rows)


def test_the_agents_own_home_and_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (row,) = listed(os.fsencode(tmp_path), Selection(), home=os.fsencode(tmp_path / "home")).rows
    assert row.own
    assert listed(os.fsencode(tmp_path / "gone"), Selection(), home=b"/").error


def test_a_folder_tells_the_age_of_its_oldest_copy() -> None:
    files = [StaleFile(b"/srv/a/one", 500, 900, ""), StaleFile(b"/srv/b/two", 0, 900, "")]
    assert aged(files) == {b"/srv/a/one": 500, b"/srv/a": 500, b"/srv": 0, b"/srv/b": 0, b"/srv/b/two": 0}


@pytest.mark.parametrize("token", ["", "é", "!!!!", "Li4", token_of(b"relative"), token_of(b"/a/../b")])
def test_a_token_that_is_none_is_an_error(token: str) -> None:
    from agent.errors import SelectionError

    with pytest.raises((ValueError, SelectionError)):
        path_of(token)
