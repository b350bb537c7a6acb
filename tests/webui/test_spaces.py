"""Gestion des espaces: for those who run the box; adding, renaming, deleting with time to think, entering."""

from __future__ import annotations

import pytest

from appliance.control import audit, deletions, outbox, spaces
from appliance.control.scope import EVERYTHING
from tests.webui.web_house import Browser, WebHouse


def text_of(browser: Browser, path: str = "/spaces") -> str:
    return browser.get(path).get_data(as_text=True)


def kinds(web: WebHouse) -> list[str]:
    return [act.kind for act in audit.search(web.house.db, EVERYTHING).acts]


def test_each_space_is_a_card_also_while_one_is_entered(web: WebHouse) -> None:
    browser = web.browser("super")
    for entered in ("", web.house.ours.space_id):
        browser.post("/focus", {"space": entered})
        page = text_of(browser)
        assert f'id="space-{web.house.ours.space_id}">near' in page
        assert f'id="space-{web.house.elsewhere.space_id}">far' in page
        assert page.count("Affiché") == (1 if entered else 0)
    card = page.split(f'id="space-{web.house.ours.space_id}"')[1].split("</article>")[0]
    for label, figure in (("Contrats", 2), ("Machines", 2), ("Comptes", 3)):
        assert f"<dt>{label}</dt><dd><strong>{figure}</strong></dd>" in card
    assert "Entrer" in card and "Renommer" in card and "Supprimer" in card


@pytest.mark.parametrize("who", ["admin", "support", "customer"])
def test_others_may_not(web: WebHouse, who: str) -> None:
    browser = web.browser(who)
    own = web.house.ours.space_id
    for path in ("/spaces", "/spaces/new", f"/spaces/{own}/rename", f"/spaces/{own}/delete"):
        assert browser.get(path).status_code == 403
    for path in ("/spaces/new", f"/spaces/{own}/rename", f"/spaces/{own}/delete", f"/spaces/{own}/keep", "/focus"):
        assert browser.post(path, {"name": "x", "code": "1"}).status_code == 403


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "À remplir."),
        ("FAR", "Un espace porte déjà ce nom"),
        ("x" * 101, "invalid-feedback"),
        ("a\x07b", "ne s’impriment pas"),
    ],
)
def test_names_that_cannot_be_are_said_beside_the_field(web: WebHouse, name: str, sentence: str) -> None:
    browser = web.browser("super")
    for path in ("/spaces/new", f"/spaces/{web.house.ours.space_id}/rename"):
        browser.get(path)
        answer = browser.post(path, {"name": name})
        page = answer.get_data(as_text=True)
        assert answer.status_code == 200 and sentence in page
        assert name == "" or name in page, "what was typed stays"
    assert {space.name for space in spaces.every(web.house.db)} == {"near", "far"}


def test_adding_and_renaming(web: WebHouse) -> None:
    browser = web.browser("super")
    browser.get("/spaces/new")
    assert browser.post("/spaces/new", {"name": "  Officine & Cie "}).headers["Location"] == "/spaces"
    page = text_of(browser)
    assert "Officine &amp; Cie</h2>" in page and "est créé" in page
    new = next(space for space in spaces.every(web.house.db) if space.name == "Officine & Cie")
    assert 'value="Officine &amp; Cie"' in text_of(browser, f"/spaces/{new.id}/rename")
    assert browser.post(f"/spaces/{new.id}/rename", {"name": "Officine"}).status_code == 303
    assert spaces.find(web.house.db, new.id).name == "Officine"
    assert browser.post(f"/spaces/{new.id}/rename", {"name": "Officine"}).status_code == 303
    assert kinds(web).count("space.add") == kinds(web).count("space.rename") == 1


def test_a_deletion_takes_the_name_and_a_code_waits_seven_days_and_is_taken_back(web: WebHouse) -> None:
    browser, space = web.browser("super"), web.house.ours.space_id
    path = f"/spaces/{space}/delete"
    page = text_of(browser, path)
    assert "sept jours" in page and "effacés pour toujours" in page
    for fields, sentence in (
        ({"name": ""}, "À remplir."),
        ({"name": "far"}, "pas le nom de cet espace"),
        ({"name": "near", "code": "000000"}, "Ce code n’est pas le bon"),
    ):
        answer = browser.post(path, dict(fields))
        assert answer.status_code == 200 and sentence in answer.get_data(as_text=True)
    assert deletions.pending(web.house.db, EVERYTHING) == []
    assert browser.post(path, {"name": " NEAR ", "code": browser.code()}).headers["Location"] == "/spaces"
    [waiting] = deletions.pending(web.house.db, EVERYTHING)
    assert waiting.due_at - web.clock() == deletions.WAIT_S and waiting.requested_by == "super@example.org"
    told = {mail.recipient for mail in outbox.pending(web.house.db) if mail.kind == outbox.DELETION_REQUESTED}
    assert told == {"super@example.org", "admin@example.org"}
    page = text_of(browser)
    assert "Annuler la suppression de near" in page and path not in page
    assert browser.get(path).status_code == 303, "asked twice, it stands"
    assert browser.post(f"/spaces/{space}/keep").status_code == 303
    assert "est annulée" in text_of(browser) and deletions.pending(web.house.db, EVERYTHING) == []
    assert browser.post(f"/spaces/{space}/keep").status_code == 404
    assert {"space.delete", "deletion.cancel"} <= set(kinds(web))


def test_spaces_that_are_not_there(web: WebHouse) -> None:
    browser = web.browser("super")
    for path in ("rename", "delete"):
        assert browser.get(f"/spaces/near/{path}").status_code == 404, "an address names a space by its id"


def test_entering_narrows_what_is_seen_and_leaving_widens_it(web: WebHouse) -> None:
    browser = web.browser("super")
    assert browser.post("/focus", {"space": web.house.elsewhere.space_id}).headers["Location"] == "/"
    page = text_of(browser, "/contracts")
    assert "away@example.org" in page and "ours@example.org" not in page
    browser.post("/focus", {"space": "", "next": "/contracts"})
    assert "ours@example.org" in text_of(browser, "/contracts")


def test_without_any_space_the_page_says_what_to_do(web: WebHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces, "cards", lambda *_: [])
    assert "Créez le premier pour commencer" in text_of(web.browser("super"))
