"""The corpus of paths: hostile names and tricks with links, through the real landing, with a sentinel outside.

tests/golden/restore_paths.json says what becomes of each: restored as exactly itself, or refused with a reason.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import landing as landing_module
from agent.landing import Folder, Landing, LandingError
from agent.landing_rules import Keep
from agent.restore import restore
from agent.system import open_folders, paths
from tests.support.memory_source import Item, Repository
from transport.errors import IntegrityError

CORPUS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "restore_paths.json").read_text())
NAMES, PAIRS, TRICKS = CORPUS["names"], CORPUS["pairs"], CORPUS["tricks"]
RESTORED = "restored"
SENTINEL = b"untouched"
OLD, NEW, ABSURD = 1_600_000_000_000_000_001, 1_800_000_000_000_000_002, (1 << 64) - 1
TIMES = {"old": OLD, "new": NEW, "absurd": ABSURD}
LEAVES_ITS_FOLDER = (b"", b".", b"..")


def raw(text: str) -> bytes:
    """The bytes of an escaped name."""
    return text.encode("ascii").decode("unicode_escape").encode("latin-1")


@pytest.fixture(autouse=True, params=[True, False], ids=["by-handle", "by-path"])
def by_handle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways in which systems hold a folder."""
    chosen: bool = request.param
    monkeypatch.setattr(landing_module, "open_root", lambda path, **_: open_folders.open_root(path, by_handle=chosen))
    return chosen


@dataclass
class Wanted:
    """Attributes of an entry."""

    name: bytes
    target: bytes = b""
    mode: int = 0o644
    mtime_ns: int = OLD
    uid: int = os.geteuid()
    size: int = 0
    gid: int = os.getegid()
    user: str = ""
    group: str = ""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def everything(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All below a folder: mode, time, links, content."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_nlink, content)
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the target that must be afterwards what it was before."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "sentinel").write_bytes(SENTINEL)
    before = everything(folder)
    yield folder
    assert everything(folder) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "target"}, "something landed beside the target"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_the_corpus_is_large_enough_and_each_name_stands_once() -> None:
    assert len({raw(row["name"]) for row in NAMES}) == len(NAMES) >= 60
    assert len({trick["case"] for trick in TRICKS}) == len(TRICKS) >= 20


@pytest.mark.parametrize("row", NAMES, ids=lambda row: row["note"])
def test_a_name_lands_as_itself_or_not_at_all(row: dict[str, str], target: Path, outside: Path) -> None:
    name = raw(row["name"])
    for rules, expected in ((paths.POSIX, row["posix"]), (paths.WINDOWS, row["windows"])):
        reason = rules.refusal(name)
        assert (reason is None) if expected == RESTORED else (reason is not None and expected in reason), reason
    root = os.fsencode(target)
    with Landing(root) as landing:
        kinds = (
            lambda: landing.put(landing.root, Wanted(name), memoryview(b"x")),
            lambda: landing.symlink(landing.root, Wanted(name, target=b"../outside/sentinel")),
            lambda: landing.folder(landing.root, name),
        )
        for kind in kinds:
            if row["posix"] == RESTORED:
                kind()
                assert os.listdir(root) == [name]
                path = os.path.join(root, name)
                os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)
            else:
                with pytest.raises(LandingError, match=row["posix"]):
                    kind()
                assert os.listdir(root) == []
        if row["posix"] != RESTORED:
            with pytest.raises(LandingError, match=row["posix"]):
                landing.standing(landing.root, name)
            with pytest.raises(LandingError, match=row["posix"]):
                landing.link(landing.root, b"x", (0, 0), landing.root, name, OLD)


