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
