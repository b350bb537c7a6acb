"""`pilulier escrow`: the keys to which confided machine keys are wrapped."""

from __future__ import annotations

import argparse

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    escrow = commands.add_parser(
        "escrow",
        parents=[common],
        allow_abbrev=False,
        help="the keys to which confided machine keys are wrapped: show, rotate",
        description="Machines of contracts with confided keys wrap theirs to the appliance's present escrow key.",
    )
    actions = escrow.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "show",
        parents=[common],
        allow_abbrev=False,
        help="list the escrow keys and how many machine keys each opens",
        description="List the escrow keys, the present one first, and how many wrapped machine keys each opens.",
    )
    parser.set_defaults(run=show)
    parser = actions.add_parser(
        "rotate",
        parents=[common],
        allow_abbrev=False,
        help="make another escrow key the present one; machines wrap anew as they connect",
        description="Make another escrow key the present one. Machines wrap their keys anew at their next backup once "
        "the service was restarted; keys that open nothing any more are removed. Put the new private half into the "
        "safe.",
    )
    parser.set_defaults(run=rotate)


def show(invocation: Invocation) -> int:
    """`escrow show`."""
    from appliance import escrow
    from appliance.control import machine_keys

    home = invocation.home()
    with invocation.database(home) as db:
        used = machine_keys.escrow_keys_in_use(db)
    keys = escrow.listed(home)
    invocation.document(
        [
            {
                "key": key.key_id.hex(),
                "present": key.present,
                "private_half": key.private_there,
                "machines": used.get(key.key_id, 0),
            }
            for key in keys
        ]
    )
    invocation.table(
        ["key", "present", "private half", "machines"],
        [
            [
                key.key_id.hex(),
                "yes" if key.present else "",
                "here" if key.private_there else "elsewhere",
                str(used.get(key.key_id, 0)),
            ]
            for key in keys
        ],
        "There is no escrow key yet: 'pilulier serve' makes one.",
    )
    return 0


def rotate(invocation: Invocation) -> int:
    """`escrow rotate`."""
    from appliance import escrow
    from appliance.control import audit, machine_keys

    home = invocation.home()
    with invocation.database(home) as db:
        before = [key.key_id for key in escrow.listed(home) if key.present]
        public = escrow.rotate(home)
        gone = escrow.forget(home, frozenset(machine_keys.escrow_keys_in_use(db)))
        audit.write(
            db,
            audited.actor(),
            "escrow.rotate",
            now=invocation.now(),
            object_kind="escrow-key",
            object_id=public.key_id.hex(),
            before=[key.hex() for key in before],
            after=public.key_id.hex(),
        )
    invocation.document({"key": public.key_id.hex(), "removed": [key.hex() for key in gone]})
    invocation.say(f"{public.key_id.hex()} is the present escrow key once the service was restarted.")
    invocation.say(f"Its private half is in {home.keys}: put a copy into the safe.")
    return 0
