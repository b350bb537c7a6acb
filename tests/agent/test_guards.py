"""The guards' own rules, each pure: disks, names, ages, clocks, another chance."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import collisions, guards, retrying
from agent.collisions import collision
from agent.guards import Moved, Place, clock_ahead_s, clock_sentence, moved_places, places_of
from agent.retrying import PAUSES_S, Retries
from agent.scanner import Found
from agent.selection import Selection
from agent.sending import How, Sent, Wanted
from agent.stale import StaleFile, after_run, folders
from agent.system import mounts, placeholders
from agent.system.mounts import Mount, below, identity_of, parsed
from agent.system.placeholders import Placeholders
from transport.names import PathId, VersionId
from transport.tree import FileType

MOUNTINFO = rb"""22 1 0:20 / / rw - ext4 /dev/sda2 rw
30 22 0:5 / /proc rw shared:5 - proc proc rw
40 22 8:17 / /srv/my\040disk rw,noatime shared:7 master:2 - ext4 /dev/sdb1 rw
41 22 0:44 /vol /mnt/nas rw - nfs4 server:/export rw
42 22 8:33 / /srv/my\040disk rw - ext4 /dev/sdc1 rw
damaged line
"""


def test_mounts_are_named_by_what_lasts() -> None:
    found = parsed(MOUNTINFO.splitlines(), {"/dev/sdc1": "1234-uuid"})
    assert Mount(b"/srv/my disk", b"ext4", "ext4 1234-uuid /") in found, "the newest over the place, by its UUID"
    assert Mount(b"/mnt/nas", b"nfs4", "nfs4 server:/export /vol") in found
    assert identity_of(b"/srv/my disk/a", found) == "ext4 1234-uuid /"
    assert identity_of(b"/srv/my disks", found) == "ext4 /dev/sda2 /"
    assert [one.point for one in below(b"/", found)] == [b"/srv/my disk", b"/mnt/nas"], "no pseudo file systems"
    assert below(b"/mnt/nas", found) == [] and identity_of(b"/a", []) == ""


def test_this_machine_tells_its_mounts() -> None:
    found = mounts.mounts()
    assert any(one.point == b"/" for one in found) and identity_of(b"/usr", found)


ROOT, USB = Mount(b"/", b"ext4", "root"), Mount(b"/data/usb", b"ext4", "usb")


def test_places_are_included_paths_and_disks_inside_them() -> None:
    selection = Selection.of([b"/data"], [b"/data/other"])
    other = Mount(b"/data/other", b"ext4", "other")
    assert places_of(selection, [ROOT, USB, other]) == [Place(b"/data", "root"), Place(b"/data/usb", "usb")]
    assert places_of(selection, []) == [], "a system that tells nothing is compared with nothing"


@pytest.mark.parametrize(
    ("mounted", "known", "present", "expected"),
    [
        ([ROOT, USB], 10, 0, []),
        ([ROOT], 10, 0, [(b"/data/usb", True)]),
        ([ROOT], 10, 4, [(b"/data/usb", True)]),
        ([ROOT], 10, 5, [(b"/data/usb", False)]),
        ([ROOT], 0, 0, []),
        ([], 10, 0, []),
    ],
)
def test_another_disk(mounted: list[Mount], known: int, present: int, expected: list[tuple[bytes, bool]]) -> None:
    selection = Selection.of([b"/data"], [])
    before = [Place(b"/data", "root"), Place(b"/data/usb", "usb")]
    found = moved_places(before, selection, mounted, lambda path: (known, present))
    assert [(one.path, one.refuses) for one in found] == expected
    deselected = Selection.of([b"/elsewhere"], [])
    assert moved_places(before, deselected, mounted, lambda path: (known, present)) == []


def test_what_is_refused_names_the_folder_and_the_numbers() -> None:
    assert "/data/usb is on another disk" in Moved(b"/data/usb", 10, 1).sentence()
    assert "9 of the 10" in Moved(b"/data/usb", 10, 1).sentence()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([b"a", b"b"], None),
        ([b"Readme", b"README"], (b"Readme", b"README")),
        (["Été".encode(), "ÉTÉ".encode()], ("Été".encode(), "ÉTÉ".encode())),
        (["é".encode(), "e\u0301".encode()], ("é".encode(), "e\u0301".encode())),
        (["straße".encode(), b"STRASSE"], ("straße".encode(), b"STRASSE")),
        ([b"\xff", b"\xfe"], None),
    ],
)
def test_collisions(names: list[bytes], expected: tuple[bytes, bytes] | None) -> None:
    assert collision(names) == expected


@given(st.lists(st.text(min_size=1, max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")), unique=True))
def test_no_name_collides_with_nothing(names: list[bytes]) -> None:
    found = collision(names)
    assert (found is None) == (len({collisions.folded(name) for name in names}) == len(names))
    if found is not None:
        assert found[0] != found[1] and collisions.folded(found[0]) == collisions.folded(found[1])


def test_ages_of_copies() -> None:
    before = [StaleFile(b"/a/old", 100, 500, "locked"), StaleFile(b"/a/fixed", 300, 500, "locked")]
    problems = {b"/a/old": "still locked", b"/a/new": "locked", b"/b/never": "locked"}
    after = after_run(before, problems, had=frozenset({b"/a/old", b"/a/new"}), last_good_ms=900, now_ms=1000)
    assert after == [
        StaleFile(b"/a/new", 900, 1000, "locked"),
        StaleFile(b"/a/old", 100, 500, "still locked"),
        StaleFile(b"/b/never", 0, 1000, "locked"),
    ]
    assert [(one.path, one.files, one.good_ms, one.since_ms) for one in folders(after)] == [
        (b"/b", 1, 0, 1000),
        (b"/a", 2, 100, 500),
    ]
    assert after_run(after, {}, had=frozenset(), last_good_ms=2000, now_ms=2000) == []


@pytest.mark.parametrize(("ahead_s", "word"), [(0, ""), (300, ""), (301, "ahead"), (-301, "behind")])
def test_clocks(ahead_s: int, word: str) -> None:
    assert clock_ahead_s(1_000_000_000, 1_000_000 + ahead_s) == ahead_s
    assert clock_ahead_s(0, 1e9) == 0, "an appliance that does not tell is not judged by"
    sentence = clock_sentence(ahead_s, 1_000_000 + ahead_s)
    assert (word in sentence and "1970-01-12 13:46 UTC" in sentence) if word else sentence == ""


# files that are held


FOUND = Found(
    b"f", PathId(bytes(16)), PathId(bytes(16)), FileType.FILE, 5, 0o644, 1, 1, 0, 0, 1, 7, 1, 8, b"", b""
)


def outcome(path: bytes, *, error: OSError | None = None, changed: bool = False, size: int = 5) -> Sent:
    found = retrying.msgspec.structs.replace(FOUND, size=size)
    return Sent(Wanted(path, found, None), How.FULL, VersionId(bytes(16)), b"", size, False, True, changed, 0, error)


def windows_error(number: int) -> OSError:
    error = PermissionError(errno.EACCES, "sharing")
    error.winerror = number  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("sent", "again"),
    [
        (outcome(b"/a"), False),
        (outcome(b"/a", error=OSError(errno.EBUSY, "busy")), True),
        (outcome(b"/a", error=FileNotFoundError(errno.ENOENT, "gone")), True),
        (outcome(b"/a", error=PermissionError(errno.EACCES, "no")), False),
        (outcome(b"/a", error=windows_error(32)), True),
        (outcome(b"/a", error=windows_error(5)), False),
        (outcome(b"/a", error=OSError(errno.EIO, "bad disk")), False),
        (outcome(b"/a", changed=True), True),
        (outcome(b"/a", changed=True, size=retrying.REREAD_BYTES + 1), False),
    ],
)
def test_what_may_be_over_in_a_moment(sent: Sent, again: bool) -> None:
    assert retrying.passes(sent) is again


def test_another_chance_comes_a_bounded_number_of_times(tmp_path: Path) -> None:
    pauses: list[float] = []
    retries = Retries(pauses.append)
    path = tmp_path / "file"
    path.write_bytes(b"longer than before")
    busy = outcome(os.fsencode(path), error=OSError(errno.EBUSY, "busy"))
    assert retries.take(busy)
    tried = []
    for again in retries.rounds():
        [wanted] = again
        tried.append(wanted.found.size)
        last = retries.take(retrying.msgspec.structs.replace(busy, wanted=wanted))
    assert pauses == list(PAUSES_S) and tried == [18] * len(PAUSES_S) and not last
    assert list(Retries(pauses.append).rounds()) == [] and pauses == list(PAUSES_S), "nobody waits for nothing"


def test_too_much_trouble_is_not_of_the_passing_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FILES", 2)
    retries = Retries(lambda _: None)
    busy = outcome(b"/missing", error=OSError(errno.EBUSY, "busy"))
    assert [retries.take(busy) for _ in range(3)] == [True, True, False]


# placeholders


def status(**fields: Any) -> Any:
    return SimpleNamespace(**({"st_mode": stat.S_IFREG | 0o644, "st_size": 5000, "st_blocks": 8, "st_dev": 1} | fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"st_file_attributes": 0x400000}, True),
        ({"st_file_attributes": 0x1000}, True),
        ({"st_file_attributes": 0x20}, False),
        ({"st_flags": 0x40000000}, True),
        ({"st_flags": 0x20}, False),
        ({"st_blocks": 0}, False),
        ({"st_blocks": 0, "st_dev": 77}, True),
        ({"st_blocks": 8, "st_dev": 77}, False),
    ],
)
def test_what_systems_say_of_placeholders(fields: dict[str, Any], expected: bool) -> None:
    looked = Placeholders()
    looked._clouds = frozenset({77})
    assert looked.is_one(b"/no/such/file", status(**fields)) is expected


def test_holes_and_tiny_files_are_no_placeholders(tmp_path: Path) -> None:
    hole, tiny, marked = tmp_path / "hole", tmp_path / "tiny", tmp_path / "doc.pdf.nextcloud"
    with open(hole, "wb") as file:
        file.truncate(100_000)
    tiny.write_bytes(b"x")
    marked.write_bytes(b" ")
    found = {path: Placeholders().is_one(os.fsencode(path), os.lstat(path)) for path in (hole, tiny, marked)}
    assert found == {hole: False, tiny: False, marked: True}
    try:
        os.setxattr(tiny, next(iter(placeholders._MARKS)), b"1")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")
    assert Placeholders().is_one(os.fsencode(tiny), os.lstat(tiny))


def test_what_guards_remember_survives_damage(tmp_path: Path) -> None:
    from agent.settings import AgentHome

    home = AgentHome(tmp_path)
    assert guards.load(home) == guards.Memory()
    home.guards.write_bytes(b"{damaged")
    assert guards.load(home) == guards.Memory()
    kept = guards.Memory([Place(b"/\xff", "d")], [b"/a"])
    guards._save(home, kept)
    assert guards.load(home) == kept
