"""Histories for the tests of pruning: an agent that works on a few files, out of a seed, and what must be left of it.

`Worker` drives a `Client`; `Liveness` says, slowly and from the client's memory alone, what a repository has to hold.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from appliance.store.pages import Layout as VersionLayout
from appliance.store.pages import unpack_extents
from tests.appliance.store_builder import Client
from transport.names import NO_VERSION, ZERO_SEGMENT, VersionId

BIG_BYTES = 1_300_000
"""More than an inline version may have, so that it is paged; holes mostly, so that it costs little."""


@dataclass
class Worker:
    """Files by name, and something done to them every day."""

    client: Client
    seed: int
    files: dict[tuple[bytes, ...], VersionId] = field(default_factory=dict)
    folders: list[tuple[bytes, ...]] = field(default_factory=list)
    days: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def day(self, steps: int = 4, *, commit: bool = True) -> None:
        """A session with some steps of work, committed or left as a killed agent leaves it."""
        self.days += 1
        files, folders = dict(self.files), list(self.folders)
        self.client.begin()
        for step in range(self.random.randint(0, steps)):
            self._step(b"%d-%d" % (self.days, step))
        if commit:
            self.client.commit()
        else:
            self.files, self.folders = files, folders

    def _step(self, name: bytes) -> None:
        actions = [self._small, self._big, self._folder]
        if self.files:
            actions += [self._edit, self._edit, self._delete, self._move]
        self.random.choice(actions)(name)

    def _place(self, name: bytes) -> tuple[bytes, ...]:
        return (*self.random.choice([(), *self.folders]), name)

    def _put(self, names: tuple[bytes, ...], version: VersionId) -> None:
        self.client.stage(self.client.entries(self.client.entry(names, version)))
        self.files[names] = version

    def _small(self, name: bytes) -> None:
        version, items = self.client.whole(self.random.randbytes(self.random.randint(1, 3000)), piece=1000)
        self.client.stage(*items)
        self._put(self._place(name), version)

    def _big(self, name: bytes) -> None:
        parts = [self.random.randbytes(50), BIG_BYTES // 2, self.random.randbytes(50), BIG_BYTES // 2]
        version, items = self.client.delta(NO_VERSION, parts)
        self.client.stage(*items)
        self._put(self._place(name), version)

    def _folder(self, name: bytes) -> None:
        self.folders.append(self._place(name))
        self.client.put_folders(self.folders[-1])

    def _edit(self, _: bytes) -> None:
        names = self.random.choice(sorted(self.files))
        base = self.files[names]
        size = len(self.client.contents[base])
        at = self.random.randrange(size)
        version, items = self.client.delta(base, [(0, at), self.random.randbytes(70), (at, size - at)][at == 0 :])
        self.client.stage(*items)
        self._put(names, version)

    def _delete(self, _: bytes) -> None:
        names = self.random.choice(sorted(self.files))
        del self.files[names]
        self.client.stage(self.client.deaths(self.client.path(*names)))

    def _move(self, name: bytes) -> None:
        names = self.random.choice(sorted(self.files))
        version = self.files.pop(names)
        self.client.stage(self.client.deaths(self.client.path(*names)))
        self._put(self._place(name), version)

    def forget(self, numbers: Collection[int]) -> None:
        """These snapshots were retired."""
        for number in numbers:
            self.client.committed.pop(number, None)


def assert_live(folder: Path, client: Client, *, leased: bool = False) -> None:
    """The catalog holds what the held snapshots need, and nothing else; with `leased`, perhaps more."""
    needed = {
        (number, record.path_id, record.version_id)
        for number, entries in client.committed.items()
        for record in entries.values()
    }
    connection = sqlite3.connect(folder / "catalog.sqlite")
    try:
        held = client.committed.keys() - {0}
        entries = connection.execute("SELECT path, version, born, died, batch FROM entry").fetchall()
        assert needed == {
            (number, path, version)
            for path, version, born, died, _ in entries
            for number in held
            if born <= number < died
        }
        head = client.number
        if not leased:
            assert all(any(born <= number < died for number in held) for _, _, born, died, _ in entries if born <= head)
        versions = dict(connection.execute("SELECT id, number FROM version").fetchall())
        layouts = {
            row[0]: VersionLayout(*row[1:])
            for row in connection.execute("SELECT id, size, span, body FROM version").fetchall()
        }
        wanted = {version for _, _, version in needed} - {NO_VERSION}
        pages = dict(connection.execute("SELECT number, extents FROM page").fetchall())
        segments = {row[0] for row in connection.execute("SELECT id FROM segment")}
        live_pages, live_segments = set[int](), set[bytes]()
        for version in wanted:
            numbers = set(layouts[version].page_numbers()) - {0}
            live_pages |= numbers
            bodies = [pages[number] for number in numbers] or [layouts[version].body]
            live_segments |= {extent[0] for body in bodies for extent in unpack_extents(body)} - {ZERO_SEGMENT}
        batches = {row[0] for row in connection.execute("SELECT number FROM batch")}
        live_batches = {batch for *_, batch in entries}
        folders = connection.execute("SELECT born, died FROM folder").fetchall()
    finally:
        connection.close()
    if leased:
        assert wanted <= versions.keys() and live_pages <= pages.keys() and live_segments <= segments
    else:
        assert wanted == versions.keys() and live_pages == pages.keys() and live_segments == segments
        assert live_batches == batches
        assert all(any(born <= number < died for number in held) for born, died in folders)
