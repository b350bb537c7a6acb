"""The databases of one backup: who dumps each, and the listings that the scan is given besides what the disk holds.

Rule: the folder is Pilulier's; a real one of that name at the top of a disk is left out and said so. Each dump counts
as changed at every backup, since only the dump itself can tell; where it turns out to be the same, nothing but its time
is sent.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from agent.scanner import Found, Listing, ScanWarning, path_ids
from agent.sending import Sent
from agent.settings import AgentHome
from agent.sources.configured import Databases, MariadbSource, PostgresqlSource, Source, SqliteSource
from agent.sources.places import FOLDER, TOP, file_name, folder_path, top_path
from agent.sources.raw_databases import RawDatabases
from agent.system import owners, views
from agent.system.paths import joined
from transport.names import ROOT, PathId
from transport.sealing import VaultKeys
from transport.tree import FileType

if TYPE_CHECKING:
    from agent.sources.dumps import Dumper
    from agent.sources.mariadb import MariadbDumper
    from agent.sources.postgresql import PostgresqlDumper
    from agent.sources.sqlite import SqliteDumper


def dumper_of(source: Source, home: AgentHome) -> SqliteDumper | PostgresqlDumper | MariadbDumper:
    """What dumps it. Loaded only where there is a source: what starts programs costs a backup some milliseconds."""
    match source:
        case SqliteSource():
            from agent.sources.sqlite import SqliteDumper

            return SqliteDumper(source, home.dumps)
        case PostgresqlSource():
            from agent.sources.postgresql import PostgresqlDumper

            return PostgresqlDumper(source, home.dumps)
        case MariadbSource():
            from agent.sources.mariadb import MariadbDumper

            return MariadbDumper(source, home.dumps)


class Dumped:
    """The databases of one backup."""

    def __init__(self, home: AgentHome, databases: Databases, keys: VaultKeys) -> None:
        self._sources = databases.sources
        self._path_id = path_ids(keys)
        self._home = home
        self.dumpers: dict[bytes, Dumper] = {
            joined(folder_path(), file_name(source).encode()): dumper_of(source, home) for source in self._sources
        }
        """By path in the snapshot."""
        self.raw = RawDatabases(home, databases)

    def keep(self, wanted: bool) -> None:
        """Whether dumps are kept to the end of the run: a copy on site that lags reads contents once more then, and a
        dump cannot be made twice. `close` lets them go."""
        if self.dumpers:
            self._home.dumps.mkdir(mode=0o700, exist_ok=True)
        for number, dumper in enumerate(self.dumpers.values()):
            dumper.keep = self._home.dumps / f"kept-{number}" if wanted else None

    def close(self) -> None:
        """Let go of what was kept."""
        for path in self.dumpers:
            views.uncover(path)
        self._clear()

    def remarks(self, sent: Sent) -> list[ScanWarning]:
        """What is to be said of a dump that succeeded; nothing of other files. One that was kept is found from now."""
        path = sent.wanted.path
        if path not in self.dumpers:
            return []
        kept = self.dumpers[path].keep
        if kept is not None and kept.exists():
            views.cover(path, os.fsencode(kept))
        return [*(ScanWarning(path, remark) for remark in sent.remarks), *self.raw.grown(path, sent.size)]

    def failed(self, path: bytes, say: Callable[[str, str, str], None]) -> None:
        """A file could not be read: of a dump the machine's log says so, without its name."""
        if path in self.dumpers:
            say("warning", "databases", "A database could not be dumped; its last good copy, if there is one, stays")

    def besides(self, scan: Iterable[Listing], *, dump: bool = True) -> Iterator[Listing]:
        """The listings of a scan, and those of the databases' folder right after the top's.

        Without `dump`, for a run that looks only where something changed: the last dumps stay as they are.
        """
        self._clear()
        self.raw.of_open_ones = dump
        if not self._sources:
            yield from scan
            return
        real = top_path()
        for listing in scan:
            if listing.path == b"/" and dump:
                yield from self._at_the_top(listing)
            elif listing.path == b"/":
                children = [child for child in listing.children if child.name != TOP]
                unsure = listing.unsure | {self._path_id(ROOT, TOP)}
                yield dataclasses.replace(listing, children=children, unsure=unsure)
            elif listing.path != real and not listing.path.startswith(real + b"/"):
                yield listing

    def _clear(self) -> None:
        """Remove what an earlier run, or a restore, left behind when it was killed: whole databases, in clear."""
        if self._home.dumps.is_dir():
            for path in self._home.dumps.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def _at_the_top(self, listing: Listing) -> Iterator[Listing]:
        now_ns = time.time_ns()
        # The time of the keys' folder: it stays, so that the two folders count as unchanged.
        made_ns = os.stat(self._home.keys).st_mtime_ns
        top = self._found(ROOT, TOP, FileType.FOLDER, made_ns)
        folder = self._found(top.path_id, FOLDER, FileType.FOLDER, made_ns)
        others = [child for child in listing.children if child.name != TOP]
        warnings = listing.warnings
        if len(others) < len(listing.children):
            reason = "left out: this name is where the dumps of databases stand in a snapshot"
            warnings = (*warnings, ScanWarning(top_path(), reason))
        children = sorted([*others, top], key=lambda child: child.name)
        yield dataclasses.replace(listing, children=children, warnings=warnings)
        yield _listing(top_path(), top, [folder])
        files = [
            self._found(folder.path_id, file_name(source).encode(), FileType.FILE, now_ns, source)
            for source in self._sources
        ]
        yield _listing(folder_path(), folder, sorted(files, key=lambda child: child.name))

    def _found(
        self, parent: PathId, name: bytes, form: FileType, at_ns: int, source: Source | None = None
    ) -> Found:
        size, mode = 0, 0o700 if form is FileType.FOLDER else 0o600
        uid, gid = owners.my_numbers()
        if isinstance(source, SqliteSource):
            try:  # it is the copy of a file: restored, it is to belong to whom that belonged
                status = os.stat(source.path)
            except OSError:
                pass
            else:
                size, mode, uid, gid = status.st_size, status.st_mode & 0o777, status.st_uid, status.st_gid
        return Found(
            name, self._path_id(parent, name), parent, form, size, mode, at_ns, at_ns, uid, gid, 0, 0, 1, 0, b"", b""
        )


def _listing(path: bytes, folder: Found, children: list[Found]) -> Listing:
    return Listing(path, folder.path_id, folder, children, error=None, complete=True, included=False)
