"""The enrolment code: one pasteable string with all that a new machine must know and trust.

It carries the appliance's endpoints, its identity (Ed25519 public key), its CURVE key and the one-time token.
Form: `PIL1-` + base32 of msgpack, grouped by dashes, with a 4-byte checksum so that a mistyped code is
told apart from a refused one. Upper and lower case, spaces and line breaks do not matter.

Without a token (16 zero bytes) it is an **address code**: where the appliance is and who it must be, for a machine that
is recovered. Exported keys and recovery sheets carry one; it is no secret, and enrols nobody. A used enrolment code
serves as well.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec

from transport.errors import UsageError

CODE_PREFIX: Final = "PIL1-"
TOKEN_BYTES: Final = 16
NO_TOKEN: Final = bytes(TOKEN_BYTES)
_CHECK_BYTES: Final = 4
_CODE_LIMIT: Final = 4000


class EnrolmentCode(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an enrolment code says. Endpoints are ZeroMQ addresses (`tcp://host:port`), tried in order."""

    transport: list[str]
    enrolment: list[str]
    identity: bytes
    curve_key: bytes
    token: bytes

    @property
    def enrols(self) -> bool:
        """Whether a machine can enrol with it; else it only says where the appliance is."""
        return self.token != NO_TOKEN

    def encode(self) -> str:
        """The pasteable string."""
        body = msgspec.msgpack.encode(self)
        check = hashlib.sha256(b"pilulier/enrolment/1" + body).digest()[:_CHECK_BYTES]
        text = base64.b32encode(check + body).decode().rstrip("=")
        return CODE_PREFIX + "-".join(text[i : i + 8] for i in range(0, len(text), 8))


_decoder = msgspec.msgpack.Decoder(EnrolmentCode)
_MISTYPED = "this enrolment code is incomplete or mistyped: copy the whole code, from PIL1- to its end"


def decode_code(text: str) -> EnrolmentCode:
    """The code out of what a person pasted; UsageError with what to do otherwise."""
    compact = "".join(text.split()).upper()
    if not compact.startswith(CODE_PREFIX):
        raise UsageError(f"an enrolment code begins with {CODE_PREFIX}: copy the whole code from the appliance")
    compact = compact[len(CODE_PREFIX) :].replace("-", "")
    if len(compact) > _CODE_LIMIT:
        raise UsageError(_MISTYPED)
    try:
        raw = base64.b32decode(compact + "=" * (-len(compact) % 8))
    except ValueError:
        raise UsageError(_MISTYPED) from None
    check, body = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
    if hashlib.sha256(b"pilulier/enrolment/1" + body).digest()[:_CHECK_BYTES] != check:
        raise UsageError(_MISTYPED)
    try:
        code = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise UsageError("this enrolment code is of another version of Pilulier: update this program") from None
    if len(code.identity) != 32 or len(code.curve_key) != 32 or len(code.token) != TOKEN_BYTES:
        raise UsageError(_MISTYPED)
    if not code.transport or not code.enrolment:
        raise UsageError("this enrolment code names no address")
    return code
