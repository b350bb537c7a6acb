"""`pilulier repo`: what lies on disk for a machine, and whether it is sound. Needs no key."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.commands import pruning, rebuilding, scrubbing
from appliance.commands.invocation import Commands, Invocation
from appliance.errors import NotFoundError
from appliance.sizes import format_size

if TYPE_CHECKING:
    from appliance.store.repository import Repository

_EXIT_FAILED = 1


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    repo = commands.add_parser(
        "repo",
        parents=[common],
        allow_abbrev=False,
        help="repositories on disk: stats, check, prune, hold, release, scrub, rebuild",
        description="A machine's repository on disk. None of this needs a key.",
    )
    actions = repo.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser("stats", parents=[common], allow_abbrev=False, help="snapshots, entries, packs, bytes")
    parser.add_argument("machine", metavar="M", help="its id, the beginning of it, or its name")
    parser.set_defaults(run=stats)
    parser = actions.add_parser(
        "check",
        parents=[common],
        allow_abbrev=False,
        help="check the catalog against the packs; exit code 1 where something is wrong",
    )
    parser.add_argument("machine", metavar="M", help="its id, the beginning of it, or its name")
    parser.add_argument("--read-data", action="store_true", help="read every byte and check every checksum")
    parser.set_defaults(run=check)
    pruning.register(actions, common)
    rebuilding.register(actions, common)
    scrubbing.register(actions, common)


def _open(invocation: Invocation) -> Repository:
    from appliance.control import machines
    from appliance.control.scope import EVERYTHING
    from appliance.store.repository import Repository

    home = invocation.home()
    with invocation.database(home) as db:
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
    folder = home.repository(machine.id)
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is missing: mount its disk, or wait for the first backup of {machine.name}")
    return Repository.open(folder, read_only=True)


def stats(invocation: Invocation) -> int:
    """`repo stats M`."""
    repository = _open(invocation)
    try:
        found = repository.stats()
    finally:
        repository.close()
    counts = {name: getattr(found, name) for name in ("snapshots", "entries", "segments", "packs")}
    sizes = {name: getattr(found, name) for name in ("bytes_stored", "bytes_live")}
    invocation.document(counts | sizes)
    invocation.facts(
        [*counts.items(), *((name.replace("bytes_", ""), format_size(value)) for name, value in sizes.items())]
    )
    return 0


def check(invocation: Invocation) -> int:
    """`repo check M`: exit code 1 where not sound."""
    repository = _open(invocation)
    try:
        found = repository.check(read_data=invocation.arguments.read_data)
    finally:
        repository.close()
    errors = [
        {"pack": error.pack, "offset": error.offset, "kind": error.kind, "detail": error.detail}
        for error in found.errors
    ]
    invocation.document(
        {
            "ok": found.ok,
            "records_checked": found.records_checked,
            "bytes_read": found.bytes_read,
            "errors": errors,
        }
    )
    invocation.say(f"{found.records_checked} records checked, {format_size(found.bytes_read)} read.")
    invocation.table(
        ["pack", "offset", "kind", "detail"],
        [[error["pack"], error["offset"], error["kind"], error["detail"]] for error in errors],
        "No error found.",
    )
    return 0 if found.ok else _EXIT_FAILED
