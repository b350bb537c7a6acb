"""MariaDB and MySQL: dumps by `mariadb-dump`, and putting them back by `mariadb`.

`--single-transaction` reads all InnoDB tables as of one moment without holding anybody up. Tables of other engines
(MyISAM, Aria, MEMORY) know no moment: they are dumped as they are met, and named in a remark. Rows go out by primary
key and without a date, so that two dumps differ only where the data does. Where only Oracle's `mysqldump` is there,
that is used; it was not run here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.errors import DatabaseError
from agent.sources.configured import Connection, MariadbSource
from agent.sources.dumps import Call, ProgramDump, found, uid_of
from agent.sources.streaming import StreamFile
from agent.system.handing import handed, read_password
from transport.errors import UsageError

TRAILER: Final = b"-- Dump completed"
ASK_S: Final = 120.0
_PACKAGE: Final = "mariadb-client"
_NAMED: Final = 8
_DUMP: Final = (
    *("--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob", "--skip-dump-date"),
    *("--order-by-primary", "--no-tablespaces", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"),
)
_OTHER_ENGINES: Final = (
    "SELECT t.table_name FROM information_schema.tables t JOIN information_schema.engines e ON e.engine = t.engine"
    " WHERE t.table_schema = DATABASE() AND t.table_type = 'BASE TABLE' AND e.transactions <> 'YES' ORDER BY 1"
)
_SIZE: Final = (
    "SELECT COALESCE(SUM(data_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()"
)


class Server:
    """The client programs with one way to a server. Use it as a context manager: a password is handed on meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stack = contextlib.ExitStack()
        self._first: list[str] = []
        self._fds: tuple[int, ...] = ()

    def __enter__(self) -> Server:
        connection = self._connection
        if connection.password_file and connection.defaults_file:
            raise UsageError("a password file or an option file: the one holds what the other would")
        if connection.defaults_file:
            self._first = [f"--defaults-extra-file={connection.defaults_file}"]
        elif connection.password_file:
            password = read_password(connection.password_file).replace("\\", "\\\\").replace('"', '\\"')
            secret = self._stack.enter_context(handed(f'[client]\npassword="{password}"\n', uid_of(connection.run_as)))
            self._first, self._fds = [f"--defaults-extra-file={secret.path}"], secret.pass_fds
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, programs: tuple[str, ...], *words: str) -> Call:
        """A call of the first of these programs that is there."""
        connection = self._connection
        where = [
            *([f"--host={connection.host}"] if connection.host else []),
            *([f"--port={connection.port}"] if connection.port else []),
            *([f"--socket={connection.socket}"] if connection.socket else []),
            *([f"--user={connection.user}"] if connection.user else []),
        ]
        path = ""
        for name in programs:
            with contextlib.suppress(DatabaseError):
                path = path or found(name, _PACKAGE)
        if not path:
            raise DatabaseError(f"{programs[0]} is not installed on this machine: it comes with {_PACKAGE}")
        return Call([path, *self._first, *where, *words], connection.run_as, {}, self._fds)

    def ask(self, query: str, database: str = "") -> list[str]:
        """The rows of a query of one column."""
        words = ["--connect-timeout=20", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"]
        call = self.call(("mariadb", "mysql"), *words, f"--execute={query}", *([database] if database else []))
        return call.run(ASK_S, limit=1 << 22).decode("utf-8", "replace").splitlines()

    def dump(self, database: str, *words: str) -> Call:
        """A call of the dumping program."""
        call = self.call(("mariadb-dump", "mysqldump"), *_DUMP, *words)
        oracle = ["--set-gtid-purged=OFF"] if Path(call.argv[0]).name == "mysqldump" and not _is_mariadb(call) else []
        return Call([*call.argv, *oracle, database], call.run_as, call.extra, call.pass_fds)


def _is_mariadb(call: Call) -> bool:
    return b"MariaDB" in Call([call.argv[0], "--version"]).run(ASK_S)


class MariadbDumper:
    """Dumps one database."""

    def __init__(self, source: MariadbSource, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self.remarks: list[str] = []
        self.keep: Path | None = None

    @contextlib.contextmanager
    def open(self, check: Callable[[], None]) -> Iterator[StreamFile]:
        """A dump of this moment."""
        self.remarks = []
        database = self._source.database
        with Server(self._source.connection) as server:
            (size,) = server.ask(_SIZE, database) or ["0"]
            self.remarks = remarks(server.ask(_OTHER_ENGINES, database))
            dump = ProgramDump(
                server.dump(database), head=b"", trailer=TRAILER, folder=self._folder, check=check
            )
            try:
                yield StreamFile(dump.read, int(size), self.keep)
            finally:
                dump.close()

    def probe(self) -> str:
        """Whether a dump would succeed, in a sentence; DatabaseError where it would not."""
        with Server(self._source.connection) as server:
            (version,) = server.ask("SELECT VERSION()", self._source.database) or ["?"]
            (size,) = server.ask(_SIZE, self._source.database) or ["0"]
            if TRAILER not in server.dump(self._source.database, "--no-data").run(ASK_S):
                raise DatabaseError("the dump did not come to its end")
            others = remarks(server.ask(_OTHER_ENGINES, self._source.database))
        return "; ".join([f"{version}, {int(size) / 1e6:.1f} MB", *others])


def remarks(tables: list[str]) -> list[str]:
    """What is to be said about tables without transactions."""
    if not tables:
        return []
    named = ", ".join(tables[:_NAMED]) + (f" and {len(tables) - _NAMED} more" if len(tables) > _NAMED else "")
    which = "table is" if len(tables) == 1 else "tables are"
    return [
        f"{len(tables)} {which} of an engine without transactions ({named}): not of the same moment as the others, and "
        "perhaps torn; ALTER TABLE … ENGINE=InnoDB mends that"
    ]


def put_back(connection: Connection, file: Path, into: str, *, replace: bool, stamp: str) -> str:
    """Load a dump into a new database; nothing is kept of a former one, so the empty string is returned.

    The client ends at the first error; a new database is then dropped again. MariaDB cannot give a database another
    name: with `replace` the dump is loaded twice, once beside the old one to prove that it can be, then in its place.
    UsageError where the database exists and `replace` is not said.
    """
    name = into.replace("\\", "\\\\").replace("'", "\\'")
    with Server(connection) as server:
        found = server.ask(
            "SELECT CONCAT(default_character_set_name, ' COLLATE ', default_collation_name)"
            f" FROM information_schema.schemata WHERE schema_name = '{name}'"
        )
        if found and not replace:
            raise UsageError(f"there is a database {into!r} already: name another one with --into, or say --replace")
        if found:
            trial = f"{into}_{stamp}"
            _load_new(server, trial, found[0], file)
            server.ask(f"DROP DATABASE {_identifier(trial)}")
            server.ask(f"DROP DATABASE {_identifier(into)}")
        _load_new(server, into, found[0] if found else "utf8mb4", file)
    return ""


def _load_new(server: Server, into: str, characters: str, file: Path) -> None:
    server.ask(f"CREATE DATABASE {_identifier(into)} CHARACTER SET {characters}")
    try:
        # In binary mode no line of the dump is a command of the client, `system` above all.
        words = ("--binary-mode", "--default-character-set=utf8mb4", "--max-allowed-packet=1G", into)
        server.call(("mariadb", "mysql"), *words).feed(file)
    except BaseException:
        with contextlib.suppress(DatabaseError):
            server.ask(f"DROP DATABASE {_identifier(into)}")
        raise


def _identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
