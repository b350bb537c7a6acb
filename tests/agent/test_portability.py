"""The layers that differ between systems, run here with the other systems' rules."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.errors import SelectionError
from agent.landing import Landing, LandingError, Unfinished
from agent.selection import Selection, normalised_path
from agent.system import descriptors, open_folders, owners, paths
from agent.system.open_folders import ByPath, Drives


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "HERE", paths.WINDOWS)


@pytest.fixture
def on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "HERE", paths.MACOS)


@dataclass
class Wanted:
    """Attributes of an entry."""

    name: bytes
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 1_600_000_000_000_000_000
    uid: int = os.geteuid()
    gid: int = os.getegid()
    user: str = ""
    group: str = ""
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (b"C:\\Users\\x\\", b"C:/Users/x"),
        (b"c:/users/x", b"C:/users/x"),
        (b"C:\\", b"C:/"),
        (b"D:/a//./b", b"D:/a/b"),
    ],
)
def test_paths_of_windows_have_one_spelling(on_windows: None, given: bytes, path: bytes) -> None:
    assert normalised_path(given) == path


@pytest.mark.parametrize("given", [b"/srv", b"\\\\server\\share", b"C:x", b"x", b"1:/x"])
def test_what_is_no_path_of_windows_is_refused(on_windows: None, given: bytes) -> None:
    with pytest.raises(SelectionError, match="absolute path"):
        normalised_path(given)


def test_a_selection_of_windows_does_not_tell_case_apart(on_windows: None) -> None:
    selection = Selection.of([b"C:\\Pharma", b"D:\\"], [b"*.TMP", b"c:\\pharma\\Cache", b"**\\Thumbs.db"])
    assert selection.include == (b"C:/Pharma", b"D:/")
    assert selection.selects(b"C:/pharma/base.db") and selection.selects(b"c:/PHARMA/x") and selection.selects(b"D:/x")
    for out in (b"C:/Pharma/x.tmp", b"C:/Pharma/CACHE/y", b"D:/a/THUMBS.DB", b"E:/x", b"C:/Pharmacie"):
        assert not selection.selects(out), out
    # What is listed is what owners wrote.
    assert selection.scope().named == (b"C:", b"D:")


def test_macos_keeps_its_roots_and_does_not_tell_case_apart(on_macos: None) -> None:
    selection = Selection.of([b"/Users/x"], [b"*.TMP"])
    assert selection.selects(b"/users/X/a") and not selection.selects(b"/Users/x/b.tmp")
    assert paths.joined(b"/", b"Users") == b"/Users" and paths.HERE.refusal(b"CON") is None


def test_long_paths_of_windows_are_given_with_their_prefix(on_windows: None) -> None:
    short, long = b"C:/a/b", b"C:/" + b"/".join([b"folder"] * 60)
    assert paths.native(short) == short
    assert paths.native(long) == b"\\\\?\\" + long.replace(b"/", b"\\")
    assert paths.joined(b"/", b"C:") == b"C:" and paths.joined(b"C:", b"x") == b"C:/x"


def test_a_drive_lands_as_a_folder_below_the_target(on_windows: None, tmp_path: Path) -> None:
    with Landing(os.fsencode(tmp_path / "t"), by_handle=False) as landing:
        drive = landing.folder(landing.root, b"C:")
        assert isinstance(landing.put(drive, Wanted(b"f"), memoryview(b"x")), Unfinished)
        with pytest.raises(LandingError, match="a colon"):
            landing.folder(drive, b"D:")
        with pytest.raises(LandingError, match="a device of Windows"):
            landing.put(drive, Wanted(b"aux.txt"), memoryview(b"x"))
    assert (tmp_path / "t" / "C" / "f").read_bytes() == b"x"


def test_in_place_a_drive_is_entered_and_never_made(
    on_windows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "C:" / "d").mkdir(parents=True)
    prefix = os.fsencode(tmp_path) + b"/"
    monkeypatch.setattr("agent.landing.Drives", lambda: Drives(prefix))
    with Landing(None) as landing:
        drive = landing.folder(landing.root, b"C:")
        landing.put(landing.folder(drive, b"d"), Wanted(b"f"), memoryview(b"x"))
        with pytest.raises(LandingError):
            landing.folder(landing.folder(landing.root, b"Q:"), b"d")
        with pytest.raises(LandingError, match="only drives stand"):
            landing.put(landing.root, Wanted(b"f"), memoryview(b"x"))
    assert (tmp_path / "C:" / "d" / "f").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["C:"]


def test_reading_and_writing_at_a_place_in_two_steps(tmp_path: Path) -> None:
    handle = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    try:
        os.write(handle, b"0123456789")
        assert descriptors.seeking_read(handle, 3, 4) == b"456" and descriptors.seeking_read(handle, 3, 10) == b""
        assert descriptors.seeking_write(handle, b"ab", 8) == 2
        assert descriptors.read_fully(handle, 100, 6) == b"67ab"
    finally:
        os.close(handle)


def test_a_short_read_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"0123456789"
    monkeypatch.setattr(descriptors, "read_at", lambda _, length, offset: content[offset : offset + min(length, 3)])
    assert descriptors.read_fully(0, 100, 2) == content[2:] and descriptors.read_fully(0, 4, 2) == b"2345"


def test_a_path_that_became_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folder = ByPath(os.fsencode(tmp_path / "a"))
    os.rename(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    acts = (
        lambda: folder.open(b"x", descriptors.CREATE),
        lambda: folder.make(b"x"),
        lambda: folder.look(b"x"),
        lambda: folder.unlink(b"x"),
        lambda: folder.rename(b"x", b"y"),
        lambda: folder.make_symlink(b"x", b"y"),
        folder.handle,
    )
    for act in acts:
        with pytest.raises(OSError):
            act()
    assert list((tmp_path / "b").iterdir()) == []


def test_marks_of_windows_travel_as_an_attribute(tmp_path: Path) -> None:
    class Status:
        """What Windows says of a hidden system file in an archive that is compressed."""

        st_file_attributes = stat.FILE_ATTRIBUTE_HIDDEN | stat.FILE_ATTRIBUTE_SYSTEM | stat.FILE_ATTRIBUTE_COMPRESSED

    assert owners.marks_of(Status()) == [(owners.WINDOWS_MARKS, b"\x06\0\0\0")]  # type: ignore[arg-type]
    assert owners.marks_of(tmp_path.stat()) == []


def test_the_way_of_this_system_is_the_one_that_is_taken(tmp_path: Path) -> None:
    opened = open_folders.open_root(os.fsencode(tmp_path))
    assert isinstance(opened, open_folders.ByHandle)
    opened.close()
