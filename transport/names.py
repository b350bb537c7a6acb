"""Identifiers and the limits that both ends share.

Every id is 16 opaque bytes, random or a truncated MAC (128 bits: no structure, nothing to guess). They are
`NewType`s over bytes so that mypy tells them apart and a million of them cost nothing at run time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NewType

from transport.errors import DecodeError

PathId = NewType("PathId", bytes)
VersionId = NewType("VersionId", bytes)
SegmentId = NewType("SegmentId", bytes)
VaultId = NewType("VaultId", bytes)
RepositoryId = NewType("RepositoryId", bytes)
"""A repository belongs to one machine: its id is the machine id."""
SessionId = NewType("SessionId", bytes)
InstallationId = NewType("InstallationId", bytes)
Digest = NewType("Digest", bytes)
"""SHA-256, 32 bytes."""

Buffer = bytes | bytearray | memoryview
"""Payload bytes that may still lie where they arrived: copying every segment once more, with the interpreter locked,
was 6 % of a restore (measured)."""

ID_BYTES: Final = 16
DIGEST_BYTES: Final = 32

ROOT: Final = PathId(bytes(ID_BYTES))
"""The path id of the tree's root, which has no entry of its own: its children are the first names of absolute paths."""
ZERO_SEGMENT: Final = SegmentId(bytes(ID_BYTES))
"""The segment id of a hole: an extent that names it reads as zero bytes and is stored nowhere."""
NO_VERSION: Final = VersionId(bytes(ID_BYTES))
"""Stands for "has no content of its own" (folders, symbolic links)."""
NO_DIGEST: Final = Digest(bytes(DIGEST_BYTES))

SEGMENT_LIMIT: Final = 1 << 20
"""Largest plaintext of a segment, bytes; also the chunk in which files are read and hashed."""
SEALED_LIMIT: Final = SEGMENT_LIMIT + 4096
"""Largest sealed segment, bytes."""
MESSAGE_LIMIT: Final = 1 << 20
"""Largest encoded message header frame, bytes; the payload frame is bounded by SEALED_LIMIT."""
FILE_LIMIT: Final = 1 << 50
"""Largest file size accepted anywhere, bytes (1 PiB): sums of sizes stay far from 2**63."""
REMOTE_RULES_LIMIT: Final = 200
"""Included paths, and as many exclusions, that the appliance may send to a machine."""
REMOTE_RULE_LIMIT: Final = 500
"""Characters of one of them: all together fit a message in any script."""


def random_id() -> bytes:
    """16 random bytes for a new id."""
    return os.urandom(ID_BYTES)


def random_ids() -> Iterator[bytes]:
    """Ever new ids, drawn from the system 256 at a time: a call for each was 5 % of a backup of small files (measured).
    For one thread, and not beyond a fork."""
    while True:
        block = os.urandom(256 * ID_BYTES)
        for at in range(0, len(block), ID_BYTES):
            yield block[at : at + ID_BYTES]


def checked_id(value: bytes, what: str) -> bytes:
    """`value` unless it is not 16 bytes long; then DecodeError that names `what`."""
    if len(value) != ID_BYTES:
        raise DecodeError(f"{what} is {len(value)} bytes long, not {ID_BYTES}")
    return value
