"""Server-side sessions: how long they live, and everything that ends them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import accounts, sessions
from appliance.control.accounts import AccountState, Role
from appliance.control.sessions import IDLE_S, LIFE_S, NewSession
from appliance.errors import NotFoundError
from tests.support.control_house import NOW, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def opened(house: House, who: str = "admin", now: float = NOW) -> NewSession:
    return sessions.open(house.db, house.accounts[who].id, address="192.0.2.1", user_agent="Fire\nfox", now=now)


def test_a_token_finds_its_session_and_is_stored_nowhere(house: House) -> None:
    new = opened(house)
    found = sessions.find(house.db, new.token, NOW + 1)
    assert found == new.session and found.user_agent == "Fire fox"
    assert len(new.token) >= 43 and new.token not in repr(new)
    assert new.token.encode() not in house.path.read_bytes()
    for wrong in ("", "x", new.token[:-1], new.token + "x", "é" * 1000, "\udcff"):
        assert sessions.find(house.db, wrong, NOW) is None


def test_half_an_hour_of_silence_ends_it(house: House) -> None:
    new = opened(house)
    assert sessions.find(house.db, new.token, NOW + IDLE_S - 1) is not None
    assert sessions.find(house.db, new.token, NOW + 2 * IDLE_S - 2) is not None, "seen meanwhile"
    assert sessions.find(house.db, new.token, NOW + 3 * IDLE_S) is None
    assert sessions.find(house.db, new.token, NOW + 1) is None, "what has ended stays ended, even if a clock goes back"


def test_four_hours_end_it_however_busy(house: House) -> None:
    new = opened(house)
    at = NOW
    while at + 600 < NOW + LIFE_S:
        at += 600
        assert sessions.find(house.db, new.token, at) is not None
    assert sessions.find(house.db, new.token, NOW + LIFE_S) is None


def test_being_seen_is_written_once_a_minute(house: House) -> None:
    new = opened(house)
    before = house.db.value("SELECT total_changes() AS n")
    for second in range(1, 60):
        sessions.find(house.db, new.token, NOW + second)
    assert house.db.value("SELECT total_changes() AS n") == before
    found = sessions.find(house.db, new.token, NOW + 60)
    assert found is not None
    assert sessions.of_account(house.db, found.account_id, NOW + 61)[0].last_seen_at == NOW + 60


def test_logout_ends_one_and_the_list_ends_others(house: House) -> None:
    one, two, foreign = opened(house), opened(house, now=NOW + 1), opened(house, "support")
    me = house.accounts["admin"].id
    assert [s.id for s in sessions.of_account(house.db, me, NOW + 2)] == [two.session.id, one.session.id]
    with pytest.raises(NotFoundError):
        sessions.end_own(house.db, me, foreign.session.id)
    assert sessions.find(house.db, foreign.token, NOW + 2) is not None
    sessions.end_own(house.db, me, one.session.id)
    sessions.end(house.db, two.session.id)
    assert sessions.of_account(house.db, me, NOW + 2) == []
    assert sessions.find(house.db, one.token, NOW + 2) is None


def test_changes_of_the_account_end_its_sessions(house: House) -> None:
    db, admin = house.db, house.accounts["admin"]
    changes = (
        lambda: accounts.set_password(db, admin, "quite another one"),
        lambda: accounts.set_email(db, admin, "new@example.org"),
        lambda: accounts.set_role(db, admin, Role.CUSTOMER, contract_id=house.ours.id),
        lambda: accounts.renew_totp(db, admin),
        lambda: accounts.set_state(db, admin, AccountState.DISABLED),
    )
    other = opened(house, "support")
    for change in changes:
        new = opened(house)
        change()
        assert sessions.find(db, new.token, NOW) is None, change
    assert sessions.find(db, other.token, NOW) is not None
    late = opened(house)
    assert sessions.find(db, late.token, NOW) is None, "a disabled account has no session, however it got one"


def test_the_session_that_changed_the_password_may_stay(house: House) -> None:
    mine, other = opened(house), opened(house)
    accounts.set_password(house.db, house.accounts["admin"], "quite another one", keep_session=mine.session.id)
    assert sessions.find(house.db, mine.token, NOW) is not None
    assert sessions.find(house.db, other.token, NOW) is None


def test_sweep_removes_what_is_over(house: House) -> None:
    opened(house, now=NOW - IDLE_S - 1)
    kept = opened(house)
    assert sessions.sweep(house.db, NOW) == 1
    assert sessions.find(house.db, kept.token, NOW) is not None
