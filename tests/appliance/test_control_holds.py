"""Holds, and the word between them and a prune."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import holds
from appliance.control.holds import Hold
from appliance.errors import ConflictError, NotFoundError
from tests.support.control_house import NOW, House, build
from transport.errors import UsageError


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def test_a_hold_has_a_reason_and_an_author_and_is_the_machine_s_own(house: House) -> None:
    machine = house.machine.id
    made = holds.add(house.db, machine, 3, reason=" trial of 2026 ", held_by="anna\n", now=NOW)
    assert made == Hold(machine, 3, "trial of 2026", "anna", NOW)
    assert holds.of_machine(house.db, machine) == {3: made}
    assert holds.of_machine(house.db, house.neighbour_machine.id) == {}
    again = holds.add(house.db, machine, 3, reason="appeal", held_by="ben", now=NOW + 1)
    assert holds.of_machine(house.db, machine) == {3: again}
    holds.release(house.db, machine, 3)
    assert holds.of_machine(house.db, machine) == {}
    with pytest.raises(NotFoundError, match="snapshot 3 is not held"):
        holds.release(house.db, machine, 3)
    with pytest.raises(UsageError, match="the reason is empty"):
        holds.add(house.db, machine, 4, reason=" ", held_by="anna", now=NOW)


def test_a_hold_is_seen_by_a_prune_or_refused_and_never_broken(house: House) -> None:
    machine, other = house.machine.id, house.neighbour_machine.id
    holds.add(house.db, machine, 2, reason="trial", held_by="anna", now=NOW)
    assert holds.announce(house.db, machine, {1, 2, 3}) == {1, 3}
    with pytest.raises(ConflictError, match="snapshot 3 is being dropped"):
        holds.add(house.db, machine, 3, reason="trial", held_by="anna", now=NOW)
    holds.add(house.db, machine, 4, reason="trial", held_by="anna", now=NOW)
    holds.add(house.db, other, 3, reason="trial", held_by="anna", now=NOW)
    holds.done(house.db, machine)
    holds.add(house.db, machine, 3, reason="trial", held_by="anna", now=NOW)


def test_a_prune_that_was_cut_off_is_forgotten_by_the_next(house: House) -> None:
    machine = house.machine.id
    holds.announce(house.db, machine, {1, 2})
    assert holds.announce(house.db, machine, {2}) == {2}
    holds.add(house.db, machine, 1, reason="trial", held_by="anna", now=NOW)
