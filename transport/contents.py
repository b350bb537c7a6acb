"""The keyed MAC of a whole file, made from the same 1 MiB chunks that are read, packed and restored.

MAC = HMAC-SHA256(key, label || size || digest(chunk 0) || digest(chunk 1) ...), where the digest of a chunk is SHA-256
over the SHA-256 digests of its 128 KiB leaves (of a single leaf: that leaf's own). Why not one running hash: chunks
can be hashed in any order and on two cores, a restore that writes in segment order need not read the file back, an
interrupted upload recognises a chunk it already sent, and a leaf that did not change needs no librsync: for a
1 GiB database with 655 edits the delta then looks at 8 % of it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Sequence
from typing import Final

from transport.names import DIGEST_BYTES, SEGMENT_LIMIT, Digest
from transport.prepared_mac import prepared_mac

CHUNK_BYTES: Final = SEGMENT_LIMIT
LEAF_BYTES: Final = 128 * 1024
_LABEL = b"pilulier/content/1\0"
_SIZE = struct.Struct(">Q")


def leaf_digests(chunk: bytes | bytearray | memoryview) -> bytes:
    """The 32-byte SHA-256 digests of a chunk's leaves, one after the other (of no bytes: one digest)."""
    if len(chunk) <= LEAF_BYTES:
        return hashlib.sha256(chunk).digest()
    view = memoryview(chunk)
    return b"".join(hashlib.sha256(view[at : at + LEAF_BYTES]).digest() for at in range(0, len(view), LEAF_BYTES))


def digest_of_leaves(leaves: bytes) -> Digest:
    """The digest of a chunk whose leaves have these digests."""
    return Digest(leaves if len(leaves) == DIGEST_BYTES else hashlib.sha256(leaves).digest())


def chunk_digest(chunk: bytes | bytearray | memoryview) -> Digest:
    """The digest of one chunk (at most CHUNK_BYTES; only the last of a file may be shorter).

    Chunks of different lengths may be made to share one; whoever compares digests compares lengths as well.
    """
    if len(chunk) <= LEAF_BYTES:
        return Digest(hashlib.sha256(chunk).digest())
    return digest_of_leaves(leaf_digests(chunk))


ZERO_CHUNK: Final = bytes(CHUNK_BYTES)
ZERO_LEAVES: Final = leaf_digests(ZERO_CHUNK)
ZERO_CHUNK_DIGEST: Final = digest_of_leaves(ZERO_LEAVES)


def file_mac(key: bytes, size: int, digests: Sequence[bytes]) -> bytes:
    """32-byte MAC of a file of `size` bytes whose chunks have these digests, in file order."""
    expected = (size + CHUNK_BYTES - 1) // CHUNK_BYTES
    if len(digests) != expected:
        raise ValueError(f"{len(digests)} chunk digests for a file of {size} bytes, not {expected}")
    return hmac.digest(key, _LABEL + _SIZE.pack(size) + b"".join(digests), "sha256")


def small_file_macs(key: bytes) -> Callable[[int, bytes], bytes]:
    """`file_mac` of files of at most one chunk, from their size and that chunk's digest (b"" of no chunk)."""
    mac = prepared_mac(key)

    def small_file_mac(size: int, digest: bytes) -> bytes:
        if size > CHUNK_BYTES or len(digest) != (DIGEST_BYTES if size else 0):
            raise ValueError(f"a digest of {len(digest)} bytes for a file of {size} bytes in one chunk")
        return mac(_LABEL + _SIZE.pack(size) + digest)

    return small_file_mac


def same_mac(left: bytes, right: bytes) -> bool:
    """Constant-time comparison."""
    return hmac.compare_digest(left, right)
