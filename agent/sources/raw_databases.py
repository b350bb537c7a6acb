"""Database files that a backup reads as they lie there: what is said of one that is open, or has grown large.

Owns which files count as databases (by name, SQLite also by its first bytes), and how often a word is said: of an open
one at each backup that reads it, since that copy may be torn; of a large one when it passes the threshold, and again
when it has grown by half since. Looks only at files that are being read anyway, and asks the system once a run who has
what open. A database that is dumped as well (`agent.sources.dumped`) is passed over.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from agent.scanner import Found, Listing, ScanWarning
from agent.settings import AgentHome
from agent.sources.configured import Databases, MariadbSource, PostgresqlSource, SqliteSource
from agent.system.open_files import open_elsewhere
from agent.system.paths import joined

_MAGIC: Final = b"SQLite format 3\0"
_LOOK_INSIDE_BYTES: Final = 1 << 20
"""Of a file without a telling name, from this size on the first bytes are looked at."""
_AGAIN: Final = 1.5
_KEPT: Final = 1000
_STEP_GB: Final = 1e9

_HOOK: Final = "let its own software make a copy before each backup (pilulier-agent hooks add before), and back that up"


class _Kind(msgspec.Struct, frozen=True):
    """A kind of database: its name, the better way, and what lies beside an open one (by the file's name)."""

    name: str
    way: str
    beside: tuple[bytes, ...] = ()
    """Suffixes to the whole name."""
    instead: tuple[bytes, ...] = ()
    """Suffixes in place of the extension."""
    many: bool = False
    """A folder full of files is one database."""


_SQLITE: Final = _Kind("a SQLite database", "pilulier-agent source add sqlite {path}", (b"-wal", b"-journal"))
_INNODB: Final = _Kind("a MariaDB or MySQL server's data", "pilulier-agent source add mariadb --database …")
_POSTGRESQL: Final = _Kind("a PostgreSQL server's data", "pilulier-agent source add postgresql --database …")
_ACCESS: Final = _Kind("an Access database", _HOOK, (), (b".ldb", b".laccdb"))
_BY_EXTENSION: Final = {
    b"sqlite": _SQLITE, b"sqlite3": _SQLITE, b"db3": _SQLITE, b"s3db": _SQLITE, b"db": _SQLITE,
    b"mdb": _ACCESS, b"accdb": _ACCESS,
    b"fic": _Kind("an HFSQL database", _HOOK, many=True),
    b"fdb": _Kind("a Firebird database", "let gbak make a copy before each backup (pilulier-agent hooks add before)"),
    b"gdb": _Kind("a Firebird or InterBase database", _HOOK),
    b"mdf": _Kind("a SQL Server database", _HOOK),
    b"dbf": _Kind("a dBase or FoxPro database", _HOOK, many=True),
}  # fmt: skip


class RawDatabases:
    """The words of one backup."""

    def __init__(
        self, home: AgentHome, databases: Databases, opened: Callable[[], frozenset[bytes]] = open_elsewhere
    ) -> None:
        self._home = home
        self._threshold = databases.threshold_bytes
        self._dumped = {os.fsencode(s.path) for s in databases.sources if isinstance(s, SqliteSource)}
        self._servers = {
            kind
            for source, kind in ((MariadbSource, _INNODB.name), (PostgresqlSource, _POSTGRESQL.name))
            if any(isinstance(one, source) for one in databases.sources)
        }
        self._opened = opened
        self._open: frozenset[bytes] | None = None
        self._said = _load(home) if self._threshold else {}
        self._found: dict[tuple[bytes, str], list[bytes]] = {}
        """Open ones, by path (a folder's where many files are one) and kind."""
        self._kinds: dict[str, _Kind] = {}
        self.of_open_ones = True
        """Whether open ones are told: not by runs that follow each change, which come every few minutes."""

    def look(self, listing: Listing, found: Found) -> Sequence[ScanWarning]:
        """A file that is about to be read; what is to be said of its size at once."""
        path = joined(listing.path, found.name)
        kind = _kind(path, found)
        if kind is None:
            return ()
        if kind.name not in self._servers and path not in self._dumped and self._in_use(path, kind, listing, found):
            self._kinds[kind.name] = kind
            self._found.setdefault((listing.path if kind.many else path, kind.name), []).append(path)
        return self.grown(path, found.size)

    def grown(self, path: bytes, size: int) -> Sequence[ScanWarning]:
        """What is to be said of a database of this size: nothing below the threshold, and not the same twice."""
        if not self._threshold:
            return ()
        key = path.hex()
        if size <= self._threshold:
            self._said.pop(key, None)
            return ()
        if size < _AGAIN * self._said.get(key, 0):
            return ()
        self._said[key] = size
        reason = (
            f"this database has grown to {size / _STEP_GB:.1f} GB, beyond {self._threshold / _STEP_GB:g} GB: see "
            "whether old data can be archived, and how much its software bears (pilulier-agent source threshold SIZE)"
        )
        return (ScanWarning(path, reason),)

    def warnings(self) -> list[ScanWarning]:
        """One for each database that was open while it was read; what was said of sizes is kept."""
        _save(self._home, self._said)
        told: list[ScanWarning] = []
        if not self.of_open_ones:
            return told
        for (_, name), paths in self._found.items():
            kind, path = self._kinds[name], paths[0]
            others = f" (and {len(paths) - 1} more files of its folder)" if len(paths) > 1 else ""
            way = kind.way.format(path=path.decode("utf-8", "backslashreplace"))
            told.append(
                ScanWarning(path, f"{name} that is in use{others}: its copy may be torn; the better way: {way}")
            )
        return told

    def _in_use(self, path: bytes, kind: _Kind, listing: Listing, found: Found) -> bool:
        if kind is _POSTGRESQL:
            return os.path.exists(os.path.dirname(listing.path) + b"/postmaster.pid")
        beside = {found.name + suffix for suffix in kind.beside}
        beside |= {found.name.rpartition(b".")[0] + suffix for suffix in kind.instead}
        if beside and any(child.size and child.name in beside for child in listing.children):
            return True
        if self._open is None:
            self._open = self._opened()
        return path in self._open


def _kind(path: bytes, found: Found) -> _Kind | None:
    name = found.name
    if name == b"ibdata1":
        return _INNODB
    if name == b"pg_control" and os.path.basename(os.path.dirname(path)) == b"global":
        return _POSTGRESQL
    kind = _BY_EXTENSION.get(name.rpartition(b".")[2].lower()) if b"." in name else None
    if kind is None and found.size >= _LOOK_INSIDE_BYTES:
        kind = _SQLITE
    if kind is _SQLITE and not _is_sqlite(path):
        return None
    return kind


def _is_sqlite(path: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return os.read(descriptor, len(_MAGIC)) == _MAGIC
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _load(home: AgentHome) -> dict[str, int]:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(home.large_databases.read_bytes(), type=dict[str, int])
    return {}


def _save(home: AgentHome, said: dict[str, int]) -> None:
    if said == _load(home):
        return
    new = home.large_databases.with_name(f"{home.large_databases.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # it is said once more then, which harms nobody
        new.write_bytes(msgspec.json.encode(dict(list(said.items())[-_KEPT:])))
        os.replace(new, home.large_databases)
