"""`pilulier repo`: what lies on disk for a machine, and whether it is sound. Needs no key."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.commands import pruning, rebuilding, scrubbing
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from appliance.errors import NotFoundError
from appliance.sizes import format_size

if TYPE_CHECKING:
    from appliance.store.repository import Repository
    from appliance.store.upkeep.findings import DamagedSpot

_EXIT_FAILED = 1
_NOTE_WAIT_S: Final = 5.0
"""How long a check waits for its turn to note damage; a scrub, which finds the same, waits longer."""


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


def _folder(invocation: Invocation) -> Path:
    from appliance.control import machines
    from appliance.control.scope import EVERYTHING

    home = invocation.home()
    with invocation.database(home) as db:
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
    folder = home.repository(machine.id)
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is missing: mount its disk, or wait for the first backup of {machine.name}")
    return folder


def _open(invocation: Invocation) -> Repository:
    from appliance.store.repository import Repository

    return Repository.open(_folder(invocation), read_only=True)


def stats(invocation: Invocation) -> int:
    """`repo stats M`."""
    repository = _open(invocation)
    try:
        found, signers = repository.stats(), repository.signers()
    finally:
        repository.close()
    counts = {name: getattr(found, name) for name in ("snapshots", "entries", "segments", "packs")}
    sizes = {name: getattr(found, name) for name in ("bytes_stored", "bytes_live")}
    successions = [
        {
            "number": one.number,
            "after": one.after,
            "successor": one.successor.hex(),
            "approver": one.approver.hex(),
            "approved_at": iso_time(one.approved_ms / 1000),
        }
        for one in signers.successions
    ]
    invocation.document(counts | sizes | {"signing_key": signers.founding.hex(), "successions": successions})
    invocation.facts(
        [*counts.items(), *((name.replace("bytes_", ""), format_size(value)) for name, value in sizes.items())]
    )
    for one in signers.successions:
        when = people_time(one.approved_ms / 1000)
        invocation.say(f"Recovered onto new hardware behind snapshot {one.after}, {when}: another key signs since.")
    return 0


def check(invocation: Invocation) -> int:
    """`repo check M`: exit code 1 where not sound. Reading data, it notes damage for the next backup to mend."""
    from appliance.store.layout import pack_name
    from appliance.store.repository import Repository
    from appliance.store.upkeep.scrub import spot_impacts

    folder = _folder(invocation)
    with Repository.open(folder, read_only=True) as repository:
        found = repository.check(read_data=invocation.arguments.read_data)
        with repository.reading_catalog() as catalog:
            costs = spot_impacts(catalog.connection, found.damage)
    needed_by = {
        (pack_name(spot.pack, spot.generation), spot.offset): cost.sentence()
        for spot, cost in zip(found.damage, costs, strict=True)
    }
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
            "mended": found.mended,
        }
    )
    invocation.say(f"{found.records_checked} records checked, {format_size(found.bytes_read)} read.")
    if found.mended:
        invocation.say(f"{found.mended} damaged records were mended: nothing needs them, they are kept for a while.")
    invocation.table(
        ["pack", "offset", "kind", "what needs it", "detail"],
        [
            [error.pack, error.offset, error.kind, needed_by.get((error.pack, error.offset), ""), error.detail]
            for error in found.errors
        ],
        "No error found.",
    )
    if invocation.arguments.read_data and found.damage:
        invocation.say(_note(folder, found.damage))
    return 0 if found.ok else _EXIT_FAILED


def _note(folder: Path, damage: Sequence[DamagedSpot]) -> str:
    """Write damage down, which has the next backup asked for it; what came of that, for people."""
    from appliance.store.errors import BusyRepositoryError, DamagedRepositoryError, DiskFullError
    from appliance.store.upkeep.access import Access
    from appliance.store.upkeep.scrub import note_found

    try:
        with Access(folder, wait_s=_NOTE_WAIT_S) as access:
            note_found(access, damage, now_ms=int(time.time() * 1000))
    except (BusyRepositoryError, DamagedRepositoryError, DiskFullError) as error:
        return f"The damage could not be noted ({error}): `pilulier repo scrub` will do it."
    return "The damage is noted: the next backup sends again what the machine has, the next prune writes metadata anew."
