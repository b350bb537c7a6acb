"""Settings of a space: its look, its thresholds; who may set what; what cannot work said beside its field."""

from __future__ import annotations

import io
import json
import re

import pytest
from PIL import Image
from werkzeug.test import TestResponse

from appliance.control import audit, space_settings, themes
from appliance.control.audit import Act
from appliance.control.scope import EVERYTHING
from tests.webui.web_house import Browser, WebHouse
from webui import settings

THEME: dict[str, object] = {
    "product_name": "Officine Sûre",
    "colour": "#123456",
    "accent": "#0B6E6E",
    "support_line": "01 84 00 00 10",
}
RULES: dict[str, object] = {
    "language": "de",
    "late_hours": "48",
    "open_days": "mon,tue,wed,thu,fri,sat",
    "expiring_days": "15",
    "suspicious_percent": "25",
    "tell_admins": "y",
    "keep_days": "120",
    "floor_days": "10",
}


def text(answer: TestResponse) -> str:
    return re.sub(r"[ \n]+", " ", answer.get_data(as_text=True))


def acts(web: WebHouse, kind: str) -> list[Act]:
    return [act for act in audit.export(web.house.db, EVERYTHING) if act.kind == kind]


def send(browser: Browser, path: str, form: dict[str, object], page: str = "") -> TestResponse:
    browser.get(page or path)
    return browser.post(path, dict(form))


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "#ff0000").save(file, kind)
    return file.getvalue()


def test_the_look_is_saved_shown_at_once_and_written_down(web: WebHouse) -> None:
    browser, space = web.browser("admin"), web.house.ours.space_id
    answer = send(browser, "/settings", THEME)
    assert answer.status_code == 303
    theme = themes.of_space(web.house.db, space)
    assert (theme.product_name, theme.colour, theme.accent) == ("Officine Sûre", "#123456", "#0b6e6e")
    page = text(browser.get("/"))
    assert "Officine Sûre" in page and "L’apparence de l’espace est enregistrée." in page
    [act] = acts(web, "space.theme")
    assert act.space_id == space and act.email == "admin@example.org"
    assert json.loads(act.before or "")["colour"] == themes.DEFAULT.colour
    assert json.loads(act.after or "") == {"colour": "#123456", "product_name": "Officine Sûre",
                                           "support_line": "01 84 00 00 10"}  # fmt: skip
    # Saved again as it is, nothing was done.
    send(browser, "/settings", THEME)
    assert len(acts(web, "space.theme")) == 1


def test_other_spaces_keep_theirs(web: WebHouse) -> None:
    send(web.browser("admin"), "/settings", THEME)
    assert themes.of_space(web.house.db, web.house.elsewhere.space_id).product_name == "Pilulier"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"product_name": " "}, "À remplir."),
        ({"product_name": "x" * 61}, "60"),
        ({"product_name": "a\x07b"}, "caractères qui ne s’affichent pas"),
        ({"support_line": "x" * 201}, "200"),
        ({"colour": "blue"}, "sous la forme #0f4c5c"),
        ({"colour": "#12345"}, "sous la forme #0f4c5c"),
        ({"accent": "red;}"}, "sous la forme #0f4c5c"),
        ({"accent": "#ffd200"}, "Trop claire pour être lue sur fond blanc : contraste 1,4, il en faut 4,5"),
    ],
)
def test_a_look_that_cannot_work_is_said_beside_its_field(
    web: WebHouse, changes: dict[str, object], sentence: str
) -> None:
    browser = web.browser("admin")
    answer = send(browser, "/settings", THEME | changes)
    page = text(answer)
    assert answer.status_code == 200 and sentence in page
    assert 'value="01 84 00 00 10"' in page or "support_line" in changes, "what was typed elsewhere stays"
    assert themes.of_space(web.house.db, web.house.ours.space_id).colour == themes.DEFAULT.colour
    assert not acts(web, "space.theme")


def test_the_colour_that_is_proposed_instead_is_readable() -> None:
    for colour in ("#ffd200", "#ffffff", "#00ff00", "#ff9999"):
        assert themes.contrast(settings.darkened(colour), themes.WHITE) >= themes.CONTRAST
    assert settings.darkened("#ffd200") != themes.BLACK


