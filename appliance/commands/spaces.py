"""`pilulier space`: tenants."""

from __future__ import annotations

import argparse

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    space = commands.add_parser(
        "space",
        parents=[common],
        allow_abbrev=False,
        help="tenants: add, list",
        description="Tenants (a reseller each).",
    )
    actions = space.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser("add", parents=[common], allow_abbrev=False, help="add a space")
    parser.add_argument("name", metavar="NAME")
    parser.set_defaults(run=add)
    parser = actions.add_parser("list", parents=[common], allow_abbrev=False, help="list the spaces")
    parser.set_defaults(run=list_all)


def add(invocation: Invocation) -> int:
    """`space add NAME`."""
    from appliance.control import spaces

    with invocation.database() as db, db.write():
        space = spaces.add(db, invocation.arguments.name, invocation.now())
        audited.note(invocation, db, "space.add", space)
    invocation.document({"space": space.id, "name": space.name})
    invocation.say(f"Space {space.name} added (id {space.id}).")
    return 0


def list_all(invocation: Invocation) -> int:
    """`space list`."""
    from appliance.control import contracts, spaces
    from appliance.control.scope import OneSpace

    with invocation.database() as db:
        found = [(space, len(contracts.every(db, OneSpace(space.id)))) for space in spaces.every(db)]
    invocation.document(
        [
            {"space": space.id, "name": space.name, "contracts": count, "created_at": iso_time(space.created_at)}
            for space, count in found
        ]
    )
    invocation.table(
        ["id", "name", "contracts", "created"],
        [[space.id, space.name, count, people_time(space.created_at)] for space, count in found],
        "There is no space yet: add one with 'pilulier space add NAME'.",
    )
    return 0
