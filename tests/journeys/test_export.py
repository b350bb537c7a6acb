"""Reversibility: a contract leaves a live appliance and opens elsewhere with its reader and a recovery sheet alone."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from appliance import export_target, exporting, reader_bundle
from appliance.control import contracts
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.errors import ExportError
from appliance.settings import Home
from appliance.store.layout import Layout
from appliance.store.turns import MaintenanceTurn
from tests.support.processes import CHECKOUT, Agent, House, landed
from tests.support.trees import assert_same


def contract_of(house: House) -> str:
    """The only contract's id."""
    (one,) = house.appliance.command("contract", "list").document
    return str(one["contract"])


def reader(export: Path, *words: str, expect: int = 0) -> str:
    """The shipped reader in a process that finds nothing of this checkout; what it said."""
    site = Path(sys.executable).parent.parent / "lib"
    packages = next(site.glob("python*/site-packages"))
    shut = export.parent / "wheels"
    if not shut.exists():
        # The three wheels that the export names, and what they need; nothing else of the environment.
        shut.mkdir()
        for name in ("cryptography", "msgspec", "zstandard", "cffi", "_cffi_backend*", "pycparser", "backports"):
            for found in packages.glob(name):
                os.symlink(found, shut / found.name)
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, str(shut), str(export / "reader" / reader_bundle.NAME), *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=export,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        check=False,
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == expect and "Traceback" not in told, told
    return told


_RUN = "import sys, runpy; sys.path[:0] = [sys.argv[1]]; sys.argv[1:] = sys.argv[2:]; del sys.argv[0]; " \
       "runpy.run_path(sys.argv[0], run_name='__main__')"  # fmt: skip


