"""A sample of the sweeps (`make sweep` does all of them), and their tools, proved able to find a loss."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.store import durable, packs
from appliance.store.durable import AppendFile, Disk, publish
from appliance.store.errors import DamagedRepositoryError, FatalDiskError
from appliance.store.packs import PackWriter
from appliance.store.repository import Repository
from tests.appliance.store_builder import KEY, make_repository
from tests.support.crashing_disk import Crash, CrashingDisk, CrashPoint, crash_points
from tests.support.faults import small_disk
from tests.support.invariants import Loss, check_invariants
from tests.sweeps.crashes import NAME, prepare, sample_crashes, sweep_crashes
from tests.sweeps.errors import exhaust_descriptors, fill_for_real, sweep_errors, sweep_flips, sweep_unreadable
from tests.sweeps.workloads import WORKLOADS, open_with
from transport.names import RepositoryId, VaultId


@pytest.mark.parametrize("name", WORKLOADS)
def test_nothing_is_lost_wherever_it_stops(tmp_path: Path, name: str) -> None:
    tally = sample_crashes(WORKLOADS[name], tmp_path, count=2)
    assert not tally.losses, "\n".join(tally.losses[:5])
    assert tally.killed >= 1 and tally.power_states >= tally.killed


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_error_is_refused_and_nothing_lost(tmp_path: Path, name: str) -> None:
    tally = sweep_errors(WORKLOADS[name], tmp_path, step=13, first=len(name) % 4)
    assert not tally.losses, "\n".join(tally.losses[:5])
    assert tally.errors or name == "upgrade"


def test_turned_bits_are_found_where_they_are(tmp_path: Path) -> None:
    tally = sweep_flips(tmp_path, step=997, fields=(8, 43))
    assert not tally.losses, "\n".join(tally.losses[:5])
    assert tally.flips_found == tally.flips > 40


def test_what_cannot_be_read_is_named_and_nothing_is_cut(tmp_path: Path) -> None:
    tally = sweep_unreadable(tmp_path)
    assert not tally.losses, "\n".join(tally.losses[:5])
    assert tally.errors > 10


def test_a_process_without_descriptors_refuses_and_goes_on(tmp_path: Path) -> None:
    assert exhaust_descriptors(tmp_path, (0, 1, 3)).errors == 3


def test_a_really_full_disk_refuses_and_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 4 << 20) as disk:
        for room in (0, 4096, 32_768):
            fill_for_real(disk, tmp_path, room)


# The tools find what they are for


@pytest.mark.parametrize("step", ["sync", "sync_folder"])
def test_a_missing_fsync_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """As if the engine left it out: the disk forgets that it was asked."""
    name = "_was_synced" if step == "sync" else "_folder_was_synced"
    monkeypatch.setattr(CrashingDisk, name, lambda self, path: None)
    assert sweep_crashes(WORKLOADS["ingest"], tmp_path, step=9, first=45, nested_step=0, torn=0).losses


def test_an_acknowledgement_before_the_catalog_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail that recovery cuts held something acknowledged."""
    monkeypatch.setattr(PackWriter, "write", lambda self, group: None)
    tally = sweep_crashes(WORKLOADS["commit"], tmp_path, step=5, nested_step=0)
    assert tally.losses


def test_the_model_keeps_only_what_was_fsynced(tmp_path: Path) -> None:
    disk = CrashingDisk(tmp_path, CrashPoint(6, "after"))
    file = AppendFile.create(disk, tmp_path / "new")
    file.append([b"kept"])
    file.sync()
    disk.sync_folder(tmp_path)
    with pytest.raises(Crash):
        file.append([b" and not kept"])
    with pytest.raises(Crash):
        file.sync()
    file.close()
    assert disk.killed().content == {"new": b"kept and not kept"}
    found = {cut.kind: cut.content for cut in disk.power_cuts(1)}
    assert found["nothing unsynced"] == {"new": b"kept"}
    assert all(content["new"].startswith(b"kept") for content in found.values() if content["new"])


