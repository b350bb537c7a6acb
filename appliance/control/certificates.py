"""Certificates of erasure: what was destroyed of a contract, a machine or a space, dated and signed.

Owns the statement's form and where it is kept. Rules: the bytes that were signed are the bytes that are kept and handed
out; they are written in the transaction that destroys the keys, so that there is neither a certificate without an
erasure nor the other way round; rows outlive what they are about. The signature is the appliance's identity's, which
enrolment codes pin; whoever has the public half checks it without this program (docs/safety.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from appliance.control.database import Database
from appliance.control.deletions import Deletion
from appliance.control.scope import Scope, over
from appliance.control.text import one_line
from appliance.errors import NotFoundError
from transport.errors import IntegrityError, UsageError
from transport.keys import SigningKey, verify_statement

LABEL: Final = "erasure"
FORMAT: Final = "pilulier-erasure/1"
FILE_LIMIT: Final = 16 << 20


class DestroyedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wrapped machine key that is no more: how it was kept, and the SHA-256 of its envelope in hex."""

    mode: Literal["confided", "private"]
    sha256: str
    escrow_key: str = ""
    """The appliance's key to which it was wrapped, in hex; empty for a passphrase."""


class ErasedMachine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One machine. `files` and `bytes` are of its repository; 0 where its folder was gone already."""

    machine: str
    name: str
    key: DestroyedKey | None
    files: int
    bytes: int


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is certified. Times in whole seconds since 1970."""

    format: str = FORMAT
    certificate: str
    kind: Literal["contract", "machine", "space"]
    object: str
    name: str
    requested_by: str
    requested_at: int
    erased_at: int
    machines: list[ErasedMachine]
    exports: int = 0
    """Exports of the contract that lay on the appliance and went as well."""
    copies_kept_days: int
    copies_gone_at: int
    """From then on no copy of the appliance itself holds one of these keys."""
    identity: str
    """The appliance's public key, in hex."""


class SignedStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate as a file: the statement's bytes as text, exactly as signed, and the Ed25519 signature in hex."""

    statement: str
    signature: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A kept certificate, read."""

    id: str
    statement: Statement
    signed: SignedStatement


def issue(db: Database, identity: SigningKey, deletion: Deletion, statement: Statement) -> None:
    """Sign and keep; for the transaction that erases."""
    data = msgspec.json.encode(statement)
    db.insert(
        "erasure_certificate",
        {
            "id": deletion.id,
            "kind": str(deletion.kind),
            "object_name": deletion.object_name,
            "space_id": deletion.space_id,
            "contract_id": deletion.contract_id,
            "issued_at": float(statement.erased_at),
            "statement": data,
            "signature": identity.sign_statement(LABEL, data),
        },
    )


def _certificate(row: dict[str, Any]) -> Certificate:
    data = bytes(row["statement"])
    return Certificate(
        row["id"],
        msgspec.json.decode(data, type=Statement),
        SignedStatement(data.decode(), bytes(row["signature"]).hex()),
    )


def listed(db: Database, scope: Scope, limit: int = 500) -> list[Certificate]:
    """Those of a scope, newest first."""
    where = over(scope, space="space_id", contract="contract_id")
    rows = db.rows(
        f"SELECT id, statement, signature FROM erasure_certificate WHERE {where.sql} "
        "ORDER BY issued_at DESC, id LIMIT ?",
        [*where.parameters, limit],
    )
    return [_certificate(row) for row in rows]


def find(db: Database, scope: Scope, certificate_id: str) -> Certificate:
    """One of a scope; NotFoundError otherwise."""
    where = over(scope, space="space_id", contract="contract_id")
    row = db.row(
        f"SELECT id, statement, signature FROM erasure_certificate WHERE id = ? AND {where.sql}",
        [certificate_id, *where.parameters],
    )
    if row is None:
        raise NotFoundError(f"there is no certificate {one_line(certificate_id, 60)!r} here")
    return _certificate(row)


def as_file(signed: SignedStatement) -> bytes:
    """What is handed out."""
    return msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n"


def verified(content: bytes, identity: bytes) -> Statement:
    """The statement in a file, once the identity (32-byte public key) proves to have signed it.

    UsageError where it is no certificate, IntegrityError where it was altered or is another appliance's.
    """
    try:
        signed = msgspec.json.decode(content, type=SignedStatement)
        statement = msgspec.json.decode(signed.statement, type=Statement)
        signature = bytes.fromhex(signed.signature)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"this is no certificate of erasure ({error})") from None
    verify_statement(identity, LABEL, signed.statement.encode(), signature)
    if statement.format != FORMAT:
        raise UsageError(f"this certificate is of format {statement.format!r}, this program reads {FORMAT!r}")
    if statement.identity != identity.hex():
        raise IntegrityError("this certificate names another appliance than the one that signed it")
    return statement
