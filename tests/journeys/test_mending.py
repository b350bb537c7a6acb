"""Damage on the appliance's disk, found by a scrub, given back by the next backup: the repository is whole again."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from appliance.store.upkeep.prune import prune
from tests.support.processes import Agent, House, landed, program, run
from tests.support.trees import assert_same


def flip(pack: Path, share: float) -> None:
    """Flip a bit at this share of a pack."""
    with open(pack, "r+b") as file:
        offset = int(pack.stat().st_size * share)
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x08]))


def backed_up(house: House, tmp_path: Path) -> tuple[Agent, Path]:
    noise = random.Random("mend")
    source = tmp_path / "source"
    (source / "letters").mkdir(parents=True)
    (source / "stock.db").write_bytes(noise.randbytes(6_000_000))
    for number in range(40):
        (source / "letters" / f"{number}.txt").write_bytes(noise.randbytes(9_000))
    agent = house.agent(source)
    agent.backup()
    return agent, source


def damaged(house: House, agent: Agent, *shares: float) -> None:
    house.appliance.stop()
    (pack,) = (house.repository(agent) / "packs").glob("*.pack")
    for share in shares:
        flip(pack, share)
    house.appliance.serve()


def test_the_next_backup_gives_back_what_was_damaged(house: House, tmp_path: Path) -> None:
    agent, source = backed_up(house, tmp_path)
    first = tmp_path / "first"
    shutil.copytree(source, first)
    damaged(house, agent, 0.2, 0.5, 0.97)
    found = house.appliance.command("repo", "scrub", agent.machine, expect=1).document
    assert found["finished"] and len(found["damage"]) == 3
    assert all(one["snapshots"] == [1] and one["files"] >= 1 for one in found["damage"])

    with open(source / "stock.db", "r+b") as file:  # changed elsewhere than in what was damaged
        file.seek(4_500_000)
        file.write(b"a new day")
    report = agent.backup()
    assert report["bytes_mended"] > 500_000 and report["files_delta"] == 1
    assert report["bytes_sent"] < 4_000_000, "the damaged parts and the delta, not the whole file"

    assert house.appliance.command("repo", "scrub", agent.machine).document["damage"] == []
    checked = house.appliance.command("repo", "check", agent.machine, "--read-data").document
    assert checked["ok"], checked
    for number, original in ((1, first), (2, source)):
        target = tmp_path / f"target-{number}"
        agent.restore(target, house.account(), "--snapshot", str(number))
        for path in original.rglob("*.*"):
            if path.is_file():
                restored = landed(target, source) / path.relative_to(original)
                assert restored.read_bytes() == path.read_bytes(), path
    report = agent.backup()
    assert report["bytes_mended"] == 0 and report["bytes_sent"] < 20_000
    rebuilt = house.appliance.command("repo", "rebuild", agent.machine).document
    assert not rebuilt["replaced"], rebuilt["differences"]


def test_a_check_that_reads_data_has_the_next_backup_mend_what_it_found(house: House, tmp_path: Path) -> None:
    agent, source = backed_up(house, tmp_path)
    damaged(house, agent, 0.3)
    found = house.appliance.command("repo", "check", agent.machine, "--read-data", expect=1)
    (error,) = found.document["errors"]
    assert set(error) == {"pack", "offset", "kind", "detail"} and found.document["mended"] == 0
    words = ["--home", str(house.appliance.home), "repo", "check", agent.machine, "--read-data"]
    shown = run([*program("pilulier"), *words], expect=1).stdout
    assert "1 file in snapshot 1" in shown and "the next backup sends again" in shown
    assert agent.backup()["bytes_mended"] > 100_000
    checked = house.appliance.command("repo", "check", agent.machine, "--read-data").document
    assert checked["ok"] and checked["errors"] == [] and checked["mended"] == 1
    target = tmp_path / "target"
    agent.restore(target, house.admin, "--snapshot", "1")
    assert_same(source, landed(target, source))


def test_what_changed_meanwhile_is_not_passed_off_as_the_old(house: House, tmp_path: Path) -> None:
    """The damaged content is gone from the machine: the old snapshot stays damaged, the new one is whole."""
    agent, source = backed_up(house, tmp_path)
    damaged(house, agent, 0.3)
    house.appliance.command("repo", "scrub", agent.machine, expect=1)
    (source / "stock.db").write_bytes(random.Random("other").randbytes(6_000_000))
    report = agent.backup()
    assert report["bytes_mended"] == 0 and report["files_full"] == 1
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))
    found = house.appliance.command("repo", "scrub", agent.machine, expect=1).document
    (one,) = found["damage"]
    assert one["snapshots"] == [1] and one["files"] == 1


def test_a_base_that_is_damaged_is_not_copied_from(house: House, tmp_path: Path) -> None:
    agent, source = backed_up(house, tmp_path)
    damaged(house, agent, 0.3)
    house.appliance.command("repo", "scrub", agent.machine, expect=1)
    with open(source / "stock.db", "r+b") as file:  # in the damaged part itself, and elsewhere
        for at in range(0, 6_000_000, 100_000):
            file.seek(at)
            file.write(b"everywhere")
    agent.backup()
    target = tmp_path / "target"
    assert agent.restore(target, house.admin)["errors"] == []
    assert_same(source, landed(target, source))


def test_what_keeps_a_dead_segment_alive_is_sent_again(house: House, tmp_path: Path) -> None:
    """A prune wishes for it, the next backup sends that part alone, and a later prune frees the old segments."""
    noise = random.Random("wish")
    source = tmp_path / "source"
    source.mkdir()
    database = source / "stock.db"
    database.write_bytes(noise.randbytes(3 << 20))
    agent = house.agent(source)
    agent.backup()
    with open(database, "r+b") as file:
        for at in range(3):
            file.seek(at << 20)
            file.write(noise.randbytes((1 << 20) - 150_000))
    agent.backup()
    folder = house.repository(agent)
    now_ms = int(time.time() * 1000)
    wished = prune(folder, frozenset({1}), now_ms=now_ms).bytes_wished
    assert 3 * 140_000 < wished < 3 * 170_000
    report = agent.backup()
    assert report["files_unchanged"] == 1 and wished < report["bytes_sent"] < wished + 50_000
    assert prune(folder, frozenset(), now_ms=now_ms).bytes_wished == 0
    freed = prune(folder, frozenset({2}), now_ms=now_ms + 1000)
    assert freed.segments_dropped >= 3
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))
    with open(database, "r+b") as file:
        file.seek(1_000_000)
        file.write(b"a delta against the new version")
    assert agent.backup()["files_delta"] == 1
    assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]
