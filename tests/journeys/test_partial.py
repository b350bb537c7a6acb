"""Runs that follow marks, against a real appliance: after each, a full scan must find nothing left to say.

The changes come from seeds; marks are those that a watcher of folders notes, no more.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import scanner
from agent.backup import run_backup
from agent.enrolling import enrolled
from agent.errors import EmptySourceError
from agent.ledger import Ledger
from agent.marks import Marks
from agent.report import BackupReport
from agent.settings import AgentHome, exclusive
from tests.support.processes import Agent, House
from transport.names import Digest, PathId

EXCLUDED = ("*.tmp", "cache/*.log")


class Machine:
    """One agent's backups in this process, and what a watcher would have marked since the last."""

    def __init__(self, house: House, source: Path) -> None:
        source.mkdir()
        self.source = source
        self.agent: Agent = house.agent(source)
        self.agent.command("select", "exclude", *EXCLUDED, str(source / "private"))
        self.home = AgentHome(self.agent.home)
        self.folders: set[bytes] = set()
        self.trees: set[bytes] = set()

    def run(self, marks: Marks | None = None) -> BackupReport:
        with exclusive(self.home):
            return run_backup(enrolled(self.home), started_by="continuous", marks=marks)

    def partial(self) -> BackupReport:
        marks = Marks(frozenset(self.folders), frozenset(self.trees))
        self.folders, self.trees = set(), set()
        return self.run(marks)

    def tree(self) -> dict[PathId, Digest]:
        """Everything below the source as the folder digests cover it; folders above it are other people's too."""
        settings = enrolled(self.home)
        scan = scanner.Scanner(settings.settings.selection, settings.sealer().keys)
        with Ledger.open(self.home) as ledger:
            below = ledger.descendants(scan.path_id(os.fsencode(self.source)))
            return {known.path_id: known.token for known in below}

    def check(self) -> BackupReport:
        """What follows marks is what a full scan would have made: one right after it has nothing to send."""
        report = self.partial()
        after = self.tree()
        full = self.run()
        assert self.tree() == after, "a full scan found what the partial run left out"
        same = (report.files_total, report.bytes_source)
        assert same == (full.files_total, full.bytes_source) == (full.files_unchanged, full.bytes_source)
        return report

    # What people do, each as the watcher of folders sees it.

    def mark(self, path: Path) -> None:
        self.folders.add(os.fsencode(path.parent))

    def write(self, path: Path, data: bytes, *, how: str = "wb") -> None:
        with open(path, how) as file:
            file.write(data)
        self.mark(path)

    def folder(self, path: Path) -> None:
        path.mkdir()
        self.mark(path)
        self.trees.add(os.fsencode(path))

    def move(self, old: Path, new: Path) -> None:
        is_folder = old.is_dir() and not old.is_symlink()
        old.rename(new)
        self.mark(old)
        self.mark(new)
        if is_folder:
            self.trees.add(os.fsencode(new))

    def remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        self.mark(path)

    def mode(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        self.mark(path)

    def link(self, path: Path, other: Path) -> None:
        os.link(path, other)
        self.mark(other)


class Chaos:
    """Random changes from a seed."""

    def __init__(self, machine: Machine, seed: str) -> None:
        self.machine = machine
        self.chance = random.Random(seed)
        self.names = itertools.count()
        self.top = machine.source / f"seed-{seed}"
        machine.folder(self.top)
        for folder in ("a", "a/b", "a/b/c", "d", "d/cache", "e"):
            machine.folder(self.top / folder)
            machine.write(self.top / folder / "first", self._data())
            machine.link(self.top / folder / "first", self.top / f"link-{next(self.names)}")

    def _all(self, wanted: Callable[[Path], bool]) -> list[Path]:
        # rglob goes into no symbolic link to a folder.
        return sorted(path for path in self.top.rglob("*") if wanted(path))

    def _folder(self) -> Path:
        return self.chance.choice([self.top, *self._all(lambda path: path.is_dir() and not path.is_symlink())])

    def _file(self) -> Path | None:
        files = self._all(lambda path: path.is_file() and not path.is_symlink())
        return self.chance.choice(files) if files else None

    def _new(self, *, linked: bool = False) -> Path:
        # What happens under an excluded name of a file nobody is told of: the full scan of each day is for that.
        suffix = self.chance.choice(["", "", ".txt"] if linked else ["", "", ".txt", ".tmp", ".log"])
        return self._folder() / f"n{next(self.names)}{suffix}"

    def _data(self) -> bytes:
        return self.chance.randbytes(self.chance.choice([0, 7, 300, 70_000]))

    def step(self) -> None:
        machine, chance, file = self.machine, self.chance, self._file()
        what = chance.randrange(15)
        folders = self._all(lambda path: path.is_dir() and not path.is_symlink())
        if what <= 2 or file is None:
            machine.write(self._new(), self._data())
        elif what == 3:
            name = chance.choice(["cache", "private", f"d{next(self.names)}"])
            if not (path := self._folder() / name).exists():
                machine.folder(path)
        elif what in (4, 13):
            machine.write(file, self._data())
        elif what == 5:
            machine.write(file, b"more", how="ab")
        elif what == 6:
            machine.move(file, self._new(linked=file.stat().st_nlink > 1))
        elif what == 7 and folders:
            moved = chance.choice(folders)
            into = [at for at in [self.top, *folders] if not at.is_relative_to(moved)]
            machine.move(moved, chance.choice(into) / f"d{next(self.names)}")
        elif what == 8:
            machine.remove(file)
        elif what == 9 and folders:
            machine.remove(chance.choice(folders))
        elif what in (10, 14) and file.suffix in ("", ".txt"):
            machine.link(file, self._new(linked=True))
        elif what == 11:
            # One kind of thing gives way to another under its name.
            machine.remove(file)
            chance.choice([machine.folder, lambda path: self._symlink(path)])(file)
        else:
            machine.mode(chance.choice([file, *folders]), chance.choice([0o600, 0o640, 0o750, 0o755]))

    def _symlink(self, path: Path) -> None:
        path.symlink_to("nowhere")
        self.machine.mark(path)


def test_whatever_changed_a_full_scan_after_it_finds_nothing_more(house: House, tmp_path: Path) -> None:
    machine = Machine(house, tmp_path / "source")
    machine.run()
    for seed in range(8):
        chaos = Chaos(machine, str(seed))
        for _ in range(8):
            for _ in range(chaos.chance.randrange(1, 7)):
                chaos.step()
            machine.check()


def test_only_marked_folders_are_listed_and_only_changed_files_read(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(house, tmp_path / "source")
    for name in ("a/deep/er", "b", "c/d"):
        (machine.source / name).mkdir(parents=True)
        (machine.source / name / "one").write_bytes(b"1" * 1000)
    machine.run()
    opened: list[bytes] = []
    real = scanner.open_folder
    monkeypatch.setattr(scanner, "open_folder", lambda path: opened.append(path) or real(path))
    machine.write(machine.source / "a/deep/er/two", b"2" * 50)
    report = machine.partial()
    assert opened == [os.fsencode(machine.source / "a/deep/er")]
    assert (report.files_total, report.files_full, report.files_unchanged) == (4, 1, 3)
    # What was made within a moment of its first reading is read once more where its folder is looked at.
    assert report.bytes_source == 3050 and report.bytes_read in (50, 1050)
    machine.check()


def test_a_name_of_a_file_that_changed_under_another_name(house: House, tmp_path: Path) -> None:
    machine = Machine(house, tmp_path / "source")
    for name in ("a", "b", "c"):
        (machine.source / name).mkdir()
    one = machine.source / "a/one"
    one.write_bytes(b"1" * 5000)
    os.link(one, machine.source / "b/two")
    (machine.source / "c/alone").write_bytes(b"alone")
    machine.run()
    machine.write(one, b"9" * 6000)
    assert machine.check().bytes_source == 12_005, "both names, though only one folder was marked"
    machine.link(machine.source / "c/alone", machine.source / "a/not-alone")
    machine.check()
    machine.remove(machine.source / "b/two")
    machine.check()
    machine.write(machine.source / "a/new", b"n")
    (machine.source / "a/new").rename(one)
    machine.check()


def test_a_folder_that_is_not_the_one_that_was_there_is_walked_wholly(house: House, tmp_path: Path) -> None:
    machine = Machine(house, tmp_path / "source")
    for name in ("a/below", "b/below"):
        (machine.source / name).mkdir(parents=True)
        (machine.source / name / "file").write_text(name)
    machine.run()
    (machine.source / "a").rename(machine.source / "c")
    (machine.source / "b").rename(machine.source / "a")
    (machine.source / "c/below/new").write_text("new")
    machine.folders.add(os.fsencode(machine.source))
    machine.check()


def test_a_folder_that_cannot_be_read_keeps_what_it_had(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(house, tmp_path / "source")
    for name in ("shut", "shut/below", "open"):
        (machine.source / name).mkdir()
        (machine.source / name / "file").write_bytes(b"x")
    machine.run()
    shut = os.fsencode(machine.source / "shut")
    real = scanner.open_folder

    def guarded(path: bytes) -> int:
        if path == shut:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(scanner, "open_folder", guarded)
    machine.write(machine.source / "shut/new", b"y")
    machine.write(machine.source / "open/new", b"z")
    report = machine.partial()
    assert [(warning.path, warning.reason) for warning in report.warnings] == [(shut, "permission denied")]
    assert report.files_total == 4 and report.files_deleted == 0
    # What could not be read is looked at again, though nothing marks it any more, and told again.
    assert machine.partial().warnings == report.warnings
    monkeypatch.setattr(scanner, "open_folder", real)
    assert machine.partial().files_total == 5
    machine.check()


def test_the_guards_of_a_full_run_hold(house: House, tmp_path: Path) -> None:
    machine = Machine(house, tmp_path / "source")
    machine.write(machine.source / "file", b"x")
    machine.run()
    machine.source.rename(tmp_path / "elsewhere")
    machine.source.mkdir()
    machine.folders.add(os.fsencode(tmp_path))
    with pytest.raises(EmptySourceError, match="is a disk not mounted"):
        machine.partial()
    machine.source.rmdir()
    (tmp_path / "elsewhere").rename(machine.source)
    machine.check()


def test_marks_are_followed_only_on_top_of_a_complete_snapshot_of_the_same_selection(
    house: House, tmp_path: Path
) -> None:
    machine = Machine(house, tmp_path / "source")
    (machine.source / "file").write_bytes(b"x")
    assert machine.partial().files_total == 1, "the first run looks at everything"
    (machine.source / "unmarked").write_bytes(b"y")
    assert machine.partial().files_total == 1
    machine.agent.command("select", "exclude", "*.bak")
    assert machine.partial().files_total == 2, "under another selection marks say too little"
