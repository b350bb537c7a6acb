"""The command line of hooks and databases: `hooks`, `source`, `restore-database`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from agent.sources.configured import HOOK_TIMEOUT_S

Command = Callable[..., argparse.ArgumentParser]
"""Makes one command: name, help, and `into` which subparsers."""
Group = Callable[[argparse.ArgumentParser, str], Any]
"""Makes the subparsers of a command, its choice kept under this name."""


def apart(arguments: Sequence[str]) -> tuple[Sequence[str], list[str] | None]:
    """A hook's command from all before it: argparse would look for options of ours among its arguments."""
    if "hooks" in arguments and "--" in arguments:
        at = arguments.index("--")
        return arguments[:at], list(arguments[at + 1 :])
    return arguments, None


def add_commands(command: Command, group: Group) -> None:
    """Add them to the parser."""
    _hooks(command, group)
    _sources(command, group)
    _restore(command)
    about = "whether disks are frozen while a backup reads them (btrfs, LVM, ZFS, VSS)"
    volumes = group(command("volumes", about), "freezing")
    command("on", "freeze them where that is possible", into=volumes)
    command("off", "read files as they are (the default)", into=volumes)
    command("show", "print whether, and which of the included folders can be", into=volumes)


def _hooks(command: Command, group: Group) -> None:
    about = "programs that run before and after each backup; set on this machine only"
    hooks = group(command("hooks", about), "hooking")
    add = command("add", "run a program before or after each backup", into=hooks)
    add.add_argument("when", choices=("before", "after"))
    add.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=int,
        default=HOOK_TIMEOUT_S,
        help=f"end it after that long (default {HOOK_TIMEOUT_S})",
    )
    add.add_argument("--required", action="store_true", help="before: where it fails, there is no backup")
    add.add_argument("--run-as", metavar="USER", default="", help="as this user of the system (default: the agent's)")
    add.usage = "pilulier-agent hooks add before|after [--timeout SECONDS] [--required] [--run-as USER] -- COMMAND ARG…"
    command("list", "print the hooks with their numbers, and how each ended last", into=hooks)
    remove = command("remove", "drop a hook", into=hooks)
    remove.add_argument("number", metavar="N", type=int)


def _sources(command: Command, group: Group) -> None:
    sources = group(command("source", "databases that are dumped into each backup, while they are in use"), "sourcing")
    adding = group(command("add", "dump a database with each backup", into=sources), "kind")
    sqlite = command("sqlite", "a SQLite file", into=adding)
    sqlite.add_argument("path", metavar="PATH")
    postgresql = command("postgresql", "a PostgreSQL database, by pg_dump", into=adding)
    mariadb = command("mariadb", "a MariaDB or MySQL database, by mariadb-dump", into=adding)
    for one in (postgresql, mariadb):
        one.add_argument("--database", metavar="D", required=True)
        _connection(one)
    for one in (sqlite, postgresql, mariadb):
        one.add_argument("--name", default="", help="what it is called here and in snapshots (default: the database's)")
    command("list", "print the sources", into=sources)
    for word, text in (("remove", "dump this one no more; what snapshots hold of it stays"), ("test", "try it now")):
        command(word, text, into=sources).add_argument("name", metavar="NAME")
    threshold = command("threshold", "say a word when a database file grows beyond a size", into=sources)
    threshold.add_argument("size", metavar="SIZE", nargs="?", help="2GB, or off (default: print it)")


def _connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="", help="name, address or, for PostgreSQL, the folder of its socket")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--socket", default="", help="MariaDB: the path of its socket")
    parser.add_argument("--user", default="", help="the user that the server knows")
    parser.add_argument("--password-file", metavar="F", default="", help="a file of mode 0600: the password, alone")
    parser.add_argument("--service", default="", help="PostgreSQL: a section of pg_service.conf")
    parser.add_argument("--defaults-file", metavar="F", default="", help="MariaDB: an option file for its clients")
    parser.add_argument("--run-as", metavar="USER", default="", help="start the client programs as this system user")


def _restore(command: Command) -> None:
    restore = command("restore-database", "put a database back, into a new one unless told otherwise")
    restore.add_argument("name", metavar="NAME", help="of the source; ls /.pilulier/databases shows them")
    restore.add_argument("--into", metavar="TARGET", required=True, help="a database that is not there yet, or a file")
    restore.add_argument("--replace", action="store_true", help="put it in the place of one that is there")
    group = restore.add_mutually_exclusive_group()
    group.add_argument("--snapshot", metavar="N", type=int, help="snapshot number (default: the newest)")
    group.add_argument("--at", metavar="TIME", help="the newest snapshot at that time (2026-11-22, 2026-11-22T18:30)")
    restore.add_argument("--account", metavar="EMAIL", help="an account that may see this machine's contract")
    restore.add_argument("--otp", metavar="CODE", help="its current TOTP code (each works once)")
    restore.add_argument("--scratch", metavar="DIR", default="", help="where the dump lands first (default: the home)")
    _connection(restore)
