"""Mails in settings: how each looks in the space's theme, and by which server they leave."""

from __future__ import annotations

import io
import json
import re

import pytest
from PIL import Image
from werkzeug.test import TestResponse

from appliance.control import audit, themes
from appliance.control.audit import Act
from appliance.control.scope import EVERYTHING
from appliance.mail import settings as mails_leave
from appliance.mail.wording import SHAPES
from appliance.settings import MailSettings
from tests.support.control_house import NOW
from tests.support.mail_server import MailServer
from tests.webui.web_house import Browser, WebHouse
from webui import mail_previews, mail_settings, mail_words

SECRET = "open, sesame"
FORM: dict[str, object] = {
    "host": "smtp.example.org",
    "port": "465",
    "security": "tls",
    "user": "pilulier",
    "password": SECRET,
    "sender": "Sauvegarde@Example.org",
    "sender_name": "Sauvegarde",
    "public_url": "https://sauvegarde.example.org/",
    "quiet_from": "22",
    "quiet_until": "7",
}


def text(answer: TestResponse) -> str:
    return re.sub(r"[ \n]+", " ", answer.get_data(as_text=True))


def acts(web: WebHouse, kind: str) -> list[Act]:
    return [act for act in audit.export(web.house.db, EVERYTHING) if act.kind == kind]


def send(browser: Browser, form: dict[str, object], *, code: bool = True) -> TestResponse:
    browser.get("/settings/sending")
    return browser.post("/settings/sending", {**form, "code": browser.code() if code else ""})


@pytest.mark.parametrize("kind", mail_previews.SAMPLES)
@pytest.mark.parametrize("language", ["fr", "en", "de"])
def test_every_sample_is_a_whole_mail_in_every_language(web: WebHouse, kind: str, language: str) -> None:
    with web.app.test_request_context():
        found = mail_previews.preview(
            kind, language, themes.DEFAULT, None, mails_leave.sender(web.home.load_settings()), now=NOW
        )
    # What a sample lacks would show as a gap or as a name in braces.
    for content in (found.subject, found.html, found.text):
        assert content.strip() and not re.search(r"\{\{|\bNone\b|undefined", content)
    assert "Pilulier" in found.sender and "</html>" in found.html
    assert kind in SHAPES and kind in mail_words.KINDS


def test_a_mail_is_seen_in_the_theme_of_the_space(web: WebHouse) -> None:
    db, space = web.house.db, web.house.ours.space_id
    picture = io.BytesIO()
    Image.new("RGB", (9, 9), "#ff0000").save(picture, "PNG")
    themes.save(db, space, product_name="Officine <Sûre>", colour="#123456", accent="#123456", support_line="01 84",
                now=NOW)  # fmt: skip
    themes.set_logo(db, space, picture.getvalue(), NOW)
    browser = web.browser("admin")
    page = text(browser.get("/settings/mails?kind=contract-over-quota"))
    assert "Contrat au-delà de l’espace alloué" in page and "Officine &lt;Sûre&gt;" in page
    assert 'src="/settings/mails/contract-over-quota?language=fr"' in page
    shown = browser.get("/settings/mails/contract-over-quota?language=de").get_data(as_text=True)
    assert 'lang="de"' in shown and "data:image/png;base64," in shown and "cid:" not in shown and "01 84" in shown
    # A kind without a sample is none that can be looked at.
    assert browser.get("/settings/mails/appliance-alarm").status_code == 404
    assert browser.get("/settings/mails?kind=nonsense&language=xx").status_code == 200


def test_the_frame_can_load_and_do_nothing(web: WebHouse) -> None:
    browser = web.browser("admin")
    answer = browser.get("/settings/mails/synthesis")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and policy.endswith("sandbox") and "script-src" not in policy
    assert "frame-ancestors 'self'" in policy and answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    for path in ("/settings/mails", "/settings", "/"):
        others = browser.get(path).headers
        assert "frame-ancestors 'none'" in others["Content-Security-Policy"] and others["X-Frame-Options"] == "DENY"
        assert "unsafe" not in others["Content-Security-Policy"]
    assert '<iframe class="mail-frame" sandbox ' in browser.get("/settings/mails").get_data(as_text=True)


def test_the_server_is_saved_with_a_code_and_its_password_stays_hidden(web: WebHouse) -> None:
    browser = web.browser("super")
    answer = send(browser, FORM)
    assert answer.status_code == 303
    settings = web.home.load_settings()
    assert settings.mail == MailSettings(
        host="smtp.example.org", port=465, security="tls", user="pilulier", sender="sauvegarde@example.org",
        sender_name="Sauvegarde", quiet_from=22, quiet_until=7,
    )  # fmt: skip
    assert settings.public_url == "https://sauvegarde.example.org"
    assert mails_leave.load_password(web.home) == SECRET
    page = text(browser.get("/settings/sending"))
    assert SECRET not in page and "Un mot de passe est enregistré" in page and 'value="smtp.example.org"' in page
    [act] = acts(web, "mail.set")
    assert SECRET not in (act.after or "") and json.loads(act.after or "")["password"] == "changed"
    assert json.loads(act.before or "")["mail"]["host"] == ""
    assert act.space_id is None, "an admin's audit page does not show the appliance's own"


def test_an_empty_password_keeps_the_one_there_is_and_a_tick_takes_it_away(web: WebHouse) -> None:
    browser = web.browser("super")
    send(browser, FORM)
    assert send(browser, FORM | {"password": "", "port": "587", "security": "starttls"}).status_code == 303
    assert mails_leave.load_password(web.home) == SECRET and web.home.load_settings().mail.port == 587
    assert send(browser, FORM | {"password": "", "forget": "y"}).status_code == 303
    assert not mails_leave.has_password(web.home)
    assert [json.loads(act.after or "")["password"] for act in acts(web, "mail.set")] == [
        *("changed", "as before", "removed")
    ]


