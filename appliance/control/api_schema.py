"""A step of the schema: tokens of the REST API, and the answers of writes that may be asked for again."""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    # Of one space, whatever its maker may see: a token that leaks must not open the neighbours.
    """CREATE TABLE api_token (
        id TEXT PRIMARY KEY,
        space_id TEXT NOT NULL REFERENCES space(id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        prefix TEXT NOT NULL,
        secret_sha256 BLOB NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
        permissions TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        used_at REAL,
        used_from TEXT NOT NULL DEFAULT '',
        revoked_at REAL,
        revoked_by TEXT
    ) STRICT""",
    "CREATE INDEX api_token_space ON api_token(space_id, created_at)",
    # body is NULL where the answer held a secret, which is kept nowhere.
    """CREATE TABLE api_answer (
        token_id TEXT NOT NULL REFERENCES api_token(id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        asked_sha256 BLOB NOT NULL CHECK (length(asked_sha256) = 32),
        status INTEGER NOT NULL,
        body BLOB,
        at REAL NOT NULL,
        PRIMARY KEY (token_id, key)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX api_answer_at ON api_answer(at)",
)
