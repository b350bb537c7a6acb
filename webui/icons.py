"""Bootstrap's icons, cut out of the sprite in Bootstrap-Flask's wheel and drawn inline, so that a page loads none.

Knows the names only by asking the sprite; an unknown one is a programming error.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

import flask_bootstrap
from markupsafe import Markup

_SYMBOL: Final = re.compile(r'<symbol viewBox="([0-9 ]+)" id="([a-z0-9-]+)">(.*?)</symbol>', re.S)


@cache
def _sprite() -> dict[str, tuple[str, str]]:
    path = Path(flask_bootstrap.__file__).parent / "static" / "bootstrap5" / "icons" / "bootstrap-icons.svg"
    text = re.sub(r"<symbol [^>]*>", _ordered, path.read_text(encoding="utf-8"))
    return {name: (box, body) for box, name, body in _SYMBOL.findall(text)}


def _ordered(match: re.Match[str]) -> str:
    """The opening tag with its two attributes that matter, in one order."""
    attributes = dict(re.findall(r'([A-Za-z-]+)="([^"]*)"', match.group(0)))
    return f'<symbol viewBox="{attributes["viewBox"]}" id="{attributes["id"]}">'


@cache
def icon(name: str) -> Markup:
    """An icon as inline SVG, hidden from screen readers: the word beside it says the same."""
    box, body = _sprite()[name]
    return Markup('<svg class="bi" viewBox="{}" aria-hidden="true" focusable="false">{}</svg>').format(
        box, Markup(body)
    )
