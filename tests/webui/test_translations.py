"""English and German say everything that the French sources say, with the same places for values: the web interface's
pages and the local interface's."""

from __future__ import annotations

import re

import pytest

from tests.support import catalogs

_PLACE = re.compile(r"%\((\w+)\)")


@pytest.mark.parametrize("which", catalogs.SETS)
@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_every_sentence_is_translated(language: str, which: str) -> None:
    missing = catalogs.missing(language, which)
    assert not missing, f"python -m tests.support.catalogs, then translate {len(missing)}: {missing[:5]}"


@pytest.mark.parametrize("which", catalogs.SETS)
@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_nothing_is_translated_that_nobody_says(language: str, which: str) -> None:
    said = {(message.id, message.context) for message in catalogs.sentences(which)}
    left = [message.id for message in catalogs.translated(language, which) if (message.id, message.context) not in said]
    assert not [one for one in left if one], "python -m tests.support.catalogs"


@pytest.mark.parametrize("which", catalogs.SETS)
@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_translations_keep_the_places_for_values(language: str, which: str) -> None:
    wrong = []
    for message in catalogs.translated(language, which):
        source = message.id if isinstance(message.id, (tuple, list)) else (message.id,)
        said = message.string if isinstance(message.string, (tuple, list)) else (message.string,)
        places = set().union(*(set(_PLACE.findall(text)) for text in source))
        for text in said:
            # A plural may leave its number out ("one machine"), never bring in a place that nobody fills.
            if text and not set(_PLACE.findall(text)) <= places:
                wrong.append(message.id)
            if text and len(source) == 1 and set(_PLACE.findall(text)) != places:
                wrong.append(message.id)
    assert not wrong, wrong
