"""A small control database for tests: two spaces, three contracts, one machine each, one account per role."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyotp
import pytest

from appliance.control import accounts, contracts, machines, passwords, spaces
from appliance.control.accounts import Account, Role
from appliance.control.contracts import Contract
from appliance.control.database import Database
from appliance.control.machines import Machine
from transport.messages import BackupFigures

NOW = 1_800_000_000.0
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class House:
    """What `build` made. `codes` maps an account's address to its TOTP secret."""

    db: Database
    path: Path
    ours: Contract
    neighbour: Contract
    elsewhere: Contract
    machine: Machine
    neighbour_machine: Machine
    elsewhere_machine: Machine
    accounts: dict[str, Account]
    secrets: dict[str, str]

    def code(self, who: str, now: float = NOW) -> str:
        """The code that an authenticator shows at `now`."""
        return pyotp.TOTP(self.secrets[who]).at(int(now))


def keys(seed: int) -> dict[str, bytes]:
    """Public halves and ids of a machine, told apart by `seed`."""
    return {
        "curve_key": bytes([seed]) * 32,
        "signing_key": bytes([seed + 100]) * 32,
        "vault": bytes([seed]) * 16,
        "installation": bytes([seed + 100]) * 16,
    }


def enrol(db: Database, contract: Contract, seed: int, name: str = "PC-1", now: float = NOW) -> Machine:
    """A machine of the contract through a fresh token."""
    token = contracts.new_token(db, contract, now).token
    return machines.enrol(db, token, name=name, agent_version="1", platform="Linux", now=now, **keys(seed))


def figures(bytes_source: int = 1000) -> BackupFigures:
    """Plausible figures of a backup."""
    return BackupFigures(10, 1, 2, 7, 0, 0, bytes_source, 500, 100, 50, 1.5, 0.5, 0)


def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """The house; password hashing is made cheap, since no test here measures it."""
    monkeypatch.setattr(passwords, "_N", 2)
    path = tmp_path / "control.db"
    db = Database.create(path)
    near, far = spaces.add(db, "near", NOW), spaces.add(db, "far", NOW)

    def contract(space: str, client: str) -> Contract:
        return contracts.add(db, space_id=space, client_id=client, email=f"{client}@example.org", now=NOW)

    ours, neighbour, elsewhere = contract(near.id, "ours"), contract(near.id, "next"), contract(far.id, "away")
    made: dict[str, Account] = {}
    secrets: dict[str, str] = {}
    for who, role, space_id, contract_id in (
        ("super", Role.SUPER, None, None),
        ("admin", Role.ADMIN, near.id, None),
        ("support", Role.SUPPORT, near.id, None),
        ("customer", Role.CUSTOMER, None, ours.id),
    ):
        new = accounts.add(
            db,
            email=f"{who}@example.org",
            role=role,
            password=PASSWORD,
            now=NOW,
            space_id=space_id,
            contract_id=contract_id,
        )
        made[who], secrets[who] = new.account, new.totp.secret
    return House(
        db,
        path,
        ours,
        neighbour,
        elsewhere,
        enrol(db, ours, 1),
        enrol(db, neighbour, 2),
        enrol(db, elsewhere, 3),
        made,
        secrets,
    )
