"""Copies on site: real repositories on this disk, an appliance beside them, media that fail in the middle."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.backup import run_backup
from agent.enrolling import Enrolled, enrolled
from agent.onsite import copies as onsite_copies
from agent.onsite import writing
from agent.onsite.keeping import add_copy, bytes_of, check_copies, list_copies, remove_copy
from agent.onsite.medium import folder_on
from agent.onsite.writing import CopyState
from agent.report import BackupReport
from agent.repository_folder import open_folder
from agent.restore import restore
from agent.settings import AgentHome
from appliance.store.durable import Disk
from appliance.store.repository import Repository
from appliance.store.source import RepositorySource
from tests.support.faults import small_disk
from tests.support.processes import House, landed
from tests.support.trees import assert_same
from transport.errors import UsageError


class Machine:
    """An enrolled machine of a house, run within this process, with one copy."""

    def __init__(self, house: House, tmp_path: Path, **wanted: Any) -> None:
        self.source = tmp_path / "source"
        self.source.mkdir()
        self.fill("first", 20, 40_000)
        (self.source / "pages.bin").write_bytes(random.Random("base").randbytes(2 << 20))
        self.home = AgentHome(house.agent(self.source).home)
        self.medium = tmp_path / "medium"
        self.medium.mkdir(exist_ok=True)
        self.place = add_copy(self.home, self.medium, **wanted)

    def fill(self, name: str, count: int, size: int) -> None:
        rng = random.Random(name)
        for number in range(count):
            (self.source / f"{name}-{number}").write_bytes(rng.randbytes(size + number))

    def enrolled(self) -> Enrolled:
        return enrolled(self.home)

    def repository(self) -> Path:
        return folder_on(self.enrolled().settings, self.medium) / "repository"

    def back(self, target: Path) -> Path:
        machine = self.enrolled()
        with open_folder(self.repository()) as (repository, _):
            report = restore(
                RepositorySource(repository),
                machine.sealer(),
                machine.keys.signing.public,
                witness=None,
                target=os.fsencode(target),
            )
        assert not report.errors
        return landed(target, self.source)

    def sound(self) -> None:
        ((_, report),) = check_copies(self.home, read_data=True)
        assert report is not None and report.ok, report


def test_level_copies_cost_no_second_read(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(house, tmp_path)
    add_copy(machine.home, _made(tmp_path / "second"))
    opened: Counter[bytes] = Counter()
    real = os.open
    below = os.fsencode(machine.source) + b"/"

    def counting(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        raw = os.fsencode(path) if isinstance(path, str | bytes | os.PathLike) else b""
        if raw.startswith(below):
            opened[raw] += 1
        return real(path, flags, *rest, **named)

    alone = enrolled(AgentHome(house.agent(machine.source).home))
    monkeypatch.setattr(os, "open", counting)

    def both() -> tuple[BackupReport, BackupReport]:
        """A run with copies and one without: the same files were opened as often."""
        with_copies = run_backup(machine.enrolled())
        seen = dict(opened)
        opened.clear()
        without = run_backup(alone)
        assert seen == opened and seen and without.bytes_read == with_copies.bytes_read
        opened.clear()
        return with_copies, without

    first, _ = both()
    assert [copy.state for copy in first.onsite] == [CopyState.WRITTEN] * 2
    with open(machine.source / "pages.bin", "r+b") as file:
        file.seek(1 << 20)
        file.write(b"another page")
    second, without = both()
    assert second.files_delta == without.files_delta == 1
    assert all(copy.bytes_written < 1 << 20 for copy in second.onsite)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_disk_pulled_out_in_the_middle(house: House, tmp_path: Path) -> None:
    machine = Machine(house, tmp_path)
    machine.fill("more", 200, 100_000)
    pulled = threading.Event()
    away = tmp_path / "away"

    def pull(_: Any) -> None:
        if not pulled.is_set():
            pulled.set()
            machine.medium.rename(away)

    report = run_backup(machine.enrolled(), progress=pull, watched=True)
    assert pulled.is_set() and report.state == "complete"
    (copy,) = report.onsite
    if copy.state is not CopyState.WRITTEN:  # open files go on in a renamed folder until a new one is wanted
        assert copy.state is CopyState.FAILED and report.warnings
    assert not machine.medium.exists()
    away.rename(machine.medium)
    again = run_backup(machine.enrolled())
    assert again.onsite[0].state is CopyState.WRITTEN, again.onsite
    machine.sound()
    assert_same(machine.source, machine.back(tmp_path / "back"))


def test_a_medium_that_fails_or_hangs_never_stops_the_backup(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(house, tmp_path)
    released = threading.Event()
    real = Disk.write_at

    def hanging(self: Disk, *arguments: Any) -> Any:
        released.wait(60)
        return real(self, *arguments)

    monkeypatch.setattr(Disk, "write_at", hanging)
    monkeypatch.setattr(onsite_copies.Copies.__init__, "__kwdefaults__", {"alone": False, "patience_s": 0.5})
    report = run_backup(machine.enrolled())
    assert report.state == "complete" and report.files_full == 21
    (copy,) = report.onsite
    assert copy.state is CopyState.FAILED and "does not answer" in copy.reason
    assert [w.path for w in report.warnings] == [f"copy on site {machine.place.name}".encode()]
    released.set()
    monkeypatch.undo()
    for thread in threading.enumerate():
        if thread.name.startswith("copy "):
            thread.join(30)
    again = run_backup(machine.enrolled())
    assert again.onsite[0].state is CopyState.WRITTEN, again.onsite
    machine.sound()
    assert_same(machine.source, machine.back(tmp_path / "back"))


def test_a_full_medium_drops_the_oldest_and_never_the_newest(house: House, tmp_path: Path) -> None:
    (tmp_path / "medium").mkdir()
    with small_disk(tmp_path / "medium", (64 << 20) + (24 << 20)):
        machine = Machine(house, tmp_path)
        for turn in range(6):
            (machine.source / "scan").write_bytes(random.Random(turn).randbytes(6 << 20))
            (copy,) = run_backup(machine.enrolled()).onsite
            assert copy.state is CopyState.WRITTEN, (turn, copy)
            assert_same(machine.source, machine.back(tmp_path / f"back-{turn}"))
        assert "dropped" in copy.reason
        with Repository.open(machine.repository(), read_only=True) as repository:
            held = [c.signed.decoded().number for c in repository.commits(0, 100) if not c.retired]
        assert 1 <= len(held) < 6 and held[-1] == 6, held
        machine.sound()
        (machine.source / "too-large").write_bytes(random.Random("large").randbytes(40 << 20))
        report = run_backup(machine.enrolled())
        assert report.state == "complete" and report.files_full == 1
        (copy,) = report.onsite
        assert copy.state is CopyState.FAILED and "only its newest snapshot" in copy.reason, copy
        machine.sound()
        with Repository.open(machine.repository(), read_only=True) as repository:
            assert [c.signed.decoded().number for c in repository.commits(0, 100) if not c.retired] == [6]


def test_a_limit_is_a_full_medium(house: House, tmp_path: Path) -> None:
    machine = Machine(house, tmp_path, limit_bytes=96 << 20)
    for turn in range(7):
        (machine.source / "scan").write_bytes(random.Random(turn).randbytes(14 << 20))
        (copy,) = run_backup(machine.enrolled()).onsite
        assert copy.state is CopyState.WRITTEN, (turn, copy)
        (shown,) = list_copies(machine.home)
        assert shown.used_bytes <= 96 << 20, shown
    machine.sound()
    assert_same(machine.source, machine.back(tmp_path / "back"))


def test_a_copy_keeps_its_days(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(house, tmp_path, keep_days=10)
    start_ms = writing._now_ms()
    for day in (0, 1, 2, 30, 31, 32):
        (machine.source / "scan").write_bytes(random.Random(day).randbytes(100_000))
        monkeypatch.setattr(writing, "_now_ms", lambda day=day: start_ms + day * 86_400_000)
        (copy,) = run_backup(machine.enrolled()).onsite
        assert copy.state is CopyState.WRITTEN, copy
    with Repository.open(machine.repository(), read_only=True) as repository:
        held = [c.signed.decoded().number for c in repository.commits(0, 100) if not c.retired]
    assert held == [4, 5, 6]
    machine.sound()


@pytest.mark.parametrize("place", ["stage", "commit", "make_snapshot", "finish", "apply", "level"])
def test_killed_at_every_step_of_its_own(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The process dies at a step: both repositories stay sound, and the next run makes the copy whole."""
    machine = Machine(house, tmp_path)
    run_backup(machine.enrolled())
    machine.fill("later", 30, 50_000)
    with open(machine.source / "pages.bin", "r+b") as file:
        file.write(b"changed")
    if place == "level":  # behind, then killed while it is brought level
        machine.medium.rename(tmp_path / "away")
        run_backup(machine.enrolled())
        (tmp_path / "away").rename(machine.medium)
        machine.fill("last", 3, 1000)
    child = os.fork()
    if child == 0:
        _die_at(place)
        try:
            run_backup(machine.enrolled())
        finally:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9, "it must die where it should"
    machine.sound()
    (copy,) = run_backup(machine.enrolled()).onsite
    assert copy.state is CopyState.WRITTEN, copy
    machine.sound()
    assert_same(machine.source, machine.back(tmp_path / "back"))


