"""Watchers on real folders: what is noted, what is not, and that nothing which happens goes unmarked."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.selection import Selection
from agent.system.mounts import Mount
from agent.watching import Watcher, inotify
from agent.watching.inotify import InotifyWatcher
from agent.watching.mounts import is_remote, touching
from agent.watching.observer import ObserverWatcher

WITHIN_S = 20.0


class Noted:
    """Everything that a watcher noted."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.folders: set[bytes] = set()
        self.trees: set[bytes] = set()
        self.quiet: set[bytes] = set()
        self.losses: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.blind_kinds: list[str] = []

    def _note(self, into: Any, what: Any) -> None:
        with self.changed:
            into.add(what) if isinstance(into, set) else into.append(what)
            self.changed.notify_all()

    def folder(self, path: bytes) -> None:
        self._note(self.folders, path)

    def beside(self, path: bytes) -> None:
        self._note(self.quiet, path)

    def tree(self, path: bytes) -> None:
        self._note(self.trees, path)

    def lost(self, reason: str) -> None:
        self._note(self.losses, reason)

    def tell(self, kind: str, sentence: str) -> None:
        self._note(self.told, (kind, sentence))

    def blind(self, kind: str, sentence: str) -> None:
        self._note(self.blind_kinds, kind)
        self.tell(kind, sentence)

    def wait(self, true: Callable[[], object], what: str) -> None:
        with self.changed:
            assert self.changed.wait_for(true, WITHIN_S), what


class Bench:
    """A watched folder, and a fence: events come in order, so that what is before the fence has been dealt with."""

    def __init__(self, top: Path, watcher: Watcher, noted: Noted) -> None:
        self.top, self.watcher, self.noted = top, watcher, noted
        self._fences = 0

    def settle(self) -> None:
        self._fences += 1
        before = len(self.noted.losses)
        fence = self.top / "fence" / f"n{self._fences}"
        self.noted.folders.discard(os.fsencode(fence.parent))
        fence.touch()
        self.noted.wait(
            lambda: os.fsencode(fence.parent) in self.noted.folders or len(self.noted.losses) > before, "the fence"
        )

    def marked(self) -> tuple[set[str], set[str]]:
        """Folders and trees since the last time, as names below the top."""
        self.settle()
        with self.noted.changed:
            folders = {os.path.relpath(os.fsdecode(path), self.top) for path in self.noted.folders}
            trees = {os.path.relpath(os.fsdecode(path), self.top) for path in self.noted.trees}
            self.noted.folders.clear()
            self.noted.trees.clear()
        # Folders above are other people's too: a test that begins sets the mode of pytest's own.
        return {folder for folder in folders if not folder.startswith("..")} - {"fence"}, trees


@contextmanager
def watching(
    top: Path, exclude: tuple[bytes, ...] = (), *, include: tuple[Path, ...] = (), observer: bool = False
) -> Iterator[Bench]:
    (top / "fence").mkdir(parents=True, exist_ok=True)
    noted = Noted()
    selection = Selection.of([os.fsencode(path) for path in include or (top,)], exclude)
    home = top / "home-of-the-agent"
    watcher = ObserverWatcher(selection, noted) if observer else InotifyWatcher(selection, home, noted)
    watcher.start()
    try:
        noted.wait(lambda: noted.losses, "a watch that is set")
        yield Bench(top, watcher, noted)
    finally:
        watcher.stop()


