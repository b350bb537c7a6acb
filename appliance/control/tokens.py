"""Random tokens that grant something: 256 bits, shown once as text, stored as SHA-256 under a label.

The label keeps apart what looks alike: a link out of a mail is never a session. Pure; knows no table.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

TOKEN_BYTES: Final = 32
_TEXT_LIMIT: Final = 64


def new_token() -> str:
    """A fresh token, 43 URL-safe letters."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(purpose: str, token: str) -> bytes:
    """What is stored of a token, 32 bytes. Text of any length and kind is taken: it comes from a cookie or a link."""
    # What is longer than any token is cut and so matches none.
    return hashlib.sha256(
        b"pilulier/" + purpose.encode() + b"/1\0" + token[:_TEXT_LIMIT].encode("utf-8", "surrogatepass")
    ).digest()