def test_what_other_programs_set_stays(web: WebHouse) -> None:
    mails_leave.save(web.home, MailSettings(host="x", sender="a@example.org", authority="/etc/ours.pem"))
    assert send(web.browser("super"), FORM).status_code == 303
    assert web.home.load_settings().mail.authority == "/etc/ours.pem"


def test_without_a_right_code_nothing_changes(web: WebHouse) -> None:
    browser = web.browser("super")
    for code in ("", "000000"):
        browser.get("/settings/sending")
        page = text(browser.post("/settings/sending", {**FORM, "code": code}))
        assert "Ce code n’est pas le bon" in page and 'value="smtp.example.org"' in page and SECRET not in page
    assert web.home.load_settings().mail.host == "" and not acts(web, "mail.set")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"host": "smtp example"}, "Écrivez le nom ou l’adresse d’un serveur"),
        ({"host": "x" * 254}, "invalid-feedback"),
        ({"port": "0"}, "Un port est un nombre de 1 à 65535"),
        ({"port": ""}, "Un port est un nombre de 1 à 65535"),
        ({"port": "70000"}, "Un port est un nombre de 1 à 65535"),
        ({"port": "smtp"}, "nombre entier"),
        ({"security": "none"}, "choisissez STARTTLS ou TLS"),
        ({"security": "ssl3"}, "invalid-feedback"),
        ({"sender": ""}, "Écrivez l’adresse e-mail dont viendront les messages"),
        ({"sender": "nobody"}, "Écrivez l’adresse e-mail dont viendront les messages"),
        ({"sender_name": "a\x07b"}, "caractères qui ne s’affichent pas"),
        ({"public_url": "http://sauvegarde.example.org"}, "Écrivez une adresse de la forme https://"),
        ({"password": "a\nb"}, "ne tient pas sur une ligne"),
        ({"password": "é" * 600}, "ne tient pas sur une ligne"),
        ({"public_url": "javascript:alert(1)"}, "Écrivez une adresse de la forme https://"),
        ({"host": "", "public_url": "x"}, "Écrivez une adresse de la forme https://"),
    ],
)
def test_a_server_that_cannot_work_is_said_beside_its_field(
    web: WebHouse, changes: dict[str, object], sentence: str
) -> None:
    browser = web.browser("super")
    page = text(send(browser, FORM | changes))
    assert sentence in page
    typed = "user" if "host" in changes or "sender" in changes else "host"
    assert f'value="{FORM[typed]}"' in page
    assert not acts(web, "mail.set") and not mails_leave.has_password(web.home)
    # The code was not used up by a slip elsewhere: the next attempt takes the same one.
    browser.get("/settings/sending")


def test_no_server_means_that_no_mail_leaves(web: WebHouse) -> None:
    browser = web.browser("super")
    send(browser, FORM)
    assert send(browser, {**FORM, "host": "", "password": ""}).status_code == 303
    assert web.home.load_settings().mail == MailSettings()
    assert "Aucun serveur d’envoi n’est réglé" in text(browser.get("/settings/sending"))


def test_a_test_message_really_leaves(web: WebHouse) -> None:
    browser = web.browser("super")
    with MailServer() as server:
        mails_leave.save(
            web.home, MailSettings(host="127.0.0.1", port=server.port, security="none", sender="a@b.example")
        )
        browser.get("/settings/sending")
        answer = browser.post("/settings/sending/test", {"recipient": "Moi@Example.org"})
        assert answer.status_code == 303
        assert server.recipients == ["moi@example.org"]
        assert "parti vers moi@example.org" in text(browser.get("/settings/sending"))
        server.answer_rcpt = lambda _: "550 <unknown> here"
        page = text(browser.post("/settings/sending/test", {"recipient": "autre@example.org"}))
        assert "Le message n’est pas parti" in page and "550 &lt;unknown&gt; here" in page
        assert 'value="autre@example.org"' in page
    page = text(browser.post("/settings/sending/test", {"recipient": "autre@example.org"}))
    assert "Le message n’est pas parti" in page
    assert [json.loads(act.after or "")["sent"] for act in acts(web, "mail.test")] == [True, False, False]


@pytest.mark.parametrize("typed", ["", "personne", "a@b.example\r\nBcc: c@d.example"])
def test_a_test_needs_an_address(web: WebHouse, typed: str) -> None:
    browser = web.browser("super")
    mails_leave.save(web.home, MailSettings(host="127.0.0.1", port=9, security="none", sender="a@b.example"))
    browser.get("/settings/sending")
    answer = browser.post("/settings/sending/test", {"recipient": typed})
    assert answer.status_code == 200 and "invalid-feedback" in text(answer)
    assert not acts(web, "mail.test")


@pytest.mark.parametrize("who", ["admin", "support", "customer"])
def test_only_the_super_user_chooses_the_server(web: WebHouse, who: str) -> None:
    browser = web.browser(who)
    assert browser.get("/settings/sending").status_code == 403
    assert browser.post("/settings/sending", FORM).status_code == 403
    assert browser.post("/settings/sending/test", {"recipient": "a@b.example"}).status_code == 403
    if who != "admin":
        assert browser.get("/settings/mails").status_code == 403
    else:
        assert "/settings/sending" not in browser.get("/settings/mails").get_data(as_text=True)


def test_security_has_a_word_for_each_choice() -> None:
    assert {choice.value for choice in mail_settings.SECURITY} == {"starttls", "tls", "none"}
