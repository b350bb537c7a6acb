"""Logging in: both factors, one session that dies at logout, nothing for strangers."""

from __future__ import annotations

from tests.support.control_house import PASSWORD
from tests.webui.web_house import WebHouse


def test_a_stranger_is_led_to_the_login_page(web: WebHouse) -> None:
    for path in ("/", "/contracts", "/nowhere", "/system"):
        answer = web.stranger().get(path)
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/login?next=")


def test_the_api_answers_a_stranger_with_problem_json(web: WebHouse) -> None:
    answer = web.stranger().get("/api/v1/contracts")
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"


def test_both_factors_open_the_page_that_was_asked_for(web: WebHouse) -> None:
    browser = web.stranger()
    browser.secret = web.house.secrets["admin"]
    browser.get("/login?next=/alerts")
    answer = browser.post("/login", {"email": "admin@example.org", "password": PASSWORD})
    assert answer.headers["Location"] == "/login/code"
    browser.get("/login/code")
    answer = browser.post("/login/code", {"code": browser.code()})
    assert answer.headers["Location"] == "/alerts"
    assert browser.get("/alerts").status_code == 200


def test_a_place_elsewhere_is_not_gone_on_to(web: WebHouse) -> None:
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
        browser = web.stranger()
        browser.secret = web.house.secrets["admin"]
        browser.get("/login", query_string={"next": target})
        browser.post("/login", {"email": "admin@example.org", "password": PASSWORD})
        browser.get("/login/code")
        assert browser.post("/login/code", {"code": browser.code()}).headers["Location"] == "/"


def test_a_wrong_password_keeps_the_address_and_says_so_beside_the_field(web: WebHouse) -> None:
    browser = web.stranger()
    browser.get("/login")
    answer = browser.post("/login", {"email": "admin@example.org", "password": "wrong"})
    text = answer.get_data(as_text=True)
    assert "Adresse ou mot de passe incorrect." in text
    assert 'value="admin@example.org"' in text
    assert "wrong" not in text


def test_a_copied_cookie_is_dead_after_logout(web: WebHouse) -> None:
    browser = web.browser("admin")
    cookie = browser.client.get_cookie("pilulier")
    assert cookie is not None
    copy = web.stranger()
    copy.client.set_cookie("pilulier", cookie.value)
    assert copy.get("/").status_code == 200
    assert browser.post("/logout").status_code == 303
    assert copy.get("/").status_code == 303


def test_a_session_ends_after_half_an_hour_without_a_request(web: WebHouse) -> None:
    browser = web.browser("admin")
    web.clock.tick(29 * 60)
    assert browser.get("/").status_code == 200
    web.clock.tick(31 * 60)
    assert browser.get("/").status_code == 303


def test_a_post_without_its_token_is_refused(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.token = ""
    assert browser.post("/logout").status_code == 400
    assert browser.get("/").status_code == 200


def test_every_answer_carries_the_security_headers(web: WebHouse) -> None:
    for path in ("/login", "/", "/nowhere", "/healthz", "/static/pilulier.css"):
        answer = web.stranger().get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_pages_speak_the_accounts_language(web: WebHouse) -> None:
    browser = web.browser("admin")
    assert "Salle de contrôle" in browser.get("/").get_data(as_text=True)
    browser.post("/language", {"language": "en", "next": "/"})
    assert '<html lang="en">' in browser.get("/").get_data(as_text=True)
