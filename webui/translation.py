"""Languages of the pages: French is what the sources say, English and German come from translations/*.po.

The .po files are read as they are, each once a process, when a reader first needs it: nothing has to be compiled, so
nothing can be out of date. Owns which language a request speaks: the account's, else the cookie's, else the
browser's, else French.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from flask import Flask, request
from flask_babel import Babel, Domain, get_locale

from appliance.control.accounts import LANGUAGES
from webui import context

FOLDER: Final = Path(__file__).parent / "translations"
SOURCE: Final = LANGUAGES[0]
COOKIE: Final = "language"


class FrenchTranslations(NullTranslations):
    """The sentences as they are written; nought is singular in French."""

    def ungettext(self, singular: str, plural: str, num: int) -> str:
        """The form for so many."""
        return singular if num < 2 else plural


@cache
def translations(language: str) -> NullTranslations:
    """What a language says for each French sentence; the sentences themselves for French."""
    path = FOLDER / language / "LC_MESSAGES" / "messages.po"
    if language == SOURCE or not path.exists():
        return FrenchTranslations()
    with open(path, "rb") as file:
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
    """flask-babel with that domain: it makes its own by name, and knows .mo files only."""

    @property
    def domain_instance(self) -> Domain:
        """The one domain."""
        return _DOMAIN


def chosen() -> str:
    """The request's language."""
    who = context.person()
    if who is not None:
        return who.account.language
    cookie = request.cookies.get(COOKIE)
    if cookie in LANGUAGES:
        return str(cookie)
    return request.accept_languages.best_match(LANGUAGES) or SOURCE


def install(app: Flask) -> None:
    """Let pages speak the reader's language."""
    PoBabel(app, default_locale=SOURCE, locale_selector=chosen)
