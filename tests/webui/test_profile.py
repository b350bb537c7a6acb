"""One's own account: what changes how one gets in asks again, what is shown once is shown once."""

from __future__ import annotations

import re

import pytest

from appliance.control import accounts, audit, outbox, recovery_codes, sessions
from appliance.control.scope import EVERYTHING
from tests.support.control_house import PASSWORD
from tests.webui.web_house import Browser, WebHouse

NEW = "quite another password"
CODES = re.compile(r"\b[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}\b")
SECRET = re.compile(r"<span>([A-Z2-7]{4})</span>")
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile Safari/604.1"


def text_of(browser: Browser, path: str = "/profile") -> str:
    return browser.get(path).get_data(as_text=True)


def kinds(web: WebHouse) -> list[str]:
    return [act.kind for act in audit.search(web.house.db, EVERYTHING).acts]


@pytest.mark.parametrize(
    ("who", "shown"),
    [
        ("super", ("Super utilisateur",)),
        ("admin", ("Administrateur", "near")),
        ("support", ("Technicien support", "near")),
        ("customer", ("Client", "near", "ours")),
    ],
)
def test_everybody_sees_their_own(web: WebHouse, who: str, shown: tuple[str, ...]) -> None:
    text = text_of(web.browser(who)).split("<main")[1]
    for word in (f"{who}@example.org", "Aucun code restant", "Cette session", *shown):
        assert word in text


def test_the_language_is_that_of_pages_and_mails(web: WebHouse) -> None:
    browser = web.browser("support")
    browser.get("/profile")
    assert browser.post("/profile/language", {"language": "de"}).headers["Location"] == "/profile"
    assert '<html lang="de">' in text_of(browser)
    assert accounts.find(web.house.db, "support@example.org").language == "de"
    browser.post("/profile/language", {"language": "xx"})
    assert accounts.find(web.house.db, "support@example.org").language == "de"
    assert kinds(web).count("account.language") == 1


def test_another_password_takes_the_old_one_and_a_code(web: WebHouse) -> None:
    browser, other = web.browser("admin"), web.browser("admin")
    browser.get("/profile/password")
    fields = {"current": PASSWORD, "password": NEW, "again": NEW}
    for change, sentence in (
        ({"current": ""}, "À remplir."),
        ({"current": "wrong wrong"}, "pas le bon"),
        ({"password": "short", "again": "short"}, "Au moins 8 caractères."),
        ({"again": "another one"}, "Les deux mots de passe diffèrent"),
        ({"code": "000000"}, "Ce code n’est pas le bon"),
    ):
        answer = browser.post("/profile/password", {**fields, **change})
        text = answer.get_data(as_text=True)
        assert answer.status_code == 200 and sentence in text and NEW not in text
    answer = browser.post("/profile/password", {**fields, "code": browser.code()})
    assert answer.headers["Location"] == "/profile"
    assert "Votre mot de passe est changé" in text_of(browser)
    assert other.get("/").status_code == 303, "other sessions have ended"
    assert kinds(web).count("account.password") == 1
    assert outbox.pending(web.house.db)[-1].kind == outbox.PASSWORD_CHANGED
    web.logged_in("admin@example.org", web.house.secrets["admin"], NEW)


