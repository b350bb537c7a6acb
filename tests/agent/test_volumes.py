"""Which disks a backup reads: included folders and what is mounted in them, outer ones first. Freezing itself is tried
on a real disk by tests/journeys/test_volumes.py."""

from __future__ import annotations

import os
from pathlib import Path

from agent.selection import Selection
from agent.sources.volume_kinds import Mounted
from agent.sources.volumes import mounted_now, parts_of


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
