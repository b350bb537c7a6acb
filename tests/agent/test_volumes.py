"""Which disks a backup reads: included folders and what is mounted in them, outer ones first. Freezing itself is tried
on a real disk by tests/journeys/test_volumes.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.errors import VolumeError
from agent.reading import SourceFile, read_small
from agent.selection import Selection
from agent.sources.volume_kinds import Mounted
from agent.sources.volumes import mounted_now, parts_of
from agent.sources.vss import Vss
from agent.system import views


def test_disks_are_found_by_folder_and_by_what_is_mounted_inside(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "database"
    for folder in (data / "inner", other):
        folder.mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(data)
    mounted = [
        Mounted("/", "/dev/vda", "ext4"),
        Mounted(str(tmp_path), "pool/home", "zfs"),
        Mounted(str(data / "inner"), "/dev/sdb1", "btrfs"),
        Mounted(str(tmp_path), "/dev/sdc", "btrfs"),
        Mounted("/elsewhere", "/dev/sdd", "btrfs"),
    ]
    include = [data, other, tmp_path / "file", tmp_path / "link", tmp_path / "gone"]
    parts = parts_of(Selection.of(map(os.fsencode, include)), mounted)
    assert [(part.path, part.mounted.source, part.kind.name if part.kind else None) for part in parts] == [
        (str(data), "/dev/sdc", "btrfs"),
        (str(data / "inner"), "/dev/sdb1", "btrfs"),
        (str(other), "/dev/sdc", "btrfs"),
    ], "the later of two at one place hides the earlier"
    (part,) = parts_of(Selection.of([b"/usr"]), mounted[:1])
    assert part.kind is None, "no snapshots"


def test_what_is_mounted_here_is_told() -> None:
    assert any(one.target == "/" and one.fstype for one in mounted_now())


def test_a_covered_folder_is_read_elsewhere_and_an_inner_one_shines_through(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    for folder, word in ((live, "now"), (copy, "then")):
        (folder / "home").mkdir(parents=True)
        (folder / "file").write_text(word)
        (folder / "home" / "ledger").write_text(word)
    (tmp_path / "live2").write_text("now")
    over = os.fsencode(live)
    views.cover(over, os.fsencode(copy))
    views.cover(over + b"/home", over + b"/home")
    try:
        small = read_small(over + b"/file")
        assert small is not None and small.content == b"then"
        with SourceFile(over + b"/file") as file:
            assert file.chunk(0) == b"then"
        with SourceFile(over + b"/home/ledger") as file:
            assert file.chunk(0) == b"now"
        assert views.seen(os.fsencode(tmp_path / "live2")) == os.fsencode(tmp_path / "live2")
    finally:
        views.uncover(over + b"/home")
        views.uncover(over)
    assert views.seen(over + b"/file") == over + b"/file"


def test_paths_of_a_shadow_copy_are_written_as_windows_takes_them() -> None:
    device = b"\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy7"
    views.cover(b"C:", device)
    try:
        assert views.seen(b"C:/Users/a") == device + b"\\Users\\a" and views.seen(b"C:") == device + b"\\"
    finally:
        views.uncover(b"C:")


def test_the_conversation_about_a_shadow_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PowerShell itself is played: what it is asked, and what is made of its answers."""
    asked, program = tmp_path / "asked", tmp_path / "powershell"
    answer = "{01234567-89AB-CDEF-0123-456789ABCDEF} \\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy7"
    program.write_text(f"#!/bin/sh\necho \"$4\" >> {asked}\ncat {tmp_path}/answer\n")
    program.chmod(0o755)
    (tmp_path / "answer").write_text(answer + "\r\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    drive, kind = Mounted("C:", "C:\\", "ntfs"), Vss()
    assert kind.fits(drive) and not kind.fits(Mounted("/mnt/usb", "/dev/sdb1", "ntfs"))
    (one,) = kind.freeze("C:/Pharmacie/Base", drive, "S", 0)
    (two,) = kind.freeze("C:/Users", drive, "S", 1)
    assert one.at == "\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy7\\Pharmacie\\Base"
    assert two.at.endswith("HarddiskVolumeShadowCopy7\\Users")
    two.release()
    one.release()
    create, remove = asked.read_text().splitlines()
    assert "Volume='C:\\'; Context='ClientAccessible'" in create and "$made.ReturnValue -ne 0" in create
    assert "ID='{01234567-89AB-CDEF-0123-456789ABCDEF}'" in remove and "Remove-CimInstance" in remove
    (tmp_path / "answer").write_text("no shadow")
    with pytest.raises(VolumeError, match="was not made"):
        list(kind.freeze("C:/x", drive, "T", 0))
