"""Copies on site: written in the same run, brought level when a disk was away, restored from with no appliance."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from agent.onsite.medium import folder_on
from agent.settings import AgentHome, load_settings
from appliance.control import site_copies
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from tests.support.processes import Agent, House, landed
from tests.support.trees import assert_same


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = random.Random("onsite")
    folder = tmp_path / "source"
    (folder / "letters").mkdir(parents=True)
    for number in range(40):
        (folder / "letters" / f"letter-{number}").write_bytes(rng.randbytes(3000 + number))
    (folder / "base.db").write_bytes(rng.randbytes(3 << 20))
    return folder


def disk(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def repository_on(agent: Agent, path: Path) -> Path:
    return folder_on(load_settings(AgentHome(agent.home)), path) / "repository"


def change(source: Path, seed: str) -> None:
    rng = random.Random(seed)
    with open(source / "base.db", "r+b") as file:
        file.seek(rng.randrange(2 << 20))
        file.write(rng.randbytes(900))
    (source / f"new-{seed}").write_bytes(rng.randbytes(200_000))
    (source / "letters" / "letter-3").write_bytes(seed.encode() * 50)
    (source / "letters" / f"letter-{rng.randrange(4, 40)}").unlink(missing_ok=True)


def read_in_hand(agent: Agent, path: Path, tmp_path: Path, name: str) -> Path:
    key = tmp_path / "key"
    if not key.exists():
        agent.command("key", "export", "--out", str(key))
    target = tmp_path / name
    agent.command("read-repository", str(repository_on(agent, path)), "--key", str(key), "--target", str(target))
    return target


def test_one_run_writes_both(house: House, source: Path, tmp_path: Path) -> None:
    nas = disk(tmp_path, "nas")
    agent = house.agent(source)
    added = agent.command("onsite", "add", str(nas), "--name", "nas").document
    assert added["name"] == "nas" and len(added["id"]) == 32
    for seed in ("one", "two", "three"):
        report = agent.backup()
        (copy,) = report["onsite"]
        assert (copy["state"], copy["name"], copy["reason"]) == ("written", "nas", ""), copy
        assert copy["snapshot"] == report["snapshot"]
        change(source, seed)
    final = agent.backup()
    assert final["files_delta"] == 1, final
    assert final["onsite"][0]["bytes_written"] < 1 << 20, "a level copy gets the delta, not the file"
    assert final["bytes_read"] < 4 << 20, "the database and the small files that changed, once"
    (shown,) = agent.command("onsite", "list").document
    assert shown["here"] and shown["state"] == "written" and shown["snapshot"] == 4
    (checked,) = agent.command("onsite", "check", "--read-data").document
    assert checked["ok"] and not checked["errors"]
    house.appliance.stop()
    assert_same(source, landed(read_in_hand(agent, nas, tmp_path, "back"), source))


def test_alternating_disks_in_one_place(house: House, source: Path, tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    agent = house.agent(source)
    places = {}
    for name in ("A", "B"):
        slot.mkdir()
        places[name] = agent.command("onsite", "add", str(slot), "--name", name).document["id"]
        slot.rename(tmp_path / f"drawer-{name}")
    assert len(set(places.values())) == 2
    for turn, name in enumerate(("A", "A", "B", "A", "B", "B")):
        (tmp_path / f"drawer-{name}").rename(slot)
        report = agent.backup()
        states = {copy["name"]: copy["state"] for copy in report["onsite"]}
        assert states == {name: "written", {"A": "B", "B": "A"}[name]: "not there"}, report
        assert_same(source, landed(read_in_hand(agent, slot, tmp_path, f"back-{turn}"), source))
        slot.rename(tmp_path / f"drawer-{name}")
        change(source, f"turn-{turn}")
    shutil.copytree(tmp_path / "drawer-A", slot)
    (shown, _) = agent.command("onsite", "list").document
    assert shown["here"]


def test_an_unmounted_place_is_never_written_to(house: House, source: Path, tmp_path: Path) -> None:
    nas = disk(tmp_path, "nas")
    agent = house.agent(source)
    agent.command("onsite", "add", str(nas))
    nas.rename(tmp_path / "away")
    nas.mkdir()
    report = agent.backup()
    assert report["state"] == "complete" and not report["warnings"]
    assert report["onsite"][0]["state"] == "not there"
    assert list(nas.iterdir()) == []
    nas.rmdir()
    (tmp_path / "away").rename(nas)
    assert agent.backup()["onsite"][0]["state"] == "written"
    assert_same(source, landed(read_in_hand(agent, nas, tmp_path, "back"), source))


def test_the_nearer_copy_gives_back_without_code_or_appliance(house: House, source: Path, tmp_path: Path) -> None:
    nas = disk(tmp_path, "nas")
    agent = house.agent(source)
    agent.command("onsite", "add", str(nas), "--name", "nas")
    agent.backup()
    first = tmp_path / "first"
    shutil.copytree(source, first)
    change(source, "one")
    agent.backup()
    house.appliance.stop()
    rows = agent.command("snapshots", "--from", "onsite").document
    assert [(r["snapshot"], r["copy"], r["on_appliance"]) for r in rows] == [(1, "nas", 1), (2, "nas", 2)]
    listed = agent.command("ls", str(source / "letters")).document
    assert {Path(row["path"]).name for row in listed} == {p.name for p in (source / "letters").iterdir()}
    newest = agent.command("restore", "--target", str(tmp_path / "newest")).document
    assert newest["from"] == "onsite:nas" and not newest["errors"] and newest["bytes_received"] == 0
    assert_same(source, landed(tmp_path / "newest", source))
    agent.command("restore", "--target", str(tmp_path / "older"), "--snapshot", "1", str(source / "base.db"))
    assert landed(tmp_path / "older", source / "base.db").read_bytes() == (first / "base.db").read_bytes()
    agent.told("restore", "--from", "appliance", "--target", str(tmp_path / "none"))
    nas.rename(tmp_path / "pulled")
    agent.told("restore", "--target", str(tmp_path / "none"))
    agent.told("restore", "--from", "onsite", "--target", str(tmp_path / "none"), code=2)


def test_what_a_copy_lost_comes_from_the_appliance(house: House, source: Path, tmp_path: Path) -> None:
    nas = disk(tmp_path, "nas")
    agent = house.agent(source)
    agent.command("onsite", "add", str(nas), "--name", "nas")
    agent.backup()
    (pack,) = (repository_on(agent, nas) / "packs").glob("*.pack")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    (checked,) = agent.command("onsite", "check", "--read-data", expect=1).document
    assert not checked["ok"] and checked["errors"]
    without = agent.command("restore", "--target", str(tmp_path / "without"), expect=3).document
    assert without["errors"] and without["from"] == "onsite:nas"
    login = house.login()
    mended = agent.command("restore", "--target", str(tmp_path / "with"), *login).document
    assert not mended["errors"] and mended["from"] == "onsite:nas, appliance", mended
    assert mended["bytes_received"] > 0 and mended["files"] > len(without["errors"])
    assert_same(source, landed(tmp_path / "with", source))


def test_the_appliance_hears_of_copies_and_misses_them(house: House, source: Path, tmp_path: Path) -> None:
    agent = house.agent(source)
    for name in ("nas", "usb"):
        agent.command("onsite", "add", str(disk(tmp_path, name)), "--name", name)
    (tmp_path / "usb").rename(tmp_path / "away")
    agent.backup()
    machine = bytes.fromhex(agent.machine)
    with Database.open(house.appliance.home / "control.db") as db:
        told = {copy.name: copy for copy in site_copies.of_machine(db, machine)}
        assert {name: copy.state for name, copy in told.items()} == {"nas": "written", "usb": "not there"}
        assert told["nas"].free_bytes and told["nas"].written_at and told["usb"].written_at is None
        assert told["nas"].place != told["usb"].place
        assert site_copies.missing(db, EVERYTHING, told["usb"].added_at + 6 * 86_400) == []
        gaps = site_copies.missing(db, EVERYTHING, told["usb"].added_at + 8 * 86_400)
        assert {gap.names for gap in gaps} == {("nas",), ("usb",)}
    agent.command("onsite", "remove", "usb")
    agent.backup()
    with Database.open(house.appliance.home / "control.db") as db:
        assert [copy.name for copy in site_copies.of_machine(db, machine)] == ["nas"]


def test_without_the_appliance_the_copy_is_written_all_the_same(
    house: House, source: Path, tmp_path: Path
) -> None:
    nas = disk(tmp_path, "nas")
    agent = house.agent(source)
    agent.command("onsite", "add", str(nas), "--name", "nas")
    agent.backup()
    house.appliance.stop()
    for turn in range(2):
        change(source, f"alone-{turn}")
        said = agent.told("backup", code=5)
        assert "written all the same: nas" in said
        assert_same(source, landed(read_in_hand(agent, nas, tmp_path, f"alone-{turn}"), source))
        assert not (agent.home / "alone").exists()
    newest = agent.command("restore", "--target", str(tmp_path / "newest")).document
    assert newest["snapshot"] == 3 and newest["from"] == "onsite:nas"
    house.appliance.serve()
    report = agent.backup()
    assert report["snapshot"] == 2 and report["files_delta"] == 1, report
    (copy,) = report["onsite"]
    assert copy["state"] == "written" and copy["snapshot"] == 4 and not copy["reason"], copy
    assert_same(source, landed(read_in_hand(agent, nas, tmp_path, "after"), source))
    agent.restore(tmp_path / "remote", house.admin)
    assert_same(source, landed(tmp_path / "remote", source))
    change(source, "level again")
    assert agent.backup()["onsite"][0]["bytes_written"] < 1 << 20
    (checked,) = agent.command("onsite", "check", "--read-data").document
    assert checked["ok"]


def test_no_copy_and_no_appliance(house: House, source: Path, tmp_path: Path) -> None:
    nas = disk(tmp_path, "nas")
    agent = house.agent(source)
    agent.command("onsite", "add", str(nas))
    house.appliance.stop()
    nas.rename(tmp_path / "away")
    assert "on site" not in agent.told("backup", code=5)


def test_verify_compares_originals_appliance_and_copies(house: House, source: Path, tmp_path: Path) -> None:
    nas = disk(tmp_path, "nas")
    agent = house.agent(source)
    agent.command("onsite", "add", str(nas), "--name", "nas")
    agent.backup()
    (seen,) = agent.command("verify").document["onsite"]
    assert seen["same_as_appliance"] and seen["snapshot"] == 1 and seen["segments_checked"] and not seen["damaged"]
    (pack,) = (repository_on(agent, nas) / "packs").glob("*.pack")
    nas.rename(tmp_path / "away")
    change(source, "while it was away")
    agent.backup()
    assert agent.command("verify").document["onsite"] == []
    (tmp_path / "away").rename(nas)
    (seen,) = agent.command("verify", expect=3).document["onsite"]
    assert seen["same_as_appliance"] is False and not seen["damaged"]
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    (seen,) = agent.command("verify", "--sample", "100", expect=1).document["onsite"]
    assert len(seen["damaged"]) == 1
