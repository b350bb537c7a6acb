"""Guards as a machine has them: decoys under an attack, files that are in use, disks that went, clocks that are off."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from pathlib import Path

import msgspec
import pytest

from agent import backup, guards, reading
from agent.backup import run_backup
from agent.enrolling import enrolled
from agent.errors import OtherDiskError
from agent.report import BackupReport
from agent.retrying import PAUSES_S
from agent.settings import AgentHome
from agent.system.mounts import Mount
from tests.support.processes import Agent, House


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small practice: too few files for any rule that goes by shares."""
    source = tmp_path / "practice"
    (source / "letters").mkdir(parents=True)
    for number in range(30):
        (source / "letters" / f"letter {number:02}.txt").write_text(f"Dear colleague, number {number}\n" * 40)
    return source


def encrypt(folder: Path, share: float) -> None:
    """Ransomware at work: some files, by name, are replaced by what does not compress, under another name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths[: round(len(paths) * share)]:
        path.with_name(path.name + ".crypt").write_bytes(random.Random(path.name).randbytes(path.stat().st_size))
        path.unlink()


def suspicious(house: House) -> list[dict[str, str]]:
    return [one for one in house.appliance.command("alerts", "list").document if one["kind"] == "suspicious"]


def test_decoys_give_the_alarm_where_shares_would_not(house: House, source: Path) -> None:
    agent = house.agent(source)
    placed = agent.command("canary", "place", str(source / "letters")).document
    assert len(placed) == 3
    agent.command("backup")
    assert agent.command("backup").code == 0 and not suspicious(house)

    encrypt(source, 0.2)
    told = agent.command("backup", expect=3)
    accused = {Path(warning["path"]).name for warning in told.document["warnings"] if "decoy" in warning["reason"]}
    assert accused and accused <= {Path(one["path"]).name for one in placed}
    # At once: no job has looked around since.
    [alert] = suspicious(house)
    assert f"{len(accused)} decoy documents" in alert["reason"] and alert["state"] == "open"
    assert "1 left alone" in house.appliance.command("jobs", "run", "prune").document["text"]
    assert house.appliance.command("repo", "prune", agent.machine, expect=4).stderr
    assert any("may be ransomware" in line for line in house.log(agent))

    states = {one["state"] for one in agent.command("canary", "list").document}
    assert "gone" in states
    assert agent.command("backup").code == 0, "the same finding is not told twice"
    assert len(suspicious(house)) == 1
    assert "1 left alone" in house.appliance.command("jobs", "run", "prune").document["text"]
    agent.command("canary", "place", str(source / "letters"))
    assert {one["state"] for one in agent.command("canary", "list").document} == {"untouched"}


class Held:
    """Files that somebody holds: reading them fails, or they change under the reading, for so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors: dict[bytes, int] = {}
        self.changes: dict[bytes, int] = {}
        self.pauses: list[float] = []
        self._read = reading.read_small
        monkeypatch.setattr(reading, "read_small", self.read)

    def read(self, path: bytes) -> reading.SmallRead | None:
        if self.errors.get(path, 0) > 0:
            self.errors[path] -= 1
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        read = self._read(path)
        if read is not None and self.changes.get(path, 0) > 0:
            self.changes[path] -= 1
            return msgspec.structs.replace(read, changed=True)
        return read

    def backup(self, agent: Agent) -> BackupReport:
        return run_backup(enrolled(AgentHome(agent.home)), pause=self.pauses.append)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


def path_of(source: Path, number: int) -> bytes:
    return os.fsencode(source / "letters" / f"letter {number:02}.txt")


def test_what_is_held_for_a_moment_is_read_later_in_the_same_run(house: House, source: Path, held: Held) -> None:
    agent = house.agent(source)
    held.errors = {path_of(source, 3): 1, path_of(source, 4): 2}
    held.changes = {path_of(source, 5): 1, path_of(source, 6): 2}
    report = held.backup(agent)
    assert report.warnings == () and report.files_total == 30 and held.pauses == list(PAUSES_S)
    assert agent.command("stale").document == []
    assert agent.command("verify").document["files_same"] == 30


def test_what_stays_held_is_named_by_folder_with_the_age_of_its_copy(house: House, source: Path, held: Held) -> None:
    agent = house.agent(source)
    agent.command("backup")
    good = agent.command("status").document["last_snapshot_at"]
    for number in (3, 4, 5):
        Path(os.fsdecode(path_of(source, number))).write_text("changed since")
    (source / "new.txt").write_text("never saved")
    held.errors = {path_of(source, 3): 100, os.fsencode(source / "new.txt"): 100}
    held.changes = {path_of(source, 4): 100}
    report = held.backup(agent)
    assert {warning.path for warning in report.warnings} == {
        *(path_of(source, 3), path_of(source, 4)),
        os.fsencode(source / "new.txt"),
    }
    assert held.pauses == list(PAUSES_S), "a bounded number of times"
    never, letters = agent.command("stale").document
    assert never == never | {"folder": str(source), "files": 1, "last_good": None}
    assert letters["folder"] == str(source / "letters") and letters["files"] == 2 and letters["last_good"] <= good
    told = agent.command("backup").document
    assert told["stale_folders"] == [] and agent.command("stale").document == [], "and is over when it is over"


