"""The audit log: every act of accounts and commands, one line each, chained by hashes so that an altered line shows.

Canonical bytes of a line: JSON (RFC 8259) of an array of its columns in the order of `_CHAINED`, ASCII only, no
spaces. Its hash is SHA-256 over a label, the hash of the line before (32 zero bytes for the first) and those bytes.
Lines are numbered without gaps; the newest number and hash stand apart, so that a cut tail is missed. Whoever can
rewrite the whole file can rewrite the chain: `Verification.head` noted elsewhere is what catches that.

A line belongs to the space and contract of what it is about; without a space only the super-user sees it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.control.accounts import Account
from appliance.control.database import Database
from appliance.control.scope import Scope, over
from appliance.control.text import one_line

_LABEL: Final = b"pilulier/audit/1\0"
_START: Final = bytes(32)
_CHAINED: Final = (
    *("line", "at_ms", "account_id", "email", "role", "address", "kind", "object_kind", "object_id", "object_name"),
    *("space_id", "contract_id", "before", "after"),
)
_BATCH: Final = 1000
_VALUE_LIMIT: Final = 20_000
PAGE_LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from which network address; empty where the appliance itself does."""

    account_id: str
    email: str
    role: str
    address: str


SYSTEM: Final = Actor("", "pilulier", "system", "")
"""The appliance by itself."""


@dataclass(frozen=True, slots=True)
class Act:
    """One line. `at` in seconds since 1970; `before` and `after` are JSON text or None."""

    line: int
    at: float
    account_id: str
    email: str
    role: str
    address: str
    kind: str
    object_kind: str
    object_id: str
    object_name: str
    space_id: str | None
    contract_id: str | None
    before: str | None
    after: str | None
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some acts, newest first; `next` is the cursor of the page after, None on the last one."""

    acts: list[Act]
    next: int | None


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk of the chain found: lines that hold, the number of the first that does not, the newest hash."""

    ok: bool
    lines: int
    first_altered: int | None
    head: bytes


def actor_of(account: Account, address: str) -> Actor:
    """A person, at a network address."""
    return Actor(account.id, account.email, str(account.role), one_line(address, 64))


def command_line(user: str) -> Actor:
    """Whoever typed a command on the appliance, as its operating system knows them."""
    return Actor("", one_line(user, 254), "command line", "")


