"""Lost authenticators: request, approval from above, link, password, new device; each alone opens nothing."""

from __future__ import annotations

from pathlib import Path

import pyotp
import pytest

from appliance.control import accounts, logins, lost_devices, outbox, recovery_codes, sessions
from appliance.errors import LoginError, NotFoundError, OneTimeCodeError
from tests.support.control_house import NOW, PASSWORD, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def request(house: House, who: str, now: float = NOW) -> lost_devices.LostDevice:
    return lost_devices.request(house.db, house.accounts[who], address="192.0.2.1", now=now)


def approved(house: House, who: str = "customer", by: str = "admin") -> str:
    lost_devices.approve(house.db, house.accounts[by], request(house, who).id, NOW)
    token = outbox.pending(house.db)[-1].secret
    assert token
    return token


def test_only_someone_above_decides(house: House) -> None:
    asked = {who: request(house, who) for who in house.accounts}
    deciders = {
        who: {found.account.email.split("@")[0] for found in lost_devices.waiting(house.db, account, NOW)}
        for who, account in house.accounts.items()
    }
    assert deciders == {
        "super": {"admin", "support", "customer"},
        "admin": {"support", "customer"},
        "support": set(),
        "customer": set(),
    }
    for who, account in house.accounts.items():
        for other, found in asked.items():
            if other not in deciders[who]:
                with pytest.raises(NotFoundError):
                    lost_devices.approve(house.db, account, found.id, NOW)
                with pytest.raises(NotFoundError):
                    lost_devices.refuse(house.db, account, found.id, NOW)


def test_another_space_decides_nothing(house: House) -> None:
    far = accounts.add(
        house.db, email="far@example.org", role=accounts.Role.ADMIN, password=PASSWORD, now=NOW,
        space_id=house.elsewhere.space_id,
    ).account  # fmt: skip
    found = request(house, "customer")
    assert lost_devices.waiting(house.db, far, NOW) == []
    with pytest.raises(NotFoundError):
        lost_devices.approve(house.db, far, found.id, NOW)


def test_everyone_concerned_is_told(house: House) -> None:
    first = request(house, "customer")
    assert request(house, "customer", NOW + 1) == first, "asked again, the request stands"
    told = {(mail.recipient.split("@")[0], mail.kind) for mail in outbox.pending(house.db)}
    assert told == {
        ("customer", outbox.DEVICE_REQUESTED),
        ("admin", outbox.DEVICE_TO_APPROVE),
        ("super", outbox.DEVICE_TO_APPROVE),
    }
    lost_devices.refuse(house.db, house.accounts["admin"], first.id, NOW)
    assert outbox.pending(house.db)[-1].kind == outbox.DEVICE_REFUSED
    assert lost_devices.waiting(house.db, house.accounts["admin"], NOW) == []


def test_the_whole_way(house: House) -> None:
    account = house.accounts["customer"]
    old = sessions.open(house.db, account.id, address="a", user_agent="b", now=NOW)
    token = approved(house)
    assert sessions.find(house.db, old.token, NOW) is None
    with pytest.raises(LoginError):
        lost_devices.prove(house.db, token, "wrong wrong", address="a", now=NOW)
    proof = lost_devices.prove(house.db, token, PASSWORD, address="a", now=NOW)
    totp = lost_devices.totp_of(house.db, token, proof, NOW)
    assert lost_devices.totp_of(house.db, token, proof, NOW).secret == totp.secret
    code = pyotp.TOTP(totp.secret).at(int(NOW))
    other = logins.check_password(house.db, "admin@example.org", PASSWORD, address="a", now=NOW).token
    for wrong in ("", "nonsense", other):
        with pytest.raises(LoginError):
            lost_devices.totp_of(house.db, token, wrong, NOW)
        with pytest.raises(LoginError):
            lost_devices.finish(house.db, token, wrong, code, NOW)
    with pytest.raises(LoginError):
        lost_devices.finish(house.db, token, proof, code, NOW + logins.PENDING_S)
    with pytest.raises(OneTimeCodeError):
        lost_devices.finish(house.db, token, proof, "000000", NOW)
    codes = lost_devices.finish(house.db, token, proof, code, NOW)
    assert len(codes) == recovery_codes.left(house.db, account.id) == 10
    with pytest.raises(NotFoundError):
        lost_devices.find(house.db, token, NOW)
    step = logins.check_password(house.db, account.email, PASSWORD, address="a", now=NOW + 60)
    with pytest.raises(OneTimeCodeError):
        logins.finish(house.db, step.token, house.code("customer", NOW + 60), address="a", user_agent="b", now=NOW + 60)
    new = pyotp.TOTP(totp.secret).at(int(NOW) + 60)
    assert logins.finish(house.db, step.token, new, address="a", user_agent="b", now=NOW + 60)


def test_requests_and_links_grow_old(house: House) -> None:
    found = request(house, "customer")
    late = NOW + lost_devices.LIFE_S
    with pytest.raises(NotFoundError):
        lost_devices.approve(house.db, house.accounts["admin"], found.id, late)
    token = approved(house, "support", "super")
    with pytest.raises(NotFoundError):
        lost_devices.find(house.db, token, NOW + 48 * 3600)