def test_a_stale_copy_grows_older_with_each_run(house: House, source: Path, held: Held) -> None:
    agent = house.agent(source)
    agent.command("backup")
    Path(os.fsdecode(path_of(source, 3))).write_text("changed since")
    held.errors = {path_of(source, 3): 1000}
    ages = []
    for _ in range(3):
        held.backup(agent)
        ages += [folder["last_good"] for folder in agent.command("stale").document]
    assert len(ages) == 3 and len(set(ages)) == 1, "the time of the last good copy stays"


def test_another_disk_in_the_place_of_a_folder(
    house: House, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = house.agent(source)
    disk = source / "disk"
    disk.mkdir()
    for number in range(10):
        (disk / f"scan-{number}").write_text(f"scan {number}")
    mounted = [Mount(b"/", b"ext4", "ext4 root /"), Mount(os.fsencode(disk), b"ext4", "ext4 usb /")]
    monkeypatch.setattr(guards.Guards.__init__, "__kwdefaults__", {
        **guards.Guards.__init__.__kwdefaults__, "mounted": lambda: mounted,
    })  # fmt: skip
    machine = enrolled(AgentHome(agent.home))
    run_backup(machine)
    # Not mounted: what lies below the mount point is a few forgotten files.
    mounted.pop()
    for path in disk.iterdir():
        path.rename(tmp_path / path.name)
    (disk / "forgotten").write_text("from the day the disk was not there")
    with pytest.raises(OtherDiskError, match="10 of the 10 files and folders .* run backup --allow-empty"):
        run_backup(machine)
    assert len(agent.command("ls", str(disk)).document) == 10
    # A new disk with the same files is another disk, and fine.
    for number in range(10):
        (tmp_path / f"scan-{number}").rename(disk / f"scan-{number}")
    mounted.append(Mount(os.fsencode(disk), b"ext4", "ext4 bigger /"))
    [warning] = run_backup(machine).warnings
    assert warning.path == os.fsencode(disk) and "another disk" in warning.reason
    assert run_backup(machine).warnings == ()
    for path in disk.iterdir():
        path.unlink()
    mounted.pop()
    assert run_backup(machine, allow_empty=True).files_total == 30


def test_a_clock_that_is_far_off_is_told_everywhere(
    house: House, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = house.agent(source)
    machine = enrolled(AgentHome(agent.home))
    real = guards.clock_ahead_s
    monkeypatch.setattr(backup, "clock_ahead_s", lambda told_ms, now: real(told_ms, now + 3600))
    [warning] = run_backup(machine).warnings
    assert "ahead" in warning.reason and "set the clock" in warning.reason
    house.appliance.command("jobs", "run", "alerts")
    alerts = [one for one in house.appliance.command("alerts", "list").document if one["kind"] == "alarm"]
    assert [one["reason"] for one in alerts] == ["the machine's clock is 60 minutes ahead of the appliance's"]
    assert any("clock is 60 minutes ahead" in line for line in house.log(agent))
    monkeypatch.undo()
    assert agent.command("backup").code == 0
    house.appliance.command("jobs", "run", "alerts")
    assert house.appliance.command("alerts", "list").document == []


def test_names_that_differ_by_case_alone_are_told_once(house: House, source: Path) -> None:
    (source / "Notes.txt").write_text("one")
    (source / "NOTES.TXT").write_text("other")
    agent = house.agent(source)
    [warning] = agent.command("backup", expect=3).document["warnings"]
    assert warning["path"] == str(source) and "differ by case alone" in warning["reason"]
    assert agent.command("backup").code == 0


def test_many_files_gone_at_once_are_told_at_the_machine(house: House, source: Path) -> None:
    for number in range(100):
        (source / f"invoice-{number}").write_text(str(number))
    agent = house.agent(source)
    agent.command("backup")
    for number in range(60):
        (source / f"invoice-{number}").unlink()
    [warning] = agent.command("backup", expect=3).document["warnings"]
    assert "60 of the 130 files" in warning["reason"]


def test_placeholders_are_reported_and_lose_nothing(
    house: House, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sync client leaves them: one byte and an attribute."""
    agent = house.agent(source)
    agent.command("backup")
    evicted = source / "letters" / "letter 01.txt"
    hole = source / "hole.bin"
    with open(hole, "wb") as file:
        file.truncate(1 << 20)  # no blocks, and real all the same
    evicted.write_bytes(b" ")
    try:
        os.setxattr(evicted, "user.nextcloud.hydrate_exec", b"nextcloud")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")
    [warning] = agent.command("backup", expect=3).document["warnings"]
    assert warning["path"] == str(source / "letters") and "1 file is only in the cloud" in warning["reason"]
    rows = {Path(row["path"]).name: row["size"] for row in agent.command("ls", str(source / "letters")).document}
    assert rows["letter 01.txt"] > 1, "the last real version stays"
    [row] = agent.command("ls", str(hole)).document
    assert row["size"] == 1 << 20


def test_a_tree_that_is_deeper_than_the_system_names(house: House, source: Path) -> None:
    """Beyond PATH_MAX nothing can be looked at by name: it is said, and all else is backed up."""
    inside = os.open(source, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=inside)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(inside)
    agent = house.agent(source)
    told = agent.command("backup", expect=3).document
    assert told["files_total"] == 30 and any("too long" in warning["reason"] for warning in told["warnings"])
    subprocess.run(["rm", "-rf", str(source / ("d" * 250))], check=True)
