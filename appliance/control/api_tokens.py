"""Tokens of the REST API: what a program of a software vendor shows in place of a person's login.

Rules: a token is of one space and sees nothing else, whoever made it; it is shown once and stored as SHA-256; it says
what it may do, and ends by itself. Its last use is written at most once a minute, since it costs an fsync. A token is
no person: in the audit log it stands under its own name and prefix, with the role `token`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control import tokens
from appliance.control.audit import Actor
from appliance.control.database import Database, new_id
from appliance.control.scope import OneSpace, Scope, over
from appliance.control.text import checked_line, one_line
from appliance.errors import ConflictError, NotFoundError
from transport.errors import UsageError

NAME_LIMIT: Final = 80
LONGEST_DAYS: Final = 730
"""Two years: a program that is still in use has its token renewed by somebody who looks."""
LIVE_LIMIT: Final = 50
"""Live tokens of a space at most."""
_PURPOSE: Final = "api-token"
_USE_S: Final = 60.0
_BEGIN: Final = "plr"
_PREFIX_LETTERS: Final = 6


class Permission(StrEnum):
    """What a token may do."""

    READ = "read"
    """See contracts, machines, snapshots, statistics, logs, alerts and backups under way."""
    WRITE = "write"
    """Make and change contracts, hand out enrolment codes, set machines, ask for backups, answer for alerts."""
    DELETE = "delete"
    """Ask for deletions and revoke machines."""
    RESTORE = "restore"
    """Open confided backups, together with a person's one-time code."""
    AUDIT = "audit"
    """Read the audit log."""


class TokenState(StrEnum):
    """Where a token stands."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """One token, without its secret. `prefix` is how it begins, for people to know it by. Times in seconds."""

    id: str
    space_id: str
    name: str
    prefix: str
    permissions: frozenset[Permission]
    created_by: str
    created_at: float
    expires_at: float
    used_at: float | None
    used_from: str
    revoked_at: float | None
    revoked_by: str | None

    def state(self, now: float) -> TokenState:
        """Where it stands at time `now`."""
        if self.revoked_at is not None:
            return TokenState.REVOKED
        return TokenState.LIVE if now < self.expires_at else TokenState.EXPIRED

    @property
    def scope(self) -> Scope:
        """What it sees."""
        return OneSpace(self.space_id)


@dataclass(frozen=True, slots=True)
class NewApiToken:
    """A token with its secret, shown once. Its repr does not show it."""

    token: ApiToken
    text: str

    def __repr__(self) -> str:
        return f"NewApiToken({self.token.prefix}…)"


_COLUMNS: Final = (
    "id, space_id, name, prefix, permissions, created_by, created_at, expires_at, used_at, used_from, revoked_at, "
    "revoked_by"
)


def _token(row: dict[str, Any]) -> ApiToken:
    granted = frozenset(Permission(word) for word in row["permissions"].split())
    return ApiToken(**{**row, "permissions": granted})


def create(
    db: Database,
    *,
    space_id: str,
    name: str,
    permissions: Iterable[Permission],
    days: int,
    by: str,
    now: float,
) -> NewApiToken:
    """A new token of a space, good for so many days; UsageError, ConflictError where the name is taken."""
    name = checked_line(name, "the token's name", NAME_LIMIT)
    granted = sorted({Permission(one) for one in permissions})
    if not granted:
        raise UsageError("a token without a permission opens nothing: give it at least one")
    if not 1 <= days <= LONGEST_DAYS:
        raise UsageError(f"{days} days are out of range: give 1 to {LONGEST_DAYS}")
    prefix = f"{_BEGIN}_{secrets.token_hex(_PREFIX_LETTERS // 2)}"
    text = f"{prefix}_{tokens.new_token()}"
    with db.write():
        live = [one for one in every(db, OneSpace(space_id)) if one.state(now) is TokenState.LIVE]
        if any(one.name.lower() == name.lower() for one in live):
            raise ConflictError(f"a token named {name} exists already: choose another name, or revoke it")
        if len(live) >= LIVE_LIMIT:
            raise UsageError(f"this space has {LIVE_LIMIT} tokens already: revoke those that are not used")
        made = ApiToken(
            id=new_id("k"),
            space_id=space_id,
            name=name,
            prefix=prefix,
            permissions=frozenset(granted),
            created_by=one_line(by, 254),
            created_at=now,
            expires_at=now + days * 86400.0,
            used_at=None,
            used_from="",
            revoked_at=None,
            revoked_by=None,
        )
        db.insert(
            "api_token",
            {
                "id": made.id,
                "space_id": space_id,
                "name": name,
                "prefix": prefix,
                "secret_sha256": tokens.digest(_PURPOSE, text),
                "permissions": " ".join(granted),
                "created_by": made.created_by,
                "created_at": now,
                "expires_at": made.expires_at,
            },
        )
    return NewApiToken(made, text)


def every(db: Database, scope: Scope) -> list[ApiToken]:
    """The tokens in a scope, the newest first; a customer's scope holds none."""
    where = over(scope, space="api_token.space_id", contract="NULL")
    rows = db.rows(
        f"SELECT {_COLUMNS} FROM api_token WHERE {where.sql} ORDER BY created_at DESC, rowid DESC", where.parameters
    )
    return [_token(row) for row in rows]


def find(db: Database, scope: Scope, token_id: str) -> ApiToken:
    """One token in a scope; NotFoundError otherwise."""
    for one in every(db, scope):
        if one.id == token_id:
            return one
    raise NotFoundError("there is no such token here")


def revoke(db: Database, scope: Scope, token_id: str, *, by: str, now: float) -> ApiToken:
    """End a token at once; one that was revoked before stays as it is."""
    with db.write():
        found = find(db, scope, token_id)
        if found.revoked_at is None:
            db.update("api_token", found.id, {"revoked_at": now, "revoked_by": one_line(by, 254)})
            # What it may ask for again ends with it.
            db.execute("DELETE FROM api_answer WHERE token_id = ?", [found.id])
        return find(db, scope, token_id)


def presented(db: Database, text: str, *, address: str, now: float) -> ApiToken | None:
    """The live token that a request shows, its use written down; None for every other text."""
    row = db.row(
        f"SELECT {_COLUMNS} FROM api_token WHERE secret_sha256 = ?", [tokens.digest(_PURPOSE, text)]
    )  # fmt: skip
    if row is None:
        return None
    found = _token(row)
    if found.state(now) is not TokenState.LIVE:
        return None
    # A use from the future was written before the clock was set back.
    if found.used_at is None or not 0 <= now - found.used_at < _USE_S:
        with db.write():
            db.update("api_token", found.id, {"used_at": now, "used_from": one_line(address, 64)})
    return found


def actor_of(token: ApiToken, address: str) -> Actor:
    """The token as it stands in the audit log."""
    return Actor(token.id, f"{token.name} ({token.prefix})", "token", one_line(address, 64))
