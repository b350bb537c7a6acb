"""SQLite: a copy by SQLite's own backup interface, in small steps beside the software that writes.

The copy is a file in the agent's home for as long as it is read: pages keep their places, so that the delta passes
over those that did not change (`VACUUM INTO` would move them all). With a write-ahead log the copy is of one moment and
holds nobody up. Without one, each step takes the lock anew and a write in between begins the copy again; after a few
times it is made in one step, and writers wait for as long as that takes, some seconds a gigabyte. What was copied is
checked (`PRAGMA quick_check`) before it may replace the last good copy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.errors import DatabaseError
from agent.reading import SourceFile
from agent.sources.configured import SqliteSource
from agent.system import namespaces
from agent.system.open_files import open_elsewhere
from transport.errors import UsageError

STEP_PAGES: Final = 4096
"""16 MB a step at pages of 4 KiB: a writer waits some hundredths of a second."""
RESTARTS: Final = 3
LOCKED_S: Final = 60.0
_PAUSE_S: Final = 0.01
_RESERVE_BYTES: Final = 64 << 20


class _BeganAgain(Exception):
    """A write in between made the copy begin again, once too often."""


class SqliteDumper:
    """Copies one database file."""

    def __init__(self, source: SqliteSource, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self.remarks: list[str] = []
        self.keep: Path | None = None

    @contextlib.contextmanager
    def open(self, check: Callable[[], None]) -> Iterator[SourceFile]:
        """A copy of this moment."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{self._source.name}.{os.getpid()}.sqlite"
        try:
            # In everybody's view: a database whose disk was frozen could not be opened where nothing can be written.
            namespaces.outside(lambda: copy(self._source.path, path, check))
            with SourceFile(os.fsencode(path)) as file:
                yield file
            if self.keep is not None:
                with contextlib.suppress(OSError):
                    os.replace(path, self.keep)
        finally:
            for suffix in ("", "-journal", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    def probe(self) -> str:
        """Whether the file can be read as a database, in a sentence; DatabaseError where it cannot."""
        with _reading(self._source.path) as database:
            (mode,) = database.execute("PRAGMA journal_mode").fetchone()
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        return f"SQLite, {pages * page_bytes / 1e6:.1f} MB, journal {mode}"


@contextlib.contextmanager
def _reading(path: str) -> Iterator[sqlite3.Connection]:
    """A connection that writes nothing; DatabaseError in place of SQLite's own."""
    if not os.path.isfile(path):
        raise DatabaseError(f"{path} is not there, or not a file")
    address = "file:" + urllib.parse.quote(path) + "?mode=ro"
    try:
        database = sqlite3.connect(address, uri=True, timeout=LOCKED_S, isolation_level=None)
        try:
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        raise DatabaseError(f"SQLite cannot read {path}: {error}") from None


def copy(path: str, to: Path, check: Callable[[], None]) -> None:
    """Make `to`, a checked copy of the database at `path` as of one moment; DatabaseError where that cannot be done."""
    to.unlink(missing_ok=True)
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with _reading(path) as database, contextlib.closing(sqlite3.connect(to, isolation_level=None)) as target:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
        free = shutil.disk_usage(to.parent).free
        needed = pages * page_bytes + _RESERVE_BYTES
        if free < needed:
            raise DatabaseError(
                f"a copy of {path} needs {needed / 1e6:.0f} MB in {to.parent}, and {free / 1e6:.0f} MB are free"
            )
        target.execute("PRAGMA synchronous = OFF")  # nobody needs this file after a power cut
        (mode,) = database.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            database.execute("BEGIN")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            database.backup(target, pages=STEP_PAGES, progress=_Progress(check), sleep=_PAUSE_S)
        except _BeganAgain:
            database.backup(target, pages=-1, progress=_Progress(check, RESTARTS + 1))
        target.execute("PRAGMA synchronous = OFF")
        (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DatabaseError(f"{path} is damaged, so is its copy: {str(verdict)[:200]}")


class _Progress:
    """Watches a copy: how often it began again, and how long nothing moved."""

    def __init__(self, check: Callable[[], None], restarts: int = 0) -> None:
        self._check = check
        self._often = restarts > RESTARTS
        self._restarts = restarts
        self._last: int | None = None
        self._moved = time.monotonic()

    def __call__(self, status: int, remaining: int, total: int) -> None:
        self._check()
        waits = status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        if self._last is not None and remaining >= self._last and not waits:  # a step that came no further began anew
            self._restarts += 1
            if self._restarts > RESTARTS and not self._often:
                raise _BeganAgain
        if not waits:
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > LOCKED_S:
            raise DatabaseError(f"another program kept the database locked for {LOCKED_S:.0f} s")
        self._last = remaining


def put_back(file: Path, into: Path, *, replace: bool, stamp: str) -> str:
    """Put a restored file, which is consumed, to its place. Returns where a former one was moved, if there was one.

    With `replace` the former file goes aside together with its log or journal, which would tear the new one if it
    stayed. UsageError where a file stands there and `replace` is not said, or another program has it open.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        verdict = error
    if verdict != "ok":
        raise DatabaseError(f"what was restored is not whole: {str(verdict)[:200]}")
    beside = [into.with_name(into.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
    standing = [path for path in beside if os.path.lexists(path)]
    if standing and not replace:
        raise UsageError(f"{standing[0]} is there already: name another file with --into, or say --replace")
    holders = open_elsewhere()
    if os.fsencode(os.path.realpath(into)) in holders:
        raise UsageError(f"{into} is open in another program: end that first")
    kept = ""
    for path in standing:
        aside = path.with_name(f"{into.name}.before-{stamp}{path.name[len(into.name):]}")
        os.rename(path, aside)
        kept = kept or str(aside)
    os.link(file, into)  # never over a file that came meanwhile
    os.unlink(file)
    return kept
