"""When the appliance is gone: a copied repository folder, an exported key, and nothing else."""

from __future__ import annotations

import os
import random
import re
import shutil
from pathlib import Path

from tests.support.processes import Agent, House, landed
from tests.support.trees import assert_same


def backed_up(house: House, tmp_path: Path) -> tuple[Agent, Path, Path]:
    """An agent with two snapshots; its source, and a copy of the source as it was at the first one."""
    noise = random.Random("in hand")
    source = tmp_path / "source"
    (source / "letters").mkdir(parents=True)
    (source / "stock.db").write_bytes(noise.randbytes(2_500_000))
    for number in range(30):
        (source / "letters" / f"{number}.txt").write_text(f"letter {number}\n" * 40)
    os.symlink("stock.db", source / "link")
    agent = house.agent(source)
    agent.backup()
    first = tmp_path / "first"
    shutil.copytree(source, first, symlinks=True)
    with open(source / "stock.db", "r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed")
    (source / "letters" / "3.txt").unlink()
    (source / "letters" / "new.txt").write_text("new")
    agent.backup()
    return agent, source, first


def test_a_copied_folder_opens_with_the_key_and_no_server(house: House, tmp_path: Path) -> None:
    agent, source, first = backed_up(house, tmp_path)
    key = tmp_path / "key.json"
    assert agent.command("key", "export", "--out", str(key)).document == {"key": str(key)}
    assert key.stat().st_mode & 0o777 == 0o600
    assert "exists already" in agent.command("key", "export", "--out", str(key), expect=2).told()
    copy = tmp_path / "copy"
    shutil.copytree(house.repository(agent), copy)
    house.appliance.stop()
    before = sorted((path.name, path.read_bytes()) for path in copy.rglob("*") if path.is_file())

    nobody = Agent(tmp_path / "nobody")  # a PC that never heard of this appliance
    target = tmp_path / "target"
    options = ["read-repository", str(copy), "--key", str(key), "--target"]
    report = nobody.command(*options, str(target)).document
    assert report["errors"] == [] and report["files"] == 31
    assert_same(source, landed(target, source))
    older = tmp_path / "older"
    nobody.command(*options, str(older), "--snapshot", "1")
    assert_same(first, landed(older, source))
    one = tmp_path / "one"
    assert nobody.command(*options, str(one), str(source / "stock.db")).document["files"] == 1

    (copy / "catalog.sqlite").unlink()
    again = tmp_path / "again"
    outcome = nobody.command(*options, str(again))
    assert "made anew from the packs" in outcome.told()
    assert_same(source, landed(again, source))
    after = sorted((path.name, path.read_bytes()) for path in copy.rglob("*") if path.is_file())
    assert after == [pair for pair in before if pair[0] != "catalog.sqlite"], "the folder in hand was not touched"
    assert not (tmp_path / "nobody").exists() or not any((tmp_path / "nobody").iterdir())


def test_a_typed_recovery_sheet_opens_the_repository(house: House, tmp_path: Path) -> None:
    agent, source, _ = backed_up(house, tmp_path)
    agent.command("key", "rotate")
    (source / "after.txt").write_text("sealed under the second key")
    agent.backup()
    sheet = tmp_path / "sheet.txt"
    made = agent.command("key", "sheet", "--out", str(sheet), "--language", "fr").document
    assert made["sheet"] == str(sheet) and made["epochs"] == 2 and sheet.stat().st_mode & 0o777 == 0o600
    assert made["head_code"] in sheet.read_text()
    assert "exists already" in agent.command("key", "sheet", "--out", str(sheet), expect=2).told()
    copy = tmp_path / "copy"
    shutil.copytree(house.repository(agent), copy)
    house.appliance.stop()

    lines = [" ".join(line.lower().split()) for line in sheet.read_text().splitlines() if re.match(r"K\d+ ", line)]
    typed, target = tmp_path / "typed", tmp_path / "target"
    typed.touch(mode=0o600)
    typed.write_text("\n".join(lines))
    nobody = Agent(tmp_path / "nobody")
    options = ["read-repository", str(copy), "--key", str(typed), "--target", str(target)]
    assert nobody.command(*options).document["errors"] == []
    assert_same(source, landed(target, source))
    lines[3] = lines[3][:-1] + ("2" if lines[3][-1] != "2" else "3")
    typed.write_text("\n".join(lines))
    told = nobody.command(*options[:-1], str(tmp_path / "other"), expect=4).told()
    assert "line K4 has a typing error" in told and not (tmp_path / "other").exists()


def test_wrong_keys_and_folders_get_one_sentence(house: House, tmp_path: Path) -> None:
    agent, _, _ = backed_up(house, tmp_path)
    other_source = tmp_path / "other"
    other_source.mkdir()
    (other_source / "file").write_text("other")
    other = house.agent(other_source)
    other.backup()
    key, wrong, damaged = tmp_path / "key", tmp_path / "wrong", tmp_path / "damaged"
    agent.command("key", "export", "--out", str(key))
    other.command("key", "export", "--out", str(wrong))
    text = key.read_text()
    at = text.index('"machine_key"') + 20
    damaged.touch(mode=0o600)
    damaged.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
    folder, target = str(house.repository(agent)), str(tmp_path / "target")
    nobody = Agent(tmp_path / "nobody")

    def told(where: str, with_key: Path, code: int = 4) -> str:
        outcome = nobody.command("read-repository", where, "--key", str(with_key), "--target", target, expect=code)
        assert not os.path.exists(target)
        return outcome.told()

    assert "is the key of another machine" in told(folder, wrong, 1)
    assert "is damaged" in told(folder, damaged)
    assert "does not exist" in told(folder, tmp_path / "absent")
    assert "is no repository" in told(str(tmp_path), key, 1)
    bare = Path(agent.home, "keys", "machine.key")
    outcome = nobody.command("read-repository", folder, "--key", str(bare), "--target", target)
    assert outcome.document["errors"] == [] and "cannot tell a forged repository" in outcome.told()


def test_the_service_goes_on_after_its_catalog_was_lost_and_rebuilt(house: House, tmp_path: Path) -> None:
    agent, source, _ = backed_up(house, tmp_path)
    folder = house.repository(agent)
    sound = house.appliance.command("repo", "rebuild", agent.machine).document
    assert sound["ok"] and not sound["replaced"] and sound["differences"] == []
    house.appliance.stop()
    (folder / "catalog.sqlite").unlink()
    told = house.appliance.command("repo", "stats", agent.machine, expect=1).told()
    assert "rebuild" in told
    rebuilt = house.appliance.command("repo", "rebuild", agent.machine).document
    assert rebuilt["ok"] and rebuilt["replaced"] and rebuilt["snapshots"] == 2
    house.appliance.serve()
    (source / "after.txt").write_text("after")
    report = agent.backup()
    assert report["snapshot"] == 3 and report["files_full"] == 1
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))
    assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]
