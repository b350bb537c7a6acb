"""The language that this machine speaks to its owner, out of those that Pilulier speaks."""

from __future__ import annotations

import locale
import os
import sys
from typing import Final, Literal, cast

Language = Literal["fr", "en", "de"]
LANGUAGES: Final[tuple[Language, ...]] = ("fr", "en", "de")


def machine_language(chosen: str = "") -> Language:
    """`chosen` if Pilulier speaks it, else the system's, else French."""
    told = [chosen, *(os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))]
    if sys.platform == "win32":  # elsewhere Python takes C.UTF-8 for American English
        told.append(locale.getlocale()[0] or "")
    for name in told:
        if name and name[:2].lower() in LANGUAGES:
            return cast(Language, name[:2].lower())
    return "fr"
