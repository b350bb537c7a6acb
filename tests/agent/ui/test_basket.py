"""What was ticked for a restore: each path once, a folder with all it holds."""

from __future__ import annotations

from pathlib import Path

from agent.settings import AgentHome
from agent.ui.basket import LIMIT, Basket


def test_a_folder_takes_the_place_of_what_it_holds(tmp_path: Path) -> None:
    basket = Basket(AgentHome(tmp_path))
    for path in (b"/srv/a/one", b"/srv/a/two", b"/srv/ab"):
        basket.toggle(path)
    basket.toggle(b"/srv/a")
    assert basket.paths() == [b"/srv/a", b"/srv/ab"]
    held = {path: basket.held(path) for path in (b"/srv/a", b"/srv/a/one", b"/srv", b"/srv/abc", b"/")}
    assert held == {b"/srv/a": "itself", b"/srv/a/one": "above", b"/srv": "below", b"/srv/abc": "", b"/": "below"}
    basket.toggle(b"/srv/a")
    basket.clear()
    assert basket.paths() == []
    assert basket.measure(1).done, "nothing is measured at once"


def test_it_is_bounded(tmp_path: Path) -> None:
    basket = Basket(AgentHome(tmp_path))
    for number in range(LIMIT + 5):
        basket.toggle(b"/%d" % number)
    assert len(basket.paths()) == LIMIT
