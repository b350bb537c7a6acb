"""An invited person's way in, as their browser goes it."""

from __future__ import annotations

import re

from appliance.control import accounts, audit, invitations, recovery_codes
from appliance.control.accounts import Role
from appliance.control.scope import EVERYTHING
from tests.webui.web_house import Browser, WebHouse

PASSWORD = "a password of my own"
CODES = re.compile(r"\b[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}\b")


def invited(web: WebHouse, email: str = "new@example.org") -> tuple[Browser, str]:
    """A browser at the page, and the secret that the page shows."""
    new = invitations.invite(
        web.house.db,
        email=email,
        role=Role.CUSTOMER,
        contract_id=web.house.ours.id,
        by=web.house.accounts["admin"],
        now=web.clock(),
        language="de",
    )
    browser = web.stranger()
    answer = browser.get(f"/invitation/{new.token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/invitation")
    text = browser.get("/invitation").get_data(as_text=True)
    assert new.token not in text and email in text and "Client" in text
    browser.secret = invitations.totp_of(web.house.db, new.token, web.clock()).secret
    return browser, text


def test_the_page_shows_picture_and_secret_in_the_themes_colours(web: WebHouse) -> None:
    browser, text = invited(web)
    groups = "".join(f"<span>{browser.secret[at : at + 4]}</span>" for at in range(0, len(browser.secret), 4))
    assert groups in text and "<svg viewBox" in text and "style=" not in text
    assert f"/theme/{web.house.ours.space_id}/" in text
    assert groups in browser.get("/invitation").get_data(as_text=True), "a reload shows the same"


def test_password_and_first_code_make_the_account_and_show_codes_once(web: WebHouse) -> None:
    browser, _ = invited(web)
    answer = browser.post("/invitation", {"password": PASSWORD, "again": PASSWORD, "code": browser.code()})
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    codes = set(CODES.findall(answer.get_data(as_text=True)))
    assert len(codes) == 10
    account = accounts.find(web.house.db, "new@example.org")
    assert (account.role, account.contract_id, account.language) == (Role.CUSTOMER, web.house.ours.id, "de")
    assert browser.get("/invitation").status_code == 404
    [act] = [act for act in audit.search(web.house.db, EVERYTHING).acts if act.kind == "account.add"]
    assert (act.email, act.object_id, act.contract_id) == ("new@example.org", account.id, web.house.ours.id)
    assert web.logged_in("new@example.org", browser.secret, PASSWORD).get("/").status_code == 200
    assert recovery_codes.use(web.house.db, account.id, codes.pop())


def test_wrong_input_is_said_beside_its_field_and_makes_nothing(web: WebHouse) -> None:
    browser, _ = invited(web)
    for fields, sentence in (
        ({"password": "", "again": "", "code": ""}, "À remplir."),
        ({"password": "short", "again": "short", "code": "1"}, "Au moins 8 caractères."),
        ({"password": PASSWORD, "again": "another one", "code": "1"}, "Les deux mots de passe diffèrent"),
        ({"password": PASSWORD, "again": PASSWORD, "code": "000 000"}, "affiche en ce moment"),
    ):
        text = browser.post("/invitation", dict(fields)).get_data(as_text=True)
        assert sentence in text and PASSWORD not in text
        if fields["code"]:
            assert f'value="{fields["code"]}"' in text
    assert all(account.email != "new@example.org" for account in accounts.every(web.house.db))


def test_an_address_that_got_an_account_meanwhile_is_told(web: WebHouse) -> None:
    browser, _ = invited(web)
    accounts.add(web.house.db, email="new@example.org", role=Role.SUPER, password=PASSWORD, now=web.clock())
    answer = browser.post("/invitation", {"password": PASSWORD, "again": PASSWORD, "code": browser.code()})
    assert "Un compte existe déjà" in answer.get_data(as_text=True)


def test_who_was_logged_in_here_is_not_taken_for_the_new_person(web: WebHouse) -> None:
    admin = web.browser("admin")
    new = invitations.invite(
        web.house.db, email="x@example.org", role=Role.SUPPORT, space_id=web.house.ours.space_id,
        by=web.house.accounts["admin"], now=web.clock(),
    )  # fmt: skip
    admin.get(f"/invitation/{new.token}")
    admin.get("/invitation")
    admin.secret = invitations.totp_of(web.house.db, new.token, web.clock()).secret
    answer = admin.post("/invitation", {"password": PASSWORD, "again": PASSWORD, "code": admin.code()})
    assert len(CODES.findall(answer.get_data(as_text=True))) == 10
    assert admin.get("/").status_code == 303
