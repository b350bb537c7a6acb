"""What a hostile agent may try with versions, entries, deaths and segments: refused with numbers, nothing staged."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.store import intake
from tests.appliance.store_builder import Client, assert_snapshots, content, make_repository
from transport import messages as m
from transport.errors import DecodeError, ProtocolError
from transport.extents import Copy, Fragment, VersionRecord, Zero, encode_operations
from transport.names import FILE_LIMIT, NO_VERSION, ROOT, ZERO_SEGMENT, PathId, SegmentId, VersionId
from transport.tree import BatchHeader, EntryBatch, EntryKind, EntryRecord


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Client(make_repository(tmp_path / "r"))
    client.begin()
    return client


def refused(client: Client, message: m.Message, said: str, payload: bytes = b"") -> None:
    """The message is refused, and its number is still the next one."""
    before = client.repository.stats()
    with pytest.raises(ProtocolError, match=said):
        client.stage((message, payload))
    client.seq -= 1
    assert client.repository.stats() == before


def version(client: Client, size: int, *operations: object, base: VersionId = NO_VERSION, base_size: int = 0,
            more: bool = False, version_id: VersionId | None = None) -> VersionRecord:  # fmt: skip
    return VersionRecord(
        version_id or VersionId(client.new_id()), size, base, base_size, encode_operations(operations), more  # type: ignore[arg-type]
    )


def put(client: Client, *records: VersionRecord) -> m.PutVersions:
    return m.PutVersions(client.next(), list(records))


def test_copies_and_fragments_out_of_bounds(client: Client) -> None:
    base, items = client.whole(b"123456")
    client.stage(*items)
    segment = next(iter(client.segments))
    unknown = SegmentId(b"?" * 16)
    for record, said in (
        (version(client, 10, Copy(0, 10), base=base, base_size=6), "length=10, base=6"),
        (version(client, 10, Copy(0, 10), base=base, base_size=100), "is 6 bytes long, not 100"),
        (version(client, 2, Copy(0, 2), base=VersionId(b"?" * 16), base_size=6), "is not held: send the file whole"),
        (version(client, 2, Copy(0, 2)), "without a base"),
        (version(client, 4, Fragment(segment, 3, 4)), r"fragment out of bounds \(offset=3, length=4, segment=6\)"),
        (version(client, 4, Fragment(unknown, 0, 4)), "which is not held"),
        (version(client, 5, Fragment(segment, 0, 4)), "make 4 bytes of a version of 5"),
        (version(client, 3, Fragment(segment, 0, 4)), "of a version of 3"),
        (version(client, FILE_LIMIT + 1, Zero(FILE_LIMIT + 1)), "outside 0"),
        (version(client, 1, Fragment(segment, 0, 1), version_id=NO_VERSION), "reserved"),
        (version(client, 1, Fragment(segment, 0, 1), version_id=VersionId(b"short")), "bytes long"),
        (version(client, 6, Fragment(segment, 0, 6), version_id=base), "held already"),
    ):
        refused(client, put(client, record), said)
    twice = version(client, 1, Fragment(segment, 0, 1))
    refused(client, put(client, twice, twice), "twice in one message")
    refused(client, put(client), "holds none")
    garbage = VersionRecord(VersionId(client.new_id()), 1, NO_VERSION, 0, b"\x09")
    refused(client, put(client, garbage), "unknown operation 9")


def test_short_messages_cannot_make_long_lists(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    base = client.new_id()
    pieces = [Fragment(SegmentId(b"?"), 0, 1)]
    _, items = client.whole(client.random.randbytes(4000))
    client.stage(*items)
    segment = next(iter(client.segments))
    pieces = [Fragment(segment, 2 * n, 1) for n in range(2000)]
    client.stage((put(client, version(client, 2000, *pieces, version_id=VersionId(base))), b""))
    monkeypatch.setattr(intake, "CELLS_PER_MESSAGE", 5000)
    bombs = [version(client, 4000, Copy(0, 2000), Copy(0, 2000), base=VersionId(base), base_size=2000) for _ in "ab"]
    refused(client, put(client, *bombs), "extents and pages in one message")


def test_a_version_may_use_a_base_and_segments_of_its_own_group(client: Client) -> None:
    base, items = client.whole(b"a" * 3_000_000)
    delta, more = client.delta(base, [(0, 1_000_000), b"!", (1_000_001, 1_999_999)])
    client.stage(*items, *more)
    assert content(client.repository, delta) == client.contents[delta]
    one = version(client, 9, Copy(0, 9), base=base, base_size=3_000_000)
    two = version(client, 4, Copy(2, 4), base=one.version_id, base_size=9)
    client.stage((put(client, one, two), b""))
    assert content(client.repository, two.version_id) == b"aaaa"


def test_a_long_version_comes_in_parts_over_messages_and_sessions_resumed(client: Client) -> None:
    _, items = client.whole(b"0123456789" * 1000)
    client.stage(*items)
    segment = next(iter(client.segments))
    name = VersionId(client.new_id())
    parts = [version(client, 30, Fragment(segment, n, 10), version_id=name, more=n < 2) for n in range(3)]
    client.stage((put(client, parts[0]), b""))
    assert client.repository.has_versions([name]) == []
    other = version(client, 1, Fragment(segment, 0, 1))
    refused(client, put(client, other), "is not complete")
    refused(client, put(client, msgspec.structs.replace(parts[1], size=31)), "is not complete")
    overlong = version(client, 30, Fragment(segment, 0, 25), version_id=name, more=True)
    refused(client, put(client, overlong), "make 35 bytes")
    early = msgspec.structs.replace(parts[1], more=False)
    refused(client, put(client, early), "make 20 bytes of a version of 30")
    assert client.repository.begin(client.session, client.previous) == client.seq
    client.stage((put(client, parts[1], parts[2], other), b""))
    assert content(client.repository, name) == b"012345678912345678902345678901"
    client.stage((put(client, version(client, 9, Fragment(segment, 0, 3), more=True)), b""))
    client.begin()
    client.stage((put(client, version(client, 1, Fragment(segment, 0, 1))), b""))


def test_parts_without_end_are_refused(client: Client) -> None:
    _, items = client.whole(b"x" * 1000)
    client.stage(*items)
    segment = next(iter(client.segments))
    name = VersionId(client.new_id())
    part = version(client, 1000, Fragment(segment, 0, 1), version_id=name, more=True)
    client.stage((put(client, *[part] * intake.PARTS_PER_VERSION), b""))
    refused(client, put(client, part), "more than 64 parts")


def test_segments_are_sealed_once_and_under_their_own_id(client: Client) -> None:
    message, payload = client.segment(b"data")
    client.stage((message, payload))
    refused(client, m.PutSegment(client.next(), message.segment), "held already", payload)
    refused(client, m.PutSegment(client.next(), ZERO_SEGMENT), "reserved", payload)
    refused(client, m.PutSegment(client.next(), client.new_id()), "outside", payload[:90])
    refused(client, m.PutSegment(client.next(), client.new_id()), "claims", payload + b"x")
    refused(client, m.PutSegment(client.next(), client.new_id()), "outside", b"")
    fresh = client.new_id()
    with pytest.raises(ProtocolError, match="used already"):
        client.stage((m.PutSegment(client.next(), fresh), payload), (m.PutSegment(client.next(), fresh), payload))


def record(**fields: object) -> EntryRecord:
    plain = EntryRecord(PathId(b"p" * 16), ROOT, int(EntryKind.FOLDER), 0, NO_VERSION, 0, bytes(20))
    return msgspec.structs.replace(plain, **fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"path_id": b"short"}, "16 bytes"),
        ({"parent_id": b"p" * 17}, "16 bytes"),
        ({"version_id": b""}, "16 bytes"),
        ({"path_id": ROOT}, "root or its own parent"),
        ({"parent_id": b"p" * 16}, "root or its own parent"),
        ({"size": -1}, "out of bounds"),
        ({"size": FILE_LIMIT + 1}, "out of bounds"),
        ({"index": 4096}, "out of bounds"),
        ({"index": -1}, "out of bounds"),
        ({"sealed": b"short"}, "sealed metadata"),
        ({"sealed": bytes(intake.ENTRY_SEALED_LIMIT + 1)}, "sealed metadata"),
        ({"kind": 3}, "kind 3"),
        ({"version_id": b"v" * 16}, "with version"),
        ({"kind": 2, "version_id": b"v" * 16}, "with version"),
        ({"kind": 0, "size": 1}, "without a version"),
    ],
)
def test_entries_out_of_form_are_refused(client: Client, fields: dict[str, object], said: str) -> None:
    header = BatchHeader(1, bytes(32), bytes(32))
    refused(client, m.PutEntries(client.next(), EntryBatch(header, [record(**fields)])), said)


@pytest.mark.parametrize(
    "batch",
    [
        EntryBatch(BatchHeader(0, bytes(32), bytes(32)), [record()]),
        EntryBatch(BatchHeader(1 << 32, bytes(32), bytes(32)), [record()]),
        EntryBatch(BatchHeader(1, bytes(31), bytes(32)), [record()]),
        EntryBatch(BatchHeader(1, bytes(32), bytes(33)), [record()]),
        EntryBatch(BatchHeader(1, bytes(32), bytes(32)), []),
        EntryBatch(BatchHeader(1, bytes(32), bytes(32)), [record()] * 4097),
    ],
)
def test_batches_out_of_form_are_refused(client: Client, batch: EntryBatch) -> None:
    refused(client, m.PutEntries(client.next(), batch), "batch")


def test_a_path_cannot_live_in_two_folders(client: Client) -> None:
    client.put_folders((b"a",), (b"b",))
    path = PathId(b"p" * 16)
    header = BatchHeader(1, bytes(32), bytes(32))
    client.stage((m.PutEntries(client.next(), EntryBatch(header, [record(parent_id=client.path(b"a"))])), b""))
    other = EntryBatch(header, [record(parent_id=client.path(b"b"))])
    refused(client, m.PutEntries(client.next(), other), f"entry {path.hex()} is alive in folder")


def test_only_the_living_die_and_once(client: Client) -> None:
    client.put_folders((b"a",))
    path = client.path(b"a")
    refused(client, m.PutDeaths(client.next(), [PathId(b"?" * 16)]), "1 of 1 paths .* were not there")
    refused(client, m.PutDeaths(client.next(), [path, path]), "twice")
    refused(client, m.PutDeaths(client.next(), []), "no path")
    refused(client, m.PutDeaths(client.next(), [PathId(b"short")]), "bytes long")
    client.stage(client.deaths(path))
    refused(client, m.PutDeaths(client.next(), [path]), "were not there")
    refused(client, m.PutDeaths(client.next(), [ROOT]), "were not there")
    refused(client, m.PutDeaths(client.next(), [path]), "payload of 3 bytes", b"abc")
    client.commit()
    assert_snapshots(client.repository, client)


def test_decode_errors_are_peer_faults() -> None:
    assert issubclass(DecodeError, ProtocolError)
