"""A lost telephone: asked for behind the password, approved above, enrolled behind link and password."""

from __future__ import annotations

import re

from appliance.control import account_tokens, accounts, audit, lost_devices, outbox, recovery_codes
from appliance.control.accounts import AccountState
from appliance.control.scope import EVERYTHING
from tests.support.control_house import PASSWORD
from tests.webui.web_house import Browser, WebHouse

SECRET = re.compile(r"<span>([A-Z2-7]{4})</span>")


def half_in(web: WebHouse, who: str) -> Browser:
    """Behind the password, in front of the code."""
    browser = web.stranger()
    browser.get("/login")
    assert browser.post("/login", {"email": f"{who}@example.org", "password": PASSWORD}).status_code == 303
    return browser


def approved(web: WebHouse, who: str = "customer") -> Browser:
    """A browser that followed the mailed link."""
    account = web.house.accounts[who]
    found = lost_devices.request(web.house.db, account, address="192.0.2.1", now=web.clock())
    lost_devices.approve(web.house.db, web.house.accounts["super"], found.id, web.clock())
    token = outbox.pending(web.house.db)[-1].secret
    browser = web.stranger()
    answer = browser.get(f"/device/{token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/device")
    browser.get("/device")
    return browser


def kinds(web: WebHouse) -> list[str]:
    return [act.kind for act in audit.search(web.house.db, EVERYTHING).acts]


def test_the_request_stands_behind_the_password(web: WebHouse) -> None:
    assert web.stranger().get("/login/lost-device").headers["Location"] == "/login"
    stranger = web.stranger()
    stranger.get("/login")
    assert stranger.post("/login/lost-device").headers["Location"] == "/login"
    assert outbox.pending(web.house.db) == []


def test_a_request_is_made_once_and_shown_as_such(web: WebHouse) -> None:
    recovery_codes.renew(web.house.db, web.house.accounts["customer"].id, web.clock())
    browser = half_in(web, "customer")
    assert "/login/lost-device" in browser.get("/login/code").get_data(as_text=True)
    text = browser.get("/login/lost-device").get_data(as_text=True)
    assert "10 codes de secours" in text and "Envoyer la demande" in text
    for _ in range(2):
        assert browser.post("/login/lost-device").headers["Location"] == "/login/lost-device"
    text = browser.get("/login/lost-device").get_data(as_text=True)
    assert "est transmise" in text and "Envoyer la demande" not in text
    assert kinds(web).count("device.request") == 1
    [found] = lost_devices.waiting(web.house.db, web.house.accounts["admin"], web.clock())
    assert found.account.email == "customer@example.org"


def test_the_only_super_user_is_sent_to_the_command(web: WebHouse) -> None:
    text = half_in(web, "super").get("/login/lost-device").get_data(as_text=True)
    assert "pilulier account edit" in text and "Envoyer la demande" not in text


def test_link_and_password_enrol_another_telephone(web: WebHouse) -> None:
    browser = approved(web)
    text = browser.get("/device").get_data(as_text=True)
    assert "<path stroke" not in text and not SECRET.findall(text), "the link alone shows no secret"
    text = browser.post("/device", {"password": "wrong wrong"}).get_data(as_text=True)
    assert "pas le bon" in text
    assert browser.post("/device", {"password": PASSWORD}).headers["Location"] == "/device"
    browser.secret = "".join(SECRET.findall(browser.get("/device").get_data(as_text=True)))
    text = browser.post("/device", {"code": "000000"}).get_data(as_text=True)
    assert "affiche en ce moment" in text and 'value="000000"' in text
    answer = browser.post("/device", {"code": browser.code()})
    assert answer.status_code == 200 and "codes de secours" in answer.get_data(as_text=True)
    assert browser.get("/device").status_code == 404
    assert "device.replace" in kinds(web)
    assert web.logged_in("customer@example.org", browser.secret).get("/").status_code == 200


def test_the_password_is_good_for_ten_minutes_there(web: WebHouse) -> None:
    browser = approved(web)
    browser.post("/device", {"password": PASSWORD})
    browser.secret = "".join(SECRET.findall(browser.get("/device").get_data(as_text=True)))
    web.clock.tick(601)
    text = browser.post("/device", {"code": browser.code()}).get_data(as_text=True)
    assert "Saisissez votre mot de passe" in text and not SECRET.findall(text)


def test_passwords_typed_there_are_throttled_kindly(web: WebHouse) -> None:
    browser = approved(web)
    for _ in range(5):
        browser.post("/device", {"password": "wrong wrong"})
    assert "réessayez dans 15 minutes" in browser.post("/device", {"password": PASSWORD}).get_data(as_text=True)


def test_a_disabled_accounts_link_leads_nowhere(web: WebHouse) -> None:
    browser = approved(web)
    accounts.set_state(web.house.db, web.house.accounts["customer"], AccountState.DISABLED)
    assert browser.get("/device").status_code == 404


def test_another_accounts_link_does_not_take_this_password(web: WebHouse) -> None:
    mine = approved(web, "customer")
    mine.post("/device", {"password": PASSWORD})
    token = account_tokens.issue(
        web.house.db, web.house.accounts["support"].id, account_tokens.Purpose.DEVICE, web.clock()
    )
    mine.get(f"/device/{token}")
    text = mine.get("/device").get_data(as_text=True)
    assert "support@example.org" in text and not SECRET.findall(text)