@pytest.mark.parametrize("row", NAMES, ids=lambda row: row["note"])
def test_a_name_in_a_snapshot_is_restored_or_refused(row: dict[str, str], target: Path, outside: Path) -> None:
    """The same through a sealed, signed snapshot: what no honest agent can have seen ends the job before it writes."""
    name = raw(row["name"])
    repository = Repository()
    repository.commit([Item(b"/d/beside", b"fine"), Item(b"/d/stand-in", b"x", name=name)])

    def run() -> list[bytes]:
        report = restore(
            repository, repository.sealer, repository.signing.public, witness=None, target=os.fsencode(target)
        )
        return [error.path for error in report.errors]

    if name in LEAVES_ITS_FOLDER or b"/" in name or b"\0" in name:
        with pytest.raises(IntegrityError, match="leaves its folder"):
            run()
        assert list(target.iterdir()) == []
        return
    errors = run()
    stand = sorted(os.listdir(os.fsencode(target / "d")))
    assert errors == ([] if row["posix"] == RESTORED else [b"/d/" + name])
    assert stand == sorted([b"beside", name] if row["posix"] == RESTORED else [b"beside"])


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["note"])
def test_names_that_some_disks_take_for_one(pair: dict[str, Any], target: Path, outside: Path) -> None:
    """Both land where the disk tells them apart; where it does not, the second is refused and the first kept."""
    names = [raw(name) for name in pair["names"]]
    with Landing(os.fsencode(target)) as landing:
        folder = landing.folder(landing.root, b"new")
        kept = [landing.put(folder, Wanted(name), memoryview(name)) for name in names]
        stand = sorted(os.listdir(os.fsencode(target / "new")))
        refused = [one for one in kept if isinstance(one, Keep)]
        if refused:
            assert stand == names[:1] and "two names apart" in refused[0].reason
        else:
            assert stand == sorted(names)
        first = target / "new" / os.fsdecode(names[0])
        assert first.read_bytes() == names[0]


def _stand(target: Path, outside: Path, standing: dict[str, Any]) -> None:
    path = target / standing["path"]
    kind = standing["kind"]
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(standing["to"].replace("{outside}", str(outside)))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            here = os.open(target, os.O_RDONLY)
            sock.bind(f"/proc/self/fd/{here}/{standing['path']}")  # a socket's address is short, tmp_path may not be
            os.close(here)
    else:
        path.write_bytes(b"theirs")
        time_ns = TIMES[standing.get("mtime", "old")]
        os.utime(path, ns=(time_ns, time_ns))


def _land(landing: Landing, entry: dict[str, Any], folders: dict[str, Folder]) -> Keep | None:
    """Land one entry as a restore does: folders on the way first, then the entry itself."""
    where, _, name = entry["path"].rpartition("/")
    folder, at = landing.root, ""
    if "within" in entry or entry["path"] == "same":
        where = "new"
    for step in filter(None, where.split("/")):
        at = f"{at}/{step}"
        folder = folders[at] = folders[at] if at in folders else landing.folder(folder, step.encode())
    wanted = Wanted(
        name.encode(),
        raw(entry.get("target", "")),
        entry.get("mode", 0o644),
        TIMES[entry.get("mtime", "old")],
        entry.get("uid", os.geteuid()),
    )
    if entry["type"] == "folder":
        landing.finish_folder(landing.folder(folder, wanted.name), wanted)
        return None
    if entry["type"] == "link":
        return landing.symlink(folder, wanted)
    if entry["type"] == "hard":
        source, _, source_name = entry["source"].rpartition("/")
        held = landing.root
        for step in filter(None, source.split("/")):
            held = landing.folder(held, step.encode())
        return landing.link(held, source_name.encode(), (1, 1), folder, wanted.name, NEW)
    put = landing.put(folder, wanted, memoryview(b"restored"))
    return put if isinstance(put, Keep) else None


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick["case"])
def test_a_trick_touches_nothing_outside(trick: dict[str, Any], target: Path, outside: Path) -> None:
    for standing in trick["standing"]:
        _stand(target, outside, standing)
    folders: dict[str, Folder] = {}
    with Landing(os.fsencode(target)) as landing:
        for entry in trick["entries"]:
            reason = RESTORED
            try:
                kept = _land(landing, entry, folders)
                if kept is not None:
                    reason = kept.reason
            except LandingError as error:
                reason = str(error)
            if entry["outcome"] == RESTORED:
                assert reason == RESTORED
            else:
                assert any(part in reason for part in entry["outcome"].split("|")), reason
            if "stands" in entry:
                status = (target / entry["path"]).lstat()
                assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
                assert stat.S_IMODE(status.st_mode) == entry["stands"]
    assert [path for path in target.rglob(".pilulier-*") if not path.is_symlink()] == []
    for standing in trick["standing"]:
        refused = all(entry["outcome"] != RESTORED for entry in trick["entries"])
        if standing["kind"] == "file" and refused:
            assert (target / standing["path"]).read_bytes() == b"theirs"
