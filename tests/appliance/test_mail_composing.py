"""What mails say and how they look: every kind in every language, nothing smuggled in, seen by a real browser."""

from __future__ import annotations

import io
import re
import shutil
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import default
from pathlib import Path

import jinja2
import pytest
from PIL import Image

from appliance.control import outbox, themes
from appliance.control.outbox import Mail, Value
from appliance.errors import NotFoundError
from appliance.mail.composing import LANGUAGES, compose
from appliance.mail.wording import SHAPES
from tests.support import mail_samples
from tests.support.mail_samples import BROWSER, FIELDS, SECRET, SENDER, THEME, draw, html_of, mail, message, text_of

KINDS = {value for name, value in vars(outbox).items() if name.isupper() and name[0] != "_" and isinstance(value, str)}
HOSTILE = (
    'x\r\nBcc: thief@example.org\r\n\r\n<script>alert(1)</script>"\'><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}'
)
HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "MIME-Version"),
    *("Content-Language", "Content-Type"),
}


def test_every_kind_has_a_shape_a_sample_and_words_in_every_language() -> None:
    assert set(SHAPES) == set(FIELDS) == KINDS
    for language in LANGUAGES.values():
        assert set(language.wordings) == set(SHAPES)
        assert set(language.labels) == set(LANGUAGES["fr"].labels) and set(language.words) == set(LANGUAGES["fr"].words)
        assert all(map(str.strip, (*language.labels.values(), *language.words.values())))
    named = {name for shape in SHAPES.values() for name in (*shape.facts, *shape.columns)}
    assert named <= set(LANGUAGES["fr"].labels)
    wanted = {f"digest:{kind}" for kind in SHAPES if kind in mail_samples.FIELDS}
    assert {word for word in LANGUAGES["fr"].words if word.startswith("digest:")} <= wanted


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_facts_stand_in_text_and_html(kind: str, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing a wording asks for may be missing from what is given to it.
    monkeypatch.setattr(jinja2, "ChainableUndefined", jinja2.StrictUndefined)
    from appliance.mail import composing

    composing._environment.cache_clear()
    made = message(kind, language)
    composing._environment.cache_clear()
    subject, text, html = str(made["Subject"]), text_of(made), html_of(made)
    assert subject and "{" not in subject + text and not re.search(r"\{\{|\{%", html)
    assert made["Content-Language"] == language and f'<html lang="{language}">' in html
    for name in ("machine", "client", "email", "address"):
        if name in SHAPES[kind].facts:
            assert str(FIELDS[kind][name]) in text and str(FIELDS[kind][name]) in html
    if "{secret}" in SHAPES[kind].link:
        assert SECRET in text and SECRET in html and SECRET not in subject
    # What was sent is what a receiver reads.
    again = message_from_bytes(made.as_bytes(), policy=default)
    assert again["Subject"] == subject and not again.defects


def test_what_people_and_machines_call_themselves_stays_text() -> None:
    for kind, fields in FIELDS.items():
        hostile: dict[str, Value] = {
            name: HOSTILE if isinstance(value, str) and not name.endswith("_date") else value
            for name, value in fields.items()
        }
        if kind == outbox.DIGEST:
            hostile["rows"] = [{"client": HOSTILE, "name": HOSTILE, "what": HOSTILE}]
        if kind == outbox.SYNTHESIS:
            hostile["machines"] = [{"name": HOSTILE, "state": HOSTILE, "head": HOSTILE}]
        made = message(kind, fields=hostile)
        assert made["Bcc"] is None and len(made.get_all("To", [])) == 1
        assert "\n" not in str(made["Subject"]) and len(str(made["Subject"])) <= 180
        html = html_of(made)
        assert "<script" not in html and "<img" not in html and "49" not in str(made["Subject"])
        assert "onerror=alert(2)&gt;" in html or not {"machine", "rows", "machines"} & set(hostile), kind
        sent = message_from_bytes(made.as_bytes(), policy=default)
        assert sent["Bcc"] is None and set(sent.keys()) <= HEADERS


def test_a_product_name_carries_no_headers() -> None:
    theme = themes.Theme("s", "Evil\r\nBcc: x@y.org <b>", "#12497a", "#0f5c9a", "", None)
    made = message(outbox.TEST, theme=theme)
    assert made["Bcc"] is None and str(made["From"]).endswith("<sauvegarde@revendeur.example>")
    assert "<b>" not in html_of(made).split("</style>")[1].replace("<br>", "")


@pytest.mark.parametrize("name", ["Été à la Pharmacie des Trois-Évêchés d’Orléans-la-Source", "Pharma", "Zoë"])
def test_headers_that_need_folding_come_back_whole(name: str) -> None:
    # Python's own folding of encoded words has lost the space between two of them.
    machine = "Poste été à côté du frigo, réserve de gauche, près de l’entrée des préparatrices"
    theme = themes.Theme("s", name, "#12497a", "#0f5c9a", "", None)
    made = message(outbox.BACKUP_FAILED, theme=theme, fields={**FIELDS[outbox.BACKUP_FAILED], "machine": machine})
    again = message_from_bytes(made.as_bytes())
    assert str(make_header(decode_header(again["Subject"]))) == f"Échec de sauvegarde : {machine}"
    assert " ".join(str(make_header(decode_header(again["From"]))).split()) == f"{name} <{SENDER.address}>"
    assert all(len(line) <= 78 for line in made.as_bytes().split(b"\r\n\r\n")[0].split(b"\r\n"))


def test_values_are_written_as_the_reader_does() -> None:
    texts = {language: text_of(message(outbox.CONTRACT_OVER_QUOTA, language)) for language in LANGUAGES}
    assert "394,6\N{NO-BREAK SPACE}Go" in texts["fr"] and "789\N{NO-BREAK SPACE}%" in texts["fr"]
    assert "394.6\N{NO-BREAK SPACE}GB" in texts["en"] and "394,6\N{NO-BREAK SPACE}GB" in texts["de"]
    never: dict[str, Value] = {**FIELDS[outbox.MACHINE_SILENT], "good_at": None, "hours": 240}
    assert "jamais" in text_of(message(outbox.MACHINE_SILENT, fields=never))
    assert str(message(outbox.MACHINE_SILENT, fields=never)["Subject"]).endswith("10 jours")
    assert "24 novembre 2026 à 20:53" in text_of(message(outbox.BACKUP_FAILED))
    assert "24. November 2026 um 20:53 Uhr" in text_of(message(outbox.BACKUP_FAILED, "de"))


def test_a_language_we_lack_is_french_and_a_kind_we_lack_is_an_error() -> None:
    assert message(outbox.TEST, "it")["Content-Language"] == "fr"
    with pytest.raises(NotFoundError, match="does not know"):
        compose(Mail(1, "p@x.org", "of-the-future", "fr", None, {}, 0.0, None), THEME, None, SENDER, now=0.0)


def test_a_mail_with_fewer_facts_leaves_lines_out() -> None:
    text = text_of(message(outbox.BACKUP_FAILED, fields={"machine": "PC-1"}))
    assert "PC-1" in text and "Client" not in text and "https://" not in text, "no link without the machine's id"


def test_the_logo_travels_with_the_mail() -> None:
    output = io.BytesIO()
    Image.new("RGB", (80, 40), "#12497a").save(output, "PNG")
    logo = themes.encoded_anew(output.getvalue())
    made = message(outbox.TEST, logo=logo)
    (picture,) = (part for part in made.walk() if part.get_content_maintype() == "image")
    assert picture.get_content() == logo.data and picture["Content-ID"] == f"<logo.{logo.digest}>"
    body = made.get_body(("html",))
    assert body is not None and f'src="cid:logo.{logo.digest}"' in body.get_content()


def test_the_repr_of_a_mail_shows_no_secret() -> None:
    assert SECRET not in repr(mail(outbox.INVITATION))


@pytest.mark.skipif(shutil.which(BROWSER) is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 900])
def test_a_browser_shows_every_kind_without_scrolling_sideways(tmp_path: Path, width: int) -> None:
    pages = [(f"{kind}-{language}", html_of(message(kind, language))) for kind in SHAPES for language in LANGUAGES]
    overflow = draw(pages, tmp_path, width)
    assert {name for name, pixels in overflow.items() if pixels > 0} == set()
    for name, _ in pages:
        with Image.open(tmp_path / f"{name}.png") as picture:
            colours = picture.convert("RGB").getcolors(1 << 20)
            assert colours is not None and picture.width == width and picture.height > 300
    tones = {"synthesis-fr": (27, 122, 75), "contract-over-quota-fr": (179, 38, 30), "invitation-fr": (18, 73, 122)}
    for name, band in tones.items():
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert band in {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}, name
