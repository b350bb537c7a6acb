"""Spaces: a reseller's tenant, to which accounts and contracts belong.

The first space is the default one; its contracts and accounts are not special. Names are unique without
regard to case; a command may give either the id or the name.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.control.contracts import LATEST_COMPLETE
from appliance.control.database import Database, new_id
from appliance.control.scope import Scope, over_space
from appliance.control.text import checked_line
from appliance.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True)
class Space:
    """A tenant. `created_at` in seconds since 1970."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class SpaceCard:
    """A space with what it holds; volumes are the source bytes of latest complete snapshots."""

    space: Space
    contracts: int
    machines: int
    used_bytes: int
    allocated_bytes: int
    accounts: int


def add(db: Database, name: str, now: float) -> Space:
    """A new space; ConflictError where the name is taken."""
    name = checked_line(name, "the name of a space", 100)
    space = Space(new_id("s"), name, now)
    with db.write():
        if db.row("SELECT id FROM space WHERE name = ?", [name]):
            raise ConflictError(f"a space named {name} exists already: choose another name")
        db.insert("space", {"id": space.id, "name": space.name, "created_at": now})
    return space


def every(db: Database) -> list[Space]:
    """All spaces, oldest first."""
    return [Space(**row) for row in db.rows("SELECT id, name, created_at FROM space ORDER BY created_at, rowid")]


def find(db: Database, id_or_name: str) -> Space:
    """The space with this id or name; NotFoundError otherwise."""
    row = db.row(
        "SELECT id, name, created_at FROM space WHERE id = ? OR name = ? ORDER BY id = ? DESC",
        [id_or_name, id_or_name, id_or_name],
    )
    if row is None:
        raise NotFoundError(f"there is no space {id_or_name!r}: see 'pilulier space list'")
    return Space(**row)


def default(db: Database) -> Space:
    """The oldest space; NotFoundError where there is none yet."""
    spaces = every(db)
    if not spaces:
        raise NotFoundError("there is no space yet: add one with 'pilulier space add NAME'")
    return spaces[0]


def rename(db: Database, space: Space, name: str) -> Space:
    """Another name; ConflictError where it is taken."""
    name = checked_line(name, "the name of a space", 100)
    with db.write():
        if db.row("SELECT id FROM space WHERE name = ? AND id != ?", [name, space.id]):
            raise ConflictError(f"a space named {name} exists already: choose another name")
        db.update("space", space.id, {"name": name})
    return Space(space.id, name, space.created_at)


def in_scope(db: Database, scope: Scope) -> list[Space]:
    """The spaces that a scope lies in or holds, oldest first."""
    where = over_space(scope)
    rows = db.rows(
        f"SELECT id, name, created_at FROM space WHERE {where.sql} ORDER BY created_at, rowid", where.parameters
    )
    return [Space(**row) for row in rows]


def cards(db: Database, scope: Scope) -> list[SpaceCard]:
    """The spaces in a scope with all that they hold, oldest first: not for customers, who see a part of one."""
    where = over_space(scope)
    rows = db.rows(
        "WITH volume AS (SELECT machine.contract_id, count(*) AS machines, total(latest.bytes_source) AS used "
        "FROM machine LEFT JOIN snapshot_statistics AS latest "
        f"ON latest.machine_id = machine.id AND latest.number = {LATEST_COMPLETE} GROUP BY machine.contract_id), "
        "held AS (SELECT contract.space_id, count(*) AS contracts, total(volume.machines) AS machines, "
        "total(volume.used) AS used, total(contract.allocated_bytes) AS allocated "
        "FROM contract LEFT JOIN volume ON volume.contract_id = contract.id GROUP BY contract.space_id), "
        "people AS (SELECT coalesce(account.space_id, contract.space_id) AS space_id, count(*) AS accounts "
        "FROM account LEFT JOIN contract ON contract.id = account.contract_id GROUP BY 1) "
        "SELECT space.id, space.name, space.created_at, coalesce(contracts, 0) AS contracts, "
        "CAST(coalesce(machines, 0) AS INTEGER) AS machines, CAST(coalesce(used, 0) AS INTEGER) AS used_bytes, "
        "CAST(coalesce(allocated, 0) AS INTEGER) AS allocated_bytes, coalesce(accounts, 0) AS accounts FROM space "
        "LEFT JOIN held ON held.space_id = space.id LEFT JOIN people ON people.space_id = space.id "
        f"WHERE {where.sql} ORDER BY space.created_at, space.rowid",
        where.parameters,
    )
    return [SpaceCard(Space(row.pop("id"), row.pop("name"), row.pop("created_at")), **row) for row in rows]
