"""Nothing lands outside of its target, through a link, over something newer, or half done."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import landing as landing_module
from agent.landing import DiskFullError, Landing, LandingError, Unfinished
from agent.landing_rules import Keep, Place, judge
from agent.system import descriptors, open_folders, paths

OLD = 1_600_000_000_000_000_001
NEW = 1_700_000_000_000_000_002


@dataclass
class Wanted:
    """Attributes as a test wants them."""

    name: bytes
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = OLD
    uid: int = os.geteuid()
    gid: int = os.getegid()
    user: str = ""
    group: str = ""
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


@pytest.fixture(autouse=True, params=[True, False], ids=["by-handle", "by-path"])
def by_handle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways in which systems hold a folder: what one refuses the other must refuse too."""
    chosen: bool = request.param
    monkeypatch.setattr(landing_module, "open_root", lambda path, **_: open_folders.open_root(path, by_handle=chosen))
    return chosen


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def landing(target: Path) -> Iterator[Landing]:
    with Landing(os.fsencode(target)) as opened:
        yield opened


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob(".pilulier-*")]


HOSTILE = [
    b"", b".", b"..", b"/", b"a/b", b"../x", b"/etc/passwd", b"a/../../b", b"nul\0", b"\0", b"x" * 256,
]
WINDOWS_HOSTILE = [
    *HOSTILE[:-1], b"CON", b"con", b"Con.txt", b"PRN", b"aux.tar.gz", b"NUL", b"nul .txt", b"COM1", b"com0.log",
    b"LPT9", b"lpt1.", "COM¹".encode(), "lpt³.x".encode(), b"CONIN$", b"conout$", b"CLOCK$", b"file.txt:stream",
    b"file::$DATA", b"C:", b"c:\\windows", b"..\\..\\x", b"\\\\server\\share", b"a\\b", b"what?", b"star*", b"pipe|",
    b"quo\"te", b"less<", b"more>", b"tab\there", b"line\n", b"bell\x07", b"dot.", b"space ", b"...", b" ", b"\xff\xfe",
    b"x" * 256,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_everywhere(landing: Landing, target: Path, name: bytes) -> None:
    assert paths.POSIX.refusal(name)
    attempts = (
        lambda: landing.folder(landing.root, name),
        lambda: landing.put(landing.root, Wanted(name), memoryview(b"x")),
        lambda: landing.symlink(landing.root, Wanted(name, target=b"t")),
        lambda: landing.link(landing.root, b"x", (0, 0), landing.root, name, OLD),
        lambda: landing.standing(landing.root, name),
    )
    for attempt in attempts:
        with pytest.raises(LandingError):
            attempt()
    assert list(target.iterdir()) == []
    assert not (target.parent / "x").exists()


@pytest.mark.parametrize("name", WINDOWS_HOSTILE)
def test_names_that_windows_would_twist_are_refused_there(name: bytes) -> None:
    assert paths.WINDOWS.refusal(name)


@pytest.mark.parametrize("name", [b"console", b"com10", b"nul_.txt", b"a.con", b".hidden", "é\u4e2d".encode(), b"a b"])
def test_ordinary_names_pass_everywhere(name: bytes) -> None:
    assert paths.WINDOWS.refusal(name) is None
    assert paths.POSIX.refusal(name) is None


@pytest.mark.parametrize("name", [b"CON", b"a:b", b"back\\slash", b"dot.", b"\xff\xfe", b"new\nline", b"x" * 255])
def test_posix_names_land_as_they_are(landing: Landing, target: Path, name: bytes) -> None:
    put = landing.put(landing.root, Wanted(name), memoryview(b"data"))
    assert isinstance(put, Unfinished)
    assert os.listdir(os.fsencode(target)) == [name]


def test_a_symbolic_link_on_the_way_is_never_followed(landing: Landing, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (target / "a").symlink_to(outside)
    with pytest.raises(LandingError, match="symbolic link stands where the folder"):
        landing.folder(landing.root, b"a")
    assert list(outside.iterdir()) == []


def test_a_folder_swapped_for_a_link_or_another_folder_is_noticed(target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for replace in (lambda path: path.symlink_to(outside), lambda path: path.mkdir()):
        with Landing(os.fsencode(target)) as landing:
            folder = landing.folder(landing.root, b"swap")
            landing.create(folder, 1)
            # As when more folders were open than handles are kept.
            while landing._handles:
                landing._handles.popitem()[1].close()
            (target / "swap").rename(target / "moved")
            replace(target / "swap")
            with pytest.raises(LandingError):
                landing.put(folder, Wanted(b"x"), memoryview(b"secret"))
            assert list(outside.iterdir()) == []
            assert not (target / "swap" / "x").exists()
            (target / "swap").unlink() if (target / "swap").is_symlink() else (target / "swap").rmdir()
            (target / "moved").rename(target / "swap")
        assert leftovers(target) == []
        (target / "swap").rmdir()


def test_a_final_symbolic_link_is_replaced_not_followed(landing: Landing, target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep me")
    (target / "f").symlink_to(victim)
    put = landing.put(landing.root, Wanted(b"f", mtime_ns=2**62), memoryview(b"new"))
    assert isinstance(put, Unfinished)
    assert victim.read_bytes() == b"keep me"
    assert not (target / "f").is_symlink() and (target / "f").read_bytes() == b"new"
    with pytest.raises(LandingError), landing.existing(landing.root, b"nothing"):
        pass
    (target / "g").symlink_to(victim)
    with pytest.raises(LandingError), landing.existing(landing.root, b"g"):
        pass
    os.mkfifo(target / "pipe")
    with pytest.raises(LandingError, match="no regular file"), landing.existing(landing.root, b"pipe"):
        pass


def test_privileges_are_stripped_and_said_unless_asked(target: Path) -> None:
    for keep, expected in ((False, 0o755), (True, 0o6755)):
        with Landing(os.fsencode(target), keep_privileges=keep) as landing:
            landing.put(landing.root, Wanted(b"s%d" % keep, mode=0o6755), memoryview(b"#!"))
            assert stat.S_IMODE((target / f"s{int(keep)}").stat().st_mode) == expected
            assert bool(landing.notes) != keep
            for note in landing.notes.values():
                assert "set-uid" in note.reason and note.count == 1 and note.example.endswith(b"/target/s0")


def test_device_bits_in_a_mode_make_no_device(landing: Landing, target: Path) -> None:
    landing.put(landing.root, Wanted(b"dev", mode=stat.S_IFBLK | 0o600), memoryview(b"plain"))
    status = (target / "dev").lstat()
    assert stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600


def test_attributes_of_files_folders_and_links(landing: Landing, target: Path) -> None:
    folder = landing.folder(landing.root, b"d")
    wanted = Wanted(b"f", mode=0o400, mtime_ns=OLD, xattrs=((b"user.colour", b"gr\xfcn"),))
    landing.put(folder, wanted, memoryview(b"x"))
    landing.symlink(folder, Wanted(b"l", target=b"/etc/passwd", mtime_ns=NEW))
    landing.finish_folder(folder, Wanted(b"d", mode=0o2750, mtime_ns=NEW))
    status = (target / "d" / "f").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o400, OLD)
    assert os.readlink(target / "d" / "l") == "/etc/passwd"
    assert (target / "d" / "l").lstat().st_mtime_ns == NEW
    assert ((target / "d").stat().st_mtime_ns, stat.S_IMODE((target / "d").stat().st_mode)) == (NEW, 0o2750)
    try:
        assert os.getxattr(target / "d" / "f", "user.colour") == b"gr\xfcn"
        assert landing.notes == {}
    except OSError:
        assert any("user.colour" in reason for reason in landing.notes)


def test_an_impossible_attribute_is_noted_and_an_impossible_time_refused(landing: Landing, target: Path) -> None:
    put = landing.put(landing.root, Wanted(b"f", xattrs=((b"no-namespace", b"1"), (b"nul\0", b"2"))), memoryview(b"x"))
    assert isinstance(put, Unfinished) and len(landing.notes) == 2
    with pytest.raises(LandingError):
        landing.put(landing.root, Wanted(b"g", mtime_ns=1 << 100), memoryview(b"x"))
    assert sorted(os.listdir(target)) == ["f"]


def status_of(path: Path) -> os.stat_result:
    return path.lstat()


def test_what_stands_there_is_judged(tmp_path: Path) -> None:
    file, folder, pipe = tmp_path / "f", tmp_path / "d", tmp_path / "p"
    file.write_bytes(b"x")
    os.utime(file, ns=(NEW, NEW))
    folder.mkdir()
    os.mkfifo(pipe)
    assert judge(None, OLD, overwrite=False, created_folder=True) == Place()
    assert judge(status_of(file), NEW, overwrite=False, created_folder=False) == Place()
    assert judge(status_of(file), OLD, overwrite=True, created_folder=False) == Place()
    kept = judge(status_of(file), OLD, overwrite=False, created_folder=False)
    assert isinstance(kept, Keep) and "newer" in kept.reason
    for path in (folder, pipe):
        assert isinstance(judge(status_of(path), 2**62, overwrite=True, created_folder=False), Keep)
    twins = judge(status_of(file), 2**62, overwrite=True, created_folder=True)
    assert isinstance(twins, Keep) and "two names apart" in twins.reason


def test_a_newer_file_that_appears_while_writing_is_kept(landing: Landing, target: Path) -> None:
    unfinished = landing.create(landing.root, 3)
    landing.write(unfinished, memoryview(b"old"), 0)
    (target / "f").write_bytes(b"just saved")
    kept = landing.place(unfinished, Wanted(b"f"))
    assert isinstance(kept, Keep)
    assert (target / "f").read_bytes() == b"just saved" and leftovers(target) == []


def test_more_files_and_folders_than_handles(target: Path) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    with Landing(os.fsencode(target)) as landing:
        folder = landing.root
        for n in range(300):
            folder = landing.folder(folder, b"deep%d" % n)
        folders = [landing.folder(landing.root, b"d%d" % n) for n in range(150)]
        files = [landing.create(where, 10) for where in [folder, *folders]]
        for n, unfinished in enumerate(files):
            landing.write(unfinished, memoryview(b"%05d" % n), 5)
        for n, unfinished in enumerate(files):
            landing.write(unfinished, memoryview(b"%05d" % n), 0)
            assert landing.read(unfinished, 0, 100) == b"%05d%05d" % (n, n)
            assert landing.place(unfinished, Wanted(b"f")) is None
        assert len(os.listdir("/proc/self/fd")) < open_before + 250
        assert landing.link(folders[0], b"f", files[1].identity, folder, b"link", OLD) is None
    assert (target / "d149" / "f").read_bytes() == b"0015000150"
    assert leftovers(target) == []


@pytest.mark.parametrize("refused", ["O_TMPFILE", "linkat"])
def test_disks_that_know_no_nameless_file_get_a_temporary_name(
    target: Path, monkeypatch: pytest.MonkeyPatch, refused: str, by_handle: bool
) -> None:
    real_open, asked = os.open, []

    def picky_open(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"." and flags & os.O_TMPFILE == os.O_TMPFILE:
            asked.append(path)
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def no_link(*_: object, **__: object) -> None:
        asked.append(b"link")
        raise FileNotFoundError(errno.ENOENT, "no /proc here")

    before = len(os.listdir("/proc/self/fd"))
    with Landing(os.fsencode(target)) as landing:
        folder = landing.folder(landing.root, b"d")
        if refused == "O_TMPFILE":
            monkeypatch.setattr(os, "open", picky_open)
        else:
            monkeypatch.setattr(os, "link", no_link)
        for name in (b"f", b"g"):
            assert isinstance(landing.put(folder, Wanted(name, mode=0o640), memoryview(b"mine")), Unfinished)
        monkeypatch.undo()
    assert len(asked) == by_handle, "a disk is asked once"
    assert [(path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in sorted((target / "d").iterdir())] == [
        (b"mine", 0o640)
    ] * 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_that_is_taken_is_judged_and_nothing_is_left(landing: Landing, target: Path) -> None:
    for name, time_ns in (("older", OLD - 1), ("newer", NEW)):
        (target / name).write_bytes(b"theirs")
        os.utime(target / name, ns=(time_ns, time_ns))
    (target / "folder").mkdir()
    replaced = landing.put(landing.root, Wanted(b"older"), memoryview(b"mine"))
    assert isinstance(replaced, Unfinished)
    status = (target / "older").stat()
    assert replaced.identity == (status.st_dev, status.st_ino) and status.st_nlink == 1
    for name, reason in ((b"newer", "newer"), (b"folder", "folder stands")):
        kept = landing.put(landing.root, Wanted(name), memoryview(b"mine"))
        assert isinstance(kept, Keep) and reason in kept.reason
    assert [path.read_bytes() for path in (target / "older", target / "newer")] == [b"mine", b"theirs"]
    made = landing.folder(landing.root, b"made")
    landing.put(made, Wanted(b"twin"), memoryview(b"1"))
    twin = landing.put(made, Wanted(b"twin"), memoryview(b"2"))
    assert isinstance(twin, Keep) and "two names apart" in twin.reason
    assert (target / "made" / "twin").read_bytes() == b"1" and leftovers(target) == []


def test_an_interrupt_in_the_middle_of_a_file_leaves_no_name(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Landing(os.fsencode(target)) as landing:
        monkeypatch.setattr(descriptors, "write_at", stop)
        landing.put(landing.root, Wanted(b"f"), memoryview(b"x"))
    assert list(target.iterdir()) == []


def test_modes_and_owners_are_exact_whatever_the_umask(target: Path) -> None:
    for mask in (0o077, 0o000):
        former = os.umask(mask)
        try:
            with Landing(os.fsencode(target)) as landing:
                for mode in (0o000, 0o400, 0o644, 0o666, 0o777, 0o1644):
                    landing.put(landing.root, Wanted(b"%o-%o" % (mask, mode), mode=mode), memoryview(b"x"))
                    status = (target / f"{mask:o}-{mode:o}").stat()
                    assert stat.S_IMODE(status.st_mode) == mode and status.st_mtime_ns == OLD
        finally:
            os.umask(former)
    if os.geteuid() == 0:
        with Landing(os.fsencode(target)) as landing:
            landing.put(landing.root, Wanted(b"other", uid=12345, gid=54321, mode=0o640), memoryview(b"x"))
        status = (target / "other").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o640)


def test_lent_handles_write_side_by_side(landing: Landing, target: Path) -> None:
    data = os.urandom(1 << 20)
    unfinished = landing.create(landing.root, 4 << 20)
    before = len(os.listdir("/proc/self/fd"))
    for at in (3, 0, 2, 1):
        landing.write_lent(landing.lend(unfinished), memoryview(data), at << 20, read_again=at == 0)
    assert landing.read(unfinished, 1 << 20, 1 << 20) == data
    assert landing.place(unfinished, Wanted(b"large")) is None
    assert (target / "large").read_bytes() == 4 * data
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # what is written behind is held for a while


def test_links_only_to_what_this_job_put(landing: Landing, target: Path) -> None:
    put = landing.put(landing.root, Wanted(b"f"), memoryview(b"mine"))
    assert isinstance(put, Unfinished)
    (target / "f").rename(target / "moved")
    (target / "f").write_bytes(b"someone else's")
    with pytest.raises(LandingError, match="replaced"):
        landing.link(landing.root, b"f", put.identity, landing.root, b"g", OLD)
    assert sorted(os.listdir(target)) == ["f", "moved"]


def test_a_full_disk_stops_with_a_sentence_and_leaves_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match=r"target is full.*make room"), Landing(os.fsencode(target)) as landing:
        large = landing.create(landing.root, 5000)
        landing.write(large, memoryview(b"x"), 10)
        monkeypatch.setattr(descriptors, "write_at", full)
        landing.put(landing.root, Wanted(b"f"), memoryview(b"x"))
    assert list(target.iterdir()) == []


def test_an_interrupted_job_leaves_no_unfinished_file(target: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Landing(os.fsencode(target)) as landing:
        folder = landing.folder(landing.root, b"d")
        for _ in range(100):
            landing.create(folder, 5)
        raise KeyboardInterrupt
    assert list((target / "d").iterdir()) == []


def test_a_target_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LandingError, match="cannot restore to .*file"):
        Landing(os.fsencode(tmp_path / "file" / "below"))