def typed_sheet(agent: Agent, tmp_path: Path) -> Path:
    """The K lines of a recovery sheet, in a file."""
    sheet, typed = tmp_path / "sheet.txt", tmp_path / "typed.txt"
    agent.command("key", "sheet", "--out", str(sheet))
    typed.touch(mode=0o600)
    typed.write_text("\n".join(line for line in sheet.read_text().splitlines() if re.match(r"K\d+ ", line)))
    return typed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with what restores must keep."""
    top = tmp_path / "source"
    (top / "ordonnances").mkdir(parents=True)
    (top / "base.db").write_bytes(os.urandom(3_000_000))
    for number in range(20):
        (top / "ordonnances" / f"{number}.txt").write_text(f"ordonnance {number}\n" * 30)
    os.symlink("base.db", top / "lien")
    return top


def test_an_export_of_a_live_contract_opens_with_the_sheet_alone(house: House, source: Path, tmp_path: Path) -> None:
    agent = house.agent(source)
    agent.backup()
    first = tmp_path / "first"
    shutil.copytree(source, first, symlinks=True)
    (source / "ordonnances" / "3.txt").unlink()
    (source / "nouveau").write_bytes(os.urandom(100_000))
    agent.backup()
    at_export = tmp_path / "at-export"
    shutil.copytree(source, at_export, symlinks=True)
    tar = tmp_path / "export.tar"
    made = house.appliance.command("contract", "export", contract_of(house), "--out", str(tar)).document
    assert made["machines"] == 1 and tar.stat().st_mode & 0o777 == 0o600
    (source / "apres").write_text("after the export")
    agent.backup()
    with tarfile.open(tar) as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    export = tmp_path / "elsewhere" / "export"
    summed = subprocess.run(["sha256sum", "-c", "--quiet", "MANIFEST.sha256"], cwd=export, capture_output=True)
    assert summed.returncode == 0, summed.stdout
    description = json.loads((export / "contract.json").read_text())
    assert description["machines"][0]["head"] == 2 and description["machines"][0]["wrapped_key"] == "confided"
    assert not (export / "wrapped-keys").exists() and str(made["identity"]) in (export / "LISEZ-MOI.md").read_text()
    typed = typed_sheet(agent, tmp_path)
    shutil.rmtree(house.repository(agent))
    house.appliance.stop()

    folder, target = export / "machines" / agent.machine, tmp_path / "target"
    assert "are as the appliance" in reader(export, "verify", ".", "--identity", made["identity"])
    assert "Restored 21 files" in reader(export, "restore", str(folder), "--key", str(typed), "--target", str(target))
    assert_same(at_export, landed(target, source))
    older = tmp_path / "older"
    reader(export, "restore", str(folder), "--key", str(typed), "--target", str(older), "--snapshot", "1")
    assert_same(first, landed(older, source))
    listed = reader(export, "snapshots", str(folder), "--key", str(typed))
    assert listed.count("complete") == 2 and re.search(r"Code of the last one: \w{4}-\w{4}-\w{4}", listed)
    nobody = Agent(tmp_path / "nobody")
    again = tmp_path / "again"
    nobody.command("read-repository", str(folder), "--key", str(typed), "--target", str(again))
    assert_same(at_export, landed(again, source))

    pack = max((folder / "packs").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    (export / "extra").write_text("x")
    told = reader(export, "verify", ".", expect=1)
    assert f"packs/{pack.name}: it was altered" in told and "extra: the manifest does not name it" in told
    assert subprocess.run(["sha256sum", "-c", "--quiet", "MANIFEST.sha256"], cwd=export, capture_output=True).returncode
    manifest = export / "MANIFEST.sha256"
    manifest.write_bytes(manifest.read_bytes().replace(b"contract.json", b"Contract.json"))
    assert "signature does not hold" in reader(export, "verify", ".", expect=1)


def test_a_folder_with_wrapped_keys_and_a_running_backup(house: House, source: Path, tmp_path: Path) -> None:
    agent = house.agent(source)
    agent.backup()
    (source / "gros").write_bytes(os.urandom(40_000_000))
    running = agent.start("backup")
    out = tmp_path / "export"
    command = ["contract", "export", contract_of(house), "--out", str(out), "--with-wrapped-keys"]
    house.appliance.command(*command)
    assert running.wait().code == 0
    assert [path.name for path in (out / "wrapped-keys").iterdir()] == [f"{agent.machine}.confided"]
    assert "files" in reader(out, "verify", ".")
    target, typed = tmp_path / "target", typed_sheet(agent, tmp_path)
    newest = json.loads((out / "contract.json").read_text())["machines"][0]["head"]
    folder = str(out / "machines" / agent.machine)
    reader(out, "restore", folder, "--key", str(typed), "--target", str(target), "--snapshot", str(newest))
    if newest == 1:
        (source / "gros").unlink()
    assert_same(source, landed(target, source))
    assert "exists already" in house.appliance.command(*command, expect=2).told()


def test_what_stops_an_export_leaves_nothing_that_looks_finished(
    house: House, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = house.agent(source)
    agent.backup()
    home = Home.open(house.appliance.home)
    places = tmp_path / "places"
    places.mkdir()
    with Database.open(home.control_db) as db:
        contract = contracts.find(db, EVERYTHING, contract_of(house))
        written = 0

        class Full:
            """A disk with room for a megabyte."""

            def __call__(self) -> None:
                nonlocal written
                written += 1
                if written > 3:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        for name in ("export", "export.tar"):
            written = 0
            with pytest.raises(ExportError, match="is full: nothing was left there"):
                exporting.write_export(home, db, contract, places / name, now=0.0, check=Full())
            assert list(places.iterdir()) == []
        with monkeypatch.context() as patch:
            patch.setattr(export_target.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
            with pytest.raises(ExportError, match="no room for the export"):
                exporting.write_export(home, db, contract, places / "export.tar", now=0.0)
        (places / "export.tar.partial").write_text("cut off by a power cut")
        exporting.write_export(home, db, contract, places / "export.tar", now=0.0)
        assert [path.name for path in places.iterdir()] == ["export.tar"]
        turn = MaintenanceTurn(Layout(house.repository(agent)))
        monkeypatch.setattr(exporting, "WAIT_S", 0.05)
        try:
            told = exporting.write_export
            with pytest.raises(Exception, match="pruned, scrubbed or rebuilt"):
                told(home, db, contract, places / "other.tar", now=0.0)
        finally:
            turn.close()
    pack = next((house.repository(agent) / "packs").iterdir())
    with open(pack, "r+b") as file:
        file.truncate(1000)
    command = ("contract", "export", contract.id, "--out", str(places / "short.tar"))
    assert "shorter than its catalog says" in house.appliance.command(*command, expect=1).told()
    assert [path.name for path in places.iterdir()] == ["export.tar"]


def test_the_reader_names_what_setup_names_and_is_the_same_each_time() -> None:
    wanted = (CHECKOUT / "setup.cfg").read_text()
    assert all(need in wanted for need in reader_bundle.NEEDS)
    assert reader_bundle.reader() == reader_bundle.reader()
