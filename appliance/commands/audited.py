"""What commands write into the audit log: who typed them, what they were about, what they changed.

Rule: a command that changes something writes its line in the transaction of the act; where the act is on a repository's
disk, before it begins, so that nothing happens without a line. Secrets (passwords, TOTP, enrolment codes) never stand
in one.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from appliance.commands.invocation import Invocation

if TYPE_CHECKING:
    from appliance.control.accounts import Account
    from appliance.control.audit import Actor
    from appliance.control.contracts import Contract
    from appliance.control.database import Database
    from appliance.control.machines import Machine
    from appliance.control.spaces import Space


def who() -> str:
    """The person behind the command: the operating system's user and, behind sudo, who became it by their own word."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"user {os.getuid()}"
    sudo = os.environ.get("SUDO_USER", "")
    return f"{sudo} as {user}" if sudo and sudo != user else user


def actor() -> Actor:
    """Whoever typed the command."""
    from appliance.control.audit import command_line

    return command_line(who())


def note(
    invocation: Invocation,
    db: Database,
    kind: str,
    about: Contract | Machine | Account | Space,
    *,
    before: object = None,
    after: object = None,
) -> None:
    """One line about a contract, machine, account or space."""
    from appliance.control import accounts, audit, contracts
    from appliance.control.accounts import Account
    from appliance.control.contracts import Contract
    from appliance.control.machines import Machine

    what: dict[str, Any]
    if isinstance(about, Contract):
        what = {"object_kind": "contract", "object_id": about.id, "object_name": about.client_id}
        what |= {"space_id": about.space_id, "contract_id": about.id}
    elif isinstance(about, Machine):
        space = contracts.of_machine(db, about.id).space_id
        what = {"object_kind": "machine", "object_id": about.hex, "object_name": about.name}
        what |= {"space_id": space, "contract_id": about.contract_id}
    elif isinstance(about, Account):
        what = {"object_kind": "account", "object_id": about.id, "object_name": about.email}
        what |= {"space_id": accounts.space_of(db, about), "contract_id": about.contract_id}
    else:
        what = {"object_kind": "space", "object_id": about.id, "object_name": about.name, "space_id": about.id}
    audit.write(db, actor(), kind, now=invocation.now(), before=before, after=after, **what)


def changed_from_nothing(new: Contract) -> dict[str, object]:
    """All fields of a new contract but its names, which stand in the line already."""
    known = _flat(new)
    for name in ("id", "space_id", "client_id", "created_at"):
        del known[name]
    return known


def changed(old: Contract, new: Contract) -> tuple[dict[str, object], dict[str, object]]:
    """The fields in which two states of a contract differ, before and after."""
    before, after = _flat(old), _flat(new)
    names = [name for name in after if before[name] != after[name]]
    return {name: before[name] for name in names}, {name: after[name] for name in names}


def _flat(contract: Contract) -> dict[str, object]:
    known: dict[str, object] = asdict(contract)
    del known["retention"]
    return known | asdict(contract.retention)