def test_what_happens_marks_its_folder(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_text("x")
    with watching(top) as bench:
        assert bench.noted.losses == ["the watch has just begun"] and bench.marked() == (set(), set())
        (top / "a/b/file").write_text("y")
        assert bench.marked() == ({"a/b"}, set())
        with open(top / "a/b/file", "r+b") as held:
            held.write(b"z")
            held.flush()
            assert bench.marked() == ({"a/b"}, set()), "a database is never closed"
        bench.marked()
        (top / "a/b/file").chmod(0o600)
        assert bench.marked() == ({"a/b"}, set())
        (top / "a/b").chmod(0o700)
        assert "a" in bench.marked()[0]
        (top / "a/new").touch()
        (top / "a/new").unlink()
        assert bench.marked() == ({"a"}, set())
        (top / "a/b/file").rename(top / "a/file")
        assert bench.marked() == ({"a", "a/b"}, set())
        (top / "a/b/file").read_bytes() if (top / "a/b/file").exists() else (top / "a/file").read_bytes()
        os.listdir(top / "a")
        assert bench.marked() == (set(), set()), "whoever only reads is none of our business"


def test_a_new_folder_is_marked_whole_and_watched_with_all_below(tmp_path: Path) -> None:
    top = tmp_path / "top"
    outside = tmp_path / "outside/x/y"
    outside.mkdir(parents=True)
    with watching(top) as bench:
        (top / "new/deep/er").mkdir(parents=True)
        (top / "new/deep/er/early").write_text("perhaps before the watch")
        folders, trees = bench.marked()
        assert "." in folders and "new" in trees
        (top / "new/deep/er/late").write_text("after it")
        assert bench.marked() == ({"new/deep/er"}, set())
        (tmp_path / "outside").rename(top / "in")
        assert bench.marked() == ({"."}, {"in"})
        (top / "in/x/y/file").touch()
        assert bench.marked() == ({"in/x/y"}, set())
        (top / "in").rename(top / "new/moved")
        assert bench.marked() == ({".", "new"}, {"new/moved"})
        (top / "new/moved/x/y/file").write_text("under its new name only")
        assert bench.marked() == ({"new/moved/x/y"}, set())
        (top / "new/moved").rename(tmp_path / "out-again")
        (tmp_path / "out-again/x/file").touch()
        assert bench.marked() == ({"new"}, set()), "what left is watched no more"
        shutil.rmtree(top / "new")
        (top / "new").mkdir()
        folders, trees = bench.marked()
        assert trees == {"new"}
        (top / "new/file").touch()
        assert bench.marked() == ({"new"}, set())


def test_what_is_excluded_is_neither_watched_nor_noted(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("out/in/deep", "keep/cache", "home-of-the-agent/signatures"):
        (top / name).mkdir(parents=True)
    exclude = (b"*.tmp", os.fsencode(top / "out"), b"**/cache/**")
    with watching(top, exclude, include=(top, top / "out/in")) as bench:
        before = bench.watcher.folders  # type: ignore[attr-defined]
        assert before == len(top.parts) + len(["keep", "fence", "out", "out/in", "out/in/deep", "keep/cache"])
        for name in ("keep/a.tmp", "out/file", "keep/cache/file", "home-of-the-agent/ledger.db"):
            (top / name).touch()
        (top / "out/other").mkdir()
        (top / "keep/x.tmp").mkdir()
        assert bench.marked() == (set(), set())
        # Only the folders' own times changed, of those that are selected.
        assert bench.noted.quiet == {os.fsencode(top / name) for name in ("keep", "keep/cache")}
        (top / "out/in/deep/file").touch()
        assert bench.marked() == ({"out/in/deep"}, set())
        assert bench.watcher.folders == before  # type: ignore[attr-defined]


def test_an_included_path_that_comes_and_goes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    wanted = top / "mnt/disk/data"
    with watching(top, include=(wanted, top / "fence")) as bench:
        wanted.mkdir(parents=True)
        (wanted / "file").touch()
        assert "mnt" in bench.marked()[1]
        (wanted / "file").write_text("x")
        (top / "mnt/disk/beside").touch()
        assert bench.marked() == ({"mnt/disk/data"}, set())
        wanted.rename(top / "away")
        assert bench.marked() == ({"mnt/disk"}, set())
        (top / "away/file").write_text("y")
        assert bench.marked() == (set(), set())
        (top / "away").rename(wanted)
        assert "mnt/disk/data" in bench.marked()[1]


def test_events_that_the_kernel_dropped_make_everything_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real overflow: nobody reads while more happens than the kernel keeps."""
    top = tmp_path / "top"
    (top / "busy").mkdir(parents=True)
    monkeypatch.setattr(inotify, "AGAIN_S", 0.0)
    held, resume = threading.Event(), threading.Event()
    real = inotify._Folder.on_event

    def slow(folder: Any, event: Any) -> None:
        if event.name == b"hold":
            held.set()
            assert resume.wait(WITHIN_S)
        real(folder, event)

    monkeypatch.setattr(inotify._Folder, "on_event", slow)
    with watching(top) as bench:
        (top / "busy/hold").touch()
        assert held.wait(WITHIN_S)
        for number in range(int(inotify.QUEUE.read_text()) // 2 + 10):
            os.close(os.open(top / "busy" / f"n{number}", os.O_CREAT | os.O_WRONLY))
        (top / "unseen").mkdir()
        resume.set()
        bench.noted.wait(lambda: len(bench.noted.losses) == 2, "the loss")
        assert bench.noted.losses[1] == inotify.OVERFLOW
        assert [kind for kind, _ in bench.noted.told] == ["overflow"] and not bench.noted.blind_kinds
        bench.marked()
        (top / "unseen/file").touch()
        assert bench.marked() == ({"unseen"}, set()), "a folder whose event was dropped is watched all the same"


def test_the_limit_of_watches_is_told_with_what_to_do_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "top"
    for name in "abcdef":
        (top / name).mkdir(parents=True)
    allowed = len(top.parts) + 3
    real = inotify.InotifyFD.add_callback

    def limited(self: Any, path: bytes, *rest: Any) -> Any:
        if len(self._watch_for_wd) >= allowed:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return real(self, path, *rest)

    monkeypatch.setattr(inotify.InotifyFD, "add_callback", limited)
    with watching(top) as bench:
        assert bench.noted.blind_kinds == ["limit"]
        sentence = bench.noted.told[0][1]
        assert "fs.inotify.max_user_watches is " in sentence and "sysctl" in sentence and str(tmp_path) not in sentence
        assert bench.watcher.folders == allowed  # type: ignore[attr-defined]


def test_no_instance_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(inotify.InotifyFD, "_create_inotify_fd", staticmethod(none_left))
    with watching(tmp_path / "top") as bench:
        assert bench.noted.blind_kinds == ["instances"] and "max_user_instances" in bench.noted.told[0][1]


def test_whatever_happens_below_is_marked(tmp_path: Path) -> None:
    """Random changes, folders that move while things happen in them among them: every folder whose listing differs
    from the one before is marked, or stands below a marked tree."""
    top = tmp_path / "top"
    (top / "start").mkdir(parents=True)
    chance = random.Random("watching")

    def listing() -> dict[str, list[tuple[str, int, int]]]:
        seen: dict[str, list[tuple[str, int, int]]] = {}
        for folder, folders, files in os.walk(top):
            stats = [(name, os.lstat(os.path.join(folder, name))) for name in sorted(folders + files)]
            seen[os.path.relpath(folder, top)] = [(name, st.st_ino, st.st_mtime_ns) for name, st in stats]
        return seen

    def step(number: int) -> None:
        folders = sorted(path for path in top.rglob("*") if path.is_dir() and path.name != "fence")
        files = sorted(path for path in top.rglob("*") if path.is_file() and path.parent.name != "fence")
        into = chance.choice([top, *folders])
        what = chance.randrange(6)
        if what == 0 and folders:
            moved = chance.choice(folders)
            if not into.is_relative_to(moved):
                moved.rename(into / f"m{number}")
        elif what == 1:
            (into / f"d{number}/x/y").mkdir(parents=True)
            (into / f"d{number}/x/y/file").write_text("1")
        elif what == 2 and folders and chance.random() < 0.3:
            shutil.rmtree(chance.choice(folders))
        elif what == 3 and files:
            chance.choice(files).unlink()
        elif what == 4 and files:
            chance.choice(files).write_text(str(number))
        else:
            (into / f"f{number}").write_text("1")

    with watching(top) as bench:
        before, number = listing(), 0
        for _ in range(30):
            for _ in range(chance.randrange(1, 12)):
                step(number := number + 1)
            folders, trees = bench.marked()
            after = listing()
            for folder, there in after.items():
                # A folder's own time belongs to the listing above it, which a mark of it asks for as well.
                names = [(name, ino) for name, ino, _ in there]
                if folder in ("fence", ".") or before.get(folder) == there:
                    continue
                below = any(folder == tree or folder.startswith(tree + "/") for tree in trees)
                changed = [name for name, _, _ in there if (name, *_of(before, folder, name)) not in [
                    (one, ino, mtime) for one, ino, mtime in there]]
                only_times = all((f"{folder}/{name}" in folders) for name in changed) and names == [
                    (name, ino) for name, ino, _ in before.get(folder, [])]
                assert below or folder in folders or only_times, (folder, folders, trees)
            before = after


def _of(before: dict[str, list[tuple[str, int, int]]], folder: str, name: str) -> tuple[int, int]:
    return next(((ino, mtime) for one, ino, mtime in before.get(folder, []) if one == name), (0, 0))


def test_watchdogs_own_observer_marks_the_same(tmp_path: Path) -> None:
    """The way of Windows and macOS, here over inotify."""
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    with watching(top, (b"*.tmp",), observer=True) as bench:
        (top / "a/b/file").write_text("x")
        assert "a/b" in bench.marked()[0]
        (top / "a/b/scratch.tmp").write_text("x")
        assert bench.marked()[1] == set()
        (top / "a/new/deep").mkdir(parents=True)
        folders, trees = bench.marked()
        assert "a" in folders and "a/new" in trees
        (top / "a/b").rename(top / "moved")
        folders, trees = bench.marked()
        assert {"a", "."} <= folders and "moved" in trees


def test_mounts_that_matter() -> None:
    root, srv = Mount(b"/", b"ext4", "ext4 a /"), Mount(b"/srv", b"ext4", "ext4 b /")
    nas, home = Mount(b"/srv/office/nas", b"cifs", "cifs //nas/x /"), Mount(b"/home", b"nfs4", "nfs4 nas:/home /")
    every = [root, srv, nas, home]
    assert [is_remote(mount) for mount in every] == [False, False, True, True]
    assert touching(every, [b"/srv/office"]) == {srv, nas}
    assert touching(every, [b"/etc"]) == {root}
    assert touching(every, [b"/"]) == set(every)
    assert touching(every, [b"/srv/office/nas/deep"]) == {nas}


def test_other_file_systems_under_a_watch_make_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = tmp_path / "top"
    with watching(top) as bench:
        bench.watcher.look()
        assert len(bench.noted.losses) == 1
        monkeypatch.setattr(inotify, "mounts", lambda: [Mount(os.fsencode(top), b"cifs", "cifs //nas/x /")])
        bench.watcher.look()
        bench.noted.wait(lambda: len(bench.noted.losses) == 2, "a watch made anew")
        assert bench.noted.blind_kinds == ["remote"]
        (top / "fence/after").touch()
        bench.noted.wait(lambda: os.fsencode(top / "fence") in bench.noted.folders, "an event of the new watch")
