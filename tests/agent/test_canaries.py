"""Decoys: placed among a folder's own files, watched by their bytes, told of once; an unmounted disk accuses nobody."""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agent import canaries, decoys
from agent.canaries import Watch, place, remove
from agent.settings import AgentHome
from transport.errors import UsageError

KEY = b"k" * 32
NOW_MS = 1_800_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    home = AgentHome(tmp_path / "agent")
    home.create()
    return home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "own.txt").write_text("own")
    return folder


def placed(home: AgentHome, folder: Path) -> list[Path]:
    found = place(home, os.fsencode(folder), KEY, chance=random.Random(7), now=lambda: NOW_MS / 1000)
    return sorted(Path(os.fsdecode(one.path)) for one in found)


def touched(home: AgentHome) -> dict[str, str]:
    return {os.path.basename(one.path).decode(): one.state for one in Watch(home, KEY).look(NOW_MS + 1)}


def test_decoys_open_as_what_they_are_called() -> None:
    made = decoys.make(random.Random(1), frozenset(), 2026)
    assert sorted(one.name.rpartition(".")[2] for one in made) == ["csv", "docx", "xlsx"]
    for one in made:
        assert 1000 < len(one.content) < 60_000
        if not one.name.endswith(".csv"):
            with zipfile.ZipFile(io.BytesIO(one.content)) as archive:
                assert archive.testzip() is None
                for name in archive.namelist():
                    ElementTree.fromstring(archive.read(name))
    again = decoys.make(random.Random(2), frozenset(), 2026)
    assert {one.content for one in made}.isdisjoint(one.content for one in again), "no two machines have the same"


def test_no_file_of_the_folder_is_overwritten() -> None:
    first = decoys.make(random.Random(3), frozenset(), 2026)
    second = decoys.make(random.Random(3), frozenset(one.name for one in first), 2026)
    assert {one.name for one in first}.isdisjoint(one.name for one in second)


def test_placed_ones_look_old_and_are_untouched(home: AgentHome, folder: Path) -> None:
    files = placed(home, folder)
    assert len(files) == 3 and all(path.parent == folder for path in files)
    assert all(path.stat().st_mtime < NOW_MS / 1000 - 20 * 86400 for path in files)
    assert touched(home) == {}
    assert placed(home, folder) == files, "placing again changes nothing"
    assert home.canaries.stat().st_mode & 0o077 == 0


def test_changed_renamed_and_gone_ones_are_told_once(home: AgentHome, folder: Path) -> None:
    first, second, third = placed(home, folder)
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    second.rename(second.with_name(second.name + ".locked"))
    third.unlink()
    watch = Watch(home, KEY)
    assert [one.state for one in watch.look(NOW_MS + 5)] == ["changed", "gone", "gone"]
    assert touched(home) == {first.name: "changed", second.name: "gone", third.name: "gone"}, "not told yet"
    watch.told()
    assert touched(home) == {}
    assert [one.since_ms for one in canaries.load(home)] == [NOW_MS + 5] * 3
    renewed = placed(home, folder)
    assert len(renewed) == 3 and touched(home) == {}
    renewed[0].unlink()
    assert touched(home) == {renewed[0].name: "gone"}, "new decoys accuse anew"


def test_same_size_other_bytes_and_a_link_in_its_place(home: AgentHome, folder: Path) -> None:
    first, second, third = placed(home, folder)
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    os.utime(first, (1, 1))
    first.write_bytes(content)
    second.unlink()
    second.symlink_to(third)
    assert set(touched(home).values()) == {"changed"} and len(touched(home)) == 2


def test_a_disk_that_is_not_there_accuses_nobody(home: AgentHome, folder: Path) -> None:
    placed(home, folder)
    folder.rename(folder.with_name("elsewhere"))
    assert touched(home) == {}
    assert {one.state for one in canaries.checked(canaries.load(home), KEY, NOW_MS)} == {"unseen"}


def test_what_cannot_be_looked_at_is_not_forgotten(home: AgentHome, folder: Path) -> None:
    placed(home, folder)
    known = len(canaries.load(home))
    away = folder.with_name("elsewhere")
    folder.rename(away)
    done = canaries.remove(home, None, KEY)
    assert done.removed == () and len(done.left) == known == len(canaries.load(home))
    away.rename(folder)
    assert len(canaries.remove(home, None, KEY).removed) == known and canaries.load(home) == []


def test_a_touched_one_that_was_put_back_is_untouched(home: AgentHome, folder: Path) -> None:
    first, *_ = placed(home, folder)
    content = first.read_bytes()
    first.write_bytes(b"encrypted")
    watch = Watch(home, KEY)
    watch.look(NOW_MS)
    watch.told()
    first.write_bytes(content)
    assert touched(home) == {}
    first.write_bytes(b"encrypted")
    Watch(home, KEY).look(NOW_MS)
    assert "untouched" not in touched(home).values()


def test_removing_leaves_what_is_no_decoy_any_more(home: AgentHome, folder: Path) -> None:
    first, second, third = placed(home, folder)
    first.write_bytes(b"somebody wrote here")
    done = remove(home, os.fsencode(folder), KEY)
    assert set(done.removed) == {os.fsencode(second), os.fsencode(third)} and done.left == (os.fsencode(first),)
    assert first.exists() and not second.exists() and canaries.load(home) == []
    with pytest.raises(UsageError, match="no decoys lie in"):
        remove(home, os.fsencode(folder), KEY)
    assert remove(home, None, KEY).removed == ()


def test_a_folder_that_is_none(home: AgentHome, folder: Path) -> None:
    for path in (folder / "own.txt", folder / "missing"):
        with pytest.raises(UsageError, match="is not a folder"):
            place(home, os.fsencode(path), KEY)


def test_a_folder_that_takes_nothing_leaves_no_trace(
    home: AgentHome, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def failing(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(canaries.os, "utime", failing)
    with pytest.raises(canaries.CanaryError, match="Permission denied"):
        placed(home, folder)
    assert canaries.load(home) == [] and [path.name for path in folder.iterdir()] == ["own.txt"]
