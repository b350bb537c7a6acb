"""Réglages → Webhooks: made, shown once, tried, paused, taken away; what may not be an address, and why."""

from __future__ import annotations

import hashlib
import hmac
import html
import re

import pytest

from appliance import webhook_sending
from appliance.control import audit, statistics, webhooks
from appliance.control.scope import EVERYTHING
from appliance.control.webhooks import Event, Webhook
from tests.support.control_house import figures
from tests.webui.web_house import Browser, WebHouse

PAGE = "/settings/webhooks"
FORM: dict[str, object] = {"url": "https://192.0.43.8/pilulier", "events": ["snapshot", "restored"]}


def text(answer: object) -> str:
    return re.sub(r"\s+", " ", html.unescape(answer.get_data(as_text=True)))  # type: ignore[attr-defined]


def made(browser: Browser) -> str:
    """The secret that the page shows after the making."""
    browser.get(PAGE)
    answer = browser.post(PAGE, FORM)
    assert answer.status_code == 303, text(answer)
    found = re.search(r"data-copy-source[^>]*>([\w-]{43})<", browser.get(PAGE).get_data(as_text=True))
    assert found, "the secret is not shown"
    return found.group(1)


def only(web: WebHouse) -> Webhook:
    (one,) = webhooks.every(web.house.db, EVERYTHING)
    return one


def test_it_is_made_its_secret_is_shown_once_and_signs(web: WebHouse) -> None:
    browser = web.browser("admin")
    secret = made(browser)
    page = text(browser.get(PAGE))
    assert secret not in page and "https://192.0.43.8/pilulier" in page and "Rien n’a encore été envoyé" in page
    assert only(web).space_id == web.house.ours.space_id and only(web).events == {Event.SNAPSHOT, Event.RESTORED}
    statistics.record(web.house.db, web.house.machine.id, 1, complete=True, figures=figures(), now=web.clock.at)
    due = webhooks.claim(web.house.db, web.clock.at)
    assert due is not None and due.secret == secret
    [line] = audit.search(web.house.db, EVERYTHING, kind="webhook.add").acts
    assert line.space_id == web.house.ours.space_id and secret not in (line.after or "")


def test_the_code_on_the_page_accepts_what_is_sent_and_nothing_else(web: WebHouse) -> None:
    page = web.browser("admin").get(PAGE).get_data(as_text=True)
    code = html.unescape(re.search(r"<pre[^>]*><code>(.*?)</code>", page, re.S).group(1))  # type: ignore[union-attr]
    names: dict[str, object] = {}
    exec(code.replace("time.time()", "1000"), names)
    genuine = names["is_genuine"]
    assert callable(genuine)
    header = webhook_sending.signature("secret", 1000, b"{}")
    assert genuine("secret", header, b"{}")
    assert not genuine("secret", header, b"{ }") and not genuine("other", header, b"{}")
    old = hmac.new(b"secret", b"100.{}", hashlib.sha256).hexdigest()
    assert not genuine("secret", f"t=100,v1={old}", b"{}")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"url": ""}, "À remplir."),
        ({"url": "http://example.org/"}, "en https"),
        ({"url": "https://someone:secret@example.org/"}, "sans identifiant"),
        ({"url": "https://example.org/#part"}, "sans partie après #"),
        ({"url": "ftp://example.org/"}, "Donnez une adresse complète"),
        ({"url": "https://[::1"}, "Donnez une adresse complète"),
        ({"url": "https://example.org/" + "a" * 600}, "500 caractères au plus"),
        ({"url": "https://127.0.0.1/"}, "réseau privé du serveur"),
        ({"url": "https://localhost/"}, "réseau privé du serveur"),
        ({"url": "https://10.1.2.3/hook"}, "réseau privé du serveur"),
        ({"url": "https://192.168.0.4/"}, "réseau privé du serveur"),
        ({"url": "https://169.254.169.254/latest/"}, "réseau privé du serveur"),
        ({"url": "https://[fe80::1]/"}, "réseau privé du serveur"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "réseau privé du serveur"),
        ({"events": []}, "Cochez au moins un événement"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field_and_stays_typed(
    web: WebHouse, changes: dict[str, object], sentence: str
) -> None:
    browser = web.browser("admin")
    browser.get(PAGE)
    answer = browser.post(PAGE, FORM | changes)
    page = text(answer)
    assert answer.status_code == 200 and sentence in page
    typed = str((FORM | changes)["url"])
    assert not typed or f'value="{typed}"' in page
    assert webhooks.every(web.house.db, EVERYTHING) == []


def test_a_test_is_asked_for_and_its_fate_is_shown(web: WebHouse) -> None:
    browser = web.browser("admin")
    made(browser)
    one = only(web)
    answer = browser.post(f"{PAGE}/{one.id}/test", follow_redirects=True)
    assert "L’essai part dans la minute" in text(answer) and "En attente" in text(answer) and "Essai" in text(answer)
    due = webhooks.claim(web.house.db, web.clock.at)
    assert due is not None
    webhooks.put_off(web.house.db, due.delivery, "192.0.43.8 answered 500 <b>", web.clock.at)
    page = browser.get(PAGE).get_data(as_text=True)
    assert "Nouvel essai prévu" in page and "answered 500 &lt;b&gt;" in page
    webhooks.mark_sent(web.house.db, due.delivery, web.clock.at)
    assert "Reçu" in text(browser.get(PAGE))


def test_it_rests_and_wakes_and_goes(web: WebHouse) -> None:
    browser = web.browser("admin")
    made(browser)
    one = only(web)
    assert "En pause" in text(browser.post(f"{PAGE}/{one.id}/pause", follow_redirects=True))
    assert only(web).paused
    assert "L’essai attend" in text(browser.post(f"{PAGE}/{one.id}/test", follow_redirects=True))
    browser.post(f"{PAGE}/{one.id}/pause")
    assert not only(web).paused
    assert "Le webhook est supprimé" in text(browser.post(f"{PAGE}/{one.id}/remove", follow_redirects=True))
    assert webhooks.every(web.house.db, EVERYTHING) == []
    kinds = [act.kind for act in audit.search(web.house.db, EVERYTHING, text=one.url).acts]
    assert kinds == ["webhook.remove", "webhook.pause", "webhook.test", "webhook.pause", "webhook.add"]


def test_a_space_has_so_many_and_the_super_user_chooses_a_space_first(web: WebHouse) -> None:
    for number in range(webhooks.LIMIT):
        webhooks.create(
            web.house.db, space_id=web.house.ours.space_id, url=f"https://e{number}.example/", events=[Event.LATE],
            by="x", now=web.clock.at,
        )  # fmt: skip
    browser = web.browser("admin")
    page = text(browser.get(PAGE))
    assert "supprimez-en un d’abord" in page and 'name="url"' not in page
    assert "a déjà 10 webhooks" in text(browser.post(PAGE, FORM))
    assert 'name="url"' not in text(web.browser("super").get(PAGE))
