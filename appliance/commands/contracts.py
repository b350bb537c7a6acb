"""`pilulier contract`: customers, their quotas, their enrolment codes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from appliance.commands import audited, exporting
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from appliance.errors import ConflictError
from appliance.sizes import format_size, parse_size
from transport.errors import UsageError

if TYPE_CHECKING:
    from appliance.control.contracts import Contract, Usage
    from appliance.control.database import Database
    from appliance.enrolment_codes import IssuedCode
    from appliance.store.upkeep.retention import Policy

_EXIT_WARNINGS = 3
_RETENTION = (
    ("keep_days", "keep every snapshot of the last N days (new: 90)"),
    ("floor_days", "never drop the newest snapshots of the last N days that have one (new: 7; at least 3)"),
    ("keep_daily", "beyond that, the newest snapshot of each day within N days (new: 0, none)"),
    ("keep_weekly", "and of each week within N weeks (new: 0)"),
    ("keep_monthly", "and of each month within N months (new: 0)"),
    ("keep_yearly", "and of each year within N years (new: 0)"),
)
"""Options that are fields of the retention policy."""


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    contract = commands.add_parser(
        "contract",
        parents=[common],
        allow_abbrev=False,
        help="customers: add, code, list, show, pause, resume, edit, export, delete",
        description="Customers. Neither an end date nor more volume than allocated stops a backup; only a pause does.",
    )
    actions = contract.add_subparsers(dest="action", metavar="ACTION", title="actions")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name, parents=[common], allow_abbrev=False, help=text, description=text[0].upper() + text[1:] + "."
        )
        return parser

    parser = action("add", "add a contract and print an enrolment code for its first machine")
    parser.add_argument("--client", required=True, metavar="ID", help="the customer's number or name in your books")
    parser.add_argument("--email", required=True, metavar="E")
    parser.add_argument("--space", metavar="S", help="id or name (default: the first space)")
    _common_options(parser)
    parser.set_defaults(run=add)

    parser = action("code", "print another enrolment code: each enrols one machine, within 7 days")
    parser.add_argument("contract", metavar="ID")
    parser.set_defaults(run=code)
    action("list", "list the contracts").set_defaults(run=list_all)
    for name, text, function in (
        ("show", "show one contract and what it uses", show),
        ("pause", "refuse the contract's backups from now on; restores go on", pause),
        ("resume", "take the contract's backups again, and take back a request to delete", resume),
        ("delete", "delete a contract without machines; one with machines is paused and waits seven days", delete),
    ):
        parser = action(name, text)
        parser.add_argument("contract", metavar="ID", help="the contract's id, or its client id where only it has it")
        parser.set_defaults(run=function)

    exporting.register(action)
    parser = action("edit", "change a contract")
    parser.add_argument("contract", metavar="ID")
    parser.add_argument("--client", metavar="ID")
    parser.add_argument("--email", metavar="E")
    parser.add_argument("--start", metavar="YYYY-MM-DD")
    parser.add_argument(
        "--open-days", metavar="DAYS", help="hours of these days alone make late, like mon-sat; 'space': as its space"
    )
    _common_options(parser)
    parser.set_defaults(run=edit)


def _common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allocated", metavar="SIZE", help="source volume allocated, like 50GB (new: 50GB)")
    parser.add_argument("--machines", metavar="N", help="machines that may be enrolled (new: 5)")
    parser.add_argument("--end", metavar="YYYY-MM-DD", help="last day, or 'none'; its passing stops nothing by itself")
    parser.add_argument(
        "--escrow",
        choices=["confided", "private"],
        help="confided: the host can help with a lost key (new: confided); private: only the customer holds it",
    )
    for name, text in _RETENTION:
        parser.add_argument("--" + name.replace("_", "-"), metavar="N", help=text)


def _date(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a date of the form YYYY-MM-DD") from None


def _count(text: str, option: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UsageError(f"{option} {text!r} is not a number of machines, 0 or more")
    return int(text)


def _retention(arguments: argparse.Namespace, present: Policy) -> Policy:
    """The policy with what was typed in its place."""
    typed: dict[str, Any] = {}
    for name, _ in _RETENTION:
        text = getattr(arguments, name)
        if text is None:
            continue
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise UsageError(f"--{name.replace('_', '-')} {text!r} is not a number, 0 or more")
        typed[name] = int(text)
    return replace(present, **typed)


def _codes_words(code: IssuedCode) -> dict[str, object]:
    return {"enrol_code": code.text, "command": code.command(), "expires_at": iso_time(code.expires_at)}


def _say_code(invocation: Invocation, code: IssuedCode) -> None:
    invocation.say(f"Enrolment code, for one machine until {people_time(code.expires_at)}:\n\n    {code.text}\n")
    invocation.say(f"On that machine, with a name of your choice:\n\n    {code.command()}\n")


def _state(contract: Contract, invocation: Invocation) -> str:
    return str(contract.state(invocation.now()))


def _document(contract: Contract, usage: Usage, invocation: Invocation) -> dict[str, object]:
    return {
        "contract": contract.id,
        "client": contract.client_id,
        "email": contract.email,
        "space": contract.space_id,
        "state": _state(contract, invocation),
        "allocated_bytes": contract.allocated_bytes,
        "used_bytes": usage.used_bytes,
        "over_quota": usage.used_bytes > contract.allocated_bytes,
        "machines": usage.machines_active,
        "machines_allowed": contract.machine_quota,
        "created_at": iso_time(contract.created_at),
        "start": contract.start_date.isoformat(),
        "end": contract.end_date.isoformat() if contract.end_date else None,
        "escrow": str(contract.escrow),
        "open_days": contract.open_days,
        **{name: getattr(contract.retention, name) for name, _ in _RETENTION},
    }


def _find(invocation: Invocation, db: Database) -> Contract:
    from appliance.control import contracts
    from appliance.control.scope import EVERYTHING

    return contracts.find(db, EVERYTHING, invocation.arguments.contract)


def add(invocation: Invocation) -> int:
    """`contract add`."""
    from appliance import enrolment_codes
    from appliance.control import acts, contracts, spaces
    from appliance.control.scope import OneSpace
    from appliance.store.upkeep.retention import DEFAULT_FLOOR_DAYS, MINIMUM_FLOOR_DAYS, Policy

    arguments = invocation.arguments
    home = invocation.home()
    # Everything typed is checked before anything is written.
    allocated = contracts.DEFAULT_ALLOCATED_BYTES if arguments.allocated is None else parse_size(arguments.allocated)
    quota = contracts.DEFAULT_MACHINE_QUOTA if arguments.machines is None else _count(arguments.machines, "--machines")
    end = None if arguments.end in (None, "none") else _date(arguments.end, "--end")
    retention = _retention(arguments, Policy())
    if arguments.floor_days is None and retention.keep_days < DEFAULT_FLOOR_DAYS:
        # Whoever asks for few days gets no error about a floor that they never heard of.
        retention = replace(retention, floor_days=max(retention.keep_days, MINIMUM_FLOOR_DAYS))
    now = invocation.now()
    with invocation.database(home) as db, db.write():
        space = spaces.default(db) if arguments.space is None else spaces.find(db, arguments.space)
        namesakes = [c for c in contracts.every(db, OneSpace(space.id)) if c.client_id == arguments.client.strip()]
        contract = contracts.add(
            db,
            space_id=space.id,
            client_id=arguments.client,
            email=arguments.email,
            now=now,
            allocated_bytes=allocated,
            machine_quota=quota,
            end_date=end,
            escrow=contracts.Escrow(arguments.escrow or "confided"),
            retention=retention,
        )
        printed = enrolment_codes.issue(home, db, contract, now)
        usage = contracts.usage(db, contract.id)
        audited.note(invocation, db, "contract.add", contract, after=acts.changed_from_nothing(contract))
    if namesakes:
        invocation.note(f"client {contract.client_id} had a contract already ({namesakes[0].id}); this is another one")
    invocation.document(_document(contract, usage, invocation) | _codes_words(printed))
    invocation.say(f"Contract {contract.id} added for client {contract.client_id} in space {space.name}.")
    _say_code(invocation, printed)
    return 0


def code(invocation: Invocation) -> int:
    """`contract code ID`."""
    from appliance import enrolment_codes

    home = invocation.home()
    with invocation.database(home) as db, db.write():
        contract = _find(invocation, db)
        printed = enrolment_codes.issue(home, db, contract, invocation.now())
        audited.note(invocation, db, "contract.code", contract)
    invocation.document({"contract": contract.id} | _codes_words(printed))
    _say_code(invocation, printed)
    return 0


def list_all(invocation: Invocation) -> int:
    """`contract list`."""
    from appliance.control import contracts
    from appliance.control.scope import EVERYTHING

    with invocation.database() as db:
        every = [(contract, contracts.usage(db, contract.id)) for contract in contracts.every(db, EVERYTHING)]
    invocation.document([_document(contract, usage, invocation) for contract, usage in every])
    invocation.table(
        ["id", "client", "e-mail", "state", "used", "allocated", "machines", "end"],
        [
            [
                contract.id,
                contract.client_id,
                contract.email,
                _state(contract, invocation),
                format_size(usage.used_bytes),
                format_size(contract.allocated_bytes),
                f"{usage.machines_active} of {contract.machine_quota}",
                contract.end_date or "",
            ]
            for contract, usage in every
        ],
        "There is no contract yet: add one with 'pilulier contract add'.",
    )
    return 0


def show(invocation: Invocation) -> int:
    """`contract show ID`."""
    from appliance.control import contracts

    with invocation.database() as db:
        contract = _find(invocation, db)
        usage = contracts.usage(db, contract.id)
    _answer(invocation, contract, usage)
    return 0


def _answer(invocation: Invocation, contract: Contract, usage: Usage) -> None:
    invocation.document(_document(contract, usage, invocation))
    over = " (over what is allocated; backups go on)" if usage.used_bytes > contract.allocated_bytes else ""
    invocation.facts(
        [
            ("contract", contract.id),
            ("client", contract.client_id),
            ("e-mail", contract.email),
            ("space", contract.space_id),
            ("state", _state(contract, invocation)),
            ("used", f"{format_size(usage.used_bytes)} of {format_size(contract.allocated_bytes)}{over}"),
            ("machines", f"{usage.machines_active} of {contract.machine_quota}"),
            ("start", contract.start_date),
            ("end", contract.end_date or "none"),
            ("key", str(contract.escrow)),
            ("keeps", _keeps(contract.retention)),
        ]
    )


def _keeps(policy: Policy) -> str:
    """The retention in words."""
    text = f"all of {policy.keep_days} days"
    for count, unit in (
        (policy.keep_daily, "day"),
        (policy.keep_weekly, "week"),
        (policy.keep_monthly, "month"),
        (policy.keep_yearly, "year"),
    ):
        if count:
            text += f", one a {unit} for {count} {unit}s"
    return f"{text}; never less than {policy.floor_days} days that have a snapshot"


def pause(invocation: Invocation) -> int:
    """`contract pause ID`."""
    from appliance.control import contracts

    with invocation.database() as db, db.write():
        before = _find(invocation, db)
        contract = contracts.pause(db, before)
        states = {"before": {"state": _state(before, invocation)}, "after": {"state": _state(contract, invocation)}}
        audited.note(invocation, db, "contract.pause", contract, **states)
    invocation.document({"contract": contract.id, "state": _state(contract, invocation)})
    invocation.say(f"Contract {contract.id} is paused: its backups are refused, its restores go on.")
    return 0


def resume(invocation: Invocation) -> int:
    """`contract resume ID`."""
    from appliance.control import contracts

    with invocation.database() as db, db.write():
        before = _find(invocation, db)
        contract = contracts.resume(db, before, by=audited.who(), now=invocation.now())
        states = {"before": {"state": _state(before, invocation)}, "after": {"state": _state(contract, invocation)}}
        audited.note(invocation, db, "contract.resume", contract, **states)
    invocation.document({"contract": contract.id, "state": _state(contract, invocation)})
    invocation.say(f"Contract {contract.id} takes backups again.")
    return 0


def edit(invocation: Invocation) -> int:
    """`contract edit ID …`."""
    from appliance.control import acts, contracts

    arguments = invocation.arguments
    changes = contracts.Changes(
        client_id=arguments.client,
        email=arguments.email,
        allocated_bytes=None if arguments.allocated is None else parse_size(arguments.allocated),
        machine_quota=None if arguments.machines is None else _count(arguments.machines, "--machines"),
        start_date=None if arguments.start is None else _date(arguments.start, "--start"),
        end_date=None if arguments.end in (None, "none") else _date(arguments.end, "--end"),
        no_end_date=arguments.end == "none",
        escrow=None if arguments.escrow is None else contracts.Escrow(arguments.escrow),
        open_days=None if arguments.open_days in (None, "space") else arguments.open_days,
        no_open_days=arguments.open_days == "space",
    )
    keeps_otherwise = any(getattr(arguments, name) is not None for name, _ in _RETENTION)
    if changes == contracts.Changes() and not keeps_otherwise:
        raise UsageError("nothing to change: give at least one option (see 'pilulier contract edit --help')")
    with invocation.database() as db, db.write():
        contract = _find(invocation, db)
        if keeps_otherwise:
            changes = replace(changes, retention=_retention(arguments, contract.retention))
        if changes.escrow not in (None, contract.escrow) and contracts.usage(db, contract.id).machines_total:
            raise ConflictError(f"contract {contract.id} has machines whose keys are {contract.escrow}: it stays so")
        before, contract = contract, contracts.edit(db, contract, changes)
        usage = contracts.usage(db, contract.id)
        old, new = acts.changed(before, contract)
        audited.note(invocation, db, "contract.edit", contract, before=old, after=new)
    _answer(invocation, contract, usage)
    return 0


def delete(invocation: Invocation) -> int:
    """`contract delete ID`: exit code 3 where its machines' backups make it wait."""
    from appliance.control import contracts
    from appliance.control.deletions import WAIT_S

    with invocation.database() as db, db.write():
        contract = _find(invocation, db)
        usage = contracts.usage(db, contract.id)
        waiting = contracts.delete(db, contract, invocation.now(), by=audited.who())
        state = "deleted" if waiting is None else _state(waiting, invocation)
        before, after = {"state": _state(contract, invocation)}, {"state": state, "machines": usage.machines_total}
        audited.note(invocation, db, "contract.delete", contract, before=before, after=after)
    if waiting is None:
        invocation.document({"contract": contract.id, "state": "deleted", "machines": 0})
        invocation.say(f"Contract {contract.id} is deleted, with its codes and customer accounts.")
        return 0
    due_at = (waiting.delete_requested_at or invocation.now()) + WAIT_S
    invocation.document(
        {
            "contract": contract.id,
            "state": _state(waiting, invocation),
            "machines": usage.machines_total,
            "due_at": iso_time(due_at),
        }
    )
    invocation.note(
        f"contract {contract.id} has backups of {usage.machines_total} machine(s): it is paused and waits to be "
        f"deleted until {people_time(due_at)}, announced by mail; nothing is erased before, and "
        f"'pilulier contract resume {contract.id}' takes that back"
    )
    return _EXIT_WARNINGS
