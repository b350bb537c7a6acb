"""Forgotten passwords: silent for strangers, bounded for the mailbox, never around the second factor."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import accounts, logins, outbox, password_resets, sessions
from appliance.control.accounts import AccountState
from appliance.errors import LoginError, NotFoundError, OneTimeCodeError, ThrottledError
from tests.support.control_house import NOW, PASSWORD, House, build
from transport.errors import UsageError

OTHER = "quite another password"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def ask(house: House, email: str = "admin@example.org", now: float = NOW) -> str:
    password_resets.request(house.db, email, address="192.0.2.1", now=now)
    mails = outbox.pending(house.db)
    return mails[-1].secret or "" if mails else ""


def test_a_link_changes_the_password_and_nothing_else(house: House) -> None:
    account = house.accounts["admin"]
    old = sessions.open(house.db, account.id, address="a", user_agent="b", now=NOW)
    token = ask(house, " Admin@Example.org ")
    assert password_resets.find(house.db, token, NOW) == account
    with pytest.raises(UsageError):
        password_resets.reset(house.db, token, "short", NOW)
    assert password_resets.reset(house.db, token, OTHER, NOW) == account
    assert sessions.find(house.db, old.token, NOW) is None
    with pytest.raises(NotFoundError):
        password_resets.reset(house.db, token, OTHER, NOW)
    with pytest.raises(LoginError):
        logins.check_password(house.db, account.email, PASSWORD, address="a", now=NOW)
    step = logins.check_password(house.db, account.email, OTHER, address="a", now=NOW)
    with pytest.raises(OneTimeCodeError):
        logins.finish(house.db, step.token, "000000", address="a", user_agent="b", now=NOW)
    assert [mail.kind for mail in outbox.pending(house.db)] == [outbox.PASSWORD_RESET, outbox.PASSWORD_CHANGED]


def test_strangers_and_disabled_accounts_get_no_mail(house: House) -> None:
    accounts.set_state(house.db, house.accounts["admin"], AccountState.DISABLED)
    for email in ("nobody@example.org", "admin@example.org", "", house.accounts["support"].id, "\x00"):
        assert ask(house, email) == ""


def test_three_mails_an_hour_and_the_newest_link_counts(house: House) -> None:
    tokens = [ask(house, now=NOW + number) for number in range(5)]
    assert len(outbox.pending(house.db)) == 3 and tokens[2] == tokens[4]
    for token in tokens[:2]:
        with pytest.raises(NotFoundError):
            password_resets.find(house.db, token, NOW + 5)
    assert password_resets.find(house.db, tokens[2], NOW + 5) == house.accounts["admin"]
    assert ask(house, now=NOW + 3700) not in tokens
    with pytest.raises(NotFoundError):
        password_resets.find(house.db, tokens[2], NOW + 5 + 48 * 3600)


def test_one_address_asks_only_so_often_whoever_it_asks_for(house: House) -> None:
    for number in range(password_resets.ASKED_AN_HOUR):
        ask(house, f"person{number}@example.org")
    for email in ("admin@example.org", "nobody@example.org"):
        with pytest.raises(ThrottledError) as error:
            ask(house, email, NOW + 600)
        assert error.value.wait_s == 3000
    password_resets.request(house.db, "admin@example.org", address="198.51.100.7", now=NOW + 600)
    assert len(outbox.pending(house.db)) == 1
    assert ask(house, now=NOW + 3601) != ""
    assert logins.check_password(house.db, "admin@example.org", PASSWORD, address="192.0.2.1", now=NOW).account
