"""A snapshot's tree as both ends see it: entries, their tokens, folder digests and the root.

Owns the canonical bytes that the root digest is computed over; the appliance computes it from its catalog
without a key, the agent from its ledger, and a commit stands only when they agree. Digests cover path ids,
sealed metadata and version ids, never extents, so that damage may be mended without touching history.
Knows neither sockets nor files nor keys.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum

import msgspec

from transport.names import Digest, PathId, VersionId

_ENTRY_LABEL = b"pilulier/entry/1\0"
_FOLDER_LABEL = b"pilulier/folder/1\0"
_PARTS = 4096
_CLEAR = struct.Struct(">BQ")


class EntryKind(IntEnum):
    """What the appliance may know of an entry: whether it has children, content, or neither."""

    FILE = 0
    FOLDER = 1
    OTHER = 2
    """Symbolic links and whatever else has neither children nor content."""


class EntryRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One path in a snapshot, as it travels and as packs keep it; `sealed` holds its Metadata."""

    path_id: PathId
    parent_id: PathId
    kind: int
    size: int
    version_id: VersionId
    index: int
    sealed: bytes

    def aad(self) -> bytes:
        """The clear fields in canonical form: associated data of the seal, and part of the token."""
        return (
            self.path_id + self.parent_id + _CLEAR.pack(self.kind, self.size) + self.version_id
        )

    def token(self) -> Digest:
        """SHA-256 of the whole entry: the leaf from which folder digests are made."""
        return Digest(hashlib.sha256(_ENTRY_LABEL + self.aad() + self.sealed).digest())


class BatchHeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What opens the entries sealed together: key epoch, salt of the derived key, its commitment."""

    epoch: int
    salt: bytes
    commitment: bytes


class EntryBatch(msgspec.Struct, frozen=True, array_like=True):
    """Entries sealed under one derived key; an entry's index within the batch is its nonce."""

    header: BatchHeader
    entries: list[EntryRecord]


class ListedEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry as the appliance lists it: `batch` indexes the page's headers; folders carry their digest."""

    batch: int
    record: EntryRecord
    folder_digest: Digest


class EntryPage(msgspec.Struct, frozen=True, array_like=True):
    """A bounded page of entries ordered by path id; `more` says that another page follows the last one."""

    headers: list[BatchHeader]
    entries: list[ListedEntry]
    more: bool


class FileType(IntEnum):
    """What an entry is, inside the seal."""

    FILE = 0
    FOLDER = 1
    SYMLINK = 2


class Metadata(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What only a key holder may read of an entry. Names are bytes; times are nanoseconds since 1970."""

    name: bytes
    type: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    user: str
    group: str
    mac: bytes
    """Keyed MAC of the whole content (contents.FileMac), empty unless a file."""
    target: bytes
    """Where a symbolic link points, empty otherwise."""
    link_group: bytes
    """Same value = hard links to one file within a snapshot; empty for files with one name."""
    xattrs: list[tuple[bytes, bytes]]
    """Extended attributes, ACLs among them, sorted by name."""


_metadata_encoder = msgspec.msgpack.Encoder()
_metadata_decoder = msgspec.msgpack.Decoder(Metadata)


def encode_metadata(metadata: Metadata) -> bytes:
    """The bytes that are sealed for an entry."""
    return _metadata_encoder.encode(metadata)


def decode_metadata(data: bytes) -> Metadata:
    """Metadata out of an opened seal; msgspec.DecodeError or ValidationError where it is not one."""
    return _metadata_decoder.decode(data)


class Child(msgspec.Struct, frozen=True, gc=False):
    """What a folder digest needs of one child: token, and the child's own digest where it is a folder."""

    path_id: PathId
    token: Digest
    folder_digest: Digest | None


def folder_digest(children: Iterable[Child]) -> Digest:
    """SHA-256 over the children in path id order; a folder child adds its own digest, so the root covers all."""
    return ordered_folder_digest(sorted(children, key=lambda c: c.path_id))


def ordered_folder_digest(children: Iterable[Child]) -> Digest:
    """`folder_digest` of children that come in path id order, each looked at once: a folder may have a million."""
    digest = hashlib.sha256(_FOLDER_LABEL)
    parts: list[bytes] = []
    for child in children:
        parts.append(child.path_id)
        parts.append(child.token)
        if child.folder_digest is not None:
            parts.append(child.folder_digest)
        if len(parts) > _PARTS:
            digest.update(b"".join(parts))
            parts.clear()
    digest.update(b"".join(parts))
    return Digest(digest.digest())


EMPTY_FOLDER = folder_digest(())


class AddedDigest:
    """Running digest over the records that a commit adds, in the order in which they were staged."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"pilulier/added/1\0")

    def entry(self, token: Digest) -> None:
        """Count one entry."""
        self._hash.update(b"E" + token)

    def death(self, path_id: PathId) -> None:
        """Count one death."""
        self._hash.update(b"D" + path_id)

    def digest(self) -> Digest:
        """The digest as it stands."""
        return Digest(self._hash.copy().digest())


def digest_of_tree(
    children_of: Mapping[PathId, list[tuple[PathId, Digest, bool]]], root: PathId
) -> dict[PathId, Digest]:
    """Digest of every folder below and including `root`, from (path id, token, is folder) of each child.

    Iterative, children before parents: a hostile depth of folders must not exhaust the stack. Raises
    ValueError where a folder is reached twice (a cycle or a shared child).
    """
    order: list[PathId] = []
    seen: set[PathId] = {root}
    pending = [root]
    while pending:
        folder = pending.pop()
        order.append(folder)
        for path_id, _, is_folder in children_of.get(folder, ()):
            if is_folder:
                if path_id in seen:
                    raise ValueError(f"folder {path_id.hex()} stands in the tree twice")
                seen.add(path_id)
                pending.append(path_id)
    digests: dict[PathId, Digest] = {}
    for folder in reversed(order):
        digests[folder] = folder_digest(
            Child(path_id, token, digests[path_id] if is_folder else None)
            for path_id, token, is_folder in children_of.get(folder, ())
        )
    return digests
