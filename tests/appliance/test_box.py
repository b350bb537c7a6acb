"""The box: disks, processes of this home and of no other, sizes of repositories, versions."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import box
from appliance.box import Stored, part_of
from appliance.endpoints import Endpoint
from appliance.settings import Home, Settings, initialising


@pytest.fixture
def home(tmp_path: Path) -> Home:
    with initialising(tmp_path / "home", Settings()):
        pass
    return Home.open(tmp_path / "home")


def test_one_file_system_is_one_disk(home: Home) -> None:
    [disk] = box.disks(home)
    assert disk.holds == ("repositories", "home")
    assert 0 < disk.free_bytes <= disk.total_bytes and disk.used_bytes == disk.total_bytes - disk.free_bytes
    assert 0 <= disk.share <= 1


def test_parts_are_known_by_their_command_lines(home: Home) -> None:
    root = str(home.root)
    python = ["/x/python", "-P", "-m"]
    for words, part in (
        ([*python, "appliance.cli", "--home", root, "serve"], box.TRANSPORT),
        (["/x/bin/pilulier", "serve", f"--home={root}"], box.TRANSPORT),
        ([*python, "appliance.cli", "--home", root, "jobs", "work"], box.JOBS),
        ([*python, "webui.serving", "--home", root, "--bind", "127.0.0.1:1"], box.WEB),
        ([*python, "appliance.cli", "--home", root, "jobs", "list"], None),
        ([*python, "appliance.cli", "--home", root + "2", "serve"], None),
        ([*python, "appliance.cli", "serve"], None),
        ([], None),
        (["--home"], None),
    ):
        assert part_of(words, home) == part, words


def test_a_process_is_seen_with_its_age_and_memory(home: Home) -> None:
    waiting = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        [*waiting, "--home", str(home.root), "jobs", "work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        [found] = box.processes(home)
        assert (found.name, found.pid) == (box.JOBS, process.pid)
        assert found.memory_bytes > 10**6
        # The kernel counts in hundredths of a second, from a boot that it knows to the second.
        assert abs(found.started_at - os.stat(f"/proc/{process.pid}").st_ctime) < 5
        process.communicate(b"")
    assert box.processes(home) == []
    assert box.processes(home, Path("/nowhere")) == []


def test_what_listens_is_reachable(home: Home) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert box.is_reachable(Endpoint("127.0.0.1", port))
        assert box.is_reachable(Endpoint("0.0.0.0", port))
    assert not box.is_reachable(Endpoint("127.0.0.1", port))
    assert not box.is_reachable(Endpoint("127.0.0.1", 0))


def test_repositories_are_measured_by_their_files(home: Home) -> None:
    first, second, none = (bytes([number]) * 16 for number in (1, 2, 3))
    for machine, sizes in ((first, (10, 20)), (second, (500,))):
        packs = home.repository(machine) / "packs"
        packs.mkdir(parents=True)
        for number, size in enumerate(sizes):
            (packs / f"{number:08d}.pack").write_bytes(bytes(size))
        (packs / "note.txt").write_bytes(bytes(9999))
    (home.repository(first) / "catalog.sqlite").write_bytes(bytes(7))
    assert box.stored(home, [first, second, none]) == [Stored(second, 1, 500, 0), Stored(first, 2, 30, 7)]
    assert Stored(first, 2, 30, 7).bytes == 37


def test_versions_name_what_runs() -> None:
    found = {one.name: one.version for one in box.versions()}
    assert found["Python"] == ".".join(map(str, sys.version_info[:3]))
    for name in ("SQLite", "cryptography", "flask"):
        assert found[name]
    assert box._installed("no-such-library-at-all") == ""
