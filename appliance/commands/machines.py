"""`pilulier machine`: enrolled machines."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.commands import audited, machine_settings
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from appliance.sizes import format_size

if TYPE_CHECKING:
    from appliance.control.machines import Machine, Overview
    from appliance.settings import Home


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    machine = commands.add_parser(
        "machine",
        parents=[common],
        allow_abbrev=False,
        help="enrolled machines: list, show, settings, backup, revoke, move",
        description="Enrolled machines.",
    )
    actions = machine.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser("list", parents=[common], allow_abbrev=False, help="list machines, last backups, sizes")
    parser.add_argument("--contract", metavar="C", help="only this contract's")
    parser.set_defaults(run=list_all)
    for name, text, function in (
        ("show", "show one machine, its last snapshots and log lines", show),
        ("revoke", "refuse this machine from now on; its backups stay", revoke),
        ("move", "hand a machine and its backups to another contract", move),
    ):
        parser = actions.add_parser(name, parents=[common], allow_abbrev=False, help=text, description=text + ".")
        parser.add_argument("machine", metavar="M", help="its id, the beginning of it, or its name")
        if function is move:
            parser.add_argument("--contract", metavar="C", required=True)
        parser.set_defaults(run=function)
    machine_settings.register(actions, common)


def stored_bytes(folder: Path) -> int:
    """Bytes of the files in a repository folder; 0 where there is none. Files that vanish meanwhile do not count."""
    total = 0
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total


def _document(home: Home, overview: Overview) -> dict[str, object]:
    machine = overview.machine
    return {
        "machine": machine.hex,
        "name": machine.name,
        "contract": machine.contract_id,
        "client": overview.client_id,
        "state": str(machine.state),
        "last_snapshot": overview.last_snapshot,
        "last_snapshot_at": iso_time(overview.last_snapshot_at),
        "bytes_source": overview.bytes_source or 0,
        "bytes_stored": stored_bytes(home.repository(machine.id)),
        "last_seen_at": iso_time(machine.last_seen_at),
        "agent_version": machine.agent_version,
        "platform": machine.platform,
    }


def list_all(invocation: Invocation) -> int:
    """`machine list`."""
    from appliance.control import contracts, machines
    from appliance.control.scope import EVERYTHING

    home = invocation.home()
    with invocation.database(home) as db:
        only = None
        if invocation.arguments.contract is not None:
            only = contracts.find(db, EVERYTHING, invocation.arguments.contract).id
        every = machines.overviews(db, EVERYTHING, only)
    documents = [_document(home, overview) for overview in every]
    invocation.document(documents)
    invocation.table(
        ["machine", "name", "client", "state", "last snapshot", "source", "stored"],
        [
            [
                overview.machine.hex,
                overview.machine.name,
                overview.client_id,
                overview.machine.state,
                "none yet"
                if overview.last_snapshot is None
                else f"{overview.last_snapshot}, {people_time(overview.last_snapshot_at)}",
                format_size(overview.bytes_source or 0),
                format_size(int(str(document["bytes_stored"]))),
            ]
            for overview, document in zip(every, documents, strict=True)
        ],
        "There is no machine yet: enrol one with a code from 'pilulier contract code'.",
    )
    return 0


def show(invocation: Invocation) -> int:
    """`machine show M`."""
    from appliance.control import machine_logs, machines, statistics
    from appliance.control.scope import EVERYTHING

    home = invocation.home()
    with invocation.database(home) as db:
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
        (overview,) = (
            found for found in machines.overviews(db, EVERYTHING, machine.contract_id) if found.machine.id == machine.id
        )
        snapshots = statistics.of_machine(db, machine.id, 10)
        lines = machine_logs.of_machine(db, machine.id, 20)
    document = _document(home, overview)
    invocation.document(
        document
        | {
            "installation": machine.installation.hex(),
            "created_at": iso_time(machine.created_at),
            "snapshots": [
                {
                    "snapshot": snapshot.number,
                    "received_at": iso_time(snapshot.received_at),
                    "state": "complete" if snapshot.complete else "partial",
                    "files_total": snapshot.figures.files_total,
                    "bytes_source": snapshot.figures.bytes_source,
                    "bytes_sent": snapshot.figures.bytes_sent,
                    "seconds": snapshot.figures.seconds,
                    "warnings": snapshot.figures.warnings,
                }
                for snapshot in snapshots
            ],
            "log": [
                {"at": iso_time(line.at), "level": line.level, "module": line.module, "text": line.text}
                for line in lines
            ],
        }
    )
    invocation.facts(
        [
            ("machine", machine.hex),
            ("name", machine.name),
            ("contract", f"{machine.contract_id} (client {overview.client_id})"),
            ("state", machine.state),
            ("last seen", people_time(machine.last_seen_at)),
            ("agent", f"{machine.agent_version} on {machine.platform}"),
            ("source", format_size(overview.bytes_source or 0)),
            ("stored", format_size(int(str(document["bytes_stored"])))),
        ]
    )
    invocation.table(
        ["snapshot", "received", "state", "files", "source", "sent", "warnings"],
        [
            [
                snapshot.number,
                people_time(snapshot.received_at),
                "complete" if snapshot.complete else "partial",
                snapshot.figures.files_total,
                format_size(snapshot.figures.bytes_source),
                format_size(snapshot.figures.bytes_sent),
                snapshot.figures.warnings,
            ]
            for snapshot in snapshots
        ],
        "It has no snapshot yet.",
    )
    for line in lines:
        invocation.say(f"{people_time(line.at)} {line.level} {line.module}: {line.text}")
    return 0


def _short(machine: Machine) -> str:
    return f"{machine.name} ({machine.hex})"


def revoke(invocation: Invocation) -> int:
    """`machine revoke M`."""
    from appliance.control import machines
    from appliance.control.scope import EVERYTHING

    with invocation.database() as db, db.write():
        before = machines.find(db, EVERYTHING, invocation.arguments.machine)
        machine = machines.revoke(db, before)
        states = {"before": {"state": str(before.state)}, "after": {"state": str(machine.state)}}
        audited.note(invocation, db, "machine.revoke", machine, **states)
    invocation.document({"machine": machine.hex, "state": str(machine.state)})
    invocation.say(f"Machine {_short(machine)} is revoked: it may not connect any more, its backups stay.")
    return 0


def move(invocation: Invocation) -> int:
    """`machine move M --contract C`."""
    from appliance.control import contracts, machines
    from appliance.control.scope import EVERYTHING

    with invocation.database() as db, db.write():
        machine = machines.find(db, EVERYTHING, invocation.arguments.machine)
        target = contracts.find(db, EVERYTHING, invocation.arguments.contract)
        old, machine = machine, machines.move(db, machine, target)
        if machine.contract_id != old.contract_id:
            change = {
                "before": {"contract": old.contract_id, "name": old.name},
                "after": {"contract": machine.contract_id, "name": machine.name},
            }
            # Two lines: whoever sees only one of the contracts sees that the machine went, or came.
            audited.note(invocation, db, "machine.move", contracts.find(db, EVERYTHING, old.contract_id), **change)
            audited.note(invocation, db, "machine.move", machine, **change)
    invocation.document({"machine": machine.hex, "name": machine.name, "contract": machine.contract_id})
    invocation.say(f"Machine {_short(machine)} now belongs to contract {target.id} (client {target.client_id}).")
    return 0
