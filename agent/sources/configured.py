"""What the owner of a machine set up on it: hooks, databases to dump, the size from which a database is worth a word.

Owns the shapes as they stand in config.json, and their rules. Nothing here can come from the appliance: a remote
settings change has no field for any of it (`agent.remote_settings`), and no message will get one. No password is ever
part of it: at most the name of a file that holds one.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from transport.errors import UsageError

HOOK_TIMEOUT_S: Final = 300
_DAY_S: Final = 86_400
_HOOKS: Final = 20
_SOURCES: Final = 200
THRESHOLD_BYTES: Final = 2_000_000_000
"""Where Access ends, and HFSQL and Firebird were long cut into pieces: from here on somebody should have a look."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")

Word = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
Line = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00\r\n]*$")]
Name = Annotated[str, Meta(pattern=f"^{_NAME.pattern}$")]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program to be run before or after each backup: an argument list, never a line for a shell."""

    command: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=256)]
    timeout_s: Annotated[int, Meta(ge=1, le=_DAY_S)] = HOOK_TIMEOUT_S
    required: bool = False
    """Before-hooks: where it fails there is no backup."""
    run_as: Line = ""
    """The operating system's user; empty for the agent's own."""


class Hooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All hooks, each list in the order of running."""

    before: Annotated[tuple[Hook, ...], Meta(max_length=_HOOKS)] = ()
    after: Annotated[tuple[Hook, ...], Meta(max_length=_HOOKS)] = ()

    def numbered(self) -> tuple[tuple[str, Hook], ...]:
        """(`before` or `after`, hook) in the order in which people number them, from 1."""
        return (*(("before", hook) for hook in self.before), *(("after", hook) for hook in self.after))

    def without(self, number: int) -> Hooks:
        """All but the one with this number; UsageError where there is none."""
        if not 1 <= number <= len(self.numbered()):
            raise UsageError(f"there is no hook {number}: pilulier-agent hooks list shows their numbers")
        at = number - 1
        if at < len(self.before):
            return msgspec.structs.replace(self, before=self.before[:at] + self.before[at + 1 :])
        at -= len(self.before)
        return msgspec.structs.replace(self, after=self.after[:at] + self.after[at + 1 :])


class SqliteSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sqlite"):
    """A SQLite file that is in use."""

    name: Name
    path: Word


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach a database server; what is empty or 0 is left to its client program."""

    host: Line = ""
    """A name, an address, or for PostgreSQL the folder of its socket."""
    port: Port = 0
    socket: Line = ""
    """MariaDB's socket."""
    user: Line = ""
    password_file: Line = ""
    """A file of mode 0600 whose only line is the password."""
    service: Line = ""
    """PostgreSQL: a section of pg_service.conf."""
    defaults_file: Line = ""
    """MariaDB: an option file that its clients read first."""
    run_as: Line = ""
    """The operating system's user whom the server knows (peer authentication)."""


class PostgresqlSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="postgresql"):
    """A PostgreSQL database."""

    name: Name
    database: Line
    connection: Connection = Connection()


class MariadbSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mariadb"):
    """A MariaDB or MySQL database."""

    name: Name
    database: Line
    connection: Connection = Connection()


def checked_name(name: str) -> str:
    """The name, fit for a source; UsageError otherwise."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"{name!r} is no name for a source: give --name, of letters, digits, dots, - and _")
    return name


Source = SqliteSource | PostgresqlSource | MariadbSource


class Volumes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether disks are frozen while a backup reads them."""

    freeze: bool = False


class Databases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The databases to dump with each backup, and the size of one from which a word is said."""

    sources: Annotated[tuple[Source, ...], Meta(max_length=_SOURCES)] = ()
    threshold_bytes: Annotated[int, Meta(ge=0)] = THRESHOLD_BYTES
    """0: no word is said."""

    def named(self, name: str) -> Source:
        """The source of this name; UsageError where there is none."""
        for source in self.sources:
            if source.name == name:
                return source
        raise UsageError(f"there is no source {name!r}: pilulier-agent source list shows their names")

    def adding(self, source: Source) -> Databases:
        """With one more; UsageError where its name is taken or is none."""
        checked_name(source.name)
        if any(one.name.lower() == source.name.lower() for one in self.sources):
            raise UsageError(f"there is a source {source.name!r} already: give this one another --name, or remove it")
        if len(self.sources) >= _SOURCES:
            raise UsageError(f"a machine has {_SOURCES} sources at most")
        return msgspec.structs.replace(self, sources=(*self.sources, source))

    def without(self, name: str) -> Databases:
        """All but this one; UsageError where there is none."""
        gone = self.named(name)
        return msgspec.structs.replace(self, sources=tuple(one for one in self.sources if one is not gone))
