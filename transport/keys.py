"""Signing keys, key files and the appliance's identity.

Owns Ed25519 (RFC 8032) signing and the files keys live in (0600, written whole or not at all). Holds no
policy about who may use a key. Key files are for this machine only: nothing here is ever sent.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from transport.commits import CommitRecord, SignedCommit, encode_commit
from transport.errors import IntegrityError, KeyFileError
from transport.mending import MendOrder, SignedMend, decode_mend, encode_mend
from transport.succession import SignedSuccession, Succession, decode_succession, encode_succession

_COMMIT_CONTEXT = b"pilulier/sign/commit/1\0"
_MEND_CONTEXT = b"pilulier/sign/mend/1\0"
_SUCCESSION_CONTEXT = b"pilulier/sign/succession/1\0"
_CERTIFICATE_CONTEXT = b"pilulier/sign/curve-certificate/1\0"
_STATEMENT_CONTEXT = b"pilulier/sign/statement/1\0"
_RECEIVING_CONTEXT = b"pilulier/sign/receiving-key/1\0"
_ESCROW_CONTEXT = b"pilulier/sign/escrow-key/1\0"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key (32-byte seed). Its repr shows the public half only."""

    seed: bytes

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"

    @classmethod
    def generate(cls) -> SigningKey:
        """A new random key."""
        return cls(os.urandom(32))

    @property
    def public(self) -> bytes:
        """The 32-byte public half."""
        return (
            Ed25519PrivateKey.from_private_bytes(self.seed)
            .public_key()
            .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        )

    def sign_commit(self, record: CommitRecord) -> SignedCommit:
        """The record with its signature."""
        data = encode_commit(record)
        return SignedCommit(data, Ed25519PrivateKey.from_private_bytes(self.seed).sign(_COMMIT_CONTEXT + data))

    def sign_mend(self, order: MendOrder) -> SignedMend:
        """The order with its signature."""
        data = encode_mend(order)
        return SignedMend(data, Ed25519PrivateKey.from_private_bytes(self.seed).sign(_MEND_CONTEXT + data))

    def sign_succession(self, succession: Succession) -> SignedSuccession:
        """The statement with its approver's signature: `succession.approver` is this key's public half."""
        data = encode_succession(succession)
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(_SUCCESSION_CONTEXT + data)
        return SignedSuccession(data, signature)

    def sign_receiving(self, machine: bytes, number: int, public: bytes) -> bytes:
        """This machine (its id) made this key to receive its delivery `number`."""
        body = _RECEIVING_CONTEXT + machine + number.to_bytes(8, "big") + public
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(body)

    def certify(self, curve_key: bytes, issued_ms: int) -> Certificate:
        """The appliance's identity vouches for one of its CURVE keys (32 bytes)."""
        body = _CERTIFICATE_CONTEXT + curve_key + issued_ms.to_bytes(8, "big")
        return Certificate(curve_key, issued_ms, Ed25519PrivateKey.from_private_bytes(self.seed).sign(body))

    def sign_statement(self, label: str, data: bytes) -> bytes:
        """The signature over a statement for people: a certificate, a manifest. `label` says which sort, so that one is
        never taken for another."""
        body = _STATEMENT_CONTEXT + label.encode() + b"\0" + data
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(body)

    def certify_escrow(self, public: bytes, issued_ms: int) -> EscrowCertificate:
        """The appliance's identity vouches for its escrow key."""
        body = _ESCROW_CONTEXT + issued_ms.to_bytes(8, "big") + public
        return EscrowCertificate(public, issued_ms, Ed25519PrivateKey.from_private_bytes(self.seed).sign(body))


class EscrowCertificate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The public half of an escrow key, signed by the appliance's identity."""

    public: Annotated[bytes, Meta(max_length=4096)]
    issued_ms: Annotated[int, Meta(ge=0, le=2**53)]
    signature: Annotated[bytes, Meta(max_length=64)]


class Certificate(msgspec.Struct, frozen=True, array_like=True):
    """A CURVE key signed by the appliance's identity."""

    curve_key: bytes
    issued_ms: int
    signature: bytes


def _verified(public: bytes, signature: bytes, body: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, body)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_commit(public: bytes, commit: SignedCommit) -> CommitRecord:
    """The record of a commit whose signature holds under `public`; IntegrityError otherwise."""
    record = commit.decoded()
    if not _verified(public, commit.signature, _COMMIT_CONTEXT + commit.record):
        raise IntegrityError(f"snapshot {record.number} does not carry this machine's signature")
    return record


def verify_mend(public: bytes, mend: SignedMend) -> MendOrder:
    """The order to mend whose signature holds under `public`; DecodeError or IntegrityError otherwise."""
    order = decode_mend(mend.record)
    if not _verified(public, mend.signature, _MEND_CONTEXT + mend.record):
        raise IntegrityError("an order to mend does not carry this machine's signature")
    return order


def verify_succession(signed: SignedSuccession) -> Succession:
    """The succession that its own approver signed; DecodeError or IntegrityError otherwise. Whether that approver is
    one to believe is the caller's to say."""
    succession = decode_succession(signed.record)
    if not _verified(succession.approver, signed.signature, _SUCCESSION_CONTEXT + signed.record):
        raise IntegrityError(f"succession {succession.number} does not carry the signature of who approved it")
    return succession


def verify_receiving(signing: bytes, signature: bytes, machine: bytes, number: int, public: bytes) -> None:
    """IntegrityError unless the machine whose signing key this is made the receiving key for this delivery."""
    if not _verified(signing, signature, _RECEIVING_CONTEXT + machine + number.to_bytes(8, "big") + public):
        raise IntegrityError("a receiving key does not carry its machine's signature")


def verify_certificate(identity: bytes, certificate: Certificate) -> None:
    """IntegrityError unless `identity` (32-byte public key) signed the certificate."""
    issued = max(0, certificate.issued_ms)  # the peer's number: a negative one has no bytes and was never signed
    body = _CERTIFICATE_CONTEXT + certificate.curve_key + issued.to_bytes(8, "big")
    if issued != certificate.issued_ms or not _verified(identity, certificate.signature, body):
        raise IntegrityError("the appliance's connection key is not certified by the identity in the enrolment code")


def verify_statement(identity: bytes, label: str, data: bytes, signature: bytes) -> None:
    """IntegrityError unless `identity` (32-byte public key) signed these bytes as a statement of this sort."""
    if not _verified(identity, signature, _STATEMENT_CONTEXT + label.encode() + b"\0" + data):
        raise IntegrityError("the signature does not hold: it was altered, or another appliance made it")


def verify_escrow(identity: bytes, certificate: EscrowCertificate) -> None:
    """IntegrityError unless `identity` (32-byte public key) signed the escrow key."""
    body = _ESCROW_CONTEXT + certificate.issued_ms.to_bytes(8, "big") + certificate.public
    if not _verified(identity, certificate.signature, body):
        raise IntegrityError("the appliance's escrow key is not certified by the identity in the enrolment code")


def write_key_file(path: Path, content: bytes) -> None:
    """Write a secret so that only its owner reads it, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_key_file(path: Path, limit: int = 65536) -> bytes:
    """A secret file's bytes; KeyFileError when missing, too long, or readable by others than its owner."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
                raise KeyFileError(
                    f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}): run chmod 600 on it"
                )
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise KeyFileError(f"{path} does not exist") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise KeyFileError(f"{path} is longer than {limit} bytes: not a key file")
    return content
