"""Enrolment codes as commands and pages hand them out, what waits of them, and taking them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import enrolment_codes
from appliance.control import contracts, enrol_tokens, machines
from appliance.control.contracts import TOKEN_LIFE_S
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import EnrolCodeError, PausedError
from appliance.settings import Home, Settings, initialising
from tests.support import control_house
from tests.support.control_house import NOW, House, keys
from transport.enrolment import decode_code


@pytest.fixture
def home(tmp_path: Path) -> Home:
    with initialising(tmp_path / "home", Settings(public_host="backup.example.org")) as made:
        pass
    return made


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return control_house.build(tmp_path, monkeypatch)


def test_a_code_says_where_to_connect_and_whom_to_trust(home: Home, house: House) -> None:
    code = enrolment_codes.issue(home, house.db, house.ours, NOW)
    said = decode_code(code.text)
    assert said.transport == ["tcp://backup.example.org:9444"]
    assert said.enrolment == ["tcp://backup.example.org:9445"]
    assert said.identity == home.load_identity().public and said.curve_key == home.curve_public()
    assert code.expires_at == NOW + TOKEN_LIFE_S
    assert code.command("PC") == f"pilulier-agent enrol {code.text} --name PC"
    assert code.text not in repr(code)
    machine = machines.enrol(house.db, said.token, name="NEW", agent_version="1", platform="Linux", now=NOW, **keys(50))
    assert machine.contract_id == house.ours.id


def test_a_paused_contract_gets_none(home: Home, house: House) -> None:
    with pytest.raises(PausedError):
        enrolment_codes.issue(home, house.db, contracts.pause(house.db, house.ours), NOW)


def test_what_waits_is_counted_until_it_is_used_or_expires(home: Home, house: House) -> None:
    db, ours = house.db, house.ours
    first = enrolment_codes.issue(home, db, ours, NOW)
    enrolment_codes.issue(home, db, ours, NOW + 10)
    found = enrol_tokens.waiting(db, EVERYTHING, ours.id, NOW + 20)
    assert [token.expires_at for token in found] == [NOW + TOKEN_LIFE_S, NOW + 10 + TOKEN_LIFE_S]
    token = decode_code(first.text).token
    machines.enrol(db, token, name="NEW", agent_version="1", platform="Linux", now=NOW + 20, **keys(50))
    assert len(enrol_tokens.waiting(db, EVERYTHING, ours.id, NOW + 20)) == 1
    assert not enrol_tokens.waiting(db, EVERYTHING, ours.id, NOW + 20 + TOKEN_LIFE_S)


def test_a_withdrawn_code_enrols_nothing(home: Home, house: House) -> None:
    db, ours = house.db, house.ours
    code = enrolment_codes.issue(home, db, ours, NOW)
    other = enrolment_codes.issue(home, db, house.neighbour, NOW)
    assert enrol_tokens.withdraw(db, EVERYTHING, ours.id, NOW) == 1
    assert enrol_tokens.withdraw(db, EVERYTHING, ours.id, NOW) == 0
    with pytest.raises(EnrolCodeError):
        machines.enrol(db, decode_code(code.text).token, name="N", agent_version="1", platform="L", now=NOW, **keys(50))
    machines.enrol(db, decode_code(other.text).token, name="N", agent_version="1", platform="L", now=NOW, **keys(51))


def test_codes_outside_of_a_scope_are_not_there(home: Home, house: House) -> None:
    db = house.db
    enrolment_codes.issue(home, db, house.elsewhere, NOW)
    for scope in (OneSpace(house.ours.space_id), OneContract(house.ours.id)):
        assert not enrol_tokens.waiting(db, scope, house.elsewhere.id, NOW)
        assert enrol_tokens.withdraw(db, scope, house.elsewhere.id, NOW) == 0
    assert len(enrol_tokens.waiting(db, EVERYTHING, house.elsewhere.id, NOW)) == 1
