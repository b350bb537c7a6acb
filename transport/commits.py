"""The commit record: what an agent signs to make a snapshot, and how anyone checks the chain without a data key.

Owns the canonical bytes of a commit, its hash, and the walk of a chain. The signature itself is made and
checked in `transport.keys`. Decoders are strict: a record that does not encode back to the same bytes is refused.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec

from transport.errors import DecodeError
from transport.names import DIGEST_BYTES, ID_BYTES, NO_DIGEST, Digest, InstallationId, RepositoryId, VaultId

COMMIT_LABEL: Final = "pilulier/commit/1"
COMMIT_FORMAT: Final = 1
COMMIT_LIMIT: Final = 4096
"""Largest encoded commit record, bytes."""


HEAD_CODE_LETTERS: Final = 12
"""Of a head code: 60 bits, which nobody hits twice by chance, and which a person compares at a glance."""


def head_code(commit_hash: Digest) -> str:
    """The short code of a history's head: twelve letters and digits (RFC 4648, base32) in groups of four.

    A person keeps it outside of the appliance, and sees by it after a disaster whether the history that is given back
    ends where theirs did.
    """
    letters = base64.b32encode(commit_hash[:8]).decode("ascii")[:HEAD_CODE_LETTERS]
    return "-".join(letters[at : at + 4] for at in range(0, HEAD_CODE_LETTERS, 4))


class CommitRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What stands under the signature. Times are milliseconds since 1970 by the agent's clock (informative)."""

    label: str
    format: int
    vault: VaultId
    repository: RepositoryId
    installation: InstallationId
    epoch: int
    number: int
    previous: Digest
    root: Digest
    entry_count: int
    bytes_source: int
    started_ms: int
    ended_ms: int
    complete: bool
    selection: Digest
    retention_floor_days: int
    agent_version: str
    added: Digest


class SignedCommit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A commit record's bytes with their Ed25519 signature."""

    record: bytes
    signature: bytes

    def hash(self) -> Digest:
        """What the next commit names as its predecessor."""
        return Digest(hashlib.sha256(b"pilulier/commit-hash/1\0" + self.record + self.signature).digest())

    def decoded(self) -> CommitRecord:
        """The record, strictly decoded; DecodeError where it is not canonical."""
        return decode_commit(self.record)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CommitRecord)


def encode_commit(record: CommitRecord) -> bytes:
    """The canonical bytes of a commit."""
    return _encoder.encode(record)


def decode_commit(data: bytes) -> CommitRecord:
    """A commit out of peer bytes; DecodeError for anything but the canonical form."""
    if len(data) > COMMIT_LIMIT:
        raise DecodeError(f"a commit record of {len(data)} bytes is over {COMMIT_LIMIT}")
    try:
        record = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a commit record: {error}") from None
    if record.label != COMMIT_LABEL or record.format != COMMIT_FORMAT:
        raise DecodeError(f"a commit of format {record.label!r} {record.format}, not {COMMIT_LABEL!r} {COMMIT_FORMAT}")
    for name in ("vault", "repository", "installation"):
        if len(getattr(record, name)) != ID_BYTES:
            raise DecodeError(f"commit field {name} is not {ID_BYTES} bytes long")
    for name in ("previous", "root", "selection", "added"):
        if len(getattr(record, name)) != DIGEST_BYTES:
            raise DecodeError(f"commit field {name} is not {DIGEST_BYTES} bytes long")
    if record.number < 1 or record.entry_count < 0 or record.bytes_source < 0:
        raise DecodeError(f"commit {record.number} counts {record.entry_count} entries, {record.bytes_source} bytes")
    if encode_commit(record) != data:
        raise DecodeError("a commit record that is not in canonical form")
    return record


FIRST_PREVIOUS: Final = NO_DIGEST
"""What commit number 1 names as its predecessor."""


class StoredCommit(msgspec.Struct, frozen=True, array_like=True):
    """A commit as the appliance lists it, with the time at which it was accepted by the appliance's own clock."""

    signed: SignedCommit
    received_ms: int
    bytes_received: int
    """Bytes that arrived on the wire for this snapshot."""
    retired: bool
    """Its tree is no longer held; the header stays so that the chain can be walked."""