def _die_at(place: str) -> None:
    from agent.ledger import Ledger
    from agent.onsite.levelling import Leveller

    owner: Any
    owner, name = {
        "stage": (writing.CopyWriter, "flush"),
        "commit": (writing.CopyWriter, "commit"),
        "make_snapshot": (writing.CopyWriter, "make_snapshot"),
        "finish": (onsite_copies.Copies, "finish"),
        "apply": (Ledger, "apply"),
        "level": (Leveller, "_entries"),
    }[place]
    real = getattr(owner, name)

    def dying(*arguments: Any, **named: Any) -> Any:
        if place in ("stage", "level"):
            real(*arguments, **named)
        os._exit(9)

    setattr(owner, name, dying)


def test_words_for_people(house: House, tmp_path: Path) -> None:
    machine = Machine(house, tmp_path)
    assert bytes_of("500GB") == 500 * 10**9 and bytes_of("1,5 To") == 1_500_000_000_000
    for wrong in ("", "GB", "-1GB", "1 PB", "3kB"):
        with pytest.raises(UsageError):
            bytes_of(wrong)
    with pytest.raises(UsageError, match="no folder"):
        add_copy(machine.home, tmp_path / "nowhere")
    (machine.source / "inside").mkdir()
    with pytest.raises(UsageError, match="itself backed up"):
        add_copy(machine.home, machine.source / "inside")
    again = add_copy(machine.home, machine.medium, keep_days=30)
    assert again.id == machine.place.id and again.keep_days == 30
    with pytest.raises(UsageError, match="no copy called"):
        remove_copy(machine.home, "other")
    remove_copy(machine.home, again.name)
    assert list_copies(machine.home) == [] and machine.repository().is_dir()
