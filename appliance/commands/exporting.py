"""`pilulier contract export`: a whole contract for another host, sealed as it is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from appliance.commands import audited
from appliance.commands.invocation import Invocation
from appliance.sizes import format_size


def register(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the parser to those of `contract`."""
    parser = action("export", "write a contract's backups, sealed, with a reader and a procedure, to take elsewhere")
    parser.add_argument("contract", metavar="ID", help="the contract's id, or its client id where only it has it")
    parser.add_argument("--out", metavar="DIR|FILE.tar", required=True, help="a new folder, or a new tar file")
    parser.add_argument(
        "--with-wrapped-keys",
        action="store_true",
        help="add the wrapped machine keys: confided ones open with this appliance's escrow key alone, private ones "
        "with the customer's passphrase",
    )
    parser.set_defaults(run=export)


def export(invocation: Invocation) -> int:
    """`contract export ID --out DIR|FILE.tar`."""
    from appliance.control import contracts
    from appliance.control.scope import EVERYTHING
    from appliance.exporting import write_export

    arguments = invocation.arguments
    home, path = invocation.home(), Path(os.path.abspath(arguments.out))
    with_keys = bool(arguments.with_wrapped_keys)
    with invocation.database(home) as db:
        contract = contracts.find(db, EVERYTHING, arguments.contract)
        # Before: what leaves the house has its line, whatever becomes of it.
        told = {"out": str(path), "with_wrapped_keys": with_keys}
        audited.note(invocation, db, "contract.export", contract, after=told)
        made = write_export(home, db, contract, path, now=invocation.now(), with_wrapped_keys=with_keys)
    invocation.document(
        {
            "contract": contract.id,
            "out": str(path),
            "machines": made.machines,
            "bytes": made.size_bytes,
            "identity": made.identity.hex(),
        }
    )
    invocation.say(f"{made.machines} machines of {contract.client_id}, {format_size(made.size_bytes)}, are in {path}.")
    invocation.say("LISEZ-MOI.md in it says how it is checked and opened; recovery sheets or exported keys open it.")
    return 0
