"""Deletions: seven days, told to those concerned, cancellable, nobody's outside of their scope."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import contracts, deletions, outbox
from appliance.control.contracts import ContractState
from appliance.control.deletions import WAIT_S, Deletion, Kind, Outcome
from appliance.control.scope import EVERYTHING, OneContract, OneSpace, Scope
from appliance.errors import ConflictError, NotFoundError
from tests.support.control_house import NOW, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def ask(house: House, kind: Kind, object_id: str, scope: Scope = EVERYTHING) -> Deletion:
    return deletions.request(house.db, scope, kind, object_id, by="admin@example.org", now=NOW)


def test_nothing_is_due_before_seven_days_and_nothing_is_gone(house: House) -> None:
    asked = [
        ask(house, Kind.CONTRACT, house.ours.id),
        ask(house, Kind.MACHINE, house.neighbour_machine.id.hex()),
        ask(house, Kind.SPACE, house.elsewhere.space_id),
    ]
    assert deletions.due(house.db, NOW + WAIT_S - 1) == []
    assert sorted(found.id for found in deletions.due(house.db, NOW + WAIT_S)) == sorted(one.id for one in asked)
    assert len(contracts.every(house.db, EVERYTHING)) == 3
    for one in asked:
        with pytest.raises(ConflictError, match="not due yet"):
            deletions.mark_done(house.db, one.id, NOW + WAIT_S - 1)
        assert deletions.mark_done(house.db, one.id, NOW + WAIT_S).outcome is Outcome.DONE
    assert deletions.pending(house.db, EVERYTHING) == []


def test_a_contract_is_paused_meanwhile_and_returns_as_it_was(house: House) -> None:
    for paused in (False, True):
        if paused:
            contracts.pause(house.db, house.ours)
        asked = ask(house, Kind.CONTRACT, house.ours.id)
        waiting = contracts.find(house.db, EVERYTHING, house.ours.id)
        assert waiting.paused and waiting.state(NOW) is ContractState.DELETING
        cancelled = deletions.cancel(house.db, EVERYTHING, asked.id, by="boss@example.org", now=NOW + 60)
        assert (cancelled.outcome, cancelled.ended_by, cancelled.ended_at) == (
            Outcome.CANCELLED, "boss@example.org", NOW + 60,
        )  # fmt: skip
        assert contracts.find(house.db, EVERYTHING, house.ours.id).paused is paused
        with pytest.raises(NotFoundError):
            deletions.cancel(house.db, EVERYTHING, asked.id, by="x", now=NOW)
        with pytest.raises(NotFoundError):
            deletions.mark_done(house.db, asked.id, NOW + 2 * WAIT_S)


def test_asking_twice_is_a_conflict_until_it_is_cancelled(house: House) -> None:
    asked = ask(house, Kind.MACHINE, house.machine.id.hex())
    with pytest.raises(ConflictError, match="already"):
        ask(house, Kind.MACHINE, house.machine.id.hex())
    assert deletions.of_object(house.db, EVERYTHING, Kind.MACHINE, house.machine.id.hex()) == asked
    deletions.cancel(house.db, EVERYTHING, asked.id, by="x", now=NOW)
    assert ask(house, Kind.MACHINE, house.machine.id.hex()).id != asked.id


def test_those_concerned_are_told(house: House) -> None:
    asked = ask(house, Kind.CONTRACT, house.ours.id)
    deletions.cancel(house.db, EVERYTHING, asked.id, by="boss@example.org", now=NOW + 1)
    ask(house, Kind.SPACE, house.ours.space_id)
    told = [(mail.kind, mail.fields["what"], mail.recipient.split("@")[0]) for mail in outbox.pending(house.db)]
    requested, cancelled = outbox.DELETION_REQUESTED, outbox.DELETION_CANCELLED
    assert sorted(told) == sorted(
        [(kind, "contract", who) for kind in (requested, cancelled) for who in ("admin", "customer", "ours")]
        + [(requested, "space", who) for who in ("admin", "super")]
    )
    assert outbox.pending(house.db)[0].fields["due_at"] == NOW + WAIT_S


def test_nobody_reaches_out_of_their_scope(house: House) -> None:
    near, far = OneSpace(house.ours.space_id), OneSpace(house.elsewhere.space_id)
    for scope, kind, thing in (
        (near, Kind.CONTRACT, house.elsewhere.id),
        (near, Kind.MACHINE, house.elsewhere_machine.id.hex()),
        (near, Kind.SPACE, house.elsewhere.space_id),
        (near, Kind.SPACE, house.ours.space_id),
        (OneContract(house.ours.id), Kind.CONTRACT, house.neighbour.id),
        (EVERYTHING, Kind.CONTRACT, "cnothing"),
        (EVERYTHING, Kind.MACHINE, "zz"),
    ):
        with pytest.raises(NotFoundError):
            ask(house, kind, thing, scope)
    own, sibling = ask(house, Kind.CONTRACT, house.ours.id), ask(house, Kind.CONTRACT, house.neighbour.id)
    other = ask(house, Kind.MACHINE, house.elsewhere_machine.id.hex())
    assert {d.id for d in deletions.pending(house.db, near)} == {own.id, sibling.id}
    assert deletions.pending(house.db, far) == [other]
    assert deletions.pending(house.db, OneContract(house.ours.id)) == [own]
    assert deletions.of_object(house.db, far, Kind.CONTRACT, house.ours.id) is None
    with pytest.raises(NotFoundError):
        deletions.cancel(house.db, far, own.id, by="x", now=NOW)
    assert len(deletions.pending(house.db, EVERYTHING)) == 3


def test_the_older_way_to_delete_and_resume_goes_through_here(house: House) -> None:
    waiting = contracts.delete(house.db, house.ours, NOW)
    assert waiting is not None and contracts.delete(house.db, house.ours, NOW + 5) == waiting
    [asked] = deletions.pending(house.db, EVERYTHING)
    assert (asked.object_id, asked.due_at) == (house.ours.id, NOW + WAIT_S)
    contracts.resume(house.db, waiting, by="boss", now=NOW + 9)
    assert deletions.pending(house.db, EVERYTHING) == []
    empty = contracts.add(house.db, space_id=house.ours.space_id, client_id="e", email="e@x.org", now=NOW)
    ask(house, Kind.CONTRACT, empty.id)
    assert contracts.delete(house.db, empty, NOW) is None and deletions.pending(house.db, EVERYTHING) == []
