"""Logins from elsewhere: told once per network, never for the first login, in nobody else's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import logins, outbox
from appliance.control.login_places import network
from tests.support.control_house import NOW, PASSWORD, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("", ""),
        ("a name", "a name"),
    ],
)
def test_a_place_is_a_network(address: str, expected: str) -> None:
    assert network(address) == expected


def test_a_login_from_elsewhere_is_told_once(house: House) -> None:
    def told(address: str, step: int, who: str = "admin") -> list[str]:
        now = NOW + 30 * step
        known = len(outbox.pending(house.db))
        waiting = logins.check_password(house.db, f"{who}@example.org", PASSWORD, address=address, now=now)
        logins.finish(house.db, waiting.token, house.code(who, now), address=address, user_agent="Firefox", now=now)
        mails = outbox.pending(house.db)[known:]
        assert all(mail.recipient == f"{who}@example.org" and mail.kind == outbox.NEW_ADDRESS for mail in mails)
        return [str(mail.fields["address"]) for mail in mails]

    assert told("192.0.2.1", 1) == [], "the first login is no news"
    assert told("192.0.2.1", 2) == told("192.0.2.200", 3) == []
    assert told("198.51.100.7", 4) == ["198.51.100.7"]
    assert told("198.51.100.8", 5) == told("192.0.2.1", 6) == []
    assert told("198.51.100.7", 7, "support") == [], "another account's places are its own"
    assert told("203.0.113.9", 8, "support") == ["203.0.113.9"]
