"""Frozen disks: what a backup reads is of one moment, whoever writes meanwhile, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import House, landed

FILES = 1500


def _run(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A btrfs disk in a file, mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed: apt-get install btrfs-progs")
    image, point = tmp_path / "image", tmp_path / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(512 << 20)
    _run("mkfs.btrfs", "-q", image)
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(point)], capture_output=True, text=True, timeout=60, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no btrfs disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield point
    finally:
        _run("umount", point)


@contextlib.contextmanager
def counting(first: Path, last: Path) -> Iterator[None]:
    """Somebody writes the same number to both files, one after the other, again and again."""
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for path in (first, last):
                path.with_suffix(".new").write_text(f"{number}\n")
                os.replace(path.with_suffix(".new"), path)
            begun.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert begun.wait(30)
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_a_frozen_disk_is_of_one_moment(disk: Path, tmp_path: Path) -> None:
    data = disk / "data"
    data.mkdir()
    for number in range(FILES):
        (data / f"b{number:05}").write_text(f"{number}\n")
    os.link(data / "b00000", data / "another-name")
    _run("btrfs", "subvolume", "create", data / "nested")
    (data / "nested" / "inside").write_text("x")
    _run("btrfs", "subvolume", "create", data / "nested" / "deeper")
    (data / "nested" / "deeper" / "inside").write_text("y")
    memory = data / "memory"
    memory.mkdir()
    _run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", memory)
    try:
        (memory / "live").write_text("z")
        # The agent lives on the disk that is frozen: it must be able to write there all the same.
        with House(disk / "house") as house:
            agent = house.agent(data, disk / "house")
            agent.command("select", "exclude", str(disk / "house" / "appliance"))
            said = agent.command("volumes", "on").document
            assert said["freeze"] and {part["by"] for part in said["parts"]} == {"btrfs", None}
            seen = disk / "house" / "seen"
            hook = tmp_path / "hook"
            hook.write_text(f"#!/bin/sh\ntouch {data}/made-by-the-hook; ls -d {disk}/.pilulier* > {seen}; exit 0\n")
            hook.chmod(0o755)
            tmp_path.chmod(0o755)
            agent.command("hooks", "add", "after", "--", str(hook))
            with counting(data / "aaa", data / "zzz"):
                first = agent.backup()
                second = agent.backup()
            assert first["warnings"] == second["warnings"] == []
            assert second["files_unchanged"] >= FILES
            assert (data / "made-by-the-hook").exists() and seen.read_text() == "", "hooks see the disk as it is"
            assert _run("btrfs", "subvolume", "list", disk).count("\n") == 2
            for snapshot in (1, 2):
                target = tmp_path / f"target-{snapshot}"
                agent.restore(target, house.account(), data, snapshot=snapshot)
                back = landed(target, data)
                a, z = (int((back / name).read_text()) for name in ("aaa", "zzz"))
                assert a in (z, z + 1), "not of one moment"
                assert (back / "nested" / "inside").read_text() == "x"
                assert (back / "nested" / "deeper" / "inside").read_text() == "y"
                assert (back / "memory" / "live").read_text() == "z"
                assert (back / "b00000").stat().st_nlink == 2
            _run("btrfs", "subvolume", "snapshot", "-r", disk, disk / ".pilulier-frozen-of-a-killed-run")
            agent.command("volumes", "off")
            assert _run("btrfs", "subvolume", "list", disk).count("\n") == 2
            assert agent.backup()["files_unchanged"] >= FILES
    finally:
        _run("umount", memory)


def test_a_disk_without_snapshots_is_read_as_it_is_with_a_word(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "paper").write_text("x")
    agent = house.agent(source)
    (part,) = agent.command("volumes", "on").document["parts"]
    assert part["path"] == str(source)
    if part["by"] is not None:
        pytest.skip(f"the temporary folder lies on a disk that {part['by']} freezes")
    (warning,) = agent.backup(expect=3)["warnings"]
    assert warning["path"] == str(source) and "its disk was not frozen" in warning["reason"]
