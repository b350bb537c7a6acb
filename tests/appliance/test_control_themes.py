"""Themes: colours that can be read, logos of which only the picture survives."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from appliance.control import themes
from appliance.control.themes import BLACK, CONTRAST, DARK, WHITE
from tests.support.control_house import NOW, House, build
from transport.errors import UsageError

COLOURS = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 20), **extra: object) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, "#cc3300").save(output, kind, **extra)
    return output.getvalue()


def test_contrast_is_that_of_the_guideline() -> None:
    assert themes.contrast(WHITE, BLACK) == pytest.approx(21)
    assert themes.contrast("#777777", WHITE) == pytest.approx(4.478, abs=0.001)
    assert themes.contrast("#767676", WHITE) == pytest.approx(4.542, abs=0.001)


@given(COLOURS)
def test_every_colour_can_carry_text_and_be_seen_in_the_dark(colour: str) -> None:
    assert themes.contrast(colour, themes.text_on(colour)) >= CONTRAST
    assert themes.contrast(themes.lightened_for_dark(colour), DARK) >= CONTRAST


def test_the_default_theme_keeps_its_own_rules(house: House) -> None:
    theme = themes.of_space(house.db, None)
    assert theme == themes.DEFAULT and themes.contrast(theme.accent, WHITE) >= CONTRAST
    assert themes.of_space(house.db, house.ours.space_id).product_name == "Pilulier"


def save(house: House, space: str, **changes: str) -> themes.Theme:
    values = {"product_name": "Officine", "colour": "#FFEE00", "accent": "#0B6E6E", "support_line": " 01 02 "} | changes
    return themes.save(house.db, space, now=NOW, **values)


def test_a_space_has_its_own(house: House) -> None:
    saved = save(house, house.ours.space_id)
    assert (saved.colour, saved.accent, saved.support_line) == ("#ffee00", "#0b6e6e", "01 02")
    assert (saved.text_on_colour, saved.text_on_accent) == (BLACK, WHITE)
    assert themes.of_space(house.db, house.ours.space_id) == saved
    assert themes.of_space(house.db, house.elsewhere.space_id).product_name == "Pilulier"
    assert save(house, house.ours.space_id, support_line="").support_line == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"accent": "#ffee00"}, "the accent #ffee00 has a contrast of 1\\.[0-9]+ with white"),
        ({"accent": "#777777"}, "contrast of 4.47 with white"),
        ({"accent": "red"}, "'red' is not a colour"),
        ({"colour": "#12345"}, "'#12345' is not a colour"),
        ({"colour": "#123456;background:url(x)"}, "is not a colour"),
        ({"product_name": " "}, "the product name is empty"),
        ({"support_line": "x\ny"}, "the support line contains control characters"),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_changes(
    house: House, changes: dict[str, str], sentence: str
) -> None:
    before = save(house, house.ours.space_id)
    with pytest.raises(UsageError, match=sentence):
        save(house, house.ours.space_id, **changes)
    assert themes.of_space(house.db, house.ours.space_id) == before


def test_a_logo_is_encoded_anew(house: House) -> None:
    extra = PngInfo()
    extra.add_text("comment", "<script>secret</script>")
    data = picture(pnginfo=extra) + b"<script>trailing</script>"
    space = house.ours.space_id
    theme = themes.set_logo(house.db, space, data, NOW)
    logo = themes.logo(house.db, space)
    assert logo is not None and (logo.content_type, theme.logo_digest) == ("image/png", logo.digest)
    assert b"script" not in logo.data and logo.data.endswith(b"IEND\xaeB`\x82")
    assert Image.open(io.BytesIO(logo.data)).size == (40, 20)
    assert themes.logo(house.db, house.elsewhere.space_id) is None
    assert save(house, space).has_logo, "other changes leave the logo"
    assert not themes.clear_logo(house.db, space).has_logo and themes.logo(house.db, space) is None


def test_jpegs_stay_jpegs_without_their_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    logo = themes.encoded_anew(picture("JPEG", exif=exif.tobytes()))
    assert logo.content_type == "image/jpeg" and b"taken at home" not in logo.data and b"Exif" not in logo.data
    assert themes.encoded_anew(picture("GIF")).content_type == "image/png"
    large = themes.encoded_anew(picture(size=(1600, 800)))
    assert Image.open(io.BytesIO(large.data)).size == (512, 256)


def png_bomb() -> bytes:
    """A header of 60,000 × 60,000 pixels over next to no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a picture that can be read"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "SVG is refused"),
        (b"%PDF-1.4", "not a picture that can be read"),
        (picture()[:60], "not a picture that can be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a picture that can be read"),
        (bytes(2 * 1024 * 1024 + 1), "has 2097153 bytes"),
        (picture(size=(2001, 2000)), "2001 × 2000 pixels"),
        (picture("TIFF"), "not a picture that can be read"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        themes.encoded_anew(data)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(UsageError):
        themes.encoded_anew(png_bomb())


@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_pictures_are_sentences_or_pictures(place: int, value: int) -> None:
    data = bytearray(picture())
    data[place % len(data)] = value
    try:
        themes.encoded_anew(bytes(data))
    except UsageError as error:
        assert "logo" in str(error)