def test_a_preview_saves_nothing(web: WebHouse) -> None:
    browser = web.browser("admin")
    page = text(send(browser, "/settings", THEME | {"preview": "1", "colour": "#aa0000", "product_name": "<Essai>"}))
    assert 'fill="#aa0000" data-fill="colour"' in page and "&lt;Essai&gt;</text>" in page
    assert themes.of_space(web.house.db, web.house.ours.space_id).colour == themes.DEFAULT.colour
    # What is no colour is not drawn.
    page = text(send(browser, "/settings", THEME | {"preview": "1", "colour": '"><b>'}))
    assert f'fill="{themes.DEFAULT.colour}" data-fill="colour"' in page and "<b>" not in page


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_a_logo_is_encoded_anew_shown_and_can_go(web: WebHouse, kind: str) -> None:
    browser, space = web.browser("admin"), web.house.ours.space_id
    sent = picture(kind) + b"<script>alert(1)</script>"
    answer = send(browser, "/settings/logo", {"logo": (io.BytesIO(sent), "logo.png")}, "/settings")
    assert answer.status_code == 303
    found = themes.logo(web.house.db, space)
    assert found is not None and b"script" not in found.data
    page = text(browser.get("/settings"))
    assert f"/theme/{space}/logo-{found.digest}" in page
    answer = browser.get(f"/theme/{space}/logo-{found.digest}")
    assert answer.data == found.data and answer.mimetype == found.content_type
    assert send(browser, "/settings/logo", {"remove": "1"}, "/settings").status_code == 303
    assert themes.logo(web.house.db, space) is None
    put, gone = acts(web, "space.logo")
    assert json.loads(put.before or "") == {"logo": None} and json.loads(gone.after or "") == {"logo": None}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "Choisissez d’abord une image."),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>x</script></svg>", "Cette image n’est pas acceptée"),
        (b"%PDF-1.7", "Cette image n’est pas acceptée"),
        (picture(size=(3000, 3000)), "Cette image n’est pas acceptée"),
        (picture() + bytes(2 * 1024 * 1024), "Cette image n’est pas acceptée"),
    ],
)
def test_what_is_no_logo_is_refused(web: WebHouse, data: bytes, sentence: str) -> None:
    browser = web.browser("admin")
    answer = send(browser, "/settings/logo", {"logo": (io.BytesIO(data), "logo.png")}, "/settings")
    assert answer.status_code == 200 and sentence in text(answer)
    assert themes.logo(web.house.db, web.house.ours.space_id) is None and not acts(web, "space.logo")


def test_a_logo_far_too_large_gets_a_page_and_not_a_traceback(web: WebHouse) -> None:
    browser = web.browser("admin")
    answer = send(browser, "/settings/logo", {"logo": (io.BytesIO(bytes(5 * 1024 * 1024)), "logo.png")}, "/settings")
    assert answer.status_code == 413 and "Fichier trop volumineux" in text(answer)


def test_rules_are_saved_and_written_down(web: WebHouse) -> None:
    browser, space = web.browser("admin"), web.house.ours.space_id
    assert send(browser, "/settings/rules", RULES).status_code == 303
    assert space_settings.of_space(web.house.db, space) == space_settings.SpaceSettings(
        "de", 48, 15, 25, 120, 10, "mon,tue,wed,thu,fri,sat", tell_admins=True
    )
    [act] = acts(web, "space.settings")
    assert json.loads(act.after or "")["late_hours"] == 48
    page = text(browser.get("/settings/rules"))
    assert 'value="48"' in page and '<option selected value="de">' in page


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"late_hours": "0"}, "Entre 1 et 8\u202f760."),
        ({"late_hours": ""}, "À remplir."),
        ({"late_hours": "deux jours"}, "nombre entier"),
        ({"expiring_days": "366"}, "Entre 0 et 365."),
        ({"suspicious_percent": "101"}, "Entre 1 et 100."),
        ({"keep_days": "999999999"}, "Entre 0 et"),
        ({"floor_days": "2"}, "Entre 3 et"),
        ({"floor_days": "121"}, "Le minimum garanti dépasse la conservation"),
        ({"language": "xx"}, "invalid-feedback"),
        ({"open_days": "never"}, "invalid-feedback"),
    ],
)
def test_rules_that_cannot_work_are_said_beside_their_field(
    web: WebHouse, changes: dict[str, object], sentence: str
) -> None:
    browser = web.browser("admin")
    answer = send(browser, "/settings/rules", RULES | changes)
    page = text(answer)
    assert answer.status_code == 200 and sentence in page
    for name, typed in (RULES | changes).items():
        assert name in ("language", "open_days") or f'value="{typed}"' in page, name
    assert space_settings.of_space(web.house.db, web.house.ours.space_id) == space_settings.DEFAULT
    assert not acts(web, "space.settings")


def test_the_super_user_sets_the_space_in_focus(web: WebHouse) -> None:
    browser, far = web.browser("super"), web.house.elsewhere.space_id
    for path in ("/settings", "/settings/rules"):
        page = text(browser.get(path))
        assert "Quel espace voulez-vous régler ?" in page and f'value="{far}"' in page
        # Without a space in focus nothing is set by accident.
        assert browser.post(path, {**THEME, **RULES}).status_code == 200
    assert browser.post("/settings/logo", {"remove": "1"}).status_code == 303
    browser.post("/focus", {"space": far})
    assert send(browser, "/settings", THEME).status_code == 303
    assert themes.of_space(web.house.db, far).product_name == "Officine Sûre"
    assert themes.of_space(web.house.db, web.house.ours.space_id).product_name == "Pilulier"
    assert [act.space_id for act in acts(web, "space.theme")] == [far]


@pytest.mark.parametrize("who", ["support", "customer"])
def test_others_set_nothing(web: WebHouse, who: str) -> None:
    browser = web.browser(who)
    for path in ("/settings", "/settings/rules"):
        assert browser.get(path).status_code == 403
        assert browser.post(path, THEME).status_code == 403
    assert browser.post("/settings/logo", {"remove": "1"}).status_code == 403
