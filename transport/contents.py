"""The keyed MAC of a whole file, made from the same 1 MiB chunks that are read, packed and restored.

MAC = HMAC-SHA256(key, label || size || SHA-256(chunk 0) || SHA-256(chunk 1) ...). Why a list of chunk digests
and not one running hash: chunks can be hashed in any order and on two cores, a restore that writes in segment
order need not read the file back, and an interrupted upload recognises a chunk it already sent.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Final

from transport.names import SEGMENT_LIMIT, Digest

CHUNK_BYTES: Final = SEGMENT_LIMIT
_LABEL = b"pilulier/content/1\0"
_SIZE = struct.Struct(">Q")
ZERO_CHUNK: Final = bytes(CHUNK_BYTES)
ZERO_CHUNK_DIGEST: Final = Digest(hashlib.sha256(ZERO_CHUNK).digest())


def chunk_digest(chunk: bytes | bytearray | memoryview) -> Digest:
    """SHA-256 of one chunk (at most CHUNK_BYTES; only the last of a file may be shorter)."""
    return Digest(hashlib.sha256(chunk).digest())


def file_mac(key: bytes, size: int, digests: Sequence[bytes]) -> bytes:
    """32-byte MAC of a file of `size` bytes whose chunks have these digests, in file order."""
    expected = (size + CHUNK_BYTES - 1) // CHUNK_BYTES
    if len(digests) != expected:
        raise ValueError(f"{len(digests)} chunk digests for a file of {size} bytes, not {expected}")
    return hmac.digest(key, _LABEL + _SIZE.pack(size) + b"".join(digests), "sha256")


def same_mac(left: bytes, right: bytes) -> bool:
    """Constant-time comparison."""
    return hmac.compare_digest(left, right)
