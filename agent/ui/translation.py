"""Languages of the pages: French is what the sources say, English and German come from translations/*.po.

The .po files are read as they are, once a process: nothing has to be compiled, so nothing can be out of date. The
language is the machine's, as chosen in the settings, else the system's, else French.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from flask import Flask
from flask_babel import Babel, Domain, get_locale

from agent.system.language import machine_language
from agent.ui.machine import this
from transport.errors import PilulierError

LANGUAGES: Final = {"fr": "Français", "en": "English", "de": "Deutsch"}
SOURCE: Final = "fr"
_FOLDER: Final = Path(__file__).parent / "translations"


class FrenchTranslations(NullTranslations):
    """The sentences as they are written; nought is singular in French."""

    def ungettext(self, singular: str, plural: str, num: int) -> str:
        """The form for so many."""
        return singular if num < 2 else plural


@cache
def translations(language: str) -> NullTranslations:
    """What a language says for each French sentence."""
    if language == SOURCE:
        return FrenchTranslations()
    with open(_FOLDER / language / "LC_MESSAGES" / "messages.po", "rb") as file:
        catalog = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return Translations(compiled)


class PoDomain(Domain):  # type: ignore[misc]  # untyped base
    """flask-babel's domain, out of .po files."""

    def get_translations(self) -> NullTranslations:
        """Of the request's language."""
        return translations(str(get_locale() or SOURCE))


_DOMAIN: Final = PoDomain()


class PoBabel(Babel):  # type: ignore[misc]  # untyped base
    """flask-babel with that domain."""

    @property
    def domain_instance(self) -> Domain:
        """The one domain."""
        return _DOMAIN


def chosen() -> str:
    """The machine's language."""
    try:
        language = this().settings().language
    except PilulierError:
        language = ""
    return machine_language(language)


def install(app: Flask) -> None:
    """Let pages speak it."""
    PoBabel(app, default_locale=SOURCE, locale_selector=chosen)
