"""agent.planner: every decision and its reason."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from agent import planner
from agent.planner import Emptied, Gone, Kept, MetadataOnly, Read, Unchanged, plan_folder
from agent.scanner import Found, IncludedRoot, Listing, RootState
from agent.staging import Known
from transport.names import NO_VERSION, ROOT, Digest, PathId, VersionId
from transport.tree import FileType

BIG = 1 << 20


def found(name: bytes = b"f", kind: FileType = FileType.FILE, **changes: object) -> Found:
    base = Found(
        name=name, path_id=PathId(name.ljust(16, b".")), parent_id=ROOT, type=kind, size=BIG, mode=0o644, mtime_ns=10,
        ctime_ns=20, uid=1, gid=2, dev=3, ino=4, nlink=1, blocks=8, target=b"", link_group=b"",
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def known(of: Found, **changes: object) -> Known:
    base = Known(
        path_id=of.path_id, parent_id=of.parent_id, name=of.name, kind=int(of.type), type=int(of.type), size=of.size,
        mode=of.mode, mtime_ns=of.mtime_ns, ctime_ns=of.ctime_ns, uid=of.uid, gid=of.gid, ino=of.ino,
        target=of.target, link_group=of.link_group,
        version_id=VersionId(b"v" * 16) if of.type is FileType.FILE else NO_VERSION, mac=b"m" * 32,
        token=Digest(b"t" * 32), metadata_digest=b"d" * 16, has_signature=True, settled=True,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def listing(*children: Found, **changes: object) -> Listing:
    made = Listing(
        path=b"/r", path_id=ROOT, folder=None, children=list(children), error=None, complete=True, included=True
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def plan_one(now: Found, before: Known) -> planner.Decision:
    (decision,) = plan_folder(listing(now), {before.path_id: before})
    return decision


def test_unchanged() -> None:
    for kind in FileType:
        now = found(kind=kind)
        assert plan_one(now, known(now)) == Unchanged(now, known(now))


def test_new() -> None:
    file, folder = found(b"f"), found(b"d", FileType.FOLDER)
    assert plan_folder(listing(file, folder), {}) == [
        Read(file, None, planner.NEW, False, False),
        MetadataOnly(folder, None, planner.NEW),
    ]


@pytest.mark.parametrize(
    ("change", "reason", "same"),
    [
        ({"size": BIG + 1}, planner.CHANGED, False),
        ({"mtime_ns": 11}, planner.CHANGED, False),
        ({"ino": 5}, planner.CHANGED, False),
        ({"ctime_ns": 21}, planner.STATUS_CHANGED, True),
        ({"ctime_ns": 21, "mode": 0o600}, planner.STATUS_CHANGED, True),
    ],
)
def test_changed_files_are_read(change: dict[str, int], reason: str, same: bool) -> None:
    before = known(found())
    now = found(**change)
    assert plan_one(now, before) == Read(now, before, reason, same, True)


def test_when_a_delta_may_be_tried() -> None:
    decisions = [
        plan_one(found(mtime_ns=11), known(found(), has_signature=False)),
        plan_one(found(mtime_ns=11, size=1000), known(found())),
        plan_one(found(mtime_ns=11, size=64 * 1024), known(found())),
    ]
    assert [d.delta for d in decisions if isinstance(d, Read)] == [False, False, True]


def test_what_was_read_too_soon_after_a_change_is_read_again() -> None:
    before = known(found(), settled=False)
    assert plan_one(found(), before) == Read(found(), before, planner.UNSETTLED, True, True)
    assert planner.is_settled(1_000_000_000, 1_050_000_001)
    assert not planner.is_settled(1_000_000_000, 1_050_000_000)
    assert not planner.is_settled(2_000_000_000, 1_000_000_000)


def test_metadata_of_folders_and_links() -> None:
    for kind in (FileType.FOLDER, FileType.SYMLINK):
        before = known(found(kind=kind))
        for change in ({"mode": 1}, {"uid": 9}, {"gid": 9}, {"mtime_ns": 9}, {"ctime_ns": 9}, {"target": b"x"}):
            now = found(kind=kind, **change)
            assert plan_one(now, before) == MetadataOnly(now, before, planner.METADATA_CHANGED)


def test_links_changed() -> None:
    now = found(link_group=b"g" * 8, nlink=2)
    assert plan_one(now, known(found())) == MetadataOnly(now, known(found()), planner.LINKS_CHANGED)


def test_type_changes() -> None:
    file, folder, link = (found(kind=kind) for kind in (FileType.FILE, FileType.FOLDER, FileType.SYMLINK))
    key = file.path_id
    assert plan_folder(listing(file), {key: known(folder)}) == [
        Emptied(known(folder)), Read(file, None, planner.TYPE_CHANGED, False, False)
    ]  # fmt: skip
    assert plan_folder(listing(folder), {key: known(file)}) == [
        MetadataOnly(folder, known(file), planner.TYPE_CHANGED)
    ]
    assert plan_folder(listing(link), {key: known(folder)}) == [
        Emptied(known(folder)), MetadataOnly(link, known(folder), planner.TYPE_CHANGED)
    ]  # fmt: skip


def test_gone_or_kept() -> None:
    a, b = known(found(b"a")), known(found(b"b"))
    both = {k.path_id: k for k in (a, b)}
    assert plan_folder(listing(), both) == [Gone(a, planner.ABSENT), Gone(b, planner.ABSENT)]
    assert plan_folder(listing(error="permission denied"), both) == [
        Kept(a, planner.UNLISTED), Kept(b, planner.UNLISTED)
    ]  # fmt: skip
    assert plan_folder(listing(unsure=frozenset([a.path_id])), both) == [
        Kept(a, planner.UNSEEN), Gone(b, planner.ABSENT)
    ]  # fmt: skip


def test_a_rebuilt_ledger_is_believed_where_it_can_be() -> None:
    folder = found(kind=FileType.FOLDER)
    rebuilt = known(folder, ctime_ns=0, ino=0)
    assert plan_one(folder, rebuilt) == Unchanged(folder, rebuilt, refresh=True)
    decision = plan_one(found(), known(found(), ctime_ns=0, ino=0, settled=False))
    assert isinstance(decision, Read) and decision.probably_same


def test_suspiciously_empty() -> None:
    roots = [IncludedRoot(b"/" + s.value.encode(), ROOT, s, s.value) for s in RootState]
    suspicious = planner.suspicious_roots(roots, lambda root: True)
    assert [root.state for root in suspicious] == [RootState.EMPTY, RootState.MISSING]
    assert planner.suspicious_roots(roots, lambda root: False) == []
    assert "/empty empty, /missing missing, but the last snapshot" in planner.refusal_sentence(suspicious)
