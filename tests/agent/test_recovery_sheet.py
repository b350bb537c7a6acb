"""The recovery sheet: what it says, how it looks, and that each form of it gives the key back."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import segno

from agent.enrolling import Enrolled, Keys
from agent.key_files import export_key, read_exported_key
from agent.recovery_sheet import Sheet, read_sheet, sheet_of
from agent.settings import AgentHome, ApplianceAddress, Settings
from agent.sheet_page import page, text, write_sheet
from agent.sheet_words import WORDS
from agent.system.language import LANGUAGES, Language, machine_language
from tests.support.chromium import chromium
from transport.channel import new_curve_keys
from transport.enrolment import decode_code
from transport.errors import KeyFileError, UsageError
from transport.keys import SigningKey, write_key_file
from transport.names import InstallationId, RepositoryId, VaultId

NOW_MS = 1_795_586_400_000


@pytest.fixture
def machine(tmp_path: Path) -> Enrolled:
    """An enrolled machine whose key was rotated once."""
    home = AgentHome(tmp_path / "home")
    home.create()
    settings = Settings(
        machine=RepositoryId(b"m" * 16),
        name='comptoir <1> & "2"',
        contract="pharmacie-du-marche",
        vault=VaultId(b"v" * 16),
        installation=InstallationId(b"i" * 16),
        appliance=ApplianceAddress(("tcp://sauvegarde.example.org:9444",), b"a" * 32, b"c" * 32),
        key_mode="private",
    )
    return Enrolled(home, settings, Keys(b"k" * 32 + b"2" * 32, SigningKey(b"s" * 32), new_curve_keys()))


@pytest.fixture
def sheet(machine: Enrolled) -> Sheet:
    """Its sheet."""
    return sheet_of(machine, NOW_MS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_form_of_a_sheet_opens_as_key_export_does(machine: Enrolled, tmp_path: Path, language: Language) -> None:
    sheet = sheet_of(machine, NOW_MS)
    exported = tmp_path / "exported"
    export_key(machine, exported)
    expected = read_exported_key(exported)
    typed = "\n".join(f"{line.label.lower()}. {' '.join(line.groups).lower()}" for line in sheet.lines)
    forms = {"html": page(sheet, language), "txt": text(sheet, language), "qr": sheet.compact, "typed": typed}
    for name, form in forms.items():
        assert read_sheet(form) == expected, name
        path = tmp_path / name
        write_key_file(path, form.encode("utf-16" if name == "typed" else "utf-8"))
        assert read_exported_key(path) == expected, name
    assert expected.address == decode_code(sheet.address_code) and not expected.address.enrols


def test_the_lines_of_the_key_alone_open_a_repository(sheet: Sheet) -> None:
    found = read_sheet("\n".join(f"{line.label} {line.symbols}" for line in sheet.key_lines))
    assert found is not None and found.machine_key == b"k" * 32 + b"2" * 32 and found.public_key is not None
    assert found.address is None and found.identity is None
    with pytest.raises(KeyFileError, match="K1 and up, are missing"):
        read_sheet("\n".join(f"{line.label} {line.symbols}" for line in sheet.address_lines))


def test_a_typing_error_is_named_by_its_line_in_the_file(sheet: Sheet, tmp_path: Path) -> None:
    lines = [f"{line.label} {line.symbols}" for line in sheet.lines]
    for at in (2, 11):
        first = lines[at][-1]
        lines[at] = lines[at][:-1] + ("7" if first != "7" else "8")
    path = tmp_path / "fiche.txt"
    write_key_file(path, "\n".join(lines).encode())
    with pytest.raises(KeyFileError) as told:
        read_exported_key(path)
    assert str(told.value).startswith(f"{path}: line K3 has a typing error") and "line A" in str(told.value)
    write_key_file(path, b"bonjour")
    with pytest.raises(KeyFileError, match="is no key of pilulier-agent"):
        read_exported_key(path)


def test_the_page_needs_nothing_from_elsewhere_and_escapes_names(sheet: Sheet) -> None:
    made = page(sheet, "fr")
    assert "<script" not in made and "http://" not in made and "https://" not in made and "src=" not in made
    assert "comptoir &lt;1&gt; &amp; &quot;2&quot;" in made and "comptoir <1>" not in made
    assert 'lang="fr"' in made and "Fiche de récupération" in made and "clé privée" in made
    assert list(sheet.pictures()) == [sheet.compact]
    picture = segno.make(sheet.compact, error="m", micro=False).svg_inline(
        border=4, dark="#000", light="#fff", omitsize=True, svgclass=None, lineclass=None
    )
    assert picture in made


def test_a_much_rotated_key_takes_several_qr_codes(machine: Enrolled) -> None:
    keys = replace(machine.keys, machine=b"".join(bytes([n]) * 32 for n in range(64)))
    sheet = sheet_of(replace(machine, keys=keys), NOW_MS)
    made, found = page(sheet, "de"), read_sheet("\n".join(sheet.pictures()))
    assert sheet.epochs == 64 and made.count("<svg") == len(sheet.pictures()) > 1
    assert found is not None and found.machine_key == keys.machine and found == read_sheet(made)


def test_all_languages_say_as_much() -> None:
    for language in LANGUAGES:
        words = WORDS[language]
        assert len(words.steps) == 7 and len(words.keep) == 4
        commands = re.findall(r"pilulier-agent ([a-z-]+)", " ".join((*words.steps, *words.keep)))
        assert commands == ["recover", "snapshots", "restore", "read-repository", "key", "key"]
        assert sum(step.count("{") for step in words.steps) == 1
    assert machine_language("de") == "de" and machine_language("xx") in LANGUAGES


def test_a_sheet_is_written_for_its_owner_and_over_nothing(sheet: Sheet, tmp_path: Path) -> None:
    path = tmp_path / "fiche.html"
    write_sheet(sheet, path, "fr")
    assert path.stat().st_mode & 0o777 == 0o600
    elsewhere = tmp_path / "absent" / "fiche.txt"
    for wrong, told in ((path, "exists"), (tmp_path / "x.pdf", "ends in neither"), (elsewhere, "is not a folder")):
        with pytest.raises(UsageError, match=told):
            write_sheet(sheet, wrong, "fr")


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_prints_on_one_page(machine: Enrolled, tmp_path: Path, language: Language) -> None:
    keys = replace(machine.keys, machine=b"".join(bytes([n]) * 32 for n in range(3)))
    path = tmp_path / "sheet.html"
    write_sheet(sheet_of(replace(machine, keys=keys), NOW_MS), path, language)
    with chromium() as browser:
        shown = browser.new_page()
        trouble: list[str] = []
        shown.on("console", lambda message: trouble.append(message.text))
        shown.goto(path.as_uri())
        printed = shown.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1 and not trouble
