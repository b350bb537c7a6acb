"""What every command gets: its arguments, its home, its way to print.

Owns the rule that with --json exactly one document goes to stdout and all else to stderr. Knows no command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.settings import Home
from transport.errors import UsageError

if TYPE_CHECKING:
    from appliance.control.database import Database

PASSWORD_FILE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of one command."""

    arguments: argparse.Namespace

    @property
    def wants_json(self) -> bool:
        """Whether stdout is for a program."""
        return bool(self.arguments.json)

    @property
    def root(self) -> Path:
        """The home folder as given, not checked."""
        return Path(self.arguments.home)

    def now(self) -> float:
        """Seconds since 1970; the only clock that commands read."""
        return time.time()

    def home(self) -> Home:
        """The home; HomeError unless it is one."""
        return Home.open(self.root)

    def database(self, home: Home | None = None) -> Database:
        """The control database of the home."""
        from appliance.control.database import Database

        return Database.open((home or self.home()).control_db)

    def document(self, value: object) -> None:
        """Print the one JSON document, where one is wanted."""
        if self.wants_json:
            print(json.dumps(value, ensure_ascii=False))

    def say(self, text: str) -> None:
        """A sentence of the answer, for people: nothing where JSON is wanted."""
        if not self.wants_json:
            print(text)

    def note(self, text: str) -> None:
        """A remark beside the answer, on stderr either way."""
        print(f"pilulier: {text}", file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
        """A table for people; `empty` is said where it has no rows."""
        if self.wants_json:
            return
        if not rows:
            print(empty)
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            # Text, not str: names are data, and rich would read [brackets] in them as markup.
            table.add_row(*(Text(str(cell)) for cell in row))
        # Piped output is for grep: one row, one line, whatever its length.
        console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=400)
        console.print(table)

    def facts(self, facts: Sequence[tuple[str, object]]) -> None:
        """Labelled values under each other, for people."""
        width = max(len(label) for label, _ in facts)
        for label, value in facts:
            self.say(f"{label + ':':<{width + 1}} {value}")

    def passphrase(self, file: str | None, whom: str, *, new: bool) -> str:
        """As a password, of a key: typed twice where it is a new one."""
        return self.password(file, whom, what="passphrase", twice=new)

    def password(self, file: str | None, whom: str, *, what: str = "password", twice: bool = True) -> str:
        """The password from a file (`-`: stdin), or typed at a terminal; never from the command line."""
        if file is None:
            if not sys.stdin.isatty():
                raise UsageError(f"no {what} for {whom}: give --{what}-file FILE (or - for standard input)")
            import getpass

            typed = getpass.getpass(f"{what.capitalize()} for {whom}: ")
            if twice and getpass.getpass("The same again: ") != typed:
                raise UsageError(f"the two {what}s differ: nothing was changed")
            return typed
        try:
            if file == "-":
                content = sys.stdin.buffer.read(PASSWORD_FILE_LIMIT + 1)
            else:
                with open(file, "rb") as source:
                    content = source.read(PASSWORD_FILE_LIMIT + 1)
        except OSError as error:
            raise UsageError(f"the {what} file {file} cannot be read: {error.strerror}") from None
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise UsageError(f"the {what} file {file} is not UTF-8 text") from None
        first, _, rest = text.partition("\n")
        if rest.strip() or len(content) > PASSWORD_FILE_LIMIT:
            raise UsageError(f"the {what} file {file} has more than one line: it holds the {what} alone")
        return first.rstrip("\r")


def iso_time(seconds: float | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def people_time(seconds: float | None) -> str:
    """A time for people, in this machine's zone; "never" for None."""
    return "never" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


Commands = Any
"""argparse's own name for what `add_subparsers` returns is private and generic."""


def default_home() -> str:
    """Where the home is unless --home says otherwise."""
    from appliance.settings import DEFAULT_HOME

    return os.environ.get("PILULIER_HOME") or DEFAULT_HOME
