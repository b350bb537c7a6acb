"""Hostile agents against a real appliance: it stays under 512 MB, and its honest customers are served meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.hostile_load import ATTACKS, Attacker, Witness, survive
from tests.support.processes import House

LOG_LINES = 60
"""Of one attack: what it provokes is counted, not told line by line."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("hostile") / "house") as opened:
        yield opened


@pytest.fixture(scope="module")
def witness(house: House, tmp_path_factory: pytest.TempPathFactory) -> Witness:
    return Witness(house, tmp_path_factory.mktemp("witness"), accounts=len(ATTACKS))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_others_are_served_meanwhile(house: House, witness: Witness, attack: Callable[[Attacker], None]) -> None:
    assert survive(house, witness, attack).log_lines <= LOG_LINES
