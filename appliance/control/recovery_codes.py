"""Recovery codes: ten one-time codes that stand in for a lost authenticator at login, each good once.

A code is 60 random bits in 12 letters and digits that do not look alike, stored as SHA-256 (enough for codes that
nobody chose). New ones replace all old ones. Throttling is the caller's.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from appliance.control.database import Database

CODES: Final = 10
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_LETTERS: Final = 12
_GROUP: Final = 4


def _digest(account_id: str, letters: str) -> bytes:
    return hashlib.sha256(f"pilulier/recovery-code/1\0{account_id}\0{letters}".encode()).digest()


def _letters(code: str) -> str:
    """A typed code without what people put between groups."""
    return "".join(code.split()).replace("-", "").lower()


def looks_like_one(code: str) -> bool:
    """Whether what was typed has the form of a recovery code, and not that of an authenticator's six digits."""
    letters = _letters(code)
    return len(letters) == _LETTERS and set(letters) <= set(_ALPHABET)


def renew(db: Database, account_id: str, now: float) -> tuple[str, ...]:
    """Ten new codes like `abcd-efgh-jkmn`, to be shown once; older ones stop working."""
    codes = ["".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS)) for _ in range(CODES)]
    with db.write():
        forget(db, account_id)
        for letters in codes:
            db.insert(
                "recovery_code",
                {"account_id": account_id, "code_sha256": _digest(account_id, letters), "created_at": now},
            )
    return tuple("-".join(code[i : i + _GROUP] for i in range(0, _LETTERS, _GROUP)) for code in codes)


def left(db: Database, account_id: str) -> int:
    """How many codes still work."""
    return int(db.value("SELECT count(*) AS n FROM recovery_code WHERE account_id = ?", [account_id]))


def use(db: Database, account_id: str, code: str) -> bool:
    """Whether the code was good; it is used up with this."""
    if not looks_like_one(code):
        return False
    with db.write():
        return bool(
            db.execute(
                "DELETE FROM recovery_code WHERE account_id = ? AND code_sha256 = ?",
                [account_id, _digest(account_id, _letters(code))],
            )
        )


def forget(db: Database, account_id: str) -> None:
    """Make all of an account's codes worthless."""
    with db.write():
        db.execute("DELETE FROM recovery_code WHERE account_id = ?", [account_id])
