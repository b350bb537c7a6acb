"""The records that packs are made of: kinds, header, checksum, and the strict reading of each payload.

A record is HEADER (12 bytes) || SHA-256 (32 bytes) over header and payload || payload. FORMAT.md's table of
kinds is compared with `KINDS` by a test. Nothing here opens a seal: of a sealed segment only the clear header
is read, in pure Python. Knows neither files nor SQL.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

import msgspec

from transport.commits import COMMIT_LIMIT, SignedCommit
from transport.errors import DecodeError
from transport.mending import SignedMend
from transport.names import (
    DIGEST_BYTES,
    ID_BYTES,
    MESSAGE_LIMIT,
    SEALED_LIMIT,
    SEGMENT_LIMIT,
    PathId,
    RepositoryId,
    SegmentId,
    SessionId,
    VaultId,
    VersionId,
)
from transport.succession import SUCCESSION_LIMIT, SignedSuccession
from transport.tree import EntryBatch

MAGIC: Final = b"PLR1"
FORMAT: Final = 1
CHECKSUM_SHA256: Final = 1
CHECKSUM_BYTES: Final = 32
LABEL: Final = "pilulier/repository/1"

_HEAD = struct.Struct(">4sBBBBI")  # magic, format, kind, checksum algorithm, flags (0), payload length
HEAD_BYTES: Final = _HEAD.size
OVERHEAD_BYTES: Final = HEAD_BYTES + CHECKSUM_BYTES


class Kind(IntEnum):
    """What a record holds."""

    HEADER = 1
    SEGMENT = 2
    PAGES = 3
    VERSIONS = 4
    ENTRIES = 5
    DEATHS = 6
    COMMIT = 7
    RETIREMENT = 8
    CHECKPOINT = 9
    MEND = 10
    SUCCESSION = 11


@dataclass(frozen=True, slots=True)
class KindRule:
    """The bounds of one kind's payload, bytes."""

    minimum: int
    limit: int


# As transport.sealing writes it: magic, format, kind, codec, aead, epoch, plaintext length.
_SEALED_HEAD = struct.Struct(">4sBBBBII")
_SEALED_OVERHEAD: Final = _SEALED_HEAD.size + 32 + 32 + 16
_TABLE_LIMIT: Final = 2 << 20

KINDS: Final[dict[Kind, KindRule]] = {
    Kind.HEADER: KindRule(64, 4096),
    Kind.SEGMENT: KindRule(ID_BYTES + _SEALED_OVERHEAD + 1, ID_BYTES + SEALED_LIMIT),
    Kind.PAGES: KindRule(1, _TABLE_LIMIT),
    Kind.VERSIONS: KindRule(1, _TABLE_LIMIT),
    Kind.ENTRIES: KindRule(1, MESSAGE_LIMIT + 4096),
    Kind.DEATHS: KindRule(1, MESSAGE_LIMIT + 4096),
    Kind.COMMIT: KindRule(1, COMMIT_LIMIT + 4096),
    Kind.RETIREMENT: KindRule(1, _TABLE_LIMIT),
    Kind.CHECKPOINT: KindRule(1, _TABLE_LIMIT),
    Kind.MEND: KindRule(1, MESSAGE_LIMIT + 4096),
    Kind.SUCCESSION: KindRule(1, SUCCESSION_LIMIT + 256),
}


@dataclass(frozen=True, slots=True)
class RecordHead:
    """The first 44 bytes of a record, read."""

    kind: Kind
    length_bytes: int
    checksum: bytes

    @property
    def size_bytes(self) -> int:
        """The whole record on disk."""
        return OVERHEAD_BYTES + self.length_bytes