def test_the_model_lets_a_rename_come_without_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    disk = CrashingDisk(tmp_path, CrashPoint(3, "after"))
    file = AppendFile.create(disk, tmp_path / "old.new")
    file.append([b"bytes that nobody fsynced"])
    file.close()
    with pytest.raises(Crash):
        publish(disk, tmp_path / "old.new", tmp_path / "old")
    contents = [cut.content for cut in disk.power_cuts(1)]
    assert {"old": b""} in contents and {"old": b"old"} in contents


def test_crash_points_cover_before_within_and_after(tmp_path: Path) -> None:
    disk = CrashingDisk(tmp_path)
    durable.write_whole(disk, tmp_path / "file", [b"0123456789"])
    names = [operation.name for operation in disk.operations]
    assert names == ["remove", "open_new", "write_at", "sync", "rename", "open_folder", "sync"]
    moments = [(point.moment, point.kept_bytes) for point in crash_points(disk.operations) if point.number == 3]
    assert moments == [("before", 0), ("within", 1), ("within", 5), ("within", 9), ("after", 0)]


# No repository reads another's


def stranger(folder: Path) -> Path:
    """A repository of somebody else with a pack of its own."""
    made = Repository.create(
        folder, repository=RepositoryId(b"another's repos."), vault=VaultId(b"another's vault!"), public_key=KEY.public
    )
    made.close()
    return folder


def test_a_foreign_pack_is_named(tmp_path: Path) -> None:
    workload = WORKLOADS["retire"]
    with workload.conditions():
        base = prepare(workload, tmp_path / "ours")
        theirs = stranger(tmp_path / "theirs")
        ours = base.world / NAME
        shutil.copy(theirs / "packs" / "00000001.pack", ours / "packs" / "00000001.pack")
        with Repository.open(ours, read_only=True) as repository:
            report = repository.check(read_data=True)
            assert any(error.pack == "00000001.pack" and error.kind == "HEADER" for error in report.errors)
            with pytest.raises(Loss):
                check_invariants(repository, ours, base.machine.expected())


def test_a_foreign_catalog_is_refused_or_named(tmp_path: Path) -> None:
    workload = WORKLOADS["ingest"]
    with workload.conditions():
        base = prepare(workload, tmp_path / "ours")
        ours, theirs = base.world / NAME, stranger(tmp_path / "theirs")
        os.replace(theirs / "catalog.sqlite", ours / "catalog.sqlite")
        before = {path.name: path.read_bytes() for path in (ours / "packs").iterdir()}
        with pytest.raises(DamagedRepositoryError, match="older than the packs"):
            Repository.open(ours)
        assert {path.name: path.read_bytes() for path in (ours / "packs").iterdir()} == before
        with Repository.open(ours, read_only=True) as repository:
            assert not repository.check(read_data=True).ok


# What the sweeps found


def test_a_failed_fsync_of_a_folder_is_the_end_even_for_lack_of_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullFolder(Disk):
        full = False

        def sync(self, descriptor: int) -> None:
            if self.full and os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(28, os.strerror(28))
            super().sync(descriptor)

    monkeypatch.setattr(packs, "PACK_BYTES", 500)
    workload = WORKLOADS["ingest"]
    base = prepare(workload, tmp_path)
    disk, machine = FullFolder(), base.machine
    open_with(base.world / NAME, disk, machine)
    machine.begin()
    disk.full = True
    with pytest.raises(FatalDiskError, match="fsync"):
        machine.put_file((b"x",), machine.random.randbytes(2000))
    machine.repository.close()


def test_an_upgraded_repository_begins_new_packs_as_any_other(tmp_path: Path) -> None:
    workload = WORKLOADS["upgrade"]
    with workload.conditions():
        base = prepare(workload, tmp_path)
        machine = base.machine
        repository = open_with(base.world / NAME, Disk(), machine)
        before = repository.stats().packs
        machine.resume()
        for number in range(3):
            machine.begin()
            machine.put_file((b"more %d" % number,), machine.random.randbytes(9000))
            machine.commit()
        assert repository.stats().packs > before
        check_invariants(repository, base.world / NAME, machine.expected())
        repository.close()


def test_an_empty_repository_is_sound(tmp_path: Path) -> None:
    with make_repository(tmp_path / NAME) as repository:
        machine = WORKLOADS["create"].prepare(tmp_path / NAME)
        check_invariants(repository, tmp_path / NAME, machine.expected())
