"""The command line of what guards the files: `canary`, `stale`."""

from __future__ import annotations

from agent.cli_databases import Command, Group


def add_commands(command: Command, group: Group) -> None:
    """Add them to the parser."""
    canaries = group(command("canary", "decoy documents that only ransomware has reason to touch"), "watching")
    place = command("place", "put decoys into a folder; each backup looks whether they are untouched", into=canaries)
    place.add_argument("folder", metavar="FOLDER")
    command("list", "print where decoys lie, and what became of them", into=canaries)
    remove = command("remove", "take decoys away again", into=canaries)
    remove.add_argument("folder", metavar="FOLDER", nargs="?", help="default: all")
    command("stale", "print the folders with files of which no fresh copy could be made, and how old the last one is")
