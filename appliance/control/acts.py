"""Lines of the audit log about contracts, machines, accounts and spaces: what each is called in one.

Used by commands and pages alike, so that the same act reads the same whoever did it. Secrets (passwords, TOTP,
enrolment codes) never stand in one.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from appliance.control import accounts, audit, contracts
from appliance.control.accounts import Account
from appliance.control.audit import Act, Actor
from appliance.control.contracts import Contract
from appliance.control.database import Database
from appliance.control.machines import Machine
from appliance.control.spaces import Space


def note(
    db: Database,
    actor: Actor,
    kind: str,
    about: Contract | Machine | Account | Space,
    *,
    now: float,
    before: object = None,
    after: object = None,
) -> Act:
    """One line, best in the transaction of the act."""
    what: dict[str, Any]
    match about:
        case Contract():
            what = {"object_kind": "contract", "object_id": about.id, "object_name": about.client_id}
            what |= {"space_id": about.space_id, "contract_id": about.id}
        case Machine():
            space = contracts.of_machine(db, about.id).space_id
            what = {"object_kind": "machine", "object_id": about.hex, "object_name": about.name}
            what |= {"space_id": space, "contract_id": about.contract_id}
        case Account():
            what = {"object_kind": "account", "object_id": about.id, "object_name": about.email}
            what |= {"space_id": accounts.space_of(db, about), "contract_id": about.contract_id}
        case Space():
            what = {"object_kind": "space", "object_id": about.id, "object_name": about.name, "space_id": about.id}
    return audit.write(db, actor, kind, now=now, before=before, after=after, **what)


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
