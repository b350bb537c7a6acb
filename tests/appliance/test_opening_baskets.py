"""What is ticked: parts of a ticked folder are in it already, tokens mean something in one basket only."""

from __future__ import annotations

import pytest

from appliance.opening.baskets import TOP, Basket
from appliance.opening.words import PATHS_LIMIT
from appliance.store.errors import UnknownItemError


def test_a_folder_takes_in_what_lies_below_it() -> None:
    basket = Basket()
    basket.tick(1, [b"/a/b", b"/a/c", b"/ab"])
    basket.tick(1, [b"/a"])
    assert basket.ticked(1) == [b"/ab", b"/a"]
    basket.tick(1, [b"/a/b/c"])
    assert basket.ticked(1) == [b"/ab", b"/a"], "it is part of /a"
    basket.tick(1, [TOP])
    assert basket.ticked(1) == [TOP]
    assert basket.ticked(2) == [], "each snapshot has a list of its own"


def test_taking_off_one_and_all() -> None:
    basket = Basket()
    basket.tick(1, [b"/a", b"/b"])
    basket.untick(1, b"/a")
    basket.untick(1, b"/nothing")
    assert basket.ticked(1) == [b"/b"]
    basket.untick(1, None)
    assert basket.ticked(1) == []


def test_tokens_are_stable_opaque_and_of_one_basket() -> None:
    basket, other = Basket(), Basket()
    token = basket.token(b"/patients/dupont")
    assert basket.token(b"/patients/dupont") == token and "dupont" not in token
    assert basket.path(token) == b"/patients/dupont"
    assert basket.path("") == TOP
    for wrong in (token, "x", "../etc"):
        with pytest.raises(UnknownItemError):
            other.path(wrong)


def test_a_list_is_bounded() -> None:
    basket = Basket()
    basket.tick(1, [b"/%d" % number for number in range(PATHS_LIMIT + 5)])
    assert len(basket.ticked(1)) == PATHS_LIMIT
