"""Every reason to refuse a commit; what was staged is kept, and the right commit is taken afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.store.errors import CommitRefusedError, LedgerDriftError, StaleHeadError
from tests.appliance.store_builder import KEY, Client, assert_snapshots, commit_record, listed, make_repository
from transport.commits import CommitRecord, SignedCommit
from transport.errors import DecodeError, IntegrityError, PilulierError, ProtocolError
from transport.keys import SigningKey
from transport.names import ROOT, Digest, PathId, RepositoryId, VaultId, VersionId
from transport.tree import EMPTY_FOLDER, EntryKind, EntryRecord


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Client(make_repository(tmp_path / "r"))
    client.begin()
    client.put_folders((b"a",), (b"a", b"b"))
    client.put_file((b"a", b"file"), b"content")
    client.commit()
    client.begin()
    client.put_file((b"a", b"new"), b"other content")
    return client


def commit(client: Client, signed: SignedCommit, seq: int | None = None) -> int:
    return client.repository.commit(seq or client.seq + 1, signed, received_ms=1, bytes_received=1)


def refused(client: Client, signed: SignedCommit, error: type[PilulierError], said: str, code: str) -> None:
    with pytest.raises(error, match=said) as caught:
        commit(client, signed)
    assert caught.value.code == code
    assert client.repository.head_number == 1
    assert set(listed(client.repository, 1)) == set(client.committed[1])


Change = Callable[[CommitRecord], CommitRecord]


def replacing(**fields: object) -> Change:
    return lambda record: msgspec.structs.replace(record, **fields)


@pytest.mark.parametrize(
    ("change", "error", "said", "code"),
    [
        (replacing(vault=VaultId(b"another vault id")), IntegrityError, "another repository or vault", "integrity"),
        (replacing(repository=RepositoryId(b"another machines")), IntegrityError, "another repository", "integrity"),
        (replacing(previous=Digest(b"?" * 32)), StaleHeadError, "does not follow", "stale-head"),
        (replacing(number=3), StaleHeadError, "does not follow", "stale-head"),
        (replacing(number=1), StaleHeadError, "does not follow", "stale-head"),
        (replacing(entry_count=9), LedgerDriftError, "counts 9 entries, the catalog 4", "drift"),
        (replacing(root=EMPTY_FOLDER), LedgerDriftError, "has root", "drift"),
        (replacing(added=Digest(b"?" * 32)), LedgerDriftError, "other additions", "drift"),
    ],
)
def test_a_commit_that_does_not_fit_is_refused(
    client: Client, change: Change, error: type[PilulierError], said: str, code: str
) -> None:
    record = client.record()
    refused(client, KEY.sign_commit(change(record)), error, said, code)
    assert client.commit() == 2
    assert_snapshots(client.repository, client)


def test_a_stranger_s_signature_and_a_changed_record_are_refused(client: Client) -> None:
    refused(client, SigningKey.generate().sign_commit(client.record()), IntegrityError, "signature", "integrity")
    signed = client.sign()
    changed = SignedCommit(signed.record.replace(b"test", b"TEST"), signed.signature)
    refused(client, changed, IntegrityError, "signature", "integrity")
    refused(client, SignedCommit(signed.record + b"\0", signed.signature), DecodeError, "commit", "decode")
    refused(client, SignedCommit(b"", b""), DecodeError, "commit", "decode")


def test_the_number_of_a_commit_must_be_the_next(client: Client) -> None:
    signed = client.sign()
    with pytest.raises(ProtocolError, match="expected"):
        commit(client, signed, client.seq + 2)
    with pytest.raises(ProtocolError, match="something else"):
        commit(client, signed, client.seq)


def test_a_commit_needs_a_session(tmp_path: Path) -> None:
    client = Client(make_repository(tmp_path / "other"))
    with pytest.raises(ProtocolError, match="before an upload session"):
        commit(client, client.sign(), 1)


def any_record(client: Client) -> CommitRecord:
    """In its place in the chain, and wrong in its sums."""
    return commit_record(client.number + 1, client.previous, EMPTY_FOLDER, 0, Digest(bytes(32)))


def stage_raw(client: Client, *records: EntryRecord) -> None:
    client.stage(client.entries(*records))


def test_an_entry_in_a_folder_that_is_absent_dead_or_a_file_is_refused(client: Client) -> None:
    stage_raw(client, client.entry((b"absent", b"x")))
    refused(client, client.sign(), CommitRefusedError, "no living folder", "commit-refused")
    client.begin()
    stage_raw(client, client.entry((b"a", b"file", b"x")))
    refused(client, client.sign(), CommitRefusedError, "no living folder", "commit-refused")
    client.begin()
    client.stage(client.deaths(client.path(b"a", b"b")))
    stage_raw(client, client.entry((b"a", b"b", b"x")))
    refused(client, client.sign(), CommitRefusedError, "no living folder", "commit-refused")


def test_a_folder_that_dies_or_becomes_a_file_must_be_empty(client: Client) -> None:
    client.begin()
    client.stage(client.deaths(client.path(b"a")))
    refused(client, client.sign(), CommitRefusedError, "no living folder", "commit-refused")
    client.begin()
    client.put_file((b"a",), b"a file now")
    refused(client, client.sign(), CommitRefusedError, "no living folder", "commit-refused")


def test_folders_that_contain_each_other_are_refused(client: Client) -> None:
    one, two = PathId(b"1" * 16), PathId(b"2" * 16)
    folder = int(EntryKind.FOLDER)
    nothing = VersionId(bytes(16))
    stage_raw(
        client, EntryRecord(one, two, folder, 0, nothing, 0, b"x"), EntryRecord(two, one, folder, 0, nothing, 0, b"x")
    )
    refused(client, KEY.sign_commit(any_record(client)), CommitRefusedError, "within", "commit-refused")


def test_versions_must_be_held_with_the_size_that_the_entry_says(client: Client) -> None:
    entry = client.entry((b"a", b"x"))
    file = msgspec.structs.replace(entry, kind=int(EntryKind.FILE), size=5, version_id=VersionId(b"?" * 16))
    stage_raw(client, file)
    refused(client, client.sign(), CommitRefusedError, "which is not held", "commit-refused")
    client.begin()
    version, items = client.whole(b"123456")
    client.stage(*items)
    stage_raw(client, msgspec.structs.replace(file, version_id=version))
    refused(client, client.sign(), CommitRefusedError, "of 5 bytes names version .* of 6 bytes", "commit-refused")


def test_an_entry_may_come_before_its_version(client: Client) -> None:
    version, items = client.whole(b"late")
    entry = client.entries(client.entry((b"late",), version))
    first = client.seq - len(items)
    ordered = [entry, *items]
    client.stage(
        *[(msgspec.structs.replace(message, seq=first + n), payload) for n, (message, payload) in enumerate(ordered)]
    )
    assert client.commit() == 2


def test_deep_folders_do_not_exhaust_anything(tmp_path: Path) -> None:
    client = Client(make_repository(tmp_path / "deep"))
    client.begin()
    parent, records = ROOT, []
    for _ in range(3000):
        path = client.keys.path_id(parent, b"d")
        records.append(EntryRecord(path, parent, int(EntryKind.FOLDER), 0, VersionId(bytes(16)), 0, b"d"))
        parent = path
    stage_raw(client, *records)
    assert client.commit() == 1
    assert client.repository.check().ok


def test_a_commit_without_changes_needs_no_tree(client: Client) -> None:
    client.begin()
    assert client.commit() == 2
    assert client.repository.commits(1, 5)[0].signed.decoded().root == client.root()
