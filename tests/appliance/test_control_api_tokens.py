"""Tokens of the API: made, shown, looked up, ended; what they see."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import api_tokens, spaces
from appliance.control.api_tokens import NewApiToken, Permission, TokenState
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import ConflictError, NotFoundError
from tests.support import control_house
from tests.support.control_house import NOW, House
from transport.errors import UsageError

DAY_S = 86400.0


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return control_house.build(tmp_path, monkeypatch)


def make(house: House, name: str = "caisse", space_id: str = "", days: int = 10, now: float = NOW) -> NewApiToken:
    return api_tokens.create(
        house.db,
        space_id=space_id or house.ours.space_id,
        name=name,
        permissions=[Permission.WRITE, Permission.READ, Permission.READ],
        days=days,
        by="admin@example.org",
        now=now,
    )


def test_it_is_known_by_its_text_and_by_nothing_else(house: House) -> None:
    new = make(house)
    found = api_tokens.presented(house.db, new.text, address="192.0.2.1", now=NOW)
    assert found is not None and found.id == new.token.id and found.scope == OneSpace(house.ours.space_id)
    assert found.permissions == {Permission.READ, Permission.WRITE}
    for wrong in ("", new.text[:-1], new.text + "x", new.text.upper(), new.token.prefix, new.token.id, "\udcff" * 9):
        assert api_tokens.presented(house.db, wrong, address="", now=NOW) is None, wrong
    assert new.text.startswith(new.token.prefix + "_") and new.text not in repr(new)


def test_nothing_of_it_is_stored_but_its_hash(house: House) -> None:
    new = make(house)
    kept = house.path.read_bytes()
    assert new.text[len(new.token.prefix) + 1 :].encode() not in kept and new.token.prefix.encode() in kept


def test_it_ends_by_itself_and_at_once(house: House) -> None:
    new = make(house, days=1)
    assert new.token.state(NOW + DAY_S - 1) is TokenState.LIVE
    assert new.token.state(NOW + DAY_S) is TokenState.EXPIRED
    assert api_tokens.presented(house.db, new.text, address="", now=NOW + DAY_S) is None
    ended = api_tokens.revoke(house.db, EVERYTHING, new.token.id, by="x@example.org", now=NOW + 1)
    assert (ended.state(NOW), ended.revoked_by) == (TokenState.REVOKED, "x@example.org")
    assert api_tokens.revoke(house.db, EVERYTHING, new.token.id, by="y", now=NOW + 9) == ended
    assert api_tokens.presented(house.db, new.text, address="", now=NOW) is None


def test_its_use_is_written_once_a_minute_and_when_the_clock_went_back(house: House) -> None:
    new = make(house)

    def used(now: float, address: str) -> tuple[float | None, str]:
        api_tokens.presented(house.db, new.text, address=address, now=now)
        one = api_tokens.find(house.db, EVERYTHING, new.token.id)
        return one.used_at, one.used_from

    assert used(NOW + 100, "a") == (NOW + 100, "a")
    assert used(NOW + 159, "b") == (NOW + 100, "a")
    assert used(NOW + 160, "b") == (NOW + 160, "b")
    assert used(NOW + 10, "c") == (NOW + 10, "c")


def test_scopes_see_their_own(house: House) -> None:
    near, far = make(house), make(house, space_id=house.elsewhere.space_id)
    assert [one.id for one in api_tokens.every(house.db, OneSpace(house.ours.space_id))] == [near.token.id]
    assert {one.id for one in api_tokens.every(house.db, EVERYTHING)} == {near.token.id, far.token.id}
    assert api_tokens.every(house.db, OneContract(house.ours.id)) == []
    for act in (api_tokens.find, lambda *a: api_tokens.revoke(*a, by="x", now=NOW)):
        with pytest.raises(NotFoundError):
            act(house.db, OneSpace(house.ours.space_id), far.token.id)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "control"),
        ({"permissions": []}, "permission"),
        ({"days": 0}, "out of range"),
        ({"days": 731}, "out of range"),
    ],
)
def test_what_is_no_token(house: House, values: dict[str, object], said: str) -> None:
    given: dict[str, object] = {"name": "x", "permissions": [Permission.READ], "days": 1} | values
    with pytest.raises(UsageError, match=said):
        api_tokens.create(house.db, space_id=house.ours.space_id, by="x", now=NOW, **given)  # type: ignore[arg-type]
    assert not api_tokens.every(house.db, EVERYTHING)


def test_names_of_live_tokens_differ_within_a_space(house: House) -> None:
    make(house)
    with pytest.raises(ConflictError):
        make(house, "CAISSE")
    make(house, space_id=house.elsewhere.space_id)
    make(house, now=NOW + 10 * DAY_S)


def test_there_are_not_endlessly_many(house: House) -> None:
    for number in range(api_tokens.LIVE_LIMIT):
        make(house, f"t{number}")
    with pytest.raises(UsageError, match="50 tokens"):
        make(house, "one more")


def test_they_go_with_their_space(house: House) -> None:
    space = spaces.add(house.db, "short", NOW)
    new = make(house, space_id=space.id)
    with house.db.write():
        house.db.execute("DELETE FROM space WHERE id = ?", [space.id])
    assert api_tokens.presented(house.db, new.text, address="", now=NOW) is None
