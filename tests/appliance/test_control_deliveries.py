"""Deliveries in the control database: limits, states, whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import deliveries, machines
from appliance.control.deliveries import Chosen, Delivery, DeliveryState
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import ConflictError, NotFoundError, ThrottledError
from tests.support import control_house
from tests.support.control_house import NOW, House
from transport.messages_deliveries import DELIVERED_PATHS_LIMIT
from transport.names import PathId


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return control_house.build(tmp_path, monkeypatch)


def send(house: House, chosen: Chosen | None = None, now: float = NOW) -> Delivery:
    return deliveries.send(
        house.db,
        house.machine.id,
        chosen or Chosen((PathId(b"p" * 16),), (PathId(b"a" * 16), PathId(b"b" * 16))),
        snapshot=3,
        snapshot_at=NOW - 60,
        files=2,
        size_bytes=5,
        account_id=house.accounts["admin"].id,
        by="admin@example.org\r\nX: y",
        now=now,
    )


def test_what_was_selected_comes_back_as_it_was(house: House) -> None:
    sent = send(house)
    assert sent.number == 1 and sent.sent_by == "admin@example.org X: y" and sent.state is DeliveryState.WAITING
    found = deliveries.chosen(house.db, house.machine.id, 1)
    assert found == Chosen((PathId(b"p" * 16),), (PathId(b"a" * 16), PathId(b"b" * 16)))
    assert send(house, Chosen()).number == 2 and deliveries.chosen(house.db, house.machine.id, 2) == Chosen()


def test_so_many_wait_and_so_much_is_selected_at_most(house: House) -> None:
    with pytest.raises(ConflictError, match="folders"):
        send(house, Chosen((PathId(b"p" * 16),) * DELIVERED_PATHS_LIMIT, (PathId(b"a" * 16),)))
    for _ in range(deliveries.WAITING_LIMIT):
        send(house)
    with pytest.raises(ThrottledError):
        send(house)
    deliveries.answer(house.db, house.machine.id, 1, accepted=False, now=NOW)
    assert send(house).number == deliveries.WAITING_LIMIT + 1
    later = send(house, now=NOW + deliveries.LIFE_S + 1)
    assert later.number == deliveries.WAITING_LIMIT + 2, "expired ones do not wait"


def test_others_see_none_of_it(house: House) -> None:
    send(house)
    for scope in (OneContract(house.neighbour.id), OneSpace(house.elsewhere.space_id)):
        assert deliveries.of_machine(house.db, scope, house.machine.id, NOW) == []
        with pytest.raises(NotFoundError):
            deliveries.find(house.db, scope, house.machine.id, 1, NOW)
        with pytest.raises(NotFoundError):
            deliveries.cancel(house.db, scope, house.machine.id, 1, NOW)
    assert len(deliveries.of_machine(house.db, OneContract(house.ours.id), house.machine.id, NOW)) == 1


def test_the_owners_word_counts_once_and_no_may_follow_a_yes(house: House) -> None:
    send(house)
    for _ in range(2):
        answered = deliveries.answer(house.db, house.machine.id, 1, accepted=True, now=NOW + 1)
        assert answered.state is DeliveryState.ACCEPTED and answered.answered_at == NOW + 1
    refused = deliveries.answer(house.db, house.machine.id, 1, accepted=False, now=NOW + 2)
    assert refused.state is DeliveryState.REFUSED
    with pytest.raises(ConflictError):
        deliveries.answer(house.db, house.machine.id, 1, accepted=True, now=NOW + 3)
    with pytest.raises(ConflictError):
        deliveries.began(house.db, house.machine.id, 1, NOW + 3)
    with pytest.raises(ConflictError):
        deliveries.cancel(house.db, EVERYTHING, house.machine.id, 1, NOW + 3)


def test_what_ended_late_still_counts_and_what_expired_begins_no_more(house: House) -> None:
    send(house)
    deliveries.answer(house.db, house.machine.id, 1, accepted=True, now=NOW)
    deliveries.began(house.db, house.machine.id, 1, NOW + 5)
    late = NOW + deliveries.LIFE_S + 1
    assert deliveries.find(house.db, EVERYTHING, house.machine.id, 1, late).state is DeliveryState.EXPIRED
    with pytest.raises(ConflictError):
        deliveries.began(house.db, house.machine.id, 1, late)
    done = deliveries.report(
        house.db, house.machine.id, 1, done=True, files=2, size=5, errors=0, reason="", now=late
    )
    assert done.state is DeliveryState.DONE and done.ended_at == late


@pytest.mark.parametrize("done", [True, False])
def test_what_was_taken_back_stays_so_whatever_its_agent_says(house: House, done: bool) -> None:
    send(house)
    deliveries.answer(house.db, house.machine.id, 1, accepted=True, now=NOW)
    deliveries.began(house.db, house.machine.id, 1, NOW + 1)
    deliveries.cancel(house.db, EVERYTHING, house.machine.id, 1, NOW + 2)
    said = deliveries.report(
        house.db, house.machine.id, 1, done=done, files=1, size=1, errors=0, reason="", now=NOW + 3
    )
    assert said.state is DeliveryState.CANCELLED
    with pytest.raises(ConflictError):
        deliveries.began(house.db, house.machine.id, 1, NOW + 4)


def test_a_machine_that_moves_takes_none_along(house: House) -> None:
    send(house)
    machines.move(house.db, house.machine, house.neighbour)
    assert deliveries.of_machine(house.db, EVERYTHING, house.machine.id, NOW) == []
