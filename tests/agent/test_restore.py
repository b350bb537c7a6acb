"""A restore gives back every byte and attribute, or says for each file why not, whatever the host answers."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent import landing as landing_module
from agent.landing import DiskFullError
from agent.restore import RestoreProgress, RestoreReport, restore
from agent.system import descriptors
from tests.support.memory_source import HOUR_MS, Item, LyingSource, Repository
from transport.errors import IntegrityError, PilulierError, UsageError
from transport.extents import ExtentPage
from transport.names import SegmentId
from transport.snapshot_reader import MissingSegment, SnapshotSource
from transport.tree import FileType

MIB = 1 << 20
T = 1_650_000_000_987_654_321


def content(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def everything() -> list[Item]:
    """One of each: small, large, scattered, sparse, empty, links, names that are not UTF-8."""
    gap = content(3000, 1) + bytes(3 * MIB) + content(3000, 2)
    mixed = bytes(MIB) + content(MIB, 3) + bytes(2 * MIB + 77)
    return [
        Item(b"/home/doc/letter.txt", b"Dear pharmacist", mode=0o640, mtime_ns=T),
        Item(b"/home/doc/empty", mode=0o600, mtime_ns=T + 1),
        Item(b"/home/doc/one-byte", b"\0"),
        *(Item(b"/home/doc/small/%03d" % n, content(100 + n, n)) for n in range(60)),
        Item(b"/home/exact", content(MIB, 4)),
        Item(b"/home/exact2", content(2 * MIB, 5)),
        Item(b"/home/large", content(3 * MIB + 12_345, 6), mode=0o400),
        Item(b"/home/scattered", content(2 * MIB + 999, 7), scatter=True),
        Item(b"/home/sparse", gap, holes=[(3000, 3 * MIB)]),
        Item(b"/home/all-hole", bytes(2 * MIB + 5), holes=[(0, 2 * MIB + 5)]),
        Item(b"/home/mixed", mixed, holes=[(0, MIB), (2 * MIB, 2 * MIB + 77)]),
        Item(b"/home/two-holes", bytes(5000) + b"x", holes=[(0, 2500), (2500, 2500)]),
        Item(b"/home/\xff\xfe-not-utf8", b"bytes"),
        Item(b"/home/empty-folder", type=FileType.FOLDER, mode=0o1777, mtime_ns=T + 2),
        Item(b"/home/closed-folder", type=FileType.FOLDER, mode=0o500, mtime_ns=T + 3),
        Item(b"/home/closed-folder/inside", b"in"),
        Item(b"/home/h1", b"linked content", link_group=b"group"),
        Item(b"/home/doc/h2", b"linked content", link_group=b"group"),
        Item(b"/home/doc/h3", b"linked content", link_group=b"group"),
        Item(b"/home/same-content", b"linked content"),
        Item(b"/home/link", type=FileType.SYMLINK, target=b"/etc/passwd", mtime_ns=T + 4),
        Item(b"/home/dangling", type=FileType.SYMLINK, target=b"../../nowhere\xff"),
    ]


def house(items: list[Item] | None = None, **options: int) -> Repository:
    repository = Repository(**options)
    repository.commit(everything() if items is None else items)
    return repository


def run(
    repository: Repository, target: Path | None, source: SnapshotSource | None = None, **options: object
) -> RestoreReport:
    return restore(
        source or repository,
        repository.sealer,
        repository.signing.public,
        **{"witness": repository.head, "target": None if target is None else os.fsencode(target), **options},  # type: ignore[arg-type]
    )


def landed(target: Path, item: Item) -> bytes:
    return os.fsencode(target) + item.path


def check(target: Path, items: list[Item]) -> None:
    """Everything described stands, as described."""
    for item in items:
        path = landed(target, item)
        status = os.lstat(path)
        if item.type == FileType.SYMLINK:
            assert os.readlink(path) == item.target
        elif item.type == FileType.FILE:
            with open(path, "rb") as file:
                assert file.read() == item.content, item.path
        assert status.st_mtime_ns == item.mtime_ns, item.path
        if item.type != FileType.SYMLINK:
            assert stat.S_IMODE(status.st_mode) == item.mode & 0o1777, item.path


def no_wrong_byte(target: Path, items: list[Item]) -> None:
    """What stands is right, whole and under its own name; nothing unfinished is left."""
    expected = {item.path: item for item in items}
    folders = {path.rpartition(b"/")[0] for path in expected} | {b"/home"}
    root = os.fsencode(target)
    for where, _, names in os.walk(root):
        for name in names:
            path = os.path.join(where, name)
            item = expected[path[len(root) :]]
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    assert file.read() == item.content, path
        inside = where[len(root) :]
        assert not inside or inside in folders or inside in expected, inside


@pytest.mark.parametrize("options", [{}, {"page": 1, "span": 1}, {"segment_bytes": 50_000, "page": 1000}])
def test_everything_comes_back(tmp_path: Path, options: dict[str, int]) -> None:
    repository = house(**options)
    told: list[RestoreProgress] = []
    report = run(repository, tmp_path / "out", progress=told.append)
    items = everything()
    check(tmp_path / "out", items)
    files = [item for item in items if item.type == FileType.FILE]
    assert report.errors == [] and report.files == len(files) and report.symlinks == 2
    assert report.bytes == sum(len(item.content) for item in files) - 2 * len(b"linked content")
    assert os.path.samefile(tmp_path / "out/home/h1", tmp_path / "out/home/doc/h3")
    assert not os.path.samefile(tmp_path / "out/home/h1", tmp_path / "out/home/same-content")
    assert (tmp_path / "out/home/all-hole").stat().st_blocks == 0
    assert (tmp_path / "out/home/sparse").stat().st_blocks * 512 < MIB
    assert len(repository.asked_segments) == len(set(repository.asked_segments))
    assert told[-1].files_done == told[-1].files_total and told[-1].phase == "finishing"
    assert any(t.phase == "files" and t.bytes_done > 0 for t in told)


def test_one_file_costs_its_path_and_its_segment(tmp_path: Path) -> None:
    repository = house(segment_bytes=4000)
    report = run(repository, tmp_path, paths=[b"/home/doc/small/007"])
    assert report.files == 1 and report.errors == []
    assert (tmp_path / "home/doc/small/007").read_bytes() == content(107, 7)
    assert len(repository.asked_folders) == 4 and repository.asked_trees == 0
    assert len(repository.asked_segments) == 1
    assert os.listdir(tmp_path / "home/doc") == ["small"]


def test_snapshots_by_number_and_time(tmp_path: Path) -> None:
    repository = house([Item(b"/f", b"first")])
    repository.commit([Item(b"/f", b"second"), Item(b"/g", b"new")])
    assert run(repository, tmp_path / "1", snapshot=1).snapshot == 1
    assert run(repository, tmp_path / "2", at_ms=2 * HOUR_MS - 1).snapshot == 1
    assert run(repository, tmp_path / "3").snapshot == 2
    assert [(tmp_path / n / "f").read_bytes() for n in "123"] == [b"first", b"first", b"second"]
    assert not (tmp_path / "1/g").exists()


def test_absent_paths_are_named(tmp_path: Path) -> None:
    repository = house()
    report = run(repository, tmp_path, paths=[b"/home/exact", b"/home/gone"])
    assert report.files == 1 and [error.path for error in report.errors] == [b"/home/gone"]
    with pytest.raises(UsageError, match="does not hold /home/gone"):
        run(repository, tmp_path, paths=[b"/home/gone"])


def test_in_place_writes_over_the_originals_and_leaves_ancestors_alone(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    (tmp_path / "d").mkdir(mode=0o711)
    (tmp_path / "d/f").write_bytes(b"damaged")
    os.utime(tmp_path / "d/f", ns=(T, T))
    repository = house([Item(base + b"/d/f", b"good", mtime_ns=T + 5), Item(base + b"/d/other", b"not asked for")])
    report = run(repository, None, paths=[base + b"/d/f"])
    assert report.errors == [] and (tmp_path / "d/f").read_bytes() == b"good"
    assert os.listdir(tmp_path / "d") == ["f"]
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o711


def test_existing_files_same_older_newer(tmp_path: Path) -> None:
    items = [Item(b"/d/%s" % name, b"backup", mtime_ns=T) for name in (b"same", b"older", b"newer", b"newer-same")]
    items += [Item(b"/d/size", b"backup", mtime_ns=T), Item(b"/d/newlink", type=FileType.SYMLINK, target=b"t")]
    items += [Item(b"/d/folder-here", b"backup"), Item(b"/d/file-here/below", b"backup")]
    repository = house(items)
    here = tmp_path / "d"
    here.mkdir()
    for name, data, time_ns in [
        ("same", b"backup", T), ("older", b"BACKUP", T - 1), ("newer", b"BACKUP", T + 1),
        ("newer-same", b"backup", T + 9), ("size", b"longer than the backup", T + 1), ("file-here", b"!", T),
    ]:
        (here / name).write_bytes(data)
        os.utime(here / name, ns=(time_ns, time_ns))
    (here / "newlink").write_bytes(b"now a file, and newer than the link was")
    (here / "folder-here").mkdir()
    report = run(repository, tmp_path)
    reasons = {error.path: error.reason for error in report.errors}
    assert sorted(reasons) == [
        b"/d/file-here", b"/d/file-here/below", b"/d/folder-here", b"/d/newer", b"/d/newlink", b"/d/size",
    ]
    assert "newer than the backup" in reasons[b"/d/newer"] and "folder" in reasons[b"/d/folder-here"]
    assert (report.files, report.files_same) == (1, 2)
    assert (here / "newer").read_bytes() == b"BACKUP" and (here / "older").read_bytes() == b"backup"
    assert (here / "newer-same").stat().st_mtime_ns == T + 9
    report = run(repository, tmp_path, overwrite=True)
    assert sorted(error.path for error in report.errors) == [
        b"/d/file-here", b"/d/file-here/below", b"/d/folder-here",
    ]
    assert (here / "newer").read_bytes() == b"backup" == (here / "size").read_bytes()
    assert os.readlink(here / "newlink") == "t"


def test_a_second_run_fetches_nothing(tmp_path: Path) -> None:
    repository = house()
    first = run(repository, tmp_path)
    repository.asked_segments.clear()
    second = run(repository, tmp_path)
    assert (second.files, second.files_same, second.errors) == (0, first.files, [])
    assert repository.asked_segments == []
    check(tmp_path, everything())


def test_links_follow_their_file(tmp_path: Path) -> None:
    items = [Item(b"/d/%d" % n, b"content", link_group=b"g", mtime_ns=T) for n in range(3)]
    # The same group with other content is no link: the group alone is only somebody's word.
    items.append(Item(b"/d/impostor", b"CONTENT", link_group=b"g", mtime_ns=T))
    repository = house(items)
    report = run(repository, tmp_path)
    assert report.errors == [] and report.files == 4
    check(tmp_path, items)
    assert (tmp_path / "d/0").stat().st_nlink == 3
    (tmp_path / "d/1").unlink()
    os.utime(tmp_path / "d/0", ns=(T, T))
    assert run(repository, tmp_path).files == 1
    assert os.path.samefile(tmp_path / "d/0", tmp_path / "d/1")
    (tmp_path / "e").mkdir()
    (tmp_path / "e/d").mkdir()
    (tmp_path / "e/d/0").write_bytes(b"something newer")
    report = run(repository, tmp_path / "e")
    assert sorted(error.path for error in report.errors) == [b"/d/0", b"/d/1", b"/d/2"]


def test_where_links_cannot_be_the_content_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(landing_module.os, "link", refuse)
    items = [Item(b"/d/%d" % n, content(2 * MIB + 1, 1), link_group=b"g") for n in range(2)]
    report = run(house(items), tmp_path)
    assert report.errors == [] and report.files == 2
    check(tmp_path, items)
    assert not os.path.samefile(tmp_path / "d/0", tmp_path / "d/1")


def test_a_link_out_of_the_target_is_only_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    # An entry cannot be folder and link at once, so the two come from two snapshots.
    repository = house([Item(b"/a", type=FileType.SYMLINK, target=os.fsencode(outside))])
    repository.commit([Item(b"/a/evil", b"escaped")])
    run(repository, tmp_path / "out", snapshot=1)
    report = run(repository, tmp_path / "out", snapshot=2)
    assert sorted(error.path for error in report.errors) == [b"/a", b"/a/evil"]
    assert list(outside.iterdir()) == [] and (tmp_path / "out/a").is_symlink()


def test_unknown_kinds_and_odd_links_are_reported(tmp_path: Path) -> None:
    items = [Item(b"/d/device", type=9), Item(b"/d/nolink", type=FileType.SYMLINK), Item(b"/d/" + b"n" * 256, b"x")]
    report = run(house([*items, Item(b"/d/fine", b"fine")]), tmp_path)
    assert sorted(error.path for error in report.errors) == sorted(item.path for item in items)
    assert os.listdir(tmp_path / "d") == ["fine"] and report.files == 1


def test_set_uid_is_stripped_unless_asked(tmp_path: Path) -> None:
    repository = house([Item(b"/s", b"#!", mode=0o4755)])
    report = run(repository, tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a/s").stat().st_mode) == 0o755
    assert [note.count for note in report.notes] == [1]
    run(repository, tmp_path / "b", keep_privileges=True)
    assert stat.S_IMODE((tmp_path / "b/s").stat().st_mode) == 0o4755


# --- a hostile or damaged host

Answer = Callable[[SegmentId, "bytes | MissingSegment"], "bytes | MissingSegment"]


def flip_at(place: float) -> Answer:
    def change(_: SegmentId, sealed: bytes | MissingSegment) -> bytes | MissingSegment:
        assert isinstance(sealed, bytes)
        at = int(place * (len(sealed) - 1))
        return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]

    return change


def flip_byte(at: int) -> Answer:
    def change(_: SegmentId, sealed: bytes | MissingSegment) -> bytes | MissingSegment:
        assert isinstance(sealed, bytes)
        return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]

    return change


def cut_to(length: int) -> Answer:
    return lambda _, sealed: sealed[:length] if isinstance(sealed, bytes) else sealed


DAMAGE = {
    **{f"header byte {at}": flip_byte(at) for at in range(16)},
    "salt": flip_byte(20),
    "commitment": flip_byte(60),
    "ciphertext": flip_at(0.6),
    "tag": flip_at(1.0),
    **{f"cut to {length}": cut_to(length) for length in (0, 1, 15, 16, 47, 80, 95, 96, 200)},
    "missing": lambda _, __: MissingSegment("the pack is damaged at byte 12"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_segments_cost_only_their_files(tmp_path: Path, damage: Answer) -> None:
    items = [Item(b"/home/%02d" % n, content(30_000, n)) for n in range(12)]
    items.append(Item(b"/home/wide", content(150_000, 99), scatter=True))
    repository = house(items, segment_bytes=65_000)
    victim = repository.versions[repository.store(items[4])][1][0][0]
    hurt = {
        item.path for item in items if any(s == victim for s, _, _ in repository.versions[repository.store(item)][1])
    }
    liar = LyingSource(repository, segment=lambda s, sealed: damage(s, sealed) if s == victim else sealed)
    report = run(repository, tmp_path, liar)
    assert {error.path for error in report.errors} == hurt and b"/home/04" in hurt
    assert all(victim.hex() in error.reason for error in report.errors)
    assert report.files == len(items) - len(hurt)
    check(tmp_path, [item for item in items if item.path not in hurt])
    no_wrong_byte(tmp_path, items)


def test_swapped_segments_do_not_open(tmp_path: Path) -> None:
    items = [Item(b"/home/%d" % n, content(900, n)) for n in range(4)]
    repository = house(items, segment_bytes=1000)
    ids = list(repository.sealed)
    swapped = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    report = run(repository, tmp_path, LyingSource(repository, segment=lambda s, _: repository.sealed[swapped[s]]))
    assert report.files == 0 and len(report.errors) == 4
    no_wrong_byte(tmp_path, [])


Extents = Callable[[list[ExtentPage]], list[ExtentPage]]


def each_extent(change: Callable[[tuple[SegmentId, int, int]], tuple[SegmentId, int, int]]) -> Extents:
    return lambda pages: [msgspec.structs.replace(p, extents=[change(e) for e in p.extents]) for p in pages]


def swap_first_two(pages: list[ExtentPage]) -> list[ExtentPage]:
    one, two = pages[0], pages[1]
    return [
        msgspec.structs.replace(one, extents=two.extents), msgspec.structs.replace(two, extents=one.extents), *pages[2:]
    ]


EXTENT_LIES: dict[str, Extents] = {
    "other offset": each_extent(lambda e: (e[0], e[1] + 1, e[2])),
    "beyond the segment's plaintext": each_extent(lambda e: (e[0], 900_000, e[2])),
    "shorter": each_extent(lambda e: (e[0], e[1], e[2] - 1)),
    "longer": each_extent(lambda e: (e[0], e[1], e[2] + 1)),
    "all hole": each_extent(lambda e: (SegmentId(bytes(16)), 0, e[2])),
    "unknown segment": each_extent(lambda e: (SegmentId(b"?" * 16), e[1], e[2])),
    "swapped contents": swap_first_two,
    "one less": lambda pages: pages[1:],
    "other size": lambda pages: [msgspec.structs.replace(p, size=p.size + 1) for p in pages],
}


@pytest.mark.parametrize("lie", EXTENT_LIES.values(), ids=EXTENT_LIES.keys())
def test_no_lie_about_extents_lands(tmp_path: Path, lie: Extents) -> None:
    items = [Item(b"/home/%d" % n, content(20_000, n)) for n in range(6)]
    items += [Item(b"/home/scattered", content(MIB + 50_000, 50), scatter=True)]
    repository = house(items, segment_bytes=30_000)
    report = run(repository, tmp_path, LyingSource(repository, extents=lie))
    assert report.errors and all(error.reason for error in report.errors)
    assert report.files == len(items) - len(report.errors)
    no_wrong_byte(tmp_path, items)


def test_a_stale_version_under_new_metadata_fails_its_check(tmp_path: Path) -> None:
    repository = house([Item(b"/home/f", b"old content")])
    repository.commit([Item(b"/home/f", b"new content")])
    old, new = repository.versions.values()
    lie = each_extent(lambda e: old[1][0] if e == new[1][0] else e)
    report = run(repository, tmp_path, LyingSource(repository, extents=lie))
    assert report.files == 0 and "whole-file check" in report.errors[0].reason
    assert os.listdir(tmp_path / "home") == []


def test_lies_about_history_and_tree_write_nothing(tmp_path: Path) -> None:
    repository = house()
    repository.commit(everything()[:5])
    liars = [
        LyingSource(repository, commits=lambda commits: commits[:1]),
        LyingSource(repository, commits=lambda commits: commits[1:]),
        LyingSource(repository, commits=lambda commits: []),
        LyingSource(repository, entries=lambda pages: pages[:-1]),
        LyingSource(
            repository,
            entries=lambda pages: [msgspec.structs.replace(pages[0], entries=pages[0].entries[1:]), *pages[1:]],
        ),
    ]
    for liar in liars:
        for paths in ([], [b"/home/doc/letter.txt"]):
            with pytest.raises(IntegrityError):
                run(repository, tmp_path / "out", liar, paths=paths)
    assert not (tmp_path / "out").exists()


class _WrongTurn(LyingSource):
    """Answers segments in a wrong way that no fair source would."""

    def __init__(self, honest: Repository, how: str) -> None:
        super().__init__(honest)
        self._how = how
        self._repository = honest

    def segments(self, ids):  # type: ignore[no-untyped-def]
        answers = list(self._repository.segments(ids))
        if self._how == "short":
            yield from answers[:-1]
        elif self._how == "long":
            yield from [*answers, answers[0]]
        elif self._how == "order":
            yield from [answers[1], answers[0], *answers[2:]]
        else:
            yield from answers[:2]
            raise PilulierError("the connection broke")


@pytest.mark.parametrize("how", ["short", "long", "order", "break"])
def test_a_source_that_answers_out_of_turn_ends_the_job_cleanly(tmp_path: Path, how: str) -> None:
    items = [*everything(), Item(b"/home/zz", content(5 * MIB, 9), scatter=True)]
    repository = house(items, segment_bytes=100_000)
    with pytest.raises(PilulierError):
        run(repository, tmp_path, _WrongTurn(repository, how))
    no_wrong_byte(tmp_path, items)


def test_a_full_disk_ends_the_job_and_what_stands_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Item(b"/home/%03d" % n, content(40_000, n)) for n in range(200)]
    items.append(Item(b"/home/a-scattered", content(MIB, 1000), scatter=True))
    repository = house(items, segment_bytes=100_000)
    written = 0
    real = descriptors.write_at

    def small_disk(handle: int, data: memoryview, offset: int) -> int:
        nonlocal written
        written += len(data)
        if written > 3 * MIB:
            raise OSError(28, "No space left on device")
        return real(handle, data, offset)

    monkeypatch.setattr(descriptors, "write_at", small_disk)
    with pytest.raises(DiskFullError, match="is full"):
        run(repository, tmp_path)
    no_wrong_byte(tmp_path, items)
    monkeypatch.undo()
    assert run(repository, tmp_path).errors == []
    check(tmp_path, items)


def test_an_interrupt_leaves_no_unfinished_file(tmp_path: Path) -> None:
    repository = house([Item(b"/home/s%d" % n, content(MIB, n), scatter=True) for n in range(5)], segment_bytes=50_000)

    def stop(progress: RestoreProgress) -> None:
        if progress.phase == "files" and progress.bytes_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(repository, tmp_path, progress=stop)
    for name in (tmp_path / "home").iterdir():
        assert not name.name.startswith(".pilulier-")


def test_a_key_of_another_machine_restores_nothing(tmp_path: Path) -> None:
    repository, other = house(), Repository()
    with pytest.raises(IntegrityError, match="signature"):
        restore(
            repository, repository.sealer, bytes(32), witness=None, target=os.fsencode(tmp_path / "out"), paths=[]
        )
    from transport.names import VaultId
    from transport.sealing import Sealer, vault_keys

    foreign = Sealer(vault_keys(b"k" * 32, VaultId(b"X" * 16)))
    with pytest.raises(IntegrityError, match="another vault"):
        restore(repository, foreign, repository.signing.public, witness=None, target=os.fsencode(tmp_path / "out"))
    assert not (tmp_path / "out").exists() and other.history == []
