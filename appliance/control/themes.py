"""The look of a space: product name, colours, logo, the line that says where help is.

Rules: colours are `#rrggbb`; `colour` fills bars and mail headers, and the text on it is black or white, whichever
contrasts more (at least 4.58 for any colour, so nothing is refused there); `accent` is the colour of links and
buttons on white and must contrast by 4.5 (WCAG 2.1, 1.4.3). A logo is decoded within limits and encoded anew, so
that nothing of the uploaded bytes survives; SVG is refused, since it can carry scripts. The only room for Pillow.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from dataclasses import dataclass
from typing import Final

from appliance.control.database import Database
from appliance.control.text import checked_line, one_line
from transport.errors import UsageError

LOGO_BYTES_LIMIT: Final = 2 * 1024 * 1024
LOGO_PIXELS_LIMIT: Final = 4_000_000
LOGO_SIDE: Final = 512
"""Pixels of the longer side at most after encoding anew: pages and mails show it small."""
CONTRAST: Final = 4.5
DARK: Final = "#212529"
"""The background of pages in the dark."""
_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
WHITE: Final = "#ffffff"
BLACK: Final = "#000000"


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, 0 to 1 (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.1)."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def text_on(colour: str) -> str:
    """White or black, whichever reads better on a colour."""
    return WHITE if contrast(colour, WHITE) >= contrast(colour, BLACK) else BLACK


def lightened_for_dark(colour: str) -> str:
    """The colour, mixed with as little white as makes it readable on `DARK`."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    for step in range(21):
        mixed = "#" + "".join(f"{round(part + (255 - part) * step / 20):02x}" for part in parts)
        if contrast(mixed, DARK) >= CONTRAST:
            return mixed
    return WHITE


@dataclass(frozen=True, slots=True)
class Theme:
    """How a space looks. `space_id` is None for the default theme; `logo_digest` changes with the logo."""

    space_id: str | None
    product_name: str
    colour: str
    accent: str
    support_line: str
    logo_digest: str | None

    @property
    def has_logo(self) -> bool:
        """Whether there is one."""
        return self.logo_digest is not None

    @property
    def text_on_colour(self) -> str:
        """Text on bars."""
        return text_on(self.colour)

    @property
    def text_on_accent(self) -> str:
        """Text on buttons."""
        return text_on(self.accent)

    @property
    def accent_on_dark(self) -> str:
        """Links on a dark page."""
        return lightened_for_dark(self.accent)


DEFAULT: Final = Theme(None, "Pilulier", "#0f4c5c", "#0b6e6e", "", None)


@dataclass(frozen=True, slots=True)
class Logo:
    """Bytes to serve as they are; `digest` is an entity tag."""

    content_type: str
    data: bytes
    digest: str


def checked_colour(text: str, what: str) -> str:
    """`#rrggbb` in lower case; UsageError that names `what` otherwise."""
    colour = text.strip().lower()
    if not _COLOUR.fullmatch(colour):
        raise UsageError(f"{what} {one_line(text, 20)!r} is not a colour of the form #rrggbb")
    return colour


def of_space(db: Database, space_id: str | None) -> Theme:
    """A space's theme; the default one where it has none, and for None."""
    row = db.row(
        "SELECT space_id, product_name, colour, accent, support_line, logo_digest FROM theme WHERE space_id = ?",
        [space_id],
    )
    if row is None:
        return Theme(
            space_id,
            DEFAULT.product_name,
            DEFAULT.colour,
            DEFAULT.accent,
            DEFAULT.support_line,
            DEFAULT.logo_digest,
        )
    return Theme(**row)


