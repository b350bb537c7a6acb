"""Looking into this machine's snapshots for the pages: one connection, kept for as long as somebody looks.

Listings need no code: they open with this machine's key alone. Everything shown was proved against the signed history.
One look at a time; a line that broke is opened once more. Closed after `KEPT_S` without a look.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from agent.client import Client
from agent.enrolling import Enrolled, check_welcome, enrolled
from agent.history import proved
from agent.ledger import last_head
from agent.remote import RemoteSource
from agent.settings import AgentHome
from transport.errors import PilulierError, UnreachableError
from transport.snapshot_reader import Node, Selection, Snapshot, SnapshotReader

_Found = TypeVar("_Found")

KEPT_S: Final = 8.0
"""Shorter than the appliance waits for a sign of life."""
HISTORY_S: Final = 60.0
CONNECT_S: Final = 8.0
_READERS: Final = 4
MATCHES: Final = 200


@dataclass(frozen=True, slots=True)
class Matches:
    """What a search found: the first entries, and how many there are."""

    nodes: tuple[Node, ...]
    total: int


class Lookout:
    """Any thread; looks wait for each other."""

    def __init__(self, home: AgentHome) -> None:
        self._home = home
        self._lock = threading.RLock()
        self._machine: Enrolled | None = None
        self._client: Client | None = None
        self._snapshots: list[Snapshot] = []
        self._snapshots_at: float | None = None
        self._readers: dict[int, SnapshotReader] = {}
        self._closing: threading.Timer | None = None
        self._matches: tuple[tuple[int, str], Matches] | None = None

    def snapshots(self, *, anew: bool = False) -> list[Snapshot]:
        """All snapshots, oldest first. PilulierError."""
        with self._lock:
            old = self._snapshots_at is None or time.monotonic() - self._snapshots_at > HISTORY_S
            if old or anew:
                self._look(self._read_history)
            return self._snapshots

    def children(self, snapshot: int, path: bytes) -> list[Node]:
        """A folder's entries in a snapshot, sorted by name. UsageError where it does not hold the folder."""
        return self._look(lambda: self._reader(snapshot).listing(path))

    def find(self, snapshot: int, path: bytes) -> Node | None:
        """An entry of a snapshot."""
        return self._look(lambda: self._reader(snapshot).find(path))

    def select(
        self, snapshot: int, paths: Sequence[bytes], observe: Callable[[int], None] | None = None
    ) -> Selection:
        """All that a restore of these paths would take."""
        return self._look(lambda: self._reader(snapshot).select(paths, observe))

    def search(self, snapshot: int, text: str) -> Matches:
        """Entries whose name holds the text, whatever the case of its letters; the first `MATCHES` by path.

        Reads the whole tree of the snapshot, some seconds for 300,000 entries, once for the same question again.
        """
        asked = (snapshot, text.casefold())
        with self._lock:
            if self._matches is None or self._matches[0] != asked:
                self._matches = (asked, self._look(lambda: self._search(*asked)))
            return self._matches[1]

    def _search(self, snapshot: int, text: str) -> Matches:
        found: list[Node] = []
        total = 0
        for node in self._reader(snapshot).whole_tree():
            if text in node.name.decode("utf-8", "backslashreplace").casefold():
                total += 1
                if len(found) < MATCHES:
                    found.append(node)
        return Matches(tuple(found), total)

    def close(self) -> None:
        """Look no more."""
        with self._lock:
            if self._closing is not None:
                self._closing.cancel()
            self._shut()

    def _look(self, look: Callable[[], _Found]) -> _Found:
        with self._lock:
            kept = self._client is not None
            try:
                if not kept:
                    self._open()
                try:
                    return look()
                except UnreachableError:
                    if not kept:
                        raise
                    self._open()  # the line was an old one
                    return look()
            except PilulierError:
                # An answer may still be under way: the next look must not take it for its own.
                self._shut()
                raise
            finally:
                self._close_later()

    def _open(self) -> None:
        self._shut()
        self._machine = enrolled(self._home)
        self._client = self._machine.client()
        check_welcome(self._machine, self._client.connect(CONNECT_S))

    def _shut(self) -> None:
        self._readers.clear()
        if self._client is not None:
            with contextlib.suppress(PilulierError):
                self._client.close()
        self._client = None

    def _close_later(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = threading.Timer(KEPT_S, self.close)
        self._closing.daemon = True
        self._closing.start()

    def _read_history(self) -> None:
        machine, client = self._machine, self._client
        assert machine is not None and client is not None
        self._snapshots = list(proved(machine, RemoteSource(client), last_head(self._home)).snapshots)
        self._snapshots_at = time.monotonic()

    def _reader(self, number: int) -> SnapshotReader:
        reader = self._readers.get(number)
        if reader is None:
            machine, client = self._machine, self._client
            assert machine is not None and client is not None
            if self._snapshots_at is None or all(one.number != number for one in self._snapshots):
                self._read_history()
            chosen = next((one for one in self._snapshots if one.number == number), None)
            if chosen is None:
                raise NoSnapshotError(f"snapshot {number} is not there any more")
            while len(self._readers) >= _READERS:
                self._readers.pop(next(iter(self._readers)))
            reader = self._readers[number] = SnapshotReader(RemoteSource(client), machine.sealer(), chosen)
        return reader


class NoSnapshotError(PilulierError):
    """The snapshot that was asked for is not kept any more."""

    code = "no-snapshot"
