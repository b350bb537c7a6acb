"""Forgotten passwords: one answer for everybody, a link that leaves the address bar, one use."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import urlsplit

import pytest

from appliance.control import audit, outbox, password_resets
from appliance.control.scope import EVERYTHING
from tests.webui.web_house import Browser, WebHouse
from webui import links

NEW = "quite another password"


def asked(web: WebHouse, email: str = "admin@example.org") -> str:
    browser = web.stranger()
    browser.get("/password/forgotten")
    answer = browser.post("/password/forgotten", {"email": email})
    assert answer.status_code == 303 and answer.headers["Location"] == "/password/forgotten?sent=1"
    return next((mail.secret or "" for mail in reversed(outbox.pending(web.house.db))), "")


def opened(web: WebHouse, token: str) -> Browser:
    browser = web.stranger()
    answer = browser.get(f"/password/{token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/password"), "no token stays in the address"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    return browser


def test_every_address_gets_the_same_answer(web: WebHouse) -> None:
    pages = []
    for email in ("admin@example.org", "nobody@example.org", "not an address"):
        asked(web, email)
        pages.append(web.stranger().get("/password/forgotten?sent=1").get_data(as_text=True).split("<main")[1])
    assert "Si un compte existe pour cette adresse" in pages[0]
    assert len(set(pages)) == 1
    assert [mail.recipient for mail in outbox.pending(web.house.db)] == ["admin@example.org"]


def test_a_missing_address_is_said_beside_its_field(web: WebHouse) -> None:
    browser = web.stranger()
    browser.get("/password/forgotten")
    assert "À remplir." in browser.post("/password/forgotten", {"email": ""}).get_data(as_text=True)


def test_who_asks_too_often_is_told_when_to_come_back(web: WebHouse) -> None:
    browser = web.stranger()
    browser.get("/password/forgotten")
    for number in range(password_resets.ASKED_AN_HOUR):
        browser.post("/password/forgotten", {"email": f"p{number}@example.org"})
    text = browser.post("/password/forgotten", {"email": "last@example.org"}).get_data(as_text=True)
    assert "réessayez dans 60 minutes" in text and 'value="last@example.org"' in text


def test_a_link_changes_the_password_once(web: WebHouse) -> None:
    logged_in = web.browser("admin")
    token = asked(web)
    browser = opened(web, token)
    text = browser.get("/password").get_data(as_text=True)
    assert "admin@example.org" in text and token not in text
    answer = browser.post("/password", {"password": NEW, "again": NEW})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert "Votre mot de passe est changé" in browser.get("/login").get_data(as_text=True)
    assert logged_in.get("/").status_code == 303, "its sessions have ended"
    again = opened(web, token)
    answer = again.get("/password")
    assert answer.status_code == 404 and "Ce lien ne mène plus nulle part" in answer.get_data(as_text=True)
    assert web.logged_in("admin@example.org", web.house.secrets["admin"], NEW).get("/").status_code == 200
    [act] = [act for act in audit.search(web.house.db, EVERYTHING).acts if act.kind == "account.password"]
    assert (act.email, act.object_name, act.after) == ("admin@example.org", "admin@example.org", '{"by": "link"}')


def test_wrong_input_is_said_beside_its_field_and_leaves_the_link_good(web: WebHouse) -> None:
    browser = opened(web, asked(web))
    browser.get("/password")
    for password, again, sentence in (
        ("", "", "À remplir."),
        ("short", "short", "Au moins 8 caractères."),
        (NEW, NEW + "x", "Les deux mots de passe diffèrent"),
        ("é" * 600, "é" * 600, "trop long"),
    ):
        answer = browser.post("/password", {"password": password, "again": again})
        text = answer.get_data(as_text=True)
        assert answer.status_code == 200 and sentence in text
        assert NEW not in text, "passwords never come back in a page"
    assert browser.post("/password", {"password": NEW, "again": NEW}).status_code == 303


def test_links_that_lead_nowhere_say_so_and_how_to_go_on(web: WebHouse) -> None:
    for path, sentence in (
        ("/password/nonsense", "Demander un autre lien"),
        ("/invitation/nonsense", "Demandez une nouvelle invitation"),
        ("/device/nonsense", "demandez de nouveau le remplacement"),
    ):
        browser = web.stranger()
        answer = browser.get(path)
        target = urlsplit(answer.headers["Location"]).path
        assert "nonsense" not in target
        answer = browser.get(target)
        assert answer.status_code == 404 and sentence in answer.get_data(as_text=True)
        assert web.stranger().get(target).status_code == 404


def test_pages_of_a_link_wear_the_theme_of_the_accounts_space(web: WebHouse) -> None:
    browser = opened(web, asked(web))
    assert f"/theme/{web.house.ours.space_id}/" in browser.get("/password").get_data(as_text=True)


def test_a_token_never_reaches_the_log_not_even_by_an_error(
    web: WebHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> NoReturn:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(links, "keep", breaks)
    for path in ("password", "invitation", "device"):
        assert web.stranger().get(f"/{path}/a-secret-token").status_code == 500
        assert f"/{path}/<token>" in caplog.records[-1].getMessage()
    assert "a-secret-token" not in "".join(record.getMessage() for record in caplog.records)
