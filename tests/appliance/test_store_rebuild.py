"""Rebuilding a catalog from packs alone, held against the live one."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import msgspec
import pytest

from appliance.store.catalog import connect
from appliance.store.errors import BusyRepositoryError, DamagedRepositoryError, StoreError
from appliance.store.layout import Layout
from appliance.store.packs import Damage, PackWalk
from appliance.store.records import (
    OVERHEAD_BYTES,
    CommitRecordOnDisk,
    Kind,
    decode_payload,
    encode_head,
    encode_payload,
)
from appliance.store.repository import Repository
from appliance.store.upkeep.compare import compare
from appliance.store.upkeep.prune import prune
from appliance.store.upkeep.rebuild import rebuild_catalog
from appliance.store.upkeep.rebuilding import rebuild
from tests.appliance.store_builder import KEY, REPOSITORY, VAULT, Client, content, make_repository
from transport.names import ROOT, Digest, RepositoryId, VersionId

NOW_MS = 1_700_000_000_000
SHOP = b"shop"


def history(folder: Path, snapshots: int = 5, copied: Path | None = None) -> Client:
    """A repository with files whole, changed by delta, replaced, deleted; and an upload that no commit took.

    `copied` gets a copy of the catalog as it was after snapshot 3.
    """
    client = Client(make_repository(folder))
    noise = random.Random(1)
    client.begin()
    client.put_folders((SHOP,), (SHOP, b"old"))
    base = client.put_file((SHOP, b"stock.db"), noise.randbytes(3 << 20))
    for number in range(20):
        client.put_file((SHOP, b"old", b"%d.txt" % number), b"text %d" % number)
    client.commit()
    for number in range(1, snapshots):
        client.begin()
        at = number * 100_000
        version, items = client.delta(base, [(0, at), noise.randbytes(300), (at + 300, (3 << 20) - at - 300)])
        client.stage(*items, client.entries(client.entry((SHOP, b"stock.db"), version)))
        base = version
        client.put_file((SHOP, b"old", b"%d.txt" % number), b"changed %d" % number)
        client.stage(client.deaths(client.path(SHOP, b"old", b"%d.txt" % (number + 10))))
        if client.commit() == 3 and copied is not None:
            shutil.copy(Layout(folder).catalog, copied)
    client.begin()
    client.put_file((SHOP, b"not yet"), b"no commit names this")
    client.repository.close()
    return client


def differences(folder: Path, tmp_path: Path) -> list[str]:
    """What a rebuilt catalog has otherwise than the live one."""
    fresh = tmp_path / "rebuilt.sqlite"
    fresh.unlink(missing_ok=True)
    found = rebuild_catalog(Layout(folder), fresh)
    assert found.differences == []
    left, right = connect(Layout(folder).catalog, read_only=True), connect(fresh, read_only=True)
    try:
        return compare(left, right, ("live", "rebuilt"))
    finally:
        left.close()
        right.close()


def listing(folder: Path) -> list[object]:
    """Everything that the repository shows of its snapshots."""
    with Repository.open(folder, read_only=True) as repository:
        shown: list[object] = [repository.commits(0, 100)]
        for commit in repository.commits(0, 100):
            if not commit.retired:
                page = repository.tree(commit.signed.decoded().number, ROOT)
                shown.append(page)
                for entry in page.entries:
                    if entry.record.kind == 0 and entry.record.size:
                        shown.append(repository.extents(entry.record.version_id, 0, 10_000))
        return shown


def test_a_rebuilt_catalog_holds_what_the_live_one_holds(tmp_path: Path) -> None:
    history(tmp_path / "r")
    assert differences(tmp_path / "r", tmp_path) == []


def test_an_equal_catalog_is_left_alone(tmp_path: Path) -> None:
    history(tmp_path / "r")
    before = Layout(tmp_path / "r").catalog.stat().st_ino
    report = rebuild(tmp_path / "r", now_ms=NOW_MS)
    assert report.ok and not report.replaced and report.differences == []
    assert Layout(tmp_path / "r").catalog.stat().st_ino == before
    assert not Layout(tmp_path / "r").catalog_rebuilt.exists()


@pytest.mark.parametrize("trouble", ["missing", "garbage", "truncated", "older"])
def test_a_lost_catalog_comes_back(tmp_path: Path, trouble: str) -> None:
    folder = tmp_path / "r"
    client = history(folder, copied=tmp_path / "older.sqlite")
    layout, shown = Layout(folder), listing(folder)
    if trouble == "missing":
        layout.catalog.unlink()
    elif trouble == "garbage":
        layout.catalog.write_bytes(b"not a catalog" * 1000)
        layout.catalog_journal.write_bytes(b"an old journal")
    elif trouble == "truncated":
        os.truncate(layout.catalog, 20_000)
    else:
        shutil.copy(tmp_path / "older.sqlite", layout.catalog)
        with pytest.raises(DamagedRepositoryError):
            Repository.open(folder)
    report = rebuild(folder, now_ms=NOW_MS)
    assert report.ok and report.replaced and report.snapshots == 5
    assert len(report.differences) == 1
    assert listing(folder) == shown
    with Repository.open(folder) as repository:
        assert repository.check(read_data=True).ok
        client.repository = repository
        client.begin()
        client.put_file((SHOP, b"new"), b"life goes on")
        assert client.commit() == 6


def test_a_wrong_row_in_the_catalog_is_named_and_put_right(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    history(folder)
    shown = listing(folder)
    connection = connect(Layout(folder).catalog, read_only=False)
    connection.execute("UPDATE entry SET size = size + 1 WHERE kind = 0 AND born = 2")
    connection.execute("DELETE FROM snapshot WHERE number = 3")
    connection.close()
    report = rebuild(folder, now_ms=NOW_MS)
    assert report.ok and report.replaced
    assert any("entry" in text for text in report.differences)
    assert any("snapshot 3 is only in the packs" in text for text in report.differences)
    assert listing(folder) == shown
    assert Layout(folder).catalog_old.exists()


def test_a_damaged_record_costs_what_it_held_and_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    history(folder)
    pack = Layout(folder).pack(1)
    data = bytearray(pack.read_bytes())
    data[places(pack, Kind.ENTRIES)[-3][0] + OVERHEAD_BYTES + 40] ^= 1
    pack.write_bytes(data)
    Layout(folder).catalog.unlink()
    report = rebuild(folder, now_ms=NOW_MS)
    assert not report.ok and report.snapshots == 5
    assert any("00000001.pack" in text and "checksum" in text for text in report.differences)
    with Repository.open(folder, read_only=True) as repository:
        assert len(repository.tree(1, ROOT).entries) == 23


def places(pack: Path, kind: Kind) -> list[tuple[int, bytes]]:
    """Offset and payload of each record of one kind."""
    walk = PackWalk(pack, pack.stat().st_size, read_data=False)
    steps = (step for step in walk if not isinstance(step, Damage) and step.kind == kind)
    return [(step.offset, bytes(step.payload)) for step in steps]


def test_of_two_commits_with_one_number_the_one_that_holds_is_taken(tmp_path: Path) -> None:
    """One that is signed and whose tree is not what it says stands first; the true one follows."""
    folder = tmp_path / "r"
    history(folder, snapshots=2)
    pack = Layout(folder).pack(1)
    content, shown = pack.read_bytes(), listing(folder)
    at, payload = places(pack, Kind.COMMIT)[1]
    true = decode_payload(payload, CommitRecordOnDisk)
    record = true.signed.decoded()
    wrong = KEY.sign_commit(msgspec.structs.replace(record, root=Digest(bytes(32))))
    forged = encode_payload(CommitRecordOnDisk(true.by, 1, 1, wrong))
    pack.write_bytes(content[:at] + encode_head(Kind.COMMIT, [forged]) + forged + content[at:])
    Layout(folder).catalog.unlink()
    report = rebuild(folder, now_ms=NOW_MS)
    assert report.snapshots == 2 and any("root" in text for text in report.differences)
    assert listing(folder) == shown


def test_packs_of_another_repository_and_missing_packs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.store.packs.PACK_BYTES", 500)
    folder = tmp_path / "r"
    history(folder)
    layout = Layout(folder)
    assert len(layout.pack_numbers()) > 3
    layout.pack(3).unlink()
    layout.catalog.unlink()
    report = rebuild(folder, now_ms=NOW_MS)
    assert not report.ok and any("00000003.pack is missing" in text for text in report.differences)
    shutil.copy(layout.pack(2), layout.pack(3))
    assert any("another place" in text for text in rebuild(folder, now_ms=NOW_MS).differences)


def strangers_pack(tmp_path: Path) -> Path:
    """A pack of another repository, under the same key, full of records that would fit."""
    made = Repository.create(
        tmp_path / "theirs", repository=RepositoryId(b"another's repos."), vault=VAULT, public_key=KEY.public
    )
    theirs = Client(made)
    theirs.begin()
    for number in range(3):
        theirs.put_file((b"theirs %d" % number,), theirs.random.randbytes(3000))
    made.close()
    return Layout(tmp_path / "theirs").pack(1)


def test_a_foreign_pack_is_passed_over_whole_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the newest one, too: the writer begins another pack behind it, and a compaction does not touch it."""
    folder, layout = tmp_path / "r", Layout(tmp_path / "r")
    monkeypatch.setattr("appliance.store.packs.PACK_BYTES", 500)
    client = history(folder)
    shown, segments = listing(folder), rebuild(folder, now_ms=NOW_MS).segments
    number = max(layout.pack_numbers()) + 1
    shutil.copy(strangers_pack(tmp_path), layout.pack(number))
    content = layout.pack(number).read_bytes()
    layout.catalog.unlink()
    report = rebuild(folder, now_ms=NOW_MS)
    assert [text for text in report.differences if layout.pack(number).name in text] == [
        f"{layout.pack(number).name}: this pack belongs to another repository or another place, and is passed over"
    ]
    assert len(report.differences) == 2, "that, and that there was no catalog"
    assert report.segments == segments and listing(folder) == shown
    with Repository.open(folder) as client.repository:
        client.begin()
        client.put_file((SHOP, b"new"), b"life goes on")
        assert client.commit() == 6
    prune(folder, frozenset({1, 2}), now_ms=NOW_MS, reserve_bytes=0, checkpoint_slack_bytes=0, small_gain_bytes=1)
    assert layout.pack(number).read_bytes() == content
    assert max(layout.pack_numbers()) > number


