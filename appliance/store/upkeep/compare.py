"""Comparing two catalogs of one repository: what is held must be the same, whatever way it was come by.

Looks at what a restore could ever use: commits, the entries and folder digests of held snapshots, their batches,
versions and pages, the segments that these name, and what is held for an upload. What only says how a catalog came
about (row numbers, sessions, dead rows not swept yet) is left out. Reads only.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final

from appliance.store import succession
from appliance.store.catalog import FOREVER
from appliance.store.layout import pack_name

_SHOWN: Final = 20
"""Differences named of each kind; the rest is counted."""

_HELD: Final = "EXISTS (SELECT 1 FROM snapshot s WHERE NOT s.retired AND s.number >= {0}.born AND s.number < {0}.died)"
_VISIBLE: Final = "(({0}.died > :head AND {0}.born <= :head) OR (" + _HELD + "))"
_ENDED: Final = f"CASE WHEN {{0}}.died > :head THEN {FOREVER} ELSE {{0}}.died END"
_NEEDED: Final = "SELECT version FROM entry e WHERE " + _VISIBLE.format("e")

_QUERIES: Final = (
    (
        "snapshot",
        "SELECT number, hash, record, signature, entry_count, received_ms, bytes_received, retired FROM snapshot "
        "ORDER BY number",
    ),
    (
        "entry",
        f"SELECT e.path, e.born, {_ENDED.format('e')}, e.parent, e.kind, e.size, e.version, e.idx, e.token, e.sealed, "
        "b.epoch, b.salt, b.commitment FROM entry e LEFT JOIN batch b ON b.number = e.batch "
        f"WHERE {_VISIBLE.format('e')} ORDER BY e.path, e.born",
    ),
    (
        "folder digest",
        f"SELECT f.path, f.born, {_ENDED.format('f')}, f.digest FROM folder f WHERE {_VISIBLE.format('f')} "
        "ORDER BY f.path, f.born",
    ),
    ("version", f"SELECT id, size, span, body FROM version WHERE id IN ({_NEEDED}) ORDER BY id"),
)


def compare(left: sqlite3.Connection, right: sqlite3.Connection, names: tuple[str, str]) -> list[str]:
    """Sentences about what differs, empty where both hold the same. `names` are what the two are called in them."""
    found: list[str] = []
    heads = [connection.execute("SELECT head, live_entries FROM state").fetchone() for connection in (left, right)]
    if heads[0][0] != heads[1][0]:
        found.append(f"{names[0]} ends with snapshot {heads[0][0]}, {names[1]} with {heads[1][0]}")
    for what, query in _QUERIES:
        found += _differences(what, _rows(left, query), _rows(right, query), names)
    found += _differences("succession", _successions(left), _successions(right), names)
    found += _differences("page", _pages(left, _named_pages(left)), _pages(right, _named_pages(right)), names)
    found += _differences("segment", _segments(left), _segments(right), names)
    return found


def _rows(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    head = connection.execute("SELECT head FROM state").fetchone()[0]
    yield from connection.execute(query, {"head": head} if ":head" in query else {})


def _successions(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    yield from enumerate(succession.records(connection), 1)


def _named_pages(connection: sqlite3.Connection) -> list[int]:
    numbers: set[int] = set()
    for (body,) in _rows(connection, f"SELECT body FROM version WHERE span > 0 AND id IN ({_NEEDED})"):
        numbers.update(int.from_bytes(body[at : at + 8], "big") for at in range(0, len(body), 8))
    numbers.discard(0)
    return sorted(numbers)


def _pages(connection: sqlite3.Connection, numbers: list[int]) -> Iterator[tuple[Any, ...]]:
    for number in numbers:
        row = connection.execute("SELECT number, length, extents FROM page WHERE number = ?", (number,)).fetchone()
        yield row or (number, "absent")


def _segments(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """The segments that versions which are needed name, and those that no snapshot covers yet."""
    named: set[bytes] = set()
    bodies = _rows(connection, f"SELECT body FROM version WHERE span = 0 AND id IN ({_NEEDED})")
    pages = (row[2] for row in _pages(connection, _named_pages(connection)) if len(row) == 3)
    for packed in itertools.chain((row[0] for row in bodies), pages):
        named.update(packed[at : at + 16] for at in range(0, len(packed), 28))
    rows = connection.execute(
        "SELECT s.id, s.pack, p.generation, s.offset, s.length, s.plain, "
        "s.number > (SELECT committed_segment FROM state) "
        "FROM segment s LEFT JOIN pack p ON p.number = s.pack ORDER BY s.id"
    )
    for row in rows:
        if row[0] in named or row[6]:
            yield row


def _differences(
    what: str, left: Iterable[tuple[Any, ...]], right: Iterable[tuple[Any, ...]], names: tuple[str, str]
) -> list[str]:
    """Both are ordered by their first one or two columns; a merge names what only one has, or has otherwise."""
    keys = 2 if what in ("entry", "folder digest") else 1
    found: list[str] = []
    count = 0

    def tell(text: str) -> None:
        nonlocal count
        count += 1
        if count <= _SHOWN:
            found.append(text)

    first, second = iter(left), iter(right)
    a, b = next(first, None), next(second, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[:keys] < b[:keys]):
            assert a is not None
            tell(f"{what} {_shown(what, a, keys)} is only in {names[0]}")
            a = next(first, None)
        elif a is None or b[:keys] < a[:keys]:
            tell(f"{what} {_shown(what, b, keys)} is only in {names[1]}")
            b = next(second, None)
        else:
            if a != b:
                tell(f"{what} {_shown(what, a, keys)} is not the same in {names[0]} and {names[1]}")
            a, b = next(first, None), next(second, None)
    if count > _SHOWN:
        found.append(f"{count - _SHOWN} more differences of this kind ({what})")
    return found


def _shown(what: str, row: tuple[Any, ...], keys: int) -> str:
    text = " ".join(value.hex() if isinstance(value, bytes) else str(value) for value in row[:keys])
    return f"{text} in {pack_name(row[1])}" if what == "segment" and isinstance(row[1], int) else text