def encode_head(kind: Kind, parts: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """The 44 bytes that stand before a payload made of `parts`; DecodeError where its length is out of bounds."""
    length = sum(len(part) for part in parts)
    rule = KINDS[kind]
    if not rule.minimum <= length <= rule.limit:
        raise DecodeError(f"a {kind.name} payload of {length} bytes is outside {rule.minimum}..{rule.limit}")
    head = _HEAD.pack(MAGIC, FORMAT, kind, CHECKSUM_SHA256, 0, length)
    digest = hashlib.sha256(head)
    for part in parts:
        digest.update(part)
    return head + digest.digest()


def decode_head(data: bytes | memoryview) -> RecordHead:
    """The head of a record; DecodeError unless every field is one that this format knows."""
    if len(data) < OVERHEAD_BYTES:
        raise DecodeError(f"a record head of {len(data)} bytes, not {OVERHEAD_BYTES}")
    magic, form, kind, algorithm, flags, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise DecodeError(f"no record begins here ({bytes(magic).hex()})")
    if form != FORMAT or algorithm != CHECKSUM_SHA256 or flags != 0:
        raise DecodeError(f"a record of format {form}, checksum algorithm {algorithm}, flags {flags}: unknown")
    try:
        known = Kind(kind)
    except ValueError:
        raise DecodeError(f"a record of unknown kind {kind}") from None
    rule = KINDS[known]
    if not rule.minimum <= length <= rule.limit:
        raise DecodeError(f"a {known.name} record of {length} bytes is outside {rule.minimum}..{rule.limit}")
    return RecordHead(known, length, bytes(data[HEAD_BYTES:OVERHEAD_BYTES]))


def checksum_holds(head: bytes | memoryview, payload: bytes | memoryview) -> bool:
    """Whether the checksum within `head` (44 bytes) is that of its 12 first bytes and `payload`."""
    digest = hashlib.sha256(head[:HEAD_BYTES])
    digest.update(payload)
    return digest.digest() == head[HEAD_BYTES:OVERHEAD_BYTES]


class HeaderRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """First record of each pack: whose it is. `public_key` is the Ed25519 key that signs the machine's commits."""

    label: str
    repository: RepositoryId
    vault: VaultId
    public_key: bytes
    pack: int


class PageRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One page: `length_bytes` of some file as extents (pages.EXTENT each)."""

    number: int
    length_bytes: int
    extents: bytes


class PagesRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """New pages; they stand before the first version that names them."""

    pages: list[PageRow]


class VersionRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A version: `body` is extents when `span_bytes` is 0, else 8-byte page numbers, one per span."""

    version_id: VersionId
    size_bytes: int
    span_bytes: int
    body: bytes


class VersionsRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Complete versions."""

    versions: list[VersionRow]


class StagedBy(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Which upload staged a record: the agent's session id, the appliance's number for it, the message's number."""

    session: SessionId
    intake: int
    seq: int


class EntriesRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Entries to be born with the next commit of the same intake."""

    by: StagedBy
    number: int
    batch: EntryBatch


class DeathsRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Paths to die with the next commit of the same intake."""

    by: StagedBy
    paths: list[PathId]


class CommitRecordOnDisk(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A snapshot: what the agent signed, and what the appliance saw."""

    by: StagedBy
    received_ms: int
    bytes_received: int
    signed: SignedCommit


class RetirementRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Snapshots that are no longer held. Their commits stay; what only they showed may be swept.

    `released`: what was uploaded before this record and no snapshot took counts as committed, and so may be swept.
    """

    at_ms: int
    snapshots: list[int]
    released: bool


class MendRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An order to read damaged extents elsewhere, as the agent signed it."""

    received_ms: int
    signed: SignedMend


class SuccessionRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Another signing key takes over, as its approver signed it."""

    received_ms: int
    signed: SignedSuccession


class CheckpointBegin(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=0):
    """From here on a checkpoint tells all that is held at snapshot `head`; nothing is staged at this moment."""

    head: int
    next_page: int
    next_batch: int
    next_version: int
    intake: int


class CheckpointPages(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Pages that are held."""

    pages: list[PageRow]


class CheckpointVersions(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Versions that are held."""

    versions: list[VersionRow]


class BatchRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The header under which the entries of one batch are sealed."""

    number: int
    epoch: int
    salt: bytes
    commitment: bytes
    born: int


class CheckpointBatches(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Batch headers; they stand before the entries that name them."""

    batches: list[BatchRow]


class EntryRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An entry with its interval; `died` is 0 for one that is alive at the checkpoint's head."""

    path_id: PathId
    parent_id: PathId
    born: int
    died: int
    kind: int
    size: int
    version_id: VersionId
    batch: int
    index: int
    sealed: bytes


class CheckpointEntries(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """Entries true in at least one snapshot that is held."""

    entries: list[EntryRow]


class FolderRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A folder's digest with its interval; `died` as in EntryRow."""

    path_id: PathId
    born: int
    died: int
    digest: bytes


class CheckpointFolders(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """Folder digests true in at least one snapshot that is held."""

    folders: list[FolderRow]


class SnapshotRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A commit, held or retired."""

    number: int
    entry_count: int
    received_ms: int
    bytes_received: int
    retired: bool
    signed: SignedCommit


class CheckpointSnapshots(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """Commits, ascending."""

    snapshots: list[SnapshotRow]


class CheckpointEnd(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """The checkpoint is whole if `parts` records of it, this one included, were found."""

    parts: int


class CheckpointSuccessions(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """All successions; they stand before the commits that their keys signed."""

    successions: list[SuccessionRecord]


CheckpointPart = (
    CheckpointBegin
    | CheckpointPages
    | CheckpointVersions
    | CheckpointBatches
    | CheckpointEntries
    | CheckpointFolders
    | CheckpointSnapshots
    | CheckpointEnd
    | CheckpointSuccessions
)


class CheckpointRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Part `part` (0 and up) of checkpoint `checkpoint` (16 random bytes)."""

    checkpoint: bytes
    part: int
    content: CheckpointPart


Payload = (
    HeaderRecord
    | PagesRecord
    | VersionsRecord
    | EntriesRecord
    | DeathsRecord
    | CommitRecordOnDisk
    | RetirementRecord
    | MendRecord
    | CheckpointRecord
    | SuccessionRecord
)
_P = TypeVar("_P", bound=Payload)

_encoder = msgspec.msgpack.Encoder()


def encode_payload(payload: Payload) -> bytes:
    """The canonical bytes of a payload."""
    return _encoder.encode(payload)


def decode_payload(data: bytes | memoryview, kind: type[_P]) -> _P:
    """A payload out of pack bytes; DecodeError for anything but the canonical form."""
    try:
        payload = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a {kind.__name__}: {error}") from None
    if _encoder.encode(payload) != data:
        raise DecodeError(f"a {kind.__name__} that is not in canonical form")
    if isinstance(payload, HeaderRecord):
        lengths = (len(payload.repository), len(payload.vault), len(payload.public_key))
        if payload.label != LABEL or lengths != (ID_BYTES, ID_BYTES, DIGEST_BYTES):
            raise DecodeError(f"a repository header {payload.label!r} with fields of {lengths} bytes")
    return payload


def sealed_plain_length(sealed: bytes | memoryview, stored_bytes: int | None = None) -> int:
    """The plaintext length that a sealed segment's clear header claims; DecodeError where that cannot be true.

    `stored_bytes` is the sealed length where only the first bytes are given. The claim is the agent's: only a
    key holder can prove it, and only the agent is hurt by a wrong one.
    """
    total = len(sealed) if stored_bytes is None else stored_bytes
    if not _SEALED_OVERHEAD < total <= SEALED_LIMIT:
        raise DecodeError(f"a sealed segment of {total} bytes is outside {_SEALED_OVERHEAD + 1}..{SEALED_LIMIT}")
    magic, form, kind, codec, aead, epoch, length = _SEALED_HEAD.unpack_from(sealed)
    if (magic, form, kind, aead) != (b"PLS1", 1, 1, 1) or codec not in (0, 1) or epoch < 1:
        raise DecodeError(f"not the header of a sealed segment: {bytes(sealed[: _SEALED_HEAD.size]).hex()}")
    if not 0 < length <= SEGMENT_LIMIT or (codec == 0 and total != length + _SEALED_OVERHEAD):
        raise DecodeError(f"a sealed segment of {total} bytes claims {length} bytes of plaintext (codec {codec})")
    return int(length)


SEGMENT_PREFIX_BYTES: Final = ID_BYTES + _SEALED_HEAD.size
"""How much of a SEGMENT payload shows its id and its sealed header."""


def segment_id_of(payload: bytes | memoryview) -> SegmentId:
    """The id at the front of a SEGMENT payload."""
    return SegmentId(bytes(payload[:ID_BYTES]))