def test_a_foreign_first_pack_does_not_make_the_others_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.store.packs.PACK_BYTES", 500)
    folder = tmp_path / "r"
    history(folder)
    shutil.copy(strangers_pack(tmp_path), Layout(folder).pack(1))
    Layout(folder).catalog.unlink()
    report = rebuild(folder, now_ms=NOW_MS)
    assert not report.ok and "00000001.pack: this pack belongs to another" in report.differences[0]
    with Repository.open(folder, read_only=True) as repository:
        assert repository.repository == REPOSITORY


def test_of_two_segments_with_one_id_the_last_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first was swept before its id was used again; its bytes still lie in the packs."""
    folder = tmp_path / "r"
    client = Client(make_repository(folder))
    ids = iter([b"the same again!!", b"first version...", b"the same again!!", b"second version.."])
    monkeypatch.setattr(client, "new_id", lambda: next(ids))
    for number, text in ((1, b"what was"), (3, b"what is, and is longer")):
        client.begin(b"session %08d" % number)
        client.put_file((b"file",), text)
        client.commit()
        if number == 1:
            client.begin(b"session %08d" % 2)
            client.stage(client.deaths(client.path(b"file")))
            client.commit()
            client.repository.close()
            prune(folder, frozenset({1}), now_ms=NOW_MS, released=True, reserve_bytes=0)
            client.repository = Repository.open(folder, reserve_bytes=0)
    client.repository.close()
    assert len(places(Layout(folder).pack(1), Kind.SEGMENT)) == 2
    assert differences(folder, tmp_path) == []
    Layout(folder).catalog.unlink()
    report = rebuild(folder, now_ms=NOW_MS)
    assert report.ok and report.segments == 1 and len(report.differences) == 1
    with Repository.open(folder) as client.repository:
        assert content(client.repository, VersionId(b"second version..")) == b"what is, and is longer"


def test_what_is_no_repository_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not there"):
        rebuild(tmp_path / "absent", now_ms=NOW_MS)
    (tmp_path / "empty" / "packs").mkdir(parents=True)
    with pytest.raises(DamagedRepositoryError, match="holds no pack"):
        rebuild(tmp_path / "empty", now_ms=NOW_MS)


def test_a_repository_that_is_being_written_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    history(tmp_path / "r")
    with Repository.open(tmp_path / "r"), pytest.raises(BusyRepositoryError):
        rebuild(tmp_path / "r", now_ms=NOW_MS, wait_s=0.1)
