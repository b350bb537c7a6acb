"""Passwords as scrypt hashes (RFC 7914) that carry their own parameters.

Owns the stored form `scrypt$n$r$p$salt$hash`. A stored hash is ours, yet its parameters are bounded when read,
so that an altered row costs an error and not all memory. Knows no account.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import Final

from transport.errors import PilulierError, UsageError

MINIMUM_LETTERS: Final = 8
MAXIMUM_BYTES: Final = 1024
_N, _R, _P = 2**15, 8, 3
"""32 MiB and about 0.2 s: OWASP's equivalent of n = 2**17, p = 1 with a quarter of its memory."""
_MEMORY_LIMIT: Final = 128 * 1024 * 1024
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


def checked_password(password: str) -> str:
    """The password; UsageError where it is too short or too long."""
    if len(password) < MINIMUM_LETTERS:
        raise UsageError(f"the password has {len(password)} characters: at least {MINIMUM_LETTERS} are needed")
    if len(password.encode()) > MAXIMUM_BYTES:
        raise UsageError(f"the password is longer than {MAXIMUM_BYTES} bytes: choose a shorter one")
    return password


def hash_password(password: str) -> str:
    """A new salted hash in stored form."""
    salt = os.urandom(_SALT_BYTES)
    digest = _scrypt(password, salt, _N, _R, _P)
    return f"scrypt${_N}${_R}${_P}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def verify_password(password: str, stored: str) -> bool:
    """Whether the password is the one hashed; PilulierError where the stored form is damaged."""
    try:
        name, n, r, p, salt, digest = stored.split("$")
        parameters = int(n), int(r), int(p)
        if name != "scrypt" or not (
            2 <= parameters[0] <= 2**20 and 1 <= parameters[1] <= 32 and 1 <= parameters[2] <= 16
        ):
            raise ValueError(name)
        found = _scrypt(password, base64.b64decode(salt, validate=True), *parameters)
        return hmac.compare_digest(found, base64.b64decode(digest, validate=True))
    except ValueError:
        raise PilulierError("a stored password hash is damaged: set a new password for this account") from None


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_LIMIT, dklen=_HASH_BYTES)
