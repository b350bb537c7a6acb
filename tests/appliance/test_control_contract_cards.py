"""Contract cards: figures, search, order, pages, scope."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from appliance.control import contract_cards, contracts, deletions, machines, spaces, statistics
from appliance.control.contract_cards import CardFilter, CardPage, CardSort
from appliance.control.contracts import Changes, ContractState, Notify
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import NotFoundError
from tests.support.control_house import NOW, House, build, enrol, figures


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def names(page: CardPage) -> list[str]:
    return [card.client_id for card in page.cards]


def test_a_card_counts_latest_complete_snapshots(house: House) -> None:
    second = enrol(house.db, house.ours, 4, "PC-2")
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(100), now=NOW)
    statistics.record(house.db, house.machine.id, 2, complete=True, figures=figures(300), now=NOW + 1)
    statistics.record(house.db, house.machine.id, 3, complete=False, figures=figures(9000), now=NOW + 2)
    statistics.record(house.db, second.id, 1, complete=True, figures=figures(50), now=NOW + 3)
    machines.revoke(house.db, second)
    contracts.edit(house.db, house.ours, Changes(allocated_bytes=200, notify=Notify.FAILURES))
    card = contract_cards.one(house.db, EVERYTHING, house.ours.id, NOW)
    assert (card.used_bytes, card.ratio, card.over_quota, card.last_at) == (350, 1.75, True, NOW + 3)
    assert (card.machines_used, card.machines_total, card.machines_allowed) == (1, 2, house.ours.machine_quota)
    assert (card.notify, card.state, card.space_name) == (Notify.FAILURES, ContractState.ACTIVE, "near")
    contracts.edit(house.db, house.ours, Changes(allocated_bytes=0))
    assert contract_cards.one(house.db, EVERYTHING, house.ours.id, NOW).ratio is None
    empty = contract_cards.one(house.db, EVERYTHING, house.neighbour.id, NOW)
    assert (empty.used_bytes, empty.last_at, empty.over_quota) == (0, None, False)


def test_states_are_those_of_the_contract(house: House) -> None:
    changed = contracts.edit(house.db, house.ours, Changes(end_date=date(2027, 1, 14)))
    contracts.pause(house.db, house.neighbour)
    asked = deletions.request(house.db, EVERYTHING, deletions.Kind.CONTRACT, house.elsewhere.id, by="x", now=NOW)
    for contract, state in (
        (changed, ContractState.EXPIRED),
        (house.neighbour, ContractState.PAUSED),
        (house.elsewhere, ContractState.DELETING),
    ):
        card = contract_cards.one(house.db, EVERYTHING, contract.id, NOW)
        assert card.state is state is contracts.find(house.db, EVERYTHING, contract.id).state(NOW)
        assert names(contract_cards.search(house.db, EVERYTHING, NOW, state=str(state))) == [contract.client_id]
    assert contract_cards.one(house.db, EVERYTHING, house.elsewhere.id, NOW).delete_due_at == asked.due_at
    assert names(contract_cards.search(house.db, EVERYTHING, NOW, state=CardFilter.ACTIVE)) == []


def test_search_order_and_pages(house: House) -> None:
    for number in range(10):
        contracts.add(
            house.db, space_id=house.ours.space_id, client_id=f"Client {number}", email=f"p{number}@z.org",
            now=NOW + number, allocated_bytes=(number + 1) * 1000,
        )  # fmt: skip
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(10**12), now=NOW)

    def found(**chosen: object) -> list[str]:
        return names(contract_cards.search(house.db, EVERYTHING, NOW, **chosen))  # type: ignore[arg-type]

    assert found(text="CLIENT 3") == ["Client 3"] == found(text="p3@z")
    assert found(text="%") == found(text="' OR 1=1 --") == []
    assert found(sort="used", descending=True)[0] == "ours" == found(sort="ratio", descending=True)[0]
    assert found(state="over-quota") == ["ours"] and found(sort="last", descending=True)[0] == "ours"
    assert found(sort="created", descending=True)[0] == "Client 9"
    for sort in CardSort:
        first, second = (found(sort=sort, descending=down) for down in (False, True))
        assert len(first) == 13 and sorted(first) == sorted(second)
    pages = [contract_cards.search(house.db, EVERYTHING, NOW, page=n, per_page=5) for n in (1, 2, 3, 99)]
    assert [(page.page, page.pages, page.total, len(page.cards)) for page in pages] == [
        (1, 3, 13, 5), (2, 3, 13, 5), (3, 3, 13, 3), (3, 3, 13, 3),
    ]  # fmt: skip
    assert len({name for page in pages for name in names(page)}) == 13
    nothing = contract_cards.search(house.db, EVERYTHING, NOW, text="nobody", page=4)
    assert (nothing.cards, nothing.total, nothing.page, nothing.pages) == ([], 0, 1, 1)
    for wrong in ({"sort": "id; DROP TABLE contract"}, {"state": "nonsense"}):
        with pytest.raises(ValueError, match="is not a valid"):
            found(**wrong)


def test_nobody_sees_out_of_their_scope(house: House) -> None:
    for scope, expected in (
        (EVERYTHING, ["away", "next", "ours"]),
        (OneSpace(house.ours.space_id), ["next", "ours"]),
        (OneSpace(house.elsewhere.space_id), ["away"]),
        (OneContract(house.ours.id), ["ours"]),
    ):
        page = contract_cards.search(house.db, scope, NOW)
        assert names(page) == expected and page.total == len(expected)
        for contract in (house.ours, house.neighbour, house.elsewhere):
            if contract.client_id in expected:
                assert contract_cards.one(house.db, scope, contract.id, NOW).id == contract.id
            else:
                with pytest.raises(NotFoundError):
                    contract_cards.one(house.db, scope, contract.id, NOW)
        narrowed = contract_cards.search(house.db, scope, NOW, space_id=house.elsewhere.space_id)
        assert set(names(narrowed)) <= set(expected)


def test_spaces_are_counted_and_kept_apart(house: House) -> None:
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(500), now=NOW)
    near, far = spaces.cards(house.db, EVERYTHING)
    assert (near.space.name, near.contracts, near.machines, near.used_bytes, near.accounts) == ("near", 2, 2, 500, 3)
    assert near.allocated_bytes == 2 * contracts.DEFAULT_ALLOCATED_BYTES
    assert (far.contracts, far.machines, far.used_bytes, far.accounts) == (1, 1, 0, 0)
    assert spaces.cards(house.db, OneSpace(far.space.id)) == [far]
    assert spaces.in_scope(house.db, OneContract(house.ours.id)) == [near.space]
    assert spaces.in_scope(house.db, OneSpace("snothing")) == []
    assert spaces.rename(house.db, near.space, " Near by ").name == "Near by"
