"""Restoring by the web: a real agent's backups, opened with a code, browsed, ticked and downloaded."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from werkzeug.test import TestResponse

from appliance.control import audit, restores
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.opening.archives import MANIFEST
from appliance.settings import Home
from appliance.store.layout import Layout
from tests.support.processes import House
from tests.support.web_scene import Scene, opened_scene, walk_to
from webui import context


@pytest.fixture
def scene(house: House, tmp_path: Path) -> Iterator[Scene]:
    """The house with one backup of two versions, and the web application over its home."""
    with opened_scene(house, tmp_path) as opened:
        yield opened


def unzipped(answer: TestResponse) -> zipfile.ZipFile:
    """A downloaded zip."""
    assert answer.mimetype == "application/zip"
    return zipfile.ZipFile(io.BytesIO(answer.get_data()))


def test_a_folder_is_found_ticked_and_downloaded(scene: Scene) -> None:
    scene.open()
    parts = [part for part in str(scene.source).split("/") if part]
    page = walk_to(scene, *parts)
    assert "ordonnances" in page and "base.db" in page and "1\N{NO-BREAK SPACE}Mo" in page
    token = scene.token(page, "ordonnances")
    answer = scene.browser.post(f"{scene.at}/tick", {"snapshot": "2", "at": "", "pick": token})
    assert answer.status_code == 303
    assert "1 fichier" in scene.text(f"{scene.at}/browse")
    with unzipped(scene.browser.post(f"{scene.at}/download", {"snapshot": "2", "form": "zip"})) as archive:
        assert archive.read(f"{str(scene.source).lstrip('/')}/ordonnances/dupont.txt").decode() == "2, corrigée"
        assert json.loads(archive.read(MANIFEST))["snapshot"] == 2
    answer = scene.browser.post(f"{scene.at}/download", {"snapshot": "2", "form": "tar"})
    with tarfile.open(fileobj=io.BytesIO(answer.get_data())) as tar:
        assert any(name.endswith("dupont.txt") for name in tar.getnames())
    with Database.open(Home.open(scene.house.appliance.home).control_db) as db:
        kinds = [act.kind for act in audit.search(db, EVERYTHING, text=scene.agent.machine).acts]
        assert kinds.count("restore.download") == 2 and "restore.open" in kinds
        assert not any("dupont" in (act.after or "") for act in audit.search(db, EVERYTHING).acts), "no file names"
        assert [opening.email for opening in restores.openings(db, 0)] == [scene.house.admin.email]


def test_search_versions_and_an_older_day(scene: Scene) -> None:
    scene.open()
    page = scene.browser.post(f"{scene.at}/search", {"snapshot": "2", "text": "DUPONT"}).get_data(as_text=True)
    token = scene.token(page, "dupont.txt")
    assert "1 nom contient" in page
    versions = scene.text(f"{scene.at}/versions?at={token}")
    assert versions.count("Télécharger") >= 2
    with unzipped(
        scene.browser.post(f"{scene.at}/download", {"snapshot": "1", "form": "zip", "only": token})
    ) as archive:
        name = next(name for name in archive.namelist() if name.endswith("dupont.txt"))
        assert archive.read(name) == b"1"


def test_no_page_shows_a_file_name_in_its_address(scene: Scene) -> None:
    scene.open()
    page = walk_to(scene, *[part for part in str(scene.source).split("/") if part])
    assert not [
        link for link in re.findall(r'(?:href|action)="([^"]*)"', page) if "ordonnances" in link or "base" in link
    ]


def test_a_wrong_code_opens_nothing_and_a_closed_door_stays_closed(scene: Scene) -> None:
    scene.browser.get(scene.at)
    answer = scene.browser.post(scene.at, {"code": "000000"})
    assert answer.status_code == 200 and "code" in answer.get_data(as_text=True)
    assert scene.browser.get(f"{scene.at}/browse").headers["Location"].endswith("/restore")
    used = pyotp.TOTP(scene.browser.secret).at(int(scene.browser.clock.at))
    assert scene.browser.post(scene.at, {"code": used}).status_code == 200, "the code of the login does not work again"
    scene.open()
    assert scene.browser.post(f"{scene.at}/close").status_code == 303
    assert scene.browser.get(f"{scene.at}/browse").headers["Location"].endswith("/restore")
    assert scene.browser.post(f"{scene.at}/download", {"snapshot": "2"}).headers["Location"].endswith("/restore")


def test_a_listing_that_was_tampered_with_is_said_and_never_shown(scene: Scene) -> None:
    scene.open()
    scene.house.appliance.stop()
    folder = Home.open(scene.house.appliance.home).repository(bytes.fromhex(scene.agent.machine))
    with sqlite3.connect(Layout(folder).catalog) as catalog:
        catalog.execute("UPDATE entry SET size = size + 1")
    page = scene.text(f"{scene.at}/browse")
    assert "n’a pas pu être lue telle qu’elle a été signée" in page and "tbody" not in page.split("restore-files")[1]
    answer = scene.browser.post(f"{scene.at}/search", {"snapshot": "2", "text": "base"}, follow_redirects=True)
    assert "n’a pas pu être lue telle qu’elle a été signée" in answer.get_data(as_text=True)


def test_logging_out_ends_the_process_that_holds_the_key(scene: Scene) -> None:
    scene.open()
    with scene.browser.client.application.app_context():
        openers = context.appliance().openers
        opened = [one.process for one in openers._opened.values()]
    assert len(opened) == 1 and opened[0].poll() is None
    scene.browser.get("/")
    assert scene.browser.post("/logout").status_code == 303
    assert opened[0].poll() is not None


def test_a_private_key_sends_people_to_the_agent(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("quatre mots et un cheval")
    scene.agent.command("key", "protect", "--passphrase-file", str(file))
    page = scene.text(scene.at)
    assert "clé de cette machine est privée" in page and "pilulier-agent restore" in page
    assert 'name="code"' not in page


def test_a_locked_escrow_key_is_told_before_a_code_is_spent(scene: Scene, tmp_path: Path) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text("cinq mots pour la clé")
    command = scene.house.appliance.command
    assert command("escrow", "protect", "--passphrase-file", str(phrase)).document["unlocked"] is False
    page = scene.text(scene.at)
    assert "un opérateur doit la déverrouiller" in page and 'name="code"' not in page
    code = scene.browser.code()
    answer = scene.browser.post(scene.at, {"code": code})
    assert "un opérateur doit la déverrouiller" in answer.get_data(as_text=True)
    command("escrow", "unprotect", "--passphrase-file", str(phrase))
    scene.browser.get(scene.at)
    answer = scene.browser.post(scene.at, {"code": scene.browser.code()})
    assert answer.status_code == 303 and answer.headers["Location"].endswith("/browse")
