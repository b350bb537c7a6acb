"""PostgreSQL: dumps by `pg_dump` in plain SQL, and putting them back by `psql`.

pg_dump reads in one transaction of level REPEATABLE READ: all tables as of one moment, whatever is written meanwhile.
`--serializable-deferrable` is left out on purpose: its manual page says that it is of no use for a dump that is only to
bring a database back, and it may wait without end. Plain SQL, uncompressed and in the order of the table, is what an
rsync delta can follow. The random key of `\\restrict` in newer dumps is left random: it guards the restore, and costs a
delta two blocks.

The dump knows owners by name but does not make them, so it gets a head that makes the missing ones, without a password
and without the right to log in: on a new server they are there, on the old one nothing changes.
"""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.errors import DatabaseError
from agent.sources.configured import Connection, PostgresqlSource
from agent.sources.dumps import Call, ProgramDump, found, uid_of
from agent.sources.streaming import StreamFile
from agent.system.handing import handed, read_password
from transport.errors import UsageError

TRAILER: Final = b"PostgreSQL database dump complete"
ASK_S: Final = 120.0
_HEAD_BYTES: Final = 4 << 20
"""Roles come first, then the settings."""
_LOCKS_WAIT: Final = "600s"
_PACKAGE: Final = "postgresql-client"
_ROLES: Final = """
SELECT format(
  'DO $pilulier$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %L) THEN CREATE ROLE %I NOLOGIN;'
  ' END IF; END $pilulier$;', rolname, rolname)
FROM (
  SELECT r.rolname FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
  WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
    AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  UNION SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10
) roles ORDER BY rolname
"""
_ANY: Final = "postgres"
"""A database that every server has, to ask from where the wanted one is not there yet."""
_SIZE: Final = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"


def _folders() -> list[str]:
    """Where Debian keeps the programs of each version, the newest first."""
    return sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: path.split("/")[4].zfill(4), reverse=True)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def connection_string(connection: Connection, database: str) -> str:
    """What the programs are told about the way (libpq, "Connection Strings"): no secret."""
    parts = {
        "service": connection.service,
        "host": connection.host,
        "port": str(connection.port or ""),
        "user": connection.user,
        "dbname": database,
        "connect_timeout": "20",
        "application_name": "pilulier",
    }
    return " ".join(f"{key}={_quoted(value)}" for key, value in parts.items() if value)


class Server:
    """The client programs with one way to a server. Use it as a context manager: a password is handed on meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stack = contextlib.ExitStack()
        self._extra: dict[str, str] = {}
        self._fds: tuple[int, ...] = ()

    def __enter__(self) -> Server:
        if self._connection.password_file:
            password = read_password(self._connection.password_file)
            line = "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"
            secret = self._stack.enter_context(handed(line, uid_of(self._connection.run_as)))
            self._extra, self._fds = {"PGPASSFILE": secret.path}, secret.pass_fds
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, program: str, database: str, *words: str) -> Call:
        """A call of `pg_dump` or `psql`; never asks for a password."""
        where = ["--no-password", f"--dbname={connection_string(self._connection, database)}"]
        path = found(program, _PACKAGE, _folders())
        return Call([path, *where, *words], self._connection.run_as, self._extra, self._fds)

    def ask(self, database: str, query: str) -> list[str]:
        """The rows of a query of one column."""
        words = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", f"--command={query}")
        call = self.call("psql", database, *words)
        return call.run(ASK_S, limit=1 << 22).decode().splitlines()


class PostgresqlDumper:
    """Dumps one database."""

    def __init__(self, source: PostgresqlSource, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self.remarks: list[str] = []
        self.keep: Path | None = None

    @contextlib.contextmanager
    def open(self, check: Callable[[], None]) -> Iterator[StreamFile]:
        """A dump of this moment."""
        database = self._source.database
        with Server(self._source.connection) as server:
            (size,) = server.ask(database, _SIZE) or ["0"]
            head = "".join(f"{line}\n" for line in server.ask(database, _ROLES)) + "\n"
            call = server.call("pg_dump", database, "--format=plain", f"--lock-wait-timeout={_LOCKS_WAIT}")
            dump = ProgramDump(
                call, head=head.encode(), trailer=TRAILER, folder=self._folder, check=check
            )
            try:
                yield StreamFile(dump.read, int(size), self.keep)
            finally:
                dump.close()

    def probe(self) -> str:
        """Whether a dump would succeed, in a sentence; DatabaseError where it would not."""
        with Server(self._source.connection) as server:
            (size,) = server.ask(self._source.database, _SIZE) or ["0"]
            (version,) = server.ask(self._source.database, "SHOW server_version") or ["?"]
            schema = server.call("pg_dump", self._source.database, "--format=plain", "--schema-only")
            if TRAILER not in schema.run(ASK_S):
                raise DatabaseError("pg_dump did not come to its end")
        return f"PostgreSQL {version}, {int(size) / 1e6:.1f} MB"


def put_back(connection: Connection, file: Path, into: str, *, replace: bool, stamp: str) -> str:
    """Load a dump into a new database. Returns the name under which a former one was kept, if there was one.

    All or nothing: one transaction, ended by the first error. UsageError where the database exists and `replace` is not
    said; with it the new one is loaded beside the old one first, and only then do the two change names.
    """
    with Server(connection) as server:
        exists = bool(server.ask(_ANY, f"SELECT 1 FROM pg_catalog.pg_database WHERE datname = {_literal(into)}"))
        if exists and not replace:
            raise UsageError(f"there is a database {into!r} already: name another one with --into, or say --replace")
        fresh = f"{into}_{stamp}" if exists else into
        server.ask(_ANY, f"CREATE DATABASE {_identifier(fresh)} TEMPLATE template0 {_encoding_of(file)}")
        try:
            words = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", "--output=/dev/null")
            server.call("psql", fresh, *words, "--file=-").feed(file)
        except BaseException:
            with contextlib.suppress(DatabaseError):
                server.ask(_ANY, f"DROP DATABASE {_identifier(fresh)}")
            raise
        if not exists:
            return ""
        kept = f"{into}_before_{stamp}"
        for step in (
            f"ALTER DATABASE {_identifier(into)} WITH ALLOW_CONNECTIONS false",
            f"SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity"
            f" WHERE datname = {_literal(into)}",
            f"ALTER DATABASE {_identifier(into)} RENAME TO {_identifier(kept)}",
            f"ALTER DATABASE {_identifier(fresh)} RENAME TO {_identifier(into)}",
            f"ALTER DATABASE {_identifier(kept)} WITH ALLOW_CONNECTIONS true",
        ):
            try:
                server.ask(_ANY, step)
            except DatabaseError as error:
                raise DatabaseError(
                    f"{error}; what was restored stands complete as {fresh!r}, the former one as {into!r} or {kept!r}"
                ) from None
        return kept


def _encoding_of(file: Path) -> str:
    """The clause for the encoding that the dump names: the new database must take the same characters."""
    with open(file, "rb") as dump:
        found = re.search(rb"^SET client_encoding = '([A-Za-z0-9_]+)';$", dump.read(_HEAD_BYTES), re.MULTILINE)
    return f"ENCODING '{found[1].decode()}'" if found else ""


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