def save(
    db: Database, space_id: str, *, product_name: str, colour: str, accent: str, support_line: str, now: float
) -> Theme:
    """Change all but the logo; UsageError for a colour that is none or cannot be read on white."""
    colour, accent = checked_colour(colour, "the colour"), checked_colour(accent, "the accent")
    found = contrast(accent, WHITE)
    if found < CONTRAST:
        # Cut, not rounded: 4.499 must not read as enough.
        raise UsageError(
            f"the accent {accent} has a contrast of {math.floor(100 * found) / 100} with white, and links need "
            f"{CONTRAST}: choose a darker one"
        )
    product_name = checked_line(product_name, "the product name", 60)
    support_line = checked_line(support_line, "the support line", 200) if support_line.strip() else ""
    with db.write():
        db.execute(
            "INSERT INTO theme (space_id, product_name, colour, accent, support_line, updated_at) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (space_id) DO UPDATE SET product_name = excluded.product_name, "
            "colour = excluded.colour, accent = excluded.accent, support_line = excluded.support_line, "
            "updated_at = excluded.updated_at",
            [space_id, product_name, colour, accent, support_line, now],
        )
        return of_space(db, space_id)


def encoded_anew(data: bytes) -> Logo:
    """An uploaded picture as a new PNG (JPEG for a JPEG); UsageError for what is no picture, too large, or SVG."""
    # Loaded when a logo comes: every process that sends mails or pages would hold Pillow for nothing.
    from PIL import Image, UnidentifiedImageError

    if len(data) > LOGO_BYTES_LIMIT:
        raise UsageError(f"the logo has {len(data)} bytes: at most {LOGO_BYTES_LIMIT} are taken")
    try:
        with warnings.catch_warnings():
            # Pillow warns of a decompression bomb far above our limit; here its size is an error of our own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Only the header is read here: the size is known before a pixel is decoded.
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > LOGO_PIXELS_LIMIT:
                    raise UsageError(f"the logo has {width} × {height} pixels: at most 4 million are taken")
                is_jpeg = picture.format == "JPEG"
                drawn = picture.convert("RGB" if is_jpeg else "RGBA")
        drawn.thumbnail((LOGO_SIDE, LOGO_SIDE))
        # Into a new image, so that no profile, comment or other extra of the old one is written again.
        clean = Image.new(drawn.mode, drawn.size)
        clean.paste(drawn)
        output = io.BytesIO()
        if is_jpeg:
            clean.save(output, "JPEG", quality=88)
        else:
            clean.save(output, "PNG", optimize=True)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        TypeError,
        OverflowError,
        MemoryError,
    ):
        raise UsageError(
            "the logo is not a picture that can be read: give a PNG or JPEG file (SVG is refused)"
        ) from None
    encoded = output.getvalue()
    return Logo("image/jpeg" if is_jpeg else "image/png", encoded, hashlib.sha256(encoded).hexdigest()[:32])


def set_logo(db: Database, space_id: str, data: bytes, now: float) -> Theme:
    """Take an uploaded picture as the logo; UsageError as for `encoded_anew`."""
    new = encoded_anew(data)
    with db.write():
        _there(db, space_id, now)
        db.execute(
            "UPDATE theme SET logo = ?, logo_type = ?, logo_digest = ?, updated_at = ? WHERE space_id = ?",
            [new.data, new.content_type, new.digest, now, space_id],
        )
        return of_space(db, space_id)


def _there(db: Database, space_id: str, now: float) -> None:
    db.execute(
        "INSERT INTO theme (space_id, product_name, colour, accent, support_line, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (space_id) DO NOTHING",
        [space_id, DEFAULT.product_name, DEFAULT.colour, DEFAULT.accent, DEFAULT.support_line, now],
    )


def clear_logo(db: Database, space_id: str) -> Theme:
    """Do without a logo."""
    with db.write():
        db.execute("UPDATE theme SET logo = NULL, logo_type = NULL, logo_digest = NULL WHERE space_id = ?", [space_id])
        return of_space(db, space_id)


def logo(db: Database, space_id: str) -> Logo | None:
    """The logo's bytes, where there is one."""
    row = db.row("SELECT logo, logo_type, logo_digest FROM theme WHERE space_id = ?", [space_id])
    if row is None or row["logo"] is None:
        return None
    return Logo(row["logo_type"], row["logo"], row["logo_digest"])
