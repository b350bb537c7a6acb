"""Names of one folder that another system would take for one: a restore there could keep only one of them.

Windows and macOS compare names without their case, macOS also without regard to how an accent is written. Pure.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def folded(name: bytes) -> bytes:
    """A name as a system without case compares it; what is no UTF-8 is only itself."""
    if name.isascii():
        return name.lower()
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return name
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).encode("utf-8", "surrogatepass")


def collision(names: Iterable[bytes]) -> tuple[bytes, bytes] | None:
    """Two of these names that would be one, or None."""
    seen: dict[bytes, bytes] = {}
    for name in names:
        first = seen.setdefault(folded(name), name)
        if first is not name:
            return first, name
    return None
