"""An unmounted disk or a file that cannot be read must never look like a deletion."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.faults import small_disk
from tests.support.processes import Agent, House, landed


def _without_root_rights(agent: Agent) -> None:
    """Let the agent's commands respect file modes, whoever runs the test."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed: apt-get install util-linux")
        lost = "-dac_override,-dac_read_search"
        agent.under = ("setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}")


def test_a_missing_or_empty_source_is_refused(house: House, tmp_path: Path) -> None:
    source, other = tmp_path / "disk", tmp_path / "other"
    for folder in (source, other):
        folder.mkdir()
        (folder / "file").write_bytes(b"content of " + folder.name.encode())
    agent = house.agent(source, other)
    agent.backup()
    away = source.rename(tmp_path / "away")
    sentence = agent.told("backup")
    assert str(source) in sentence and "--allow-empty" in sentence and str(other) not in sentence
    source.mkdir()
    assert str(source) in agent.told("backup")
    assert [row["snapshot"] for row in agent.command("snapshots").document] == [1]

    source.rmdir()
    away.rename(source)
    assert agent.backup()["files_unchanged"] == 2
    (source / "file").unlink()
    report = agent.backup("--allow-empty")
    assert report["files_deleted"] == 1 and report["files_total"] == 1
    agent.backup()
    target = tmp_path / "target"
    agent.restore(target, house.admin, snapshot=1)
    assert landed(target, source / "file").read_bytes() == b"content of disk"


def test_an_unmounted_disk(house: House, tmp_path: Path) -> None:
    mount = tmp_path / "usb"
    with small_disk(mount, 4 << 20):
        (mount / "file").write_bytes(b"on the stick")
        agent = house.agent(mount)
        agent.backup()
    assert str(mount) in agent.told("backup")


def test_unreadable_files_keep_their_previous_version(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "inside").write_bytes(b"inside")
    (source / "secret").write_bytes(b"first")
    (source / "plain").write_bytes(b"plain")
    agent = house.agent(source)
    _without_root_rights(agent)
    agent.backup()
    (source / "secret").write_bytes(b"second")
    (source / "plain").write_bytes(b"plain, changed")
    (source / "new").write_bytes(b"new and closed")
    for name in ("secret", "new", "closed"):
        os.chmod(source / name, 0)
    report = agent.backup(expect=3)
    assert {os.path.basename(warning["path"]) for warning in report["warnings"]} == {"secret", "new", "closed"}
    assert report["files_deleted"] == 0
    for name, mode in (("secret", 0o600), ("new", 0o600), ("closed", 0o700)):
        os.chmod(source / name, mode)
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    restored = landed(target, source)
    assert (restored / "secret").read_bytes() == b"first"
    assert (restored / "plain").read_bytes() == b"plain, changed"
    assert (restored / "closed" / "inside").read_bytes() == b"inside"
    assert not (restored / "new").exists()
    report = agent.backup()
    assert report["files_full"] == 2 and report["files_total"] == 4


def test_sockets_and_pipes_are_left_out(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"file")
    os.mkfifo(source / "pipe")
    here = os.getcwd()
    os.chdir(source)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("socket")
    finally:
        os.chdir(here)
    agent = house.agent(source)
    report = agent.command("backup", expect=(0, 3)).document
    assert report["files_total"] == 1
    assert {os.path.basename(warning["path"]) for warning in report["warnings"]} <= {"pipe", "socket"}


@contextmanager
def _restless(folder: Path) -> Iterator[None]:
    """Files that come, go, grow and turn into folders for as long as the block runs."""
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = folder / f"temporary-{number % 7}"
            if path.is_dir():
                path.rmdir()
            else:
                path.write_bytes(b"x" * (number % 5000))
                if number % 3 == 0:
                    path.unlink()
                    path.mkdir()
            with open(folder / "growing", "ab") as file:
                file.write(b"one more line\n")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def test_a_source_that_does_not_hold_still(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(400):
        (source / f"still-{number}").write_bytes(b"still %d" % number)
    agent = house.agent(source)
    with _restless(source):
        for _ in range(3):
            agent.command("backup", expect=(0, 3))
    assert agent.command("backup", expect=(0, 3)).document["files_total"] >= 401
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    for number in range(400):
        assert (landed(target, source) / f"still-{number}").read_bytes() == b"still %d" % number
    assert (landed(target, source) / "growing").read_bytes() == (source / "growing").read_bytes()
