"""Time-based one-time codes (RFC 6238: SHA-1, six digits, 30 s), each good once. The only room for pyotp.

Pure: no database, no clock, no web. The caller keeps the accepted step and hands it back as `last_step`;
a code of that step or an earlier one is refused, so that whoever looks over a shoulder has nothing.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum
from typing import Final

import pyotp

STEP_S: Final = 30
WINDOW_STEPS: Final = 1
"""Codes of this many steps before and after now are accepted: clocks differ and people type slowly."""
ISSUER: Final = "Pilulier"


class Reason(Enum):
    """Why a code was not accepted."""

    MALFORMED = "malformed"
    WRONG = "wrong"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The code is right; `step` must be stored before anything is granted."""

    step: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The code is not accepted."""

    reason: Reason


def new_secret() -> str:
    """A random secret of 160 bits, base32."""
    return pyotp.random_base32()


def provisioning_uri(secret: str, email: str) -> str:
    """The `otpauth://` address that authenticator programs read, often as a QR code. It contains the secret."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def verify(secret: str, code: str, now: float, last_step: int) -> Accepted | Rejected:
    """Check a typed code at time `now` (seconds); spaces in it do not matter."""
    digits = "".join(code.split())
    if len(digits) != 6 or not digits.isascii() or not digits.isdigit():
        return Rejected(Reason.MALFORMED)
    totp = pyotp.TOTP(secret, interval=STEP_S)
    current = int(now // STEP_S)
    matched: int | None = None
    # Every step is compared whatever the outcome of the one before, and the newest match counts.
    for step in range(current - WINDOW_STEPS, current + WINDOW_STEPS + 1):
        if step >= 0 and hmac.compare_digest(totp.generate_otp(step), digits):
            matched = step
    if matched is None:
        return Rejected(Reason.WRONG)
    if matched <= last_step:
        return Rejected(Reason.USED)
    return Accepted(matched)
