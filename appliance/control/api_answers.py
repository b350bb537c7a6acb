"""Answers of the REST API's writes, kept for a day: who asks again with the same key gets the same answer.

Rules: a key belongs to a token; the same key with another request is a conflict. Written in the transaction of the
act, so that either both happened or neither. An answer that held a secret is not kept: that it was given is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from appliance.control.database import Database
from appliance.errors import ConflictError

LIFE_S: Final = 86400.0
KEY_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was answered; `body` is None where it held a secret."""

    status: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Asking:
    """A write as a program asks for it, with the key under which it may ask again."""

    token_id: str
    key: str
    method: str
    path: str
    body: bytes

    def digest(self) -> bytes:
        """What tells it from another under the same key, 32 bytes."""
        parts = (self.method.encode(), self.path.encode(), self.body)
        return hashlib.sha256(b"pilulier/api-request/1\0" + b"\0".join(parts)).digest()


def find(db: Database, asking: Asking, now: float) -> KeptAnswer | None:
    """What this token was answered under this key; ConflictError where it asked for something else then."""
    row = db.row(
        "SELECT asked_sha256, status, body, at FROM api_answer WHERE token_id = ? AND key = ?",
        [asking.token_id, asking.key],
    )
    if row is None or now - row["at"] >= LIFE_S:
        return None
    if row["asked_sha256"] != asking.digest():
        raise ConflictError("this idempotency key was used for another request: take a new one for each")
    return KeptAnswer(row["status"], row["body"])


def keep(db: Database, asking: Asking, answer: KeptAnswer, now: float) -> None:
    """Remember an answer for a day. Belongs into the transaction of the act; what is older goes on the way."""
    with db.write():
        db.execute(
            "DELETE FROM api_answer WHERE at <= ? OR (token_id = ? AND key = ?)",
            [now - LIFE_S, asking.token_id, asking.key],
        )
        db.insert(
            "api_answer",
            {
                "token_id": asking.token_id,
                "key": asking.key,
                "asked_sha256": asking.digest(),
                "status": answer.status,
                "body": answer.body,
                "at": now,
            },
        )
