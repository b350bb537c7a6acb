"""The command line of copies on site."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Command = Callable[..., Any]
Group = Callable[[argparse.ArgumentParser, str], Any]


def add_commands(command: Command, group: Group) -> None:
    """`onsite add|list|remove|check|alert`."""
    onsite = group(command("onsite", "copies on a NAS or external disks, written by each backup as well"), "copying")
    add = command("add", "write a copy to this medium too; a disk that is swapped is added once each", into=onsite)
    add.add_argument("path", metavar="PATH", help="a folder on the medium")
    add.add_argument("--name", metavar="N", default="", help="what the copy is called (default: the folder's name)")
    add.add_argument("--keep-days", metavar="D", type=int, default=None, help="days of snapshots kept (default 90)")
    add.add_argument("--limit", metavar="SIZE", help="what the copy may take, 500GB for instance (default: all)")
    command("list", "show copies: whether they are here, when they were written last, what is free", into=onsite)
    remove = command("remove", "write a copy no more; what the medium holds stays", into=onsite)
    remove.add_argument("name", metavar="NAME")
    check = command("check", "check the copies that are here", into=onsite)
    check.add_argument("name", metavar="NAME", nargs="?", help="one of them (default: all)")
    check.add_argument("--read-data", action="store_true", help="read every byte, too")
    alert = command("alert", "after how many days without a written copy an alert is raised", into=onsite)
    alert.add_argument("days", metavar="DAYS", type=int)


def add_from(parser: argparse.ArgumentParser) -> None:
    """`--from` of what reads snapshots."""
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="WHERE",
        choices=("auto", "onsite", "appliance"),
        default="auto",
        help="onsite, appliance, or auto (the default): a copy on site where one is here and holds the snapshot",
    )
