"""The succession of an installation: the statement that from some snapshot on another key signs a machine's history.

Owns the canonical bytes of that statement and their strict reading. It names the snapshot it stands behind, the key
before and the key after, and who approved it: the former key itself, or the appliance's identity after a person's
one-time code (the account stands in the appliance's audit log, for packs hold no names). The signature is the
approver's, made and checked in `transport.keys`; what a row of them means for a history is `transport.signers`'.
"""

from __future__ import annotations

from typing import Final

import msgspec

from transport.errors import DecodeError
from transport.names import DIGEST_BYTES, ID_BYTES, Digest, InstallationId, RepositoryId, VaultId

SUCCESSION_LABEL: Final = "pilulier/succession/1"
SUCCESSION_LIMIT: Final = 1024
"""Largest encoded statement, bytes."""
SUCCESSIONS_LIMIT: Final = 256
"""Of one repository: a machine that is recovered every month reaches it in 21 years."""


class Succession(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What stands under the signature. `number` counts the successions of a repository from 1; snapshots above `after`
    are signed by `successor`, whose installation is `installation`. `head` is the hash of the commit of snapshot
    `after` (32 zero bytes for 0). Time in milliseconds since 1970 by the appliance's clock, informative."""

    label: str
    vault: VaultId
    repository: RepositoryId
    number: int
    after: int
    head: Digest
    former: bytes
    successor: bytes
    installation: InstallationId
    approver: bytes
    approved_ms: int

    @property
    def by_former_key(self) -> bool:
        """Whether the key before approved it, so that nobody else's word is needed."""
        return self.approver == self.former


class SignedSuccession(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A statement's bytes with the Ed25519 signature of its approver."""

    record: bytes
    signature: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Succession)


def encode_succession(succession: Succession) -> bytes:
    """The canonical bytes of a statement."""
    return _encoder.encode(succession)


def decode_succession(data: bytes) -> Succession:
    """A statement out of peer bytes; DecodeError for anything but the canonical form within its bounds."""
    if len(data) > SUCCESSION_LIMIT:
        raise DecodeError(f"a succession of {len(data)} bytes is over {SUCCESSION_LIMIT}")
    try:
        found = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a succession: {error}") from None
    if found.label != SUCCESSION_LABEL:
        raise DecodeError(f"a succession of format {found.label!r}, not {SUCCESSION_LABEL!r}")
    for name in ("vault", "repository", "installation"):
        if len(getattr(found, name)) != ID_BYTES:
            raise DecodeError(f"succession field {name} is not {ID_BYTES} bytes long")
    for name in ("head", "former", "successor", "approver"):
        if len(getattr(found, name)) != DIGEST_BYTES:
            raise DecodeError(f"succession field {name} is not {DIGEST_BYTES} bytes long")
    if not 1 <= found.number <= SUCCESSIONS_LIMIT or not 0 <= found.after <= 2**53:
        raise DecodeError(f"succession {found.number} stands behind snapshot {found.after}: out of bounds")
    if encode_succession(found) != data:
        raise DecodeError("a succession that is not in canonical form")
    return found
