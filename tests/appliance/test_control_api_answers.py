"""Answers of writes kept for a day: the same key, the same request, the same answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.control import api_answers, api_tokens
from appliance.control.api_answers import LIFE_S, Asking, KeptAnswer
from appliance.control.api_tokens import Permission
from appliance.control.scope import EVERYTHING
from appliance.errors import ConflictError
from tests.support import control_house
from tests.support.control_house import NOW, House


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return control_house.build(tmp_path, monkeypatch)


@pytest.fixture
def asking(house: House) -> Asking:
    token = api_tokens.create(house.db, space_id=house.ours.space_id, name="x", permissions=[Permission.READ], days=9,
                              by="x", now=NOW).token  # fmt: skip
    return Asking(token.id, "key", "POST", "/api/v1/contracts", b"{}")


def test_an_answer_is_found_for_a_day(house: House, asking: Asking) -> None:
    assert api_answers.find(house.db, asking, NOW) is None
    answer = KeptAnswer(201, b'{"id": 1}')
    api_answers.keep(house.db, asking, answer, NOW)
    assert api_answers.find(house.db, asking, NOW + LIFE_S - 1) == answer
    assert api_answers.find(house.db, asking, NOW + LIFE_S) is None
    api_answers.keep(house.db, replace(asking, body=b"other"), KeptAnswer(202, None), NOW + LIFE_S)
    assert api_answers.find(house.db, replace(asking, body=b"other"), NOW + LIFE_S) == KeptAnswer(202, None)


@pytest.mark.parametrize("other", [{"method": "PUT"}, {"path": "/api/v1/contracts/x"}, {"body": b"{ }"},
                                   {"path": "/api/v1", "body": b"/contracts{}"}])  # fmt: skip
def test_another_request_under_the_key_clashes(house: House, asking: Asking, other: dict[str, str]) -> None:
    api_answers.keep(house.db, asking, KeptAnswer(201, b""), NOW)
    with pytest.raises(ConflictError):
        api_answers.find(house.db, replace(asking, **other), NOW)
    assert api_answers.find(house.db, replace(asking, key="other", **other), NOW) is None


def test_old_ones_go_when_new_ones_come_and_with_their_token(house: House, asking: Asking) -> None:
    for day in range(3):
        api_answers.keep(house.db, replace(asking, key=f"k{day}"), KeptAnswer(200, b""), NOW + day * LIFE_S)
    assert house.db.value("SELECT count(*) FROM api_answer") == 1
    api_tokens.revoke(house.db, EVERYTHING, asking.token_id, by="x", now=NOW)
    assert house.db.value("SELECT count(*) FROM api_answer") == 0
