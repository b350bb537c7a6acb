"""The sentences of the web interface and of the agent's local one, and their translations.

    python -m tests.support.catalogs          bring {webui,agent/ui}/translations/*/LC_MESSAGES/messages.po up to date
    python -m tests.support.catalogs --missing   list what a language does not say yet

Sentences are found by Babel in Python and Jinja sources. Files are written sorted by sentence and without places in the
code, so that a change shows as the sentences that changed.
"""

from __future__ import annotations

import argparse
import io
import itertools
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

CHECKOUT = Path(__file__).resolve().parents[2]
SETS = {"webui": CHECKOUT / "webui", "agent": CHECKOUT / "agent" / "ui"}
"""Each has catalogs of its own: neither program needs the other's."""
LANGUAGES = ("en", "de")
KEYWORDS = {
    "_": None,
    "_l": None,
    "gettext": None,
    "ngettext": (1, 2),
    "lazy_gettext": None,
    "lazy_ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
}


_UNWANTED = tuple(
    f'"{name}'.encode()
    for name in ("POT-Creation", "PO-Rev", "Project-Id", "Report-Msgid", "Last-Transl", "Language-Team", "Generated")
)
"""Headers that say nothing here, or change with the day."""


def sentences(which: str = "webui") -> Catalog:
    """Every sentence that pages say."""
    catalog = Catalog(fuzzy=False)
    folder = SETS[which]
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.html"), *folder.rglob("*.txt")]):
        method = "python" if path.suffix == ".py" else "jinja2"
        options = {} if method == "python" else {"trimmed": "true", "silent": "false", "extensions": "jinja2.ext.do"}
        for _, message, _, context in extract_from_file(method, path, keywords=KEYWORDS, options=options):
            catalog.add(message, context=context)
    return catalog


def path_of(language: str, which: str = "webui") -> Path:
    """A language's file."""
    return SETS[which] / "translations" / language / "LC_MESSAGES" / "messages.po"


def translated(language: str, which: str = "webui") -> Catalog:
    """What a language says now."""
    with open(path_of(language, which), "rb") as file:
        return read_po(file, locale=language)


def missing(language: str, which: str = "webui") -> list[str | tuple[str, ...]]:
    """Sentences that a language does not say, or says of another sentence."""
    present = translated(language, which)
    lacking: list[str | tuple[str, ...]] = []
    for message in sentences(which):
        if not message.id:
            continue
        found = present.get(message.id, message.context)
        said = found.string if found is not None else ""
        said_all = all(said) if isinstance(said, (tuple, list)) else bool(said)
        if found is None or not said_all or found.fuzzy:
            lacking.append(message.id)
    return lacking


def update(language: str, which: str) -> None:
    """Bring a file up to date: new sentences come in empty, those nobody says any more go."""
    path = path_of(language, which)
    before = translated(language, which) if path.exists() else Catalog(locale=language)
    after = Catalog(locale=language, charset="utf-8", fuzzy=False, header_comment=f"# Pilulier, {language}")
    for message in sentences(which):
        if message.id:
            found = before.get(message.id, message.context)
            after.add(message.id, found.string if found is not None else None, context=message.context)
    content = io.BytesIO()
    write_po(content, after, no_location=True, omit_header=False, sort_output=True, width=118, include_lineno=False)
    kept = [line for line in content.getvalue().splitlines(True) if not line.startswith(_UNWANTED)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(kept))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--missing", action="store_true")
    for one, chosen in itertools.product(SETS, LANGUAGES):
        if parser.parse_args().missing:
            for sentence in missing(chosen, one):
                print(f"{one} {chosen}: {sentence}")
        else:
            update(chosen, one)
