"""Réglages → API: tokens made with a code, shown once, revoked; the readable reference."""

from __future__ import annotations

import html
import re

import pytest

from appliance.control import api_tokens, audit
from appliance.control.scope import EVERYTHING, OneSpace
from tests.webui.web_house import Browser, WebHouse
from webui.api.document import document
from webui.api.operations import OPERATIONS

PAGE = "/settings/api"
FORM: dict[str, object] = {"name": "Logiciel Alpha", "permissions": ["read", "write"], "days": "90"}


def text(answer: object) -> str:
    return re.sub(r"\s+", " ", html.unescape(answer.get_data(as_text=True)))  # type: ignore[attr-defined]


def made(browser: Browser) -> str:
    """The token that the page shows after its making."""
    browser.get(PAGE)
    answer = browser.post(PAGE, FORM | {"code": browser.code()})
    assert answer.status_code == 303, text(answer)
    found = re.search(r"plr_[0-9a-f]{6}_[\w-]{43}", text(browser.get(PAGE)))
    assert found, "the token is not shown"
    return found.group(0)


def test_a_token_is_made_shown_once_and_opens_its_space(web: WebHouse) -> None:
    browser = web.browser("admin")
    token = made(browser)
    page = text(browser.get(PAGE))
    assert token not in page and token[:10] in page and "Logiciel Alpha" in page and "Lire, Modifier" in page
    client = web.app.test_client()
    answer = client.get("/api/v1/spaces", headers={"Authorization": f"Bearer {token}"})
    assert [one["id"] for one in answer.json["items"]] == [web.house.ours.space_id]  # type: ignore[index]
    assert "127.0.0.1" in text(browser.get(PAGE))
    [line] = audit.search(web.house.db, EVERYTHING, kind="api-token.create").acts
    assert line.email == "admin@example.org" and line.space_id == web.house.ours.space_id
    assert '"read", "write"' in (line.after or "") and token not in (line.after or "")
    kept = web.house.path.read_bytes()
    assert token.encode() not in kept and token[11:].encode() not in kept


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "À remplir."),
        ({"name": "a\u0000b"}, "Un nom sur une ligne"),
        ({"permissions": []}, "Cochez au moins un droit"),
        ({"permissions": ["everything"]}, "everything"),
        ({"days": "4000"}, "Not a valid choice"),
        ({"code": "000000"}, "Ce code n’est pas le bon"),
        ({"code": ""}, "Ce code n’est pas le bon"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    web: WebHouse, changes: dict[str, object], sentence: str
) -> None:
    browser = web.browser("admin")
    browser.get(PAGE)
    answer = browser.post(PAGE, FORM | {"code": browser.code()} | changes)
    page = text(answer)
    assert answer.status_code == 200 and not api_tokens.every(web.house.db, EVERYTHING)
    assert sentence in page or changes.keys() <= {"permissions", "days"} and "invalid-feedback" in page, page[-3000:]
    if "name" not in changes:
        assert 'value="Logiciel Alpha"' in page


def test_names_of_live_tokens_differ(web: WebHouse) -> None:
    browser = web.browser("admin")
    made(browser)
    answer = browser.post(PAGE, FORM | {"name": "LOGICIEL ALPHA", "code": browser.code()})
    assert answer.status_code == 200 and "porte déjà ce nom" in text(answer)
    token = api_tokens.every(web.house.db, EVERYTHING)[0]
    assert browser.post(f"{PAGE}/{token.id}/revoke").status_code == 303
    made(browser)


def test_a_revoked_token_opens_nothing(web: WebHouse) -> None:
    browser = web.browser("admin")
    token = made(browser)
    known = api_tokens.every(web.house.db, EVERYTHING)[0]
    for _ in range(2):
        assert browser.post(f"{PAGE}/{known.id}/revoke").status_code == 303
    client = web.app.test_client()
    assert client.get("/api/v1/token", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    page = text(browser.get(PAGE))
    assert "Révoqué" in page and "/revoke" not in page
    assert len(audit.search(web.house.db, EVERYTHING, kind="api-token.revoke").acts) == 1


def test_a_super_user_makes_them_for_the_space_in_focus(web: WebHouse) -> None:
    browser = web.browser("super")
    assert "Quel espace" in text(browser.get(PAGE))
    browser.post("/focus", {"space": web.house.elsewhere.space_id})
    made(browser)
    assert not api_tokens.every(web.house.db, OneSpace(web.house.ours.space_id))
    assert len(api_tokens.every(web.house.db, OneSpace(web.house.elsewhere.space_id))) == 1


def test_others_may_neither_see_nor_make_them(web: WebHouse) -> None:
    for who in ("support", "customer"):
        browser = web.browser(who)
        assert browser.get(PAGE).status_code == browser.get(f"{PAGE}/reference").status_code == 403
        assert browser.post(PAGE, FORM).status_code == 403


def test_the_reference_names_every_operation_and_field(web: WebHouse) -> None:
    page = text(web.browser("admin").get(f"{PAGE}/reference"))
    for one in OPERATIONS:
        assert f'id="{one.name}"' in page and one.detail in page
    for path in document()["paths"]:
        assert path in page
    for schema in document()["components"]["schemas"].values():
        assert all(f"<code>{name}</code>" in page for name in schema.get("properties", {}) if "code" not in schema)
