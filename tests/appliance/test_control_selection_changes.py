"""What another selection leaves out: named path by path, in both systems' spelling, and never a false calm."""

from __future__ import annotations

import pytest

from appliance.control.machine_settings import SelectionRules
from appliance.control.selection_changes import loss


def rules(*include: str, exclude: tuple[str, ...] = ()) -> SelectionRules:
    return SelectionRules(include, exclude)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (rules("/srv/a"), rules("/srv/a")),
        (rules("/srv/a"), rules("/srv/a", "/srv/b")),
        (rules("/srv/a/b", "/srv/a/c"), rules("/srv/a")),
        (rules("/srv/a"), rules("/")),
        (rules("/srv/a/"), rules("/srv/a")),
        (rules("C:/Officine/Base"), rules("c:\\officine")),
        (rules("/srv", exclude=("*.tmp", "/srv/x")), rules("/srv", exclude=("*.tmp",))),
    ],
)
def test_nothing_is_lost(before: SelectionRules, after: SelectionRules) -> None:
    assert not loss(before, after)


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        (rules("/srv/a", "/srv/b"), rules("/srv/a"), ("/srv/b",)),
        (rules("/srv"), rules("/srv/a"), ("/srv",)),
        (rules("/srv/ab"), rules("/srv/a"), ("/srv/ab",)),
        (rules("/srv/A"), rules("/srv/a"), ("/srv/A",)),
        (rules("C:/"), rules("D:/"), ("C:/",)),
    ],
)
def test_paths_that_go_are_named(before: SelectionRules, after: SelectionRules, gone: tuple[str, ...]) -> None:
    found = loss(before, after)
    assert found and found.includes == gone and not found.excludes and not found.unknown


def test_exclusions_that_come_are_named() -> None:
    found = loss(rules("/srv", exclude=("*.tmp",)), rules("/srv", exclude=("*.tmp", "*.dbf")))
    assert found and found.excludes == ("*.dbf",)


def test_the_machines_own_selection_is_not_known_here() -> None:
    assert loss(None, rules("/")).unknown
    assert not loss(rules("/srv"), None)
