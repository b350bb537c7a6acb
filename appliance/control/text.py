"""Text from outside, made safe to store and to show: one line, no control characters, bounded.

Owns what counts as a control character here: the Unicode controls, line and paragraph separators, surrogates,
and the marks that reorder text on screen, by which a log line could pretend to be another.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from transport.errors import UsageError

_REORDERING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORBIDDEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_EMAIL: Final = re.compile(r"[^@\s<>,;:\"()\[\]\\]{1,64}@[^@\s<>,;:\"()\[\]\\]{1,189}")


def one_line(text: str, limit: int) -> str:
    """`text` without control characters (white ones become one space) and cut to `limit` characters."""
    return "".join(letter for letter in " ".join(text.split()) if not _is_control(letter))[:limit]


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in _FORBIDDEN or letter in _REORDERING


def checked_line(text: str, what: str, limit: int) -> str:
    """`text`, stripped; UsageError that names `what` where it is empty, too long or has control characters."""
    text = text.strip()
    if not text:
        raise UsageError(f"{what} is empty: give at least one letter")
    if len(text) > limit:
        raise UsageError(f"{what} has {len(text)} characters: at most {limit} are allowed")
    if any(map(_is_control, text)):
        raise UsageError(f"{what} contains control characters: remove them")
    return text


def checked_email(text: str) -> str:
    """The address, trimmed and in lower case (RFC 5321 leaves the local part's case to the host; people do not)."""
    address = unicodedata.normalize("NFC", text.strip()).lower()
    if not _EMAIL.fullmatch(address) or one_line(address, 254) != address:
        raise UsageError(f"{one_line(text, 80)!r} is not an e-mail address: expected name@example.org")
    return address
