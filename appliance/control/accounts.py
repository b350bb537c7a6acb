"""Accounts: people who log in or open restores, with a role, a password and a TOTP secret.

Addresses are unique after normalisation. A role fixes what an account hangs on: super on nothing, admin and
support on a space, customer on a contract (and through it on that contract's space, wherever it moves).
The TOTP secret leaves this module once, when it is made; `Account` does not hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control import two_factor
from appliance.control.database import Database, new_id
from appliance.control.passwords import checked_password, hash_password, verify_password
from appliance.control.scope import EVERYTHING, OneContract, OneSpace, Scope
from appliance.control.text import checked_email
from appliance.errors import ConflictError, NotFoundError
from transport.errors import PilulierError, UsageError


class Role(StrEnum):
    """What an account may be."""

    SUPER = "super"
    ADMIN = "admin"
    SUPPORT = "support"
    CUSTOMER = "customer"


class AccountState(StrEnum):
    """A disabled account opens nothing."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Account:
    """A person. `space_id` is set for admin and support, `contract_id` for customer. No secret inside."""

    id: str
    email: str
    role: Role
    space_id: str | None
    contract_id: str | None
    state: AccountState
    created_at: float


@dataclass(frozen=True, slots=True)
class NewTotp:
    """A TOTP secret (base32) and its `otpauth://` address, to be shown once. Its repr shows neither."""

    secret: str
    uri: str

    def __repr__(self) -> str:
        return "NewTotp(…)"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account as it was just made, with what only its maker gets to see."""

    account: Account
    totp: NewTotp


_COLUMNS: Final = (
    "account.id, account.email, account.role, account.space_id, account.contract_id, account.state, account.created_at"
)


def _account(row: dict[str, Any]) -> Account:
    return Account(**{**row, "role": Role(row["role"]), "state": AccountState(row["state"])})


def _new_totp(email: str) -> NewTotp:
    secret = two_factor.new_secret()
    return NewTotp(secret, two_factor.provisioning_uri(secret, email))


def add(
    db: Database,
    *,
    email: str,
    role: Role,
    password: str,
    now: float,
    space_id: str | None = None,
    contract_id: str | None = None,
) -> NewAccount:
    """A new account; ConflictError where the address is taken, UsageError where role and belonging disagree."""
    email = checked_email(email)
    checked_password(password)
    _check_belonging(role, space_id, contract_id)
    totp = _new_totp(email)
    account = Account(new_id("a"), email, role, space_id, contract_id, AccountState.ACTIVE, now)
    # Hashing takes a noticeable moment and happens before the write lock is taken.
    password_hash = hash_password(password)
    with db.write():
        if db.row("SELECT id FROM account WHERE email = ?", [email]):
            raise ConflictError(f"an account for {email} exists already: see 'pilulier account list'")
        if space_id is not None and not db.row("SELECT id FROM space WHERE id = ?", [space_id]):
            raise NotFoundError(f"there is no space {space_id!r}: see 'pilulier space list'")
        if contract_id is not None and not db.row("SELECT id FROM contract WHERE id = ?", [contract_id]):
            raise NotFoundError(f"there is no contract {contract_id!r}: see 'pilulier contract list'")
        db.insert(
            "account",
            {
                "id": account.id,
                "email": email,
                "role": str(role),
                "space_id": space_id,
                "contract_id": contract_id,
                "password_hash": password_hash,
                "totp_secret": totp.secret,
                "totp_last_step": 0,
                "state": str(account.state),
                "created_at": now,
            },
        )
    return NewAccount(account, totp)


def _check_belonging(role: Role, space_id: str | None, contract_id: str | None) -> None:
    if role is Role.CUSTOMER:
        if contract_id is None:
            raise UsageError("a customer account belongs to a contract: give --contract")
        if space_id is not None:
            raise UsageError("a customer account takes its space from its contract: leave --space out")
        return
    if contract_id is not None:
        raise UsageError(f"an account of role {role} belongs to no contract: leave --contract out")
    if role is Role.SUPER and space_id is not None:
        raise UsageError("a super account sees every space: leave --space out")
    if role is not Role.SUPER and space_id is None:
        raise UsageError(f"an account of role {role} belongs to a space: give --space")


def every(db: Database) -> list[Account]:
    """All accounts, oldest first."""
    return [_account(row) for row in db.rows(f"SELECT {_COLUMNS} FROM account ORDER BY created_at, rowid")]


def find(db: Database, email_or_id: str) -> Account:
    """The account with this address or id; NotFoundError otherwise."""
    row = db.row(
        f"SELECT {_COLUMNS} FROM account WHERE id = ? OR email = ?", [email_or_id, email_or_id.strip().lower()]
    )
    if row is None:
        raise NotFoundError(f"there is no account {email_or_id!r}: see 'pilulier account list'")
    return _account(row)


def scope_of(account: Account) -> Scope:
    """What the account may see."""
    match account:
        case Account(role=Role.SUPER):
            return EVERYTHING
        case Account(role=Role.ADMIN | Role.SUPPORT, space_id=str(space_id)):
            return OneSpace(space_id)
        case Account(role=Role.CUSTOMER, contract_id=str(contract_id)):
            return OneContract(contract_id)
    raise PilulierError(f"account {account.email} has role {account.role} and belongs nowhere")


def set_state(db: Database, account: Account, state: AccountState) -> None:
    """Enable or disable; ConflictError where that would leave no active super account."""
    with db.write():
        others = db.value(
            "SELECT count(*) AS n FROM account WHERE role = 'super' AND state = 'active' AND id != ?", [account.id]
        )
        if state is AccountState.DISABLED and account.role is Role.SUPER and not others:
            raise ConflictError(f"{account.email} is the last active super account: add another one first")
        db.update("account", account.id, {"state": str(state)})


def set_password(db: Database, account: Account, password: str) -> None:
    """Replace the password; UsageError where it is too weak."""
    password_hash = hash_password(checked_password(password))
    with db.write():
        db.update("account", account.id, {"password_hash": password_hash})


def renew_totp(db: Database, account: Account) -> NewTotp:
    """A new TOTP secret for a lost device; the old one stops at once."""
    totp = _new_totp(account.email)
    with db.write():
        db.update("account", account.id, {"totp_secret": totp.secret, "totp_last_step": 0})
    return totp


def password_matches(db: Database, account: Account, password: str) -> bool:
    """Whether this is the account's password. Takes a noticeable moment; throttling is the caller's."""
    stored = db.value("SELECT password_hash FROM account WHERE id = ?", [account.id])
    return stored is not None and verify_password(password, stored)