def test_guessing_the_old_password_is_throttled(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/profile/password")
    wrong = {"current": "wrong wrong", "password": NEW, "again": NEW}
    for _ in range(5):
        browser.post("/profile/password", wrong)
    text = browser.post("/profile/password", {**wrong, "current": PASSWORD, "code": browser.code()})
    assert "réessayez dans 15 minutes" in text.get_data(as_text=True)


@pytest.mark.parametrize("by_recovery_code", [False, True])
def test_another_telephone(web: WebHouse, by_recovery_code: bool) -> None:
    account = web.house.accounts["customer"]
    old = recovery_codes.renew(web.house.db, account.id, web.clock())
    browser, other = web.browser("customer"), web.browser("customer")
    text = text_of(browser, "/profile/device")
    assert not SECRET.findall(text)
    code = old[0] if by_recovery_code else browser.code()
    for fields, sentence in (
        ({"current": "wrong wrong", "code": code}, "pas le bon"),
        ({"current": PASSWORD, "code": "000000"}, "Ce code n’est pas le bon"),
    ):
        answer = browser.post("/profile/device", dict(fields))
        assert sentence in answer.get_data(as_text=True) and not SECRET.findall(answer.get_data(as_text=True))
    assert browser.post("/profile/device", {"current": PASSWORD, "code": code}).headers["Location"] == "/profile/device"
    browser.secret = "".join(SECRET.findall(text_of(browser, "/profile/device")))
    assert len(browser.secret) == 32 and browser.secret != web.house.secrets["customer"]
    assert not SECRET.findall(text_of(other, "/profile/device")), "another session of the account learns nothing"
    text = browser.post("/profile/device", {"code": "000000"}).get_data(as_text=True)
    assert "affiche en ce moment" in text and 'value="000000"' in text
    answer = browser.post("/profile/device", {"code": browser.code()})
    codes = set(CODES.findall(answer.get_data(as_text=True)))
    assert len(codes) == 10 and not codes & set(old)
    assert browser.get("/profile").status_code == 200 and other.get("/profile").status_code == 303
    assert "device.replace" in kinds(web) and outbox.pending(web.house.db)[-1].kind == outbox.DEVICE_CHANGED
    web.logged_in("customer@example.org", browser.secret)


def test_a_new_telephone_must_prove_itself_within_five_minutes(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/profile/device")
    browser.post("/profile/device", {"current": PASSWORD, "code": browser.code()})
    web.clock.tick(301)
    assert not SECRET.findall(text_of(browser, "/profile/device"))


def test_recovery_codes_are_renewed_by_a_code_of_the_authenticator_only(web: WebHouse) -> None:
    account = web.house.accounts["admin"]
    old = recovery_codes.renew(web.house.db, account.id, web.clock())
    browser = web.browser("admin")
    assert "10 codes restants" in text_of(browser) and "Il vous reste 10 codes" in text_of(
        browser, "/profile/recovery-codes"
    )
    for wrong in ("", "000000", old[0]):
        answer = browser.post("/profile/recovery-codes", {"code": wrong})
        assert "Ce code n’est pas le bon" in answer.get_data(as_text=True)
    assert recovery_codes.left(web.house.db, account.id) == 10
    answer = browser.post("/profile/recovery-codes", {"code": browser.code()})
    new = CODES.findall(answer.get_data(as_text=True))
    assert len(new) == 10 and not set(new) & set(old)
    assert not CODES.findall(text_of(browser)) and not CODES.findall(text_of(browser, "/profile/recovery-codes"))
    answer = browser.post("/profile/recovery-codes", {})
    assert "Ce code n’est pas le bon" in answer.get_data(as_text=True), "reloading the page makes no others"
    assert recovery_codes.use(web.house.db, account.id, new[0])
    assert kinds(web).count("account.recovery-codes") == 1


def test_sessions_are_shown_and_closed(web: WebHouse) -> None:
    admin = web.house.accounts["admin"]
    phone = sessions.open(web.house.db, admin.id, address="203.0.113.9", user_agent=PHONE, now=web.clock())
    foreign = sessions.open(
        web.house.db, web.house.accounts["support"].id, address="198.51.100.7", user_agent="x", now=web.clock()
    )
    browser = web.browser("admin")
    text = text_of(browser)
    assert "Safari · iPhone" in text and "203.0.113.9" in text and "198.51.100.7" not in text
    browser.post(f"/profile/sessions/{foreign.session.id}/end")
    assert "déjà fermée" in text_of(browser)
    assert sessions.find(web.house.db, foreign.token, web.clock()) is not None, "another's session stays"
    browser.post(f"/profile/sessions/{phone.session.id}/end")
    assert sessions.find(web.house.db, phone.token, web.clock()) is None
    others = [web.browser("admin"), web.browser("admin")]
    assert browser.post("/profile/sessions/end-others").headers["Location"] == "/profile#sessions"
    assert "2 sessions fermées" in text_of(browser)
    assert all(other.get("/").status_code == 303 for other in others)
    assert kinds(web).count("account.sessions") == 2
