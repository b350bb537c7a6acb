"""Which folders a commit computes anew: ancestors included, children first, whatever the shape, in little memory."""

from __future__ import annotations

import random
import sqlite3
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.store.catalog import FOREVER
from appliance.store.changed_folders import ChangedFolders
from appliance.store.errors import CommitRefusedError
from transport.names import ROOT, PathId
from transport.tree import Child, EntryKind, folder_digest, ordered_folder_digest


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = made()
    yield opened
    opened.close()


def made() -> sqlite3.Connection:
    """The two tables, as the catalog has them, as far as they matter."""
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE entry (parent BLOB, path BLOB, born INTEGER, died INTEGER, kind INTEGER, "
        "PRIMARY KEY (parent, path, born)) WITHOUT ROWID"
    )
    connection.execute("CREATE UNIQUE INDEX entry_path ON entry (path, died)")
    connection.execute("CREATE TABLE touched (folder BLOB PRIMARY KEY) WITHOUT ROWID")
    return connection


def named(number: int) -> PathId:
    """Folder `number`; 0 is the root. Ids are in no order."""
    return ROOT if number == 0 else PathId(random.Random(number).randbytes(16))


def put(connection: sqlite3.Connection, parents: dict[int, int], kind: EntryKind = EntryKind.FOLDER) -> None:
    connection.executemany(
        "INSERT INTO entry VALUES (?, ?, 1, ?, ?)",
        [(named(parent), named(number), FOREVER, int(kind)) for number, parent in parents.items()],
    )


def touch(connection: sqlite3.Connection, *numbers: int) -> None:
    connection.executemany("INSERT INTO touched VALUES (?)", [(named(number),) for number in numbers])


def in_order(connection: sqlite3.Connection) -> list[PathId]:
    gone: list[PathId] = []
    found = list(ChangedFolders(connection, gone.append).deepest_first())
    assert gone == []
    return found


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[int, int], set[int]]:
    """Parents of folders 1, 2, …, each numbered below it, and which of them were touched."""
    count = draw(st.integers(0, 30))
    parents = {number: draw(st.integers(0, number - 1)) for number in range(1, count + 1)}
    return parents, draw(st.sets(st.integers(0, count)))


@given(trees())
def test_touched_folders_and_their_ancestors_come_children_first(tree: tuple[dict[int, int], set[int]]) -> None:
    parents, touched = tree
    connection = made()
    put(connection, parents)
    touch(connection, *touched)
    wanted = set(touched)
    for number in touched:
        while number:
            number = parents[number]
            wanted.add(number)
    found = in_order(connection)
    assert sorted(found) == sorted(named(number) for number in wanted)
    places = {path: at for at, path in enumerate(found)}
    for number in wanted - {0}:
        assert places[named(number)] < places[named(parents[number])]
    connection.close()


def test_folders_that_are_gone_are_told_and_must_be_empty(connection: sqlite3.Connection) -> None:
    put(connection, {1: 0, 2: 1})
    put(connection, {3: 0}, EntryKind.FILE)
    touch(connection, 1, 3, 9)
    gone: list[PathId] = []
    assert set(ChangedFolders(connection, gone.append).deepest_first()) == {named(1), ROOT}
    assert sorted(gone) == sorted([named(3), named(9)])
    put(connection, {4: 9})
    with pytest.raises(CommitRefusedError, match=named(4).hex()):
        in_order(connection)


@pytest.mark.parametrize("parent", [7, 3])
def test_a_folder_in_something_that_is_no_living_folder_is_refused(
    connection: sqlite3.Connection, parent: int
) -> None:
    """Nothing stands under that id, or a file does; and only the folder below was touched."""
    put(connection, {3: 0}, EntryKind.FILE)
    put(connection, {1: parent, 2: 1})
    touch(connection, 2)
    with pytest.raises(CommitRefusedError, match="no living folder"):
        in_order(connection)


@pytest.mark.parametrize("ring", [{1: 1}, {1: 2, 2: 1}, {1: 2, 2: 3, 3: 1, 4: 1}])
def test_rings_are_refused(connection: sqlite3.Connection, ring: dict[int, int]) -> None:
    put(connection, ring)
    touch(connection, max(ring))
    with pytest.raises(CommitRefusedError, match="stands within itself"):
        in_order(connection)


@pytest.mark.parametrize("deep", [True, False])
def test_a_folder_costs_some_dozen_bytes(connection: sqlite3.Connection, deep: bool) -> None:
    """Python's own memory; SQLite's is not counted. A million folders must fit beside everything else."""
    count = 40_000
    put(connection, {number: number - 1 if deep else 0 for number in range(1, count + 1)})
    touch(connection, *(range(1, count + 1) if not deep else (count,)))
    tracemalloc.start()
    folders = ChangedFolders(connection, lambda folder: None)
    assert sum(1 for _ in folders.deepest_first()) == count + 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80 * count


def test_a_digest_in_order_is_that_of_the_sorted_children() -> None:
    noise = random.Random(3)
    children = [
        Child(PathId(noise.randbytes(16)), noise.randbytes(32), noise.randbytes(32) if number % 3 else None)  # type: ignore[arg-type]
        for number in range(9000)
    ]
    ordered = sorted(children, key=lambda child: child.path_id)
    assert ordered_folder_digest(iter(ordered)) == folder_digest(children)
    tracemalloc.start()
    ordered_folder_digest(Child(child.path_id, child.token, child.folder_digest) for child in ordered)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
