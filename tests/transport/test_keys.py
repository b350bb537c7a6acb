"""Keys, certificates, commits, enrolment codes: what is signed holds, what is not canonical is refused."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from transport.commits import (
    COMMIT_FORMAT,
    COMMIT_LABEL,
    FIRST_PREVIOUS,
    CommitRecord,
    SignedCommit,
    decode_commit,
    encode_commit,
)
from transport.contents import CHUNK_BYTES, chunk_digest, file_mac
from transport.enrolment import EnrolmentCode, decode_code
from transport.errors import DecodeError, IntegrityError, KeyFileError, UsageError
from transport.keys import SigningKey, read_key_file, verify_certificate, verify_commit, write_key_file
from transport.names import Digest, InstallationId, RepositoryId, VaultId

RECORD = CommitRecord(
    label=COMMIT_LABEL,
    format=COMMIT_FORMAT,
    vault=VaultId(b"v" * 16),
    repository=RepositoryId(b"r" * 16),
    installation=InstallationId(b"i" * 16),
    epoch=1,
    number=1,
    previous=FIRST_PREVIOUS,
    root=Digest(b"R" * 32),
    entry_count=3,
    bytes_source=10,
    started_ms=1,
    ended_ms=2,
    complete=True,
    selection=Digest(b"S" * 32),
    retention_floor_days=90,
    agent_version="0.1.0",
    added=Digest(b"A" * 32),
)


def test_a_signed_commit_verifies_and_nothing_else_does() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signed = key.sign_commit(RECORD)
    assert verify_commit(key.public, signed) == RECORD
    for bad_key, bad in (
        (other.public, signed),
        (key.public, SignedCommit(signed.record, bytes(64))),
        (key.public, SignedCommit(encode_commit(msgspec.structs.replace(RECORD, number=2)), signed.signature)),
        (b"short", signed),
    ):
        with pytest.raises(IntegrityError):
            verify_commit(bad_key, bad)


@pytest.mark.parametrize(
    "change",
    [
        {"label": "other"},
        {"format": 2},
        {"vault": b"v"},
        {"previous": b"p"},
        {"number": 0},
        {"entry_count": -1},
    ],
)
def test_commits_of_another_form_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        decode_commit(encode_commit(msgspec.structs.replace(RECORD, **change)))


def test_only_the_canonical_bytes_of_a_commit_are_taken() -> None:
    good = encode_commit(RECORD)
    assert decode_commit(good) == RECORD
    long_form = good.replace(b"\x01\x01", b"\x01\xcc\x01", 1)
    for bad in (good + b"\0", good[:-1], b"", long_form, b"\0" * 5000):
        with pytest.raises(DecodeError):
            decode_commit(bad)


def test_certificates_vouch_for_one_curve_key() -> None:
    identity = SigningKey.generate()
    certificate = identity.certify(b"k" * 32, 5)
    verify_certificate(identity.public, certificate)
    for bad in (
        msgspec.structs.replace(certificate, curve_key=b"x" * 32),
        msgspec.structs.replace(certificate, issued_ms=6),
    ):
        with pytest.raises(IntegrityError):
            verify_certificate(identity.public, bad)
    with pytest.raises(IntegrityError):
        verify_certificate(SigningKey.generate().public, certificate)


def test_key_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "machine.key"
    write_key_file(path, b"secret")
    assert path.stat().st_mode & 0o777 == 0o600 and read_key_file(path) == b"secret"
    write_key_file(path, b"another")
    assert read_key_file(path) == b"another" and os.listdir(tmp_path) == ["machine.key"]
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_key_file(path)
    with pytest.raises(KeyFileError, match="does not exist"):
        read_key_file(tmp_path / "none")
    with pytest.raises(KeyFileError, match="longer than"):
        path.chmod(0o600)
        read_key_file(path, limit=3)


CODE = EnrolmentCode(["tcp://a:1"], ["tcp://a:2"], b"I" * 32, b"C" * 32, b"t" * 16)


def test_enrolment_codes_survive_pasting() -> None:
    text = CODE.encode()
    assert decode_code(text) == CODE
    assert decode_code(f"  {text.lower()[:20]}\n {text.lower()[20:]} ") == CODE


def test_a_mistyped_code_is_told_apart() -> None:
    text = CODE.encode()
    for bad in (text[:-3], text.replace("A", "B", 1), text + "AAAA", "PIL1-", "PIL1-!!!"):
        with pytest.raises(UsageError):
            decode_code(bad)
    with pytest.raises(UsageError, match="begins with PIL1-"):
        decode_code("hello")


def test_the_file_mac_covers_size_order_and_every_chunk() -> None:
    chunks = [b"a" * CHUNK_BYTES, b"b" * CHUNK_BYTES, b"c"]
    digests = [chunk_digest(c) for c in chunks]
    size = 2 * CHUNK_BYTES + 1
    mac = file_mac(b"k" * 32, size, digests)
    assert mac != file_mac(b"j" * 32, size, digests)
    assert mac != file_mac(b"k" * 32, size, [digests[1], digests[0], digests[2]])
    assert mac != file_mac(b"k" * 32, size + 1, digests)
    with pytest.raises(ValueError, match="not 3"):
        file_mac(b"k" * 32, size, digests[:2])
    assert file_mac(b"k" * 32, 0, []) != file_mac(b"k" * 32, 1, [chunk_digest(b"\0")])
