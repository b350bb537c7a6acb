"""Opening confided backups on the appliance: browsing, searching, versions, archives, by the real opener process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.control import machines
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.errors import KeyModeError
from appliance.opening import words
from appliance.opening.archives import MANIFEST
from appliance.opening.clients import Opened, Openers, OpeningError, TooManyDownloadsError, beginning, download
from appliance.settings import Home
from tests.support.processes import Agent, House

SLOTS = threading.BoundedSemaphore(2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small tree with what archives must tell apart."""
    top = tmp_path / "source"
    (top / "dossier é").mkdir(parents=True)
    (top / "vide").mkdir()
    (top / "dossier é" / "ordonnance.txt").write_text("première version\n" * 50)
    (top / "base.db").write_bytes(os.urandom(3 << 20) + bytes(2 << 20) + b"end")
    (top / "rien").write_bytes(b"")
    os.symlink("base.db", top / "lien")
    os.link(top / "base.db", top / "copie dure.db")
    os.utime(top / "rien", ns=(1, 1_700_000_000_123_456_789))
    return top


def begin(house: House, agent: Agent) -> words.Begin:
    """What the opener of an agent's machine is told."""
    home = Home.open(house.appliance.home)
    with Database.open(home.control_db) as db:
        return beginning(home, db, EVERYTHING, machines.find(db, EVERYTHING, agent.machine))


@pytest.fixture
def openers() -> Iterator[Openers]:
    """Ended at the end."""
    made = Openers()
    yield made
    made.close()


def opened(house: House, agent: Agent, openers: Openers) -> Opened:
    """An opener for the agent's machine."""
    return openers.open("w1", bytes.fromhex(agent.machine), begin(house, agent))


def names(answer: words.Entries) -> list[bytes]:
    """The names of entries."""
    return [entry.path.rpartition(b"/")[2] for entry in answer.entries]


def test_browse_search_versions_and_measure(house: House, source: Path, openers: Openers) -> None:
    agent = house.agent(source)
    agent.backup()
    (source / "dossier é" / "ordonnance.txt").write_text("seconde version\n" * 60)
    agent.backup()
    (source / "autre").write_text("x")
    agent.backup()
    one = opened(house, agent, openers)
    assert [snapshot.number for snapshot in one.snapshots] == [1, 2, 3]
    root = os.fsencode(source)
    listing = one.ask(words.ListFolder(3, root), words.Entries)
    assert names(listing) == sorted(os.listdir(root))
    kinds = {entry.path.rpartition(b"/")[2]: entry.kind for entry in listing.entries}
    assert (kinds[b"lien"], kinds[b"vide"], kinds[b"base.db"]) == ("l", "d", "f")
    found = one.ask(words.Search(3, "ORDONN"), words.Entries)
    assert names(found) == [b"ordonnance.txt"]
    versions = one.ask(words.FileVersions(found.entries[0].path), words.Versions).versions
    assert [version.snapshot for version in versions] == [1, 2]
    measured = one.ask(words.Measure(3, [root, b"/nowhere"]), words.Measured)
    assert measured.files == 5 and measured.missing == [b"/nowhere"]
    with pytest.raises(OpeningError, match="not held"):
        one.ask(words.ListFolder(9, root), words.Entries)
    with pytest.raises(OpeningError, match="not in snapshot"):
        one.ask(words.ListFolder(3, root + b"/none"), words.Entries)
    assert names(one.ask(words.ListFolder(1, root), words.Entries)), "an error leaves it going"


def test_a_tar_is_faithful(house: House, source: Path, tmp_path: Path) -> None:
    agent = house.agent(source)
    agent.backup()
    data = b"".join(download(SLOTS, begin(house, agent), words.Archive(1, [os.fsencode(source)], "tar", "poste")))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(tmp_path / "out", filter="tar")
        manifest = json.loads(tar.extractfile(MANIFEST).read())  # type: ignore[union-attr]
    there = tmp_path / "out" / str(source).lstrip("/")
    compared = subprocess.run(
        ["diff", "-r", "--no-dereference", str(source), str(there)], capture_output=True, check=False
    )
    assert compared.returncode == 0, compared.stdout.decode()
    assert (there / "lien").readlink() == Path("base.db")
    assert (there / "copie dure.db").samefile(there / "base.db")
    assert (there / "rien").stat().st_mtime_ns // 1000 == 1_700_000_000_123_456
    assert manifest["machine"] == "poste" and len(manifest["files"]) == 3 and manifest["left_out"] == []