def _hash(previous: bytes, row: dict[str, Any]) -> bytes:
    canonical = json.dumps([row[name] for name in _CHAINED], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(_LABEL + previous + canonical.encode("ascii")).digest()


def _value(value: object) -> str | None:
    """What is kept of a before or after: sorted JSON, or a note that it was too long."""
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= _VALUE_LIMIT else json.dumps({"too_long": len(text)})


def _act(row: dict[str, Any]) -> Act:
    return Act(at=row.pop("at_ms") / 1000, **row)


def write(
    db: Database,
    actor: Actor,
    kind: str,
    *,
    now: float,
    object_kind: str = "",
    object_id: str = "",
    object_name: str = "",
    space_id: str | None = None,
    contract_id: str | None = None,
    before: object = None,
    after: object = None,
) -> Act:
    """Add a line, best in the transaction of the act itself. `before` and `after` are what JSON can say."""
    with db.write():
        head = db.row("SELECT line, hash FROM audit_head WHERE id = 1")
        previous = head["hash"] if head else _START
        row: dict[str, Any] = {
            "line": head["line"] + 1 if head else 1,
            "at_ms": int(now * 1000),
            "account_id": actor.account_id,
            "email": actor.email,
            "role": actor.role,
            "address": actor.address,
            "kind": one_line(kind, 80),
            "object_kind": one_line(object_kind, 40),
            "object_id": one_line(object_id, 100),
            "object_name": one_line(object_name, 254),
            "space_id": space_id,
            "contract_id": contract_id,
            "before": _value(before),
            "after": _value(after),
        }
        row["hash"] = _hash(previous, row)
        db.insert("audit", row)
        db.execute(
            "INSERT INTO audit_head (id, line, hash) VALUES (1, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET line = excluded.line, hash = excluded.hash",
            [row["line"], row["hash"]],
        )
        return _act(row)


def _filters(
    scope: Scope,
    text: str,
    account_id: str | None,
    kind: str | None,
    since: float | None,
    until: float | None,
    email: str | None = None,
) -> tuple[str, list[object]]:
    where = over(scope, space="audit.space_id", contract="audit.contract_id")
    sql, parameters = [where.sql], list[object](where.parameters)
    for condition, value in (
        ("account_id = ?", account_id),
        ("email = ?", email),
        ("kind = ?", kind),
        ("at_ms >= ?", None if since is None else int(since * 1000)),
        ("at_ms < ?", None if until is None else int(until * 1000)),
    ):
        if value is not None:
            sql.append(condition)
            parameters.append(value)
    if text.strip():
        # instr, not LIKE: what people type has no wildcards. lower() folds ASCII only.
        sql.append(
            "instr(lower(email || ' ' || kind || ' ' || object_id || ' ' || object_name || ' ' || address || ' ' || "
            "coalesce(before, '') || ' ' || coalesce(after, '')), lower(?)) > 0"
        )
        parameters.append(text.strip())
    return " AND ".join(sql), parameters


def search(
    db: Database,
    scope: Scope,
    *,
    text: str = "",
    account_id: str | None = None,
    kind: str | None = None,
    since: float | None = None,
    until: float | None = None,
    email: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> AuditPage:
    """Acts in a scope, newest first, from under line `before` on; `text` is looked for in names, values, addresses."""
    limit = max(1, min(limit, PAGE_LIMIT))
    sql, parameters = _filters(scope, text, account_id, kind, since, until, email)
    rows = db.rows(
        f"SELECT {', '.join(_CHAINED)}, hash FROM audit WHERE {sql} AND line < ? ORDER BY line DESC LIMIT ?",
        [*parameters, 2**62 if before is None else before, limit + 1],
    )
    acts = [_act(row) for row in rows[:limit]]
    return AuditPage(acts, acts[-1].line if len(rows) > limit else None)


def kinds(db: Database, scope: Scope) -> list[str]:
    """The kinds of act in a scope, for a filter's list."""
    sql, parameters = _filters(scope, "", None, None, None, None)
    return [row["kind"] for row in db.rows(f"SELECT DISTINCT kind FROM audit WHERE {sql} ORDER BY kind", parameters)]


def authors(db: Database, scope: Scope) -> list[str]:
    """Who acted in a scope, for a filter's list: addresses of accounts, and names of those who typed commands."""
    sql, parameters = _filters(scope, "", None, None, None, None)
    return [row["email"] for row in db.rows(f"SELECT DISTINCT email FROM audit WHERE {sql} ORDER BY email", parameters)]


def export(
    db: Database,
    scope: Scope,
    *,
    text: str = "",
    account_id: str | None = None,
    kind: str | None = None,
    since: float | None = None,
    until: float | None = None,
    email: str | None = None,
) -> Iterator[Act]:
    """All acts that a search would find, oldest first, in short statements so that writers get through."""
    sql, parameters = _filters(scope, text, account_id, kind, since, until, email)
    last = 0
    while rows := db.rows(
        f"SELECT {', '.join(_CHAINED)}, hash FROM audit WHERE {sql} AND line > ? ORDER BY line LIMIT ?",
        [*parameters, last, _BATCH],
    ):
        last = rows[-1]["line"]
        yield from map(_act, rows)


def verify(db: Database, known_head: bytes | None = None) -> Verification:
    """Walk the chain from its first line to its head.

    `first_altered` is the first number at which a line is missing or differs from what the chain says. With
    `known_head`, a head noted earlier, a chain in which it no longer occurs counts as altered from line 1.
    """
    head = db.row("SELECT line, hash FROM audit_head WHERE id = 1")
    previous, last, known = _START, 0, known_head is None
    while rows := db.rows(
        f"SELECT {', '.join(_CHAINED)}, hash FROM audit WHERE line > ? ORDER BY line LIMIT ?", [last, _BATCH]
    ):
        for row in rows:
            if row["line"] != last + 1 or _hash(previous, row) != row["hash"]:
                return Verification(False, last, last + 1, previous)
            previous, last = row["hash"], row["line"]
            known = known or previous == known_head
    # Lines written while this walked follow the head that was read first.
    if head is not None and (last < head["line"] or (last == head["line"] and previous != head["hash"])):
        return Verification(False, last, last + 1, previous)
    if head is None and last:
        return Verification(False, last, last + 1, previous)
    return Verification(known, last, None if known else 1, previous)
