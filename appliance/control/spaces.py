"""Spaces: a reseller's tenant, to which accounts and contracts belong.

The first space is the default one; its contracts and accounts are not special. Names are unique without
regard to case; a command may give either the id or the name.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.control.database import Database, new_id
from appliance.control.text import checked_line
from appliance.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True)
class Space:
    """A tenant. `created_at` in seconds since 1970."""

    id: str
    name: str
    created_at: float


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
