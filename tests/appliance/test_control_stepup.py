"""Step-up grants: one account, one session, one action, one object, five minutes, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import recovery_codes, sessions, stepup
from appliance.errors import NotFoundError, OneTimeCodeError, ThrottledError
from tests.support.control_house import NOW, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def session(house: House, who: str = "admin") -> str:
    return sessions.open(house.db, house.accounts[who].id, address="192.0.2.1", user_agent="x", now=NOW).session.id


def grant(house: House, session_id: str, code: str, now: float = NOW, who: str = "admin") -> stepup.Grant:
    account = house.accounts[who]
    return stepup.grant(house.db, account, session_id, "contract.delete", "c1", code, address="192.0.2.1", now=now)


def test_a_grant_is_for_exactly_one_thing_and_works_once(house: House) -> None:
    mine, twin = session(house), session(house)
    me, other = house.accounts["admin"].id, house.accounts["support"].id
    grant(house, mine, house.code("admin"))
    for account, where, action, thing in (
        (me, twin, "contract.delete", "c1"),
        (other, mine, "contract.delete", "c1"),
        (me, mine, "contract.edit", "c1"),
        (me, mine, "contract.delete", "c2"),
    ):
        assert not stepup.holds(house.db, account, where, action, thing, NOW)
        assert not stepup.consume(house.db, account, where, action, thing, NOW)
    assert stepup.holds(house.db, me, mine, "contract.delete", "c1", NOW + 299)
    assert not stepup.holds(house.db, me, mine, "contract.delete", "c1", NOW + 300)
    assert stepup.consume(house.db, me, mine, "contract.delete", "c1", NOW + 1)
    assert not stepup.consume(house.db, me, mine, "contract.delete", "c1", NOW + 1)


def test_codes_buy_one_grant_and_wrong_ones_none(house: House) -> None:
    mine = session(house)
    grant(house, mine, house.code("admin"))
    with pytest.raises(OneTimeCodeError):
        grant(house, mine, house.code("admin"))
    [recovery, *_] = recovery_codes.renew(house.db, house.accounts["admin"].id, NOW)
    with pytest.raises(OneTimeCodeError):
        grant(house, mine, recovery)
    assert recovery_codes.left(house.db, house.accounts["admin"].id) == 10
    for _ in range(3):
        with pytest.raises(OneTimeCodeError):
            grant(house, mine, "000000")
    with pytest.raises(ThrottledError, match="15 minutes"):
        grant(house, mine, house.code("admin", NOW + 30), NOW + 30)


def test_a_grant_ends_with_its_session_and_needs_a_live_one_of_its_own(house: House) -> None:
    mine = session(house)
    grant(house, mine, house.code("admin"))
    sessions.end(house.db, mine)
    assert not stepup.holds(house.db, house.accounts["admin"].id, mine, "contract.delete", "c1", NOW)
    with pytest.raises(NotFoundError):
        grant(house, mine, house.code("admin", NOW + 30), NOW + 30)
    with pytest.raises(NotFoundError):
        grant(house, session(house, "support"), house.code("admin", NOW + 60), NOW + 60)
