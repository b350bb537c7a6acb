"""Back up, change, back up …, restore: every snapshot comes back as it was, and only what changed travels."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

from tests.support.processes import House, landed
from tests.support.trees import Node, assert_same, change_tree, describe, make_tree


def _others_change(root: Path) -> None:
    """What `change_tree` does not do: a file that shrinks to nothing, one that was empty, a folder of links renamed."""
    documents = root / "documents"
    (documents / "ordonnance-20.txt").write_bytes(b"")
    (documents / "vide").write_bytes(b"no longer empty")
    shutil.rmtree(root / "deep")
    (root / "links").rename(root / "liens")
    os.chmod(documents / "ordonnance-21.txt", 0o400)
    os.utime(root / "base.db", ns=(5, 1_500_000_000_987_654_321))


def test_each_snapshot_comes_back_as_it_was(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    made = make_tree(source)
    assert made.raw_names and made.sparse, "this file system cannot hold what the test is about"
    agent = house.agent(source)
    states: dict[int, dict[bytes, Node]] = {}
    for step in ("first", "changed", "unchanged", "others", "emptier"):
        if step == "changed":
            changes = change_tree(source)
        elif step == "others":
            _others_change(source)
        elif step == "emptier":
            shutil.rmtree(source / "documents")
        # A pipe is skipped in silence or with a warning; either is told by the exit code alone.
        report = json.loads(agent.command("backup", expect=(0, 3)).stdout)
        assert all("pipe" in warning["path"] for warning in report["warnings"]), report
        states[report["snapshot"]] = describe(source)
        if step == "changed":
            assert report["files_moved"] >= changes.moved
            assert report["bytes_sent"] < 1_500_000, "the scans that changed, and little else"
        if step == "unchanged":
            assert report["bytes_sent"] < 5_000
            assert report["files_full"] == report["files_delta"] == report["files_deleted"] == 0

    assert sorted(states) == [1, 2, 3, 4, 5]
    for number, state in states.items():
        target = tmp_path / f"restored-{number}"
        report = agent.restore(target, house.account(), snapshot=number)
        assert report["errors"] == [], report
        assert_same(state, landed(target, source), holes=False)
        sparse = landed(target, source) / "sparse.img"
        assert sparse.stat().st_blocks * 512 < sparse.stat().st_size // 4, "its holes came back as zeros on the disk"
        shutil.rmtree(target)


def test_one_file_a_folder_a_moment_a_listing(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_tree(source, documents=12)
    (source / "pipe").unlink()
    agent = house.agent(source)
    agent.backup()
    before = describe(source)
    old = (source / "base.db").read_bytes()
    first = agent.command("snapshots").document[0]
    change_day = source / "documents" / "numérisé.pdf"
    change_day.write_bytes(b"replaced")
    with open(source / "base.db", "r+b") as file:
        file.write(b"another beginning")
    # `--at` has whole seconds where people type it: the second snapshot must fall into a later one.
    time_after_first = first["time"]
    while True:
        agent.backup()
        snapshots = agent.command("snapshots").document
        if snapshots[-1]["time"] > time_after_first:
            break
        assert len(snapshots) < 50

    one = tmp_path / "one"
    report = agent.restore(one, house.account(), source / "base.db", snapshot=1)
    assert (report["files"], report["bytes"], report["errors"]) == (1, len(old), [])
    assert landed(one, source / "base.db").read_bytes() == old
    assert list(landed(one, source).iterdir()) == [landed(one, source / "base.db")]
    assert landed(one, source / "base.db").stat().st_mtime_ns == before[b"base.db"].mtime_ns

    folder = tmp_path / "folder"
    agent.restore(folder, house.account(), source / "documents")
    assert_same(
        {path: node for path, node in describe(source / "documents").items() if len(node.links) == 1},
        {path: node for path, node in describe(landed(folder, source / "documents")).items() if len(node.links) == 1},
    )
    assert sorted(path.name for path in landed(folder, source).iterdir()) == ["documents"]

    at = tmp_path / "at"
    login = house.login()
    moment = snapshots[-1]["time"].replace("Z", "+00:00")
    report = agent.command("restore", "--target", str(at), "--at", moment, *login, str(change_day)).document
    assert report["snapshot"] < snapshots[-1]["snapshot"], "the newest is some milliseconds younger than its second"
    assert report["errors"] == [] and landed(at, change_day).exists()
    assert "2001" in agent.told("ls", "--at", "2001-01-01", code=2)
    assert "yesterday" in agent.told("ls", "--at", "yesterday", code=2)

    missing = agent.told("restore", "--target", str(tmp_path / "none"), *house.login(), "/no/such/file", code=2)
    assert "/no/such/file" in missing
    assert "17" in agent.told("ls", "--snapshot", "17", code=2)

    rows = agent.command("ls", "--snapshot", "1", str(source)).document
    assert {os.path.basename(row["path"]) for row in rows} >= {"base.db", "documents", "links", "empty folder"}
    assert {row["type"] for row in rows} == {"file", "folder"}
    (listed_file,) = agent.command("ls", str(source / "base.db")).document
    assert listed_file["size"] == len(old)

    verified = agent.command("verify", "--sample", "100").document
    assert verified["files_damaged"] == verified["files_changed_since"] == 0
    assert verified["files_same"] == verified["files_checked"] > 12
    assert verified["segments_checked"] > 0 and verified["segments_damaged"] == []
    (source / "documents" / "ordonnance-1.txt").write_bytes(b"changed since")
    verified = agent.command("verify").document
    assert verified["files_changed_since"] == 1 and verified["files_damaged"] == 0


def test_a_restore_over_what_is_there(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("same", "newer", "older", "gone"):
        (source / name).write_bytes(f"{name} as backed up".encode())
        os.utime(source / name, ns=(0, 1_700_000_000_000_000_000))
    agent = house.agent(source)
    agent.backup()
    (source / "gone").unlink()
    (source / "newer").write_bytes(b"work of today")
    (source / "older").write_bytes(b"from an old stick")
    os.utime(source / "older", ns=(0, 1_600_000_000_000_000_000))
    report = agent.command("restore", "--in-place", *house.login(), expect=3).document
    assert [os.path.basename(error["path"]) for error in report["errors"]] == ["newer"]
    assert (source / "newer").read_bytes() == b"work of today"
    assert (source / "older").read_bytes() == b"older as backed up"
    assert (source / "gone").read_bytes() == b"gone as backed up"
    assert report["files"] == 2 and report["files_same"] == 1
    agent.command("restore", "--in-place", "--overwrite", *house.login())
    assert (source / "newer").read_bytes() == b"newer as backed up"
    assert sorted(path.name for path in source.iterdir()) == ["gone", "newer", "older", "same"]


def test_only_what_changed_travels(house: House, tmp_path: Path) -> None:
    rng = random.Random("travel")
    source = tmp_path / "source"
    folder = source / "folder"
    folder.mkdir(parents=True)
    for number in range(60):
        (folder / f"scan-{number}").write_bytes(rng.randbytes(50_000))
    big = source / "big"
    big.write_bytes(rng.randbytes(20 << 20))
    agent = house.agent(source)
    first = agent.backup()
    assert first["files_full"] == first["files_total"] == 61

    folder.rename(source / "folder (renamed)")
    moved = agent.backup()
    assert moved["files_moved"] == 60 and moved["files_full"] == moved["files_delta"] == 0
    assert moved["bytes_sent"] < 40_000, "metadata of 61 entries for 3 MB of content"

    content = big.read_bytes()
    big.write_bytes(content[: 10 << 20] + rng.randbytes(100) + content[10 << 20 :])
    inserted = agent.backup()
    assert inserted["files_delta"] == 1
    assert inserted["bytes_sent"] < 200_000

    for number in range(20):
        shutil.copy(source / "folder (renamed)" / "scan-7", source / f"copy-{number}")
    copied = agent.backup()
    assert copied["bytes_sent"] < 60_000, "copies of what is held"

    fresh = rng.randbytes(2 << 20)
    for number in range(4):
        (source / f"twin-{number}").write_bytes(fresh)
    for number in range(4):
        (source / f"small-twin-{number}").write_bytes(fresh[:100_000])
    twins = agent.backup()
    assert twins["bytes_sent"] < 5 << 20, "copies of what is new in the same backup"

    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_short_holes_come_back_as_holes(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        for number in range(8):
            file.seek(number << 20)
            file.write(b"data")
        file.truncate(8 << 20)
    agent = house.agent(source)
    agent.backup()
    agent.restore(tmp_path / "target", house.admin)
    assert_same(source, landed(tmp_path / "target", source), holes=True)


def test_a_copy_of_a_large_file_does_not_travel(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(random.Random("large copy").randbytes(8 << 20))
    agent = house.agent(source)
    agent.backup()
    shutil.copy(source / "big", source / "big copy")
    copied = agent.backup()
    assert copied["files_moved"] == 1 and copied["bytes_sent"] < 60_000


def test_exclusions_and_inclusions_within_them(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("keep/a", "cache/b", "cache/precious/c", "keep/d.tmp"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    agent = house.agent(source)
    agent.command("select", "exclude", str(source / "cache"), "*.tmp")
    agent.command("select", "include", str(source / "cache" / "precious"))
    agent.backup()
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    restored = {str(path.relative_to(landed(target, source))) for path in landed(target, source).rglob("*")}
    assert restored == {"keep", "keep/a", "cache", "cache/precious", "cache/precious/c"}


def test_many_agents_at_once(house: House, tmp_path: Path) -> None:
    agents = []
    _, code = house.contract("groupe", "--machines", "6")
    for number in range(6):
        source = tmp_path / f"source-{number}"
        make_tree(source, seed=number, documents=10, big_bytes=1 << 20)
        (source / "pipe").unlink()
        if number:
            code = str(house.appliance.command("contract", "code", "groupe").document["enrol_code"])
        agents.append((house.agent(source, name=f"poste {number}", code=code), source))
    running = [agent.start("backup") for agent, _ in agents]
    for process in running:
        outcome = process.wait()
        assert outcome.code == 0, outcome.told()
        assert outcome.document["snapshot"] == 1
    codes = [house.login() for _ in agents]
    running = [
        agent.start("restore", "--target", str(tmp_path / f"target-{number}"), *login)
        for number, ((agent, _), login) in enumerate(zip(agents, codes, strict=True))
    ]
    for process in running:
        outcome = process.wait()
        assert outcome.code == 0, outcome.told()
    for number, (_, source) in enumerate(agents):
        assert_same(source, landed(tmp_path / f"target-{number}", source), holes=False)
    machines = house.appliance.command("machine", "list", "--contract", "groupe").document
    assert [machine["last_snapshot"] for machine in machines] == [1] * 6
