"""The repository as its callers see it: upload, commit, read back, resume, refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.store.errors import BusyRepositoryError, StaleHeadError, StoreError, UnknownItemError
from appliance.store.repository import Repository
from tests.appliance.store_builder import (
    KEY,
    REPOSITORY,
    VAULT,
    Client,
    assert_snapshots,
    content,
    listed,
    make_repository,
)
from transport import messages as m
from transport.errors import ProtocolError
from transport.names import NO_DIGEST, ROOT, Digest, PathId, SegmentId, SessionId, VersionId
from transport.tree import EntryKind


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "r")


@pytest.fixture
def client(repository: Repository) -> Client:
    return Client(repository)


def history(client: Client) -> None:
    """Three snapshots: files, an edit with a rename and deaths, nothing changed."""
    client.begin()
    client.put_folders((b"a",), (b"a", b"b"), (b"empty",))
    client.put_file((b"a", b"one"), b"first " * 50_000)
    client.put_file((b"a", b"b", b"two"), client.random.randbytes(2_500_000))
    assert client.commit() == 1
    client.begin()
    base = client.live[client.path(b"a", b"b", b"two")].version_id
    version, items = client.delta(base, [(0, 1_000_000), b"edited", (1_000_006, 1_499_994), 4096])
    client.stage(*items, client.entries(client.entry((b"a", b"b", b"two"), version)))
    moved = client.live[client.path(b"a", b"one")].version_id
    client.stage(client.entries(client.entry((b"moved",), moved)), client.deaths(client.path(b"a", b"one")))
    client.stage(client.deaths(client.path(b"empty")))
    assert client.commit() == 2
    client.begin()
    assert client.commit() == 3


def test_snapshots_read_back_bit_for_bit_now_and_after_reopening(tmp_path: Path, client: Client) -> None:
    history(client)
    assert_snapshots(client.repository, client)
    client.repository.close()
    with Repository.open(tmp_path / "r") as again:
        assert_snapshots(again, client)
        assert (again.repository, again.vault, again.public_key) == (REPOSITORY, VAULT, KEY.public)
        assert again.head is not None and again.head.hash() == client.previous and again.head_number == 3
        stored = again.commits(0, 10)
        assert [commit.signed.decoded().number for commit in stored] == [1, 2, 3]
        assert [commit.received_ms for commit in stored] == [1000, 1001, 1002]
        assert all(commit.bytes_received == 77 and not commit.retired for commit in stored)
        assert again.commits(1, 1) == stored[1:2]


def test_a_listing_is_in_path_order_by_folder_and_carries_digests(client: Client) -> None:
    history(client)
    repository = client.repository
    top = repository.children(1, ROOT, ROOT)
    assert [entry.record.path_id for entry in top.entries] == sorted([client.path(b"a"), client.path(b"empty")])
    assert all(entry.folder_digest != NO_DIGEST for entry in top.entries)
    inside = repository.children(1, client.path(b"a"), ROOT)
    kinds = {entry.record.path_id: entry for entry in inside.entries}
    assert kinds[client.path(b"a", b"one")].folder_digest == NO_DIGEST
    assert kinds[client.path(b"a", b"b")].record.kind == EntryKind.FOLDER
    assert repository.children(2, client.path(b"empty"), ROOT).entries == []
    before = {entry.record.path_id: entry.folder_digest for entry in top.entries}
    after = {entry.record.path_id: entry.folder_digest for entry in repository.children(2, ROOT, ROOT).entries}
    assert before[client.path(b"a")] != after[client.path(b"a")]


def test_pages_of_a_listing_are_bounded_and_meet_without_gap(client: Client) -> None:
    client.begin()
    client.put_folders(*[(b"d%d" % number,) for number in range(300)])
    client.commit()
    assert listed(client.repository, 1, limit_bytes=5000) == client.live
    page = client.repository.tree(1, ROOT, 5000)
    assert page.more and len(m.encode(m.Entries(page))) < 5000
    again = client.repository.children(1, ROOT, page.entries[-1].record.path_id, 5000)
    assert again.entries[0].record.path_id > page.entries[-1].record.path_id
    assert len(page.headers) == 1 and all(entry.batch == 0 for entry in page.entries)
    assert len(client.repository.tree(1, ROOT, 1).entries) == 1


def test_unknown_snapshots_versions_and_segments_are_refused(client: Client) -> None:
    history(client)
    repository = client.repository
    for snapshot in (0, 4, -1):
        with pytest.raises(UnknownItemError, match=f"snapshot {snapshot}"):
            repository.tree(snapshot, ROOT)
        with pytest.raises(UnknownItemError):
            repository.children(snapshot, ROOT, ROOT)
    with pytest.raises(UnknownItemError):
        repository.extents(VersionId(b"?" * 16), 0, 10)
    with pytest.raises(UnknownItemError):
        repository.read_segment(SegmentId(b"?" * 16))


def test_extents_come_in_pages_that_meet(client: Client) -> None:
    client.begin()
    version, items = client.whole(client.random.randbytes(3_000_000), piece=10_000)
    client.stage(*items)
    assert content(client.repository, version, limit=7) == client.contents[version]
    page = client.repository.extents(version, 0, 7)
    assert page.more and len(page.extents) == 7 and page.size == 3_000_000
    last = client.repository.extents(version, 3_000_000, 7)
    assert last.extents == [] and not last.more
    with pytest.raises(ProtocolError):
        client.repository.extents(version, 3_000_001, 7)
    with pytest.raises(ProtocolError):
        client.repository.extents(version, 0, 0)


def test_pages_of_many_versions_are_those_of_each(client: Client) -> None:
    client.begin()
    versions = []
    for size in [3000] * 100 + [2_000_000, 5, 1_200_000]:
        version, items = client.whole(client.random.randbytes(size), piece=100_000)
        client.stage(*items)
        versions.append(version)
    repository = client.repository
    assert repository.extent_pages(versions, 0, 10_000) == [repository.extents(v, 0, 10_000) for v in versions]
    # 99 pages of one extent and two for the page take 297; three are left for the last one.
    pages = repository.extent_pages(versions[1:], 0, 300)
    assert [page.version_id for page in pages] == versions[1:101] and pages[-1].more and len(pages[-1].extents) == 3
    (rest,) = repository.extent_pages(versions[100:], 300_000, 17)
    assert rest.start == 300_000 and len(rest.extents) == 17 and not rest.more
    with pytest.raises(UnknownItemError, match="version 3f3f"):
        repository.extent_pages([*versions, VersionId(b"?" * 16)], 0, 10_000)


def test_a_page_of_extents_that_ends_inside_a_span_goes_on_there(client: Client) -> None:
    client.begin()
    version, items = client.whole(client.random.randbytes(2_000_000), piece=700_000)
    client.stage(*items)
    first = client.repository.extents(version, 0, 1)
    assert [extent[2] for extent in first.extents] == [700_000] and first.more
    second = client.repository.extents(version, 700_000, 1)
    assert [extent[1:] for extent in second.extents] == [(0, 700_000)]


def test_a_session_resumes_and_messages_sent_twice_count_once(tmp_path: Path, client: Client) -> None:
    client.begin(b"s" * 16)
    _, items = client.whole(b"data" * 1000)
    folder = client.entries(client.entry((b"f",)))
    assert client.stage(*items) == 2
    client.repository.close()
    with Repository.open(tmp_path / "r") as again:
        client.repository = again
        assert again.begin(SessionId(b"s" * 16), client.previous) == 2
        assert client.stage(*items, folder) == 3
        assert client.stage(*items, folder) == 3
        assert again.held_count() == 1
        client.commit()
        assert_snapshots(again, client)


def test_a_new_session_drops_entries_but_holds_segments_and_versions(client: Client) -> None:
    client.begin()
    client.put_folders((b"kept",))
    client.commit()
    client.begin()
    version = client.put_file((b"half",), b"x" * 5000)
    client.stage(client.deaths(client.path(b"kept")))
    segment = next(iter(client.segments))
    assert client.begin() == 0
    repository = client.repository
    assert repository.held_after(SegmentId(bytes(16)), 10) == [segment] and repository.held_count() == 1
    assert repository.held_after(segment, 10) == []
    assert repository.has_versions([VersionId(b"no" * 8), version]) == [version]
    client.stage(client.entries(client.entry((b"again",), version)))
    assert client.commit() == 2
    assert set(listed(repository, 2)) == {client.path(b"kept"), client.path(b"again")}
    assert repository.held_count() == 0
    assert repository.sample(5) == [segment]
    assert_snapshots(repository, client)


def test_held_segments_come_in_ascending_pages(client: Client) -> None:
    client.begin()
    for _ in range(5):
        client.stage(client.segment(b"x"))
    ids = sorted(client.segments)
    assert client.repository.held_after(SegmentId(bytes(16)), 3) == ids[:3]
    assert client.repository.held_after(ids[2], 3) == ids[3:]


def test_checkpoints_within_a_session_go_on_with_the_next_number(client: Client) -> None:
    client.begin()
    client.put_folders((b"a",))
    assert client.commit() == 1
    assert client.seq == 2
    client.put_folders((b"b",))
    assert client.commit() == 2
    assert_snapshots(client.repository, client)


def test_a_lost_answer_to_a_commit_is_given_again(client: Client) -> None:
    session, start = b"s" * 16, client.previous
    client.begin(session)
    client.put_folders((b"a",))
    signed, seq = client.sign(), client.next()
    repository = client.repository
    assert repository.commit(seq, signed, received_ms=1, bytes_received=1) == 1
    assert repository.begin(SessionId(session), start) == seq
    assert repository.begin(SessionId(session), signed.hash()) == seq
    assert repository.commit(seq, signed, received_ms=2, bytes_received=2) == 1
    assert repository.commits(0, 9)[0].received_ms == 1
    with pytest.raises(StaleHeadError):
        repository.begin(SessionId(session), Digest(b"?" * 32))
    with pytest.raises(StaleHeadError):
        repository.begin(SessionId(b"t" * 16), start)


def test_numbers_must_ascend_without_gaps(client: Client) -> None:
    first, second = client.segment(b"a"), client.segment(b"b")
    with pytest.raises(ProtocolError, match="before an upload session"):
        client.stage(first)
    client.repository.begin(SessionId(b"s" * 16), client.previous)
    with pytest.raises(ProtocolError, match="message 2 came where 1 was expected"):
        client.stage(second)
    with pytest.raises(ProtocolError, match="after"):
        client.stage(second, first)
    assert client.stage() == 0
    assert client.stage(first, second) == 2


def test_a_group_that_fails_leaves_nothing(client: Client, tmp_path: Path) -> None:
    client.begin()
    good = client.segment(b"good")
    bad = (m.PutSegment(client.next(), b"i" * 16), b"no sealed segment at all" * 10)
    before = (tmp_path / "r" / "packs" / "00000001.pack").read_bytes()
    with pytest.raises(ProtocolError):
        client.stage(good, bad)
    assert client.repository.held_count() == 0
    assert (tmp_path / "r" / "packs" / "00000001.pack").read_bytes() == before
    assert client.stage(good) == 1
    assert client.repository.check(read_data=True).ok


def test_one_writer_and_readers_beside_it(tmp_path: Path, client: Client) -> None:
    history(client)
    with pytest.raises(BusyRepositoryError):
        Repository.open(tmp_path / "r")
    with Repository.open(tmp_path / "r", read_only=True) as reader:
        assert_snapshots(reader, client)
        client.begin()
        client.put_folders((b"new",))
        assert reader.head_number == 3 and set(listed(reader, 3)) == set(client.committed[3])
        client.commit()
        assert reader.head_number == 4
        assert_snapshots(reader, client)
        with pytest.raises(StoreError, match="read-only"):
            reader.begin(SessionId(b"s" * 16), client.previous)


def test_opening_what_is_no_repository_says_so(tmp_path: Path, client: Client) -> None:
    with pytest.raises(StoreError, match="not there"):
        Repository.open(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no catalog"):
        Repository.open(tmp_path / "empty", read_only=True)
    with pytest.raises(StoreError, match="exists already"):
        make_repository(tmp_path / "empty")
    client.repository.close()
    with pytest.raises(StoreError, match="closed"):
        client.repository.held_count()
    (tmp_path / "r" / "catalog.sqlite").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError, match="is damaged .*keep the packs, rebuild the catalog"):
        Repository.open(tmp_path / "r")


def test_stats_count_what_is_there(client: Client, tmp_path: Path) -> None:
    history(client)
    stats = client.repository.stats()
    assert (stats.snapshots, stats.entries, stats.packs) == (3, 4, 1)
    assert stats.segments == len(client.segments)
    assert stats.bytes_stored == (tmp_path / "r" / "packs" / "00000001.pack").stat().st_size
    assert 0 < stats.bytes_live < stats.bytes_stored
    client.begin()
    client.stage(client.segment(client.random.randbytes(1000)))
    assert client.repository.stats().bytes_live == stats.bytes_live + 1096


def test_a_folder_replaced_by_a_file_and_back(client: Client) -> None:
    client.begin()
    client.put_folders((b"x",), (b"x", b"in"))
    client.commit()
    client.begin()
    client.stage(client.deaths(client.path(b"x", b"in")))
    client.put_file((b"x",), b"now a file")
    client.commit()
    client.begin()
    client.put_folders((b"x",), (b"x", b"in"))
    client.commit()
    assert_snapshots(client.repository, client)


def test_an_entry_staged_twice_dies_and_comes_back_within_one_snapshot(client: Client) -> None:
    client.begin()
    client.put_folders((b"a",), (b"b",))
    client.commit()
    client.begin()
    client.stage(client.entries(client.entry((b"a",), note=b"1"), client.entry((b"a",), note=b"2")))
    client.stage(client.deaths(client.path(b"a")))
    client.stage(client.entries(client.entry((b"a",), note=b"3")))
    client.stage(client.deaths(client.path(b"b")), client.entries(client.entry((b"c",))))
    client.stage(client.deaths(client.path(b"c")))
    client.commit()
    assert set(listed(client.repository, 2)) == {client.path(b"a")}
    assert_snapshots(client.repository, client)


def test_twenty_thousand_entries_in_many_folders(client: Client) -> None:
    client.begin()
    folders = [(b"f%d" % number,) for number in range(200)]
    client.put_folders(*folders)
    version, items = client.whole(b"same for all")
    client.stage(*items)
    for at in range(0, 200, 20):
        records = [client.entry((*folder, b"%d" % n), version) for folder in folders[at : at + 20] for n in range(100)]
        client.stage(client.entries(*records))
    assert client.commit() == 1
    assert len(listed(client.repository, 1)) == 20_200
    client.begin()
    client.put_file((b"f7", b"3"), b"another")
    assert client.commit() == 2
    report = client.repository.check()
    assert report.ok, report.errors
    assert isinstance(PathId(client.path(b"f7")), bytes)


def test_a_catalog_with_a_crashed_transaction_needs_a_writer_first(client: Client, tmp_path: Path) -> None:
    history(client)
    connection = client.repository._catalog.connection
    connection.execute("PRAGMA cache_size = 5")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE state SET head = 9")
    rows = [(number,) for number in range(1000, 4000)]
    connection.executemany("INSERT INTO page VALUES (?, 1, zeroblob(500))", rows)
    shutil.copytree(tmp_path / "r", tmp_path / "crashed")
    connection.execute("ROLLBACK")
    with pytest.raises(StoreError, match="start the appliance once"):
        Repository.open(tmp_path / "crashed", read_only=True)
    with Repository.open(tmp_path / "crashed") as recovered:
        assert_snapshots(recovered, client)
    with Repository.open(tmp_path / "crashed", read_only=True) as reader:
        assert_snapshots(reader, client)
