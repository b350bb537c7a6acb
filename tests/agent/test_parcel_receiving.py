"""Another machine's files, as a hostile appliance would send them: what lands is plain files in one new folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.landing import Folder, Landing
from agent.parcel_receiving import land_entries
from agent.receiving import Place
from agent.restore import RestoreReport
from transport import messages as m
from transport.errors import IntegrityError
from transport.parcels import Entry, ParcelReader, ParcelWriter
from transport.tree import FileType

OFFER = m.Delivery(1, 3, 0, "a@example.org", 0, 0, True, 1, 1, "serveur")
MIB = 1 << 20


def folder(*names: bytes, mode: int = 0o755) -> Entry:
    return Entry(list(names), FileType.FOLDER, 0, mode, 5, b"", [])


def link(target: bytes, *names: bytes) -> Entry:
    return Entry(list(names), FileType.SYMLINK, 0, 0o777, 5, target, [])


def file(*names: bytes, size: int, mode: int = 0o644) -> Entry:
    return Entry(list(names), FileType.FILE, size, mode, 1_700_000_000_000_000_000, b"", [])


def land(target: Path, write: Callable[[ParcelWriter], None]) -> RestoreReport:
    chunks: list[bytes] = []
    writer = ParcelWriter(chunks.append)
    write(writer)
    writer.end()
    return land_entries(ParcelReader(chunks), place(target), OFFER)


def place(target: Path) -> Place:
    target.mkdir(mode=0o700, exist_ok=True)
    status = target.stat()
    return Place(target, (status.st_dev, status.st_ino), status.st_uid, status.st_gid)


def put(writer: ParcelWriter, entry: Entry, content: bytes = b"", *, proved: bool = True) -> None:
    writer.entry(entry)
    if entry.type == FileType.FILE:
        writer.content(content)
        writer.verdict(proved)


def files(target: Path) -> list[str]:
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir())


def test_plain_files_large_and_small(tmp_path: Path) -> None:
    large = os.urandom(3 * MIB + 17)

    def write(writer: ParcelWriter) -> None:
        put(writer, folder(b"srv", mode=0o500))
        put(writer, link(b"large", b"srv", b"link"))
        put(writer, file(b"srv", b"small", size=5, mode=0o4755), b"small")
        put(writer, file(b"srv", b"large", size=len(large), mode=0o400), large)
        put(writer, file(b"srv", b"empty", size=0))

    report = land(tmp_path / "q", write)
    assert (report.files, report.bytes, report.symlinks, report.errors) == (3, len(large) + 5, 1, [])
    at = tmp_path / "q" / "srv"
    assert (at / "large").read_bytes() == large and (at / "small").read_text() == "small"
    assert stat.S_IMODE((at / "small").stat().st_mode) == 0o755, "no set-uid bit"
    assert stat.S_IMODE(at.stat().st_mode) == 0o700 and (at / "small").stat().st_uid == os.geteuid()
    again = land(tmp_path / "q", write)
    assert (again.files, again.files_same, again.errors) == (0, 3, []), "begun anew, it goes on"


@pytest.mark.parametrize(
    "names",
    [
        *([b".."], [b"srv", b".."], [b"srv", b"..", b"x"], [b"/etc/cron.d/x"], [b"srv", b"a/b"], [b"."], [b""]),
        *([b"srv", b"a\0b"], [b"srv", b"n" * 300], [b"missing", b"x"], [b"srv", b"link", b"x"]),
    ],
)
def test_hostile_names_land_nowhere_and_hold_up_nobody(names: list[bytes], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def write(writer: ParcelWriter) -> None:
        put(writer, folder(b"srv"))
        put(writer, link(os.fsencode(outside), b"srv", b"link"))
        for size in (3, 2 * MIB):
            put(writer, file(*names, size=size), b"x" * size)
        put(writer, folder(*names))
        put(writer, file(b"srv", b"fine", size=4), b"fine")

    report = land(tmp_path / "q", write)
    assert files(tmp_path / "q") == ["srv/fine"] and (tmp_path / "q/srv/fine").read_text() == "fine"
    assert report.files == 1 and len(report.errors) >= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "q"] and not list(outside.iterdir())


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../x", b"a/../../x", b"C:\\x", b"\\\\host\\x", b""])
def test_links_that_lead_out_are_not_made(target: bytes, tmp_path: Path) -> None:
    def write(writer: ParcelWriter) -> None:
        put(writer, folder(b"srv"))
        put(writer, link(target, b"srv", b"link"))

    report = land(tmp_path / "q", write)
    assert len(report.errors) == 1 and report.symlinks == 0 and files(tmp_path / "q") == []


def test_devices_and_unknown_kinds_are_not_made(tmp_path: Path) -> None:
    def write(writer: ParcelWriter) -> None:
        for kind in (3, 4, 99, -1):
            writer.entry(Entry([b"n%d" % kind], kind, 0, 0o600, 5, b"", []))

    report = land(tmp_path / "q", write)
    assert len(report.errors) == 4 and not list((tmp_path / "q").iterdir())


def test_what_stands_there_and_what_comes_twice_is_left_alone(tmp_path: Path) -> None:
    def write(writer: ParcelWriter) -> None:
        put(writer, folder(b"srv"))
        put(writer, file(b"srv", b"mine", size=5), b"other")
        put(writer, file(b"srv", b"twice", size=3), b"one")
        put(writer, file(b"srv", b"twice", size=3), b"two")
        put(writer, file(b"srv", b"last", size=4), b"last")
        put(writer, folder(b"srv"))

    (tmp_path / "q" / "srv").mkdir(parents=True)
    (tmp_path / "q" / "srv" / "mine").write_text("mine, older")
    os.utime(tmp_path / "q" / "srv" / "mine", (1, 1))
    report = land(tmp_path / "q", write)
    at = tmp_path / "q" / "srv"
    assert (at / "mine").read_text() == "mine, older" and (at / "twice").read_text() == "one"
    assert (at / "last").read_text() == "last" and len(report.errors) == 3


def test_a_folder_that_becomes_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "srv").symlink_to(outside)

    def write(writer: ParcelWriter) -> None:
        put(writer, folder(b"srv"))
        put(writer, file(b"srv", b"x", size=1), b"x")

    report = land(tmp_path / "q", write)
    assert report.files == 0 and len(report.errors) == 2 and not list(outside.iterdir())


@pytest.mark.parametrize("size", [10, 2 * MIB])
def test_a_file_that_its_sealer_does_not_vouch_for_gets_no_name(size: int, tmp_path: Path) -> None:
    def write(writer: ParcelWriter) -> None:
        put(writer, file(b"bad", size=size), b"\0" * size, proved=False)
        put(writer, file(b"good", size=4), b"good")

    report = land(tmp_path / "q", write)
    assert files(tmp_path / "q") == ["good"] and [error.path for error in report.errors] == [b"/bad"]


def test_a_parcel_that_ends_early_leaves_nothing_unfinished(tmp_path: Path) -> None:
    chunks: list[bytes] = []
    writer = ParcelWriter(chunks.append)
    put(writer, file(b"whole", size=4), b"good")
    writer.entry(file(b"cut", size=3 * MIB))
    writer.content(b"x" * (2 * MIB))
    writer.end()
    with pytest.raises(IntegrityError):
        land_entries(ParcelReader(chunks[:2]), place(tmp_path / "q"), OFFER)
    assert files(tmp_path / "q") == ["whole"]


def test_no_more_comes_than_was_said_before_the_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IntegrityError, match="more than was announced"):
        land(tmp_path / "q", lambda writer: put(writer, file(b"large", size=17 * MIB), b"x" * (17 * MIB)))
    assert files(tmp_path / "q") == []
    monkeypatch.setattr("agent.parcel_receiving._PLACES_LIMIT", 5)

    def write(writer: ParcelWriter) -> None:
        for number in range(50):
            put(writer, folder(b"%d" % number))

    with pytest.raises(IntegrityError, match="folders and links"):
        land(tmp_path / "r", write)


def test_endless_errors_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.parcel_receiving._ERRORS_LIMIT", 5)

    def write(writer: ParcelWriter) -> None:
        for _ in range(50):
            put(writer, file(b"..", size=1), b"x")

    assert len(land(tmp_path / "q", write).errors) == 5


def test_a_full_disk_stops_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.landing import DiskFullError

    def full(self: Landing, folder: Folder, attributes: object, data: memoryview) -> object:
        raise DiskFullError("the disk is full")

    monkeypatch.setattr(Landing, "put", full)
    with pytest.raises(DiskFullError):
        land(tmp_path / "q", lambda writer: put(writer, file(b"x", size=1), b"x"))