def test_a_zip_holds_files_with_safe_names(house: House, source: Path) -> None:
    (source / "..\\..\\evil.txt").write_text("1")
    (source / "con.txt").write_text("2")
    (source / "A.TXT").write_text("3")
    (source / "a.txt").write_text("4")
    agent = house.agent(source)
    agent.backup(expect=3)  # names that differ by case alone are told
    data = b"".join(download(SLOTS, begin(house, agent), words.Archive(1, [os.fsencode(source)], "zip", "poste")))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        listed = archive.namelist()
        manifest = json.loads(archive.read(MANIFEST))
        content = archive.read(next(name for name in listed if name.endswith("/base.db")))
    assert content == (source / "base.db").read_bytes()
    lower = [name.lower() for name in listed]
    assert len(set(lower)) == len(lower), "names differ by more than case"
    assert not any("\\" in name or ".." in name.split("/") or name.startswith("/") for name in listed)
    assert any(name.endswith("/_con.txt") for name in listed)
    assert [left["reason"] for left in manifest["left_out"]] == ["a zip holds no links: take the tar for them"]


def test_everything_is_a_selection_too(house: House, source: Path) -> None:
    agent = house.agent(source)
    agent.backup()
    data = b"".join(download(SLOTS, begin(house, agent), words.Archive(1, [b"/"], "tar", "poste")))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert str(source / "base.db").lstrip("/") in tar.getnames()


def test_an_archive_that_nobody_reads_ends_with_its_slot(house: House, source: Path) -> None:
    agent = house.agent(source)
    agent.backup()
    slots = threading.BoundedSemaphore(1)
    question = words.Archive(1, [os.fsencode(source)], "tar", "poste")
    first = download(slots, begin(house, agent), question)
    with pytest.raises(TooManyDownloadsError):
        download(slots, begin(house, agent), question)
    first.close()
    first.close()
    assert len(b"".join(download(slots, begin(house, agent), question))) > 5 << 20
    assert slots.acquire(blocking=False), "the last part gives the slot back"


def test_damage_never_leaves_as_content(house: House, source: Path) -> None:
    (source / "large").write_bytes(os.urandom(12 << 20))
    agent = house.agent(source)
    agent.backup()
    house.appliance.stop()
    packs = Home.open(house.appliance.home).repository(bytes.fromhex(agent.machine)) / "packs"
    pack = max(packs.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    parts = download(SLOTS, begin(house, agent), words.Archive(1, [os.fsencode(source)], "tar", "poste"))
    with pytest.raises(OpeningError, match="cut short"):
        b"".join(parts)


def test_a_private_key_opens_nothing_here(house: House, source: Path, tmp_path: Path) -> None:
    agent = house.agent(source)
    file = tmp_path / "passphrase"
    file.write_text("quatre mots et un cheval")
    agent.command("key", "protect", "--passphrase-file", str(file))
    with pytest.raises(KeyModeError):
        begin(house, agent)


def test_an_opener_ends_with_its_session_and_holds_no_secret_on_its_command_line(
    house: House, source: Path, openers: Openers
) -> None:
    agent = house.agent(source)
    agent.backup()
    machine = bytes.fromhex(agent.machine)
    one = opened(house, agent, openers)
    line = Path(f"/proc/{one.process.pid}/cmdline").read_bytes()
    assert agent.machine.encode() not in line and b"opener" in line
    assert openers.find("w1", machine) is one
    assert openers.find("w2", machine) is None, "another session finds nothing"
    openers.end_session("w1")
    assert one.process.poll() is not None and openers.find("w1", machine) is None


def test_an_envelope_of_another_machine_does_not_open(house: House, source: Path, openers: Openers) -> None:
    agent = house.agent(source)
    agent.backup()
    other = house.agent(source, name="autre")
    mixed = begin(house, agent)
    stolen = words.Begin(
        mixed.home, mixed.folder, mixed.machine, mixed.vault, mixed.public_key, begin(house, other).envelope
    )
    with pytest.raises(OpeningError, match="another machine"):
        openers.open("w1", bytes.fromhex(agent.machine), stolen)
