"""Accounts: people who log in or open restores, with a role, a password and a TOTP secret.

Addresses are unique after normalisation. A role fixes what an account hangs on: super on nothing, admin and
support on a space, customer on a contract (and through it on that contract's space, wherever it moves).
The TOTP secret leaves this module once, when it is made; `Account` does not hold it. A new authenticator counts only
once a code of it was typed. Whatever changes who may log in, or how, ends the account's sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control import recovery_codes, sessions, two_factor
from appliance.control.database import Database, new_id
from appliance.control.passwords import checked_password, hash_password, verify_password
from appliance.control.scope import EVERYTHING, OneContract, OneSpace, Scope, over
from appliance.control.text import checked_email
from appliance.control.two_factor import Accepted, Reason, Rejected
from appliance.errors import ConflictError, NotFoundError, OneTimeCodeError
from transport.errors import PilulierError, UsageError

LANGUAGES: Final = ("fr", "en", "de")


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
    language: str = LANGUAGES[0]


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


COLUMNS: Final = (
    "account.id, account.email, account.role, account.space_id, account.contract_id, account.state, "
    "account.created_at, account.language"
)


def from_row(row: dict[str, Any]) -> Account:
    """An account out of a row of COLUMNS."""
    return Account(**{**row, "role": Role(row["role"]), "state": AccountState(row["state"])})


def _new_totp(email: str) -> NewTotp:
    return totp_of_secret(email, two_factor.new_secret())


def totp_of_secret(email: str, secret: str) -> NewTotp:
    """A secret with its `otpauth://` address."""
    return NewTotp(secret, two_factor.provisioning_uri(secret, email))


def checked_language(language: str) -> str:
    """The language; UsageError where the interface is not translated into it."""
    if language not in LANGUAGES:
        raise UsageError(f"there is no language {language!r}: choose one of {', '.join(LANGUAGES)}")
    return language


def add(
    db: Database,
    *,
    email: str,
    role: Role,
    password: str,
    now: float,
    space_id: str | None = None,
    contract_id: str | None = None,
    language: str = LANGUAGES[0],
    totp_secret: str | None = None,
) -> NewAccount:
    """A new account; ConflictError where the address is taken, UsageError where role and belonging disagree.

    `totp_secret` is that of an authenticator that has proved itself; without it a new one is made.
    """
    email = checked_email(email)
    checked_password(password)
    check_belonging(role, space_id, contract_id)
    totp = _new_totp(email) if totp_secret is None else totp_of_secret(email, totp_secret)
    account = Account(
        new_id("a"), email, role, space_id, contract_id, AccountState.ACTIVE, now, checked_language(language)
    )
    # Hashing takes a noticeable moment and happens before the write lock is taken.
    password_hash = hash_password(password)
    with db.write():
        if db.row("SELECT id FROM account WHERE email = ?", [email]):
            raise ConflictError(f"an account for {email} exists already: see 'pilulier account list'")
        _check_there(db, space_id, contract_id)
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
                "language": account.language,
            },
        )
    return NewAccount(account, totp)


def check_belonging(role: Role, space_id: str | None, contract_id: str | None) -> None:
    """UsageError where a role hangs on something else than it must."""
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


def _check_there(db: Database, space_id: str | None, contract_id: str | None) -> None:
    if space_id is not None and not db.row("SELECT id FROM space WHERE id = ?", [space_id]):
        raise NotFoundError(f"there is no space {space_id!r}: see 'pilulier space list'")
    if contract_id is not None and not db.row("SELECT id FROM contract WHERE id = ?", [contract_id]):
        raise NotFoundError(f"there is no contract {contract_id!r}: see 'pilulier contract list'")


def every(db: Database) -> list[Account]:
    """All accounts, oldest first."""
    return [from_row(row) for row in db.rows(f"SELECT {COLUMNS} FROM account ORDER BY created_at, rowid")]


def find(db: Database, email_or_id: str) -> Account:
    """The account with this address or id; NotFoundError otherwise."""
    row = db.row(
        f"SELECT {COLUMNS} FROM account WHERE id = ? OR email = ?", [email_or_id, email_or_id.strip().lower()]
    )
    if row is None:
        raise NotFoundError(f"there is no account {email_or_id!r}: see 'pilulier account list'")
    return from_row(row)


def find_in(db: Database, scope: Scope, account_id: str) -> Account:
    """The account with this id in a scope; NotFoundError otherwise."""
    where = over(scope, space="coalesce(account.space_id, contract.space_id)", contract="account.contract_id")
    row = db.row(
        f"SELECT {COLUMNS} FROM account LEFT JOIN contract ON contract.id = account.contract_id "
        f"WHERE account.id = ? AND {where.sql}",
        [account_id, *where.parameters],
    )
    if row is None:
        raise NotFoundError(f"there is no account {account_id!r} here")
    return from_row(row)


def checked_place(db: Database, scope: Scope, space_id: str | None, contract_id: str | None) -> str | None:
    """The space that this space or contract lies in; None for neither. NotFoundError where it is outside of the scope.

    What an account is to hang on comes from a form: this is what keeps it within what its maker sees.
    """
    if space_id is not None:
        where = over(scope, space="space.id", contract="NULL")
        sql = f"SELECT id FROM space WHERE id = ? AND {where.sql}"
    elif contract_id is not None:
        where = over(scope, space="contract.space_id", contract="contract.id")
        sql = f"SELECT space_id FROM contract WHERE id = ? AND {where.sql}"
    else:
        return None
    found = db.value(sql, [space_id or contract_id, *where.parameters])
    if found is None:
        raise NotFoundError(f"there is no space or contract {space_id or contract_id!r} here")
    return str(found)


def may_manage(actor: Account, target: Account) -> bool:
    """Whether `actor` stands above `target`, which lies in the actor's scope. Nobody stands above oneself."""
    if actor.id == target.id or actor.state is not AccountState.ACTIVE:
        return False
    return may_give(actor, target.role)


def may_give(actor: Account, role: Role) -> bool:
    """Whether `actor` may make accounts of this role: only the super-user makes a reseller's admins."""
    if actor.role is Role.SUPER:
        return True
    return actor.role is Role.ADMIN and role in (Role.SUPPORT, Role.CUSTOMER)


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


def space_of(db: Database, account: Account) -> str | None:
    """The space whose theme the account sees; None for a super account."""
    if account.contract_id is None:
        return account.space_id
    found = db.value("SELECT space_id FROM contract WHERE id = ?", [account.contract_id])
    return None if found is None else str(found)


def set_state(db: Database, account: Account, state: AccountState) -> None:
    """Enable or disable; ConflictError where that would leave no active super account."""
    with db.write():
        if state is AccountState.DISABLED:
            _check_not_last(db, account)
            sessions.end_all(db, account.id)
        db.update("account", account.id, {"state": str(state)})


def _check_not_last(db: Database, account: Account) -> None:
    others = db.value(
        "SELECT count(*) AS n FROM account WHERE role = 'super' AND state = 'active' AND id != ?", [account.id]
    )
    if account.role is Role.SUPER and not others:
        raise ConflictError(f"{account.email} is the last active super account: add another one first")


def set_password(db: Database, account: Account, password: str, keep_session: str | None = None) -> None:
    """Replace the password and end the sessions but `keep_session`; UsageError where it is too weak."""
    password_hash = hash_password(checked_password(password))
    with db.write():
        db.update("account", account.id, {"password_hash": password_hash})
        sessions.end_all(db, account.id, keep_session)


def set_email(db: Database, account: Account, email: str) -> Account:
    """Change the address, with which the account logs in; ConflictError where it is taken."""
    email = checked_email(email)
    with db.write():
        if db.row("SELECT id FROM account WHERE email = ? AND id != ?", [email, account.id]):
            raise ConflictError(f"an account for {email} exists already: choose another address")
        db.update("account", account.id, {"email": email})
        sessions.end_all(db, account.id)
        return find(db, account.id)


def set_role(
    db: Database, account: Account, role: Role, *, space_id: str | None = None, contract_id: str | None = None
) -> Account:
    """Change what the account is and hangs on; ConflictError where no active super account would be left."""
    check_belonging(role, space_id, contract_id)
    with db.write():
        if role is not Role.SUPER:
            _check_not_last(db, account)
        _check_there(db, space_id, contract_id)
        db.update("account", account.id, {"role": str(role), "space_id": space_id, "contract_id": contract_id})
        sessions.end_all(db, account.id)
        return find(db, account.id)


def set_language(db: Database, account: Account, language: str) -> Account:
    """Change the language of the account's pages and mails."""
    with db.write():
        db.update("account", account.id, {"language": checked_language(language)})
        return find(db, account.id)


def renew_totp(db: Database, account: Account) -> NewTotp:
    """A new TOTP secret for a lost device; the old one and the recovery codes stop at once."""
    totp = _new_totp(account.email)
    with db.write():
        _replace_totp(db, account, totp.secret, step=0)
        sessions.end_all(db, account.id)
    return totp


def _replace_totp(db: Database, account: Account, secret: str, step: int) -> None:
    db.update("account", account.id, {"totp_secret": secret, "totp_last_step": step, "totp_pending": None})
    recovery_codes.forget(db, account.id)


def begin_totp(db: Database, account: Account) -> NewTotp:
    """A secret for another authenticator; the present one goes on until `confirm_totp`."""
    totp = _new_totp(account.email)
    with db.write():
        db.update("account", account.id, {"totp_pending": totp.secret})
    return totp


def pending_totp(db: Database, account: Account) -> NewTotp | None:
    """What `begin_totp` made and nobody confirmed yet."""
    secret = db.value("SELECT totp_pending FROM account WHERE id = ?", [account.id])
    return None if secret is None else totp_of_secret(account.email, secret)


def confirm_totp(db: Database, account: Account, code: str, now: float, keep_session: str | None = None) -> None:
    """Make the pending secret the account's own, once a code proves it; recovery codes are to be renewed then.

    OneTimeCodeError for a wrong code, ConflictError where nothing is pending.
    """
    with db.write():
        totp = pending_totp(db, account)
        if totp is None:
            raise ConflictError("no new authenticator is waiting to be confirmed: begin again")
        step = confirmed_step(totp.secret, code, now)
        _replace_totp(db, account, totp.secret, step)
        sessions.end_all(db, account.id, keep_session)


def confirmed_step(secret: str, code: str, now: float) -> int:
    """The time step of a new authenticator's first code; OneTimeCodeError where it is wrong."""
    match two_factor.verify(secret, code, now, 0):
        case Accepted(step):
            return step
    raise OneTimeCodeError("this code is not the one the new authenticator shows now: type the current six digits")


def take_code(db: Database, account: Account, code: str, now: float) -> Accepted | Rejected:
    """Check a typed code and use it up, inside the transaction that decides on it. Throttling is the caller's."""
    with db.write():
        row = db.row("SELECT totp_secret, totp_last_step FROM account WHERE id = ?", [account.id])
        if row is None:
            return Rejected(Reason.WRONG)
        verdict = two_factor.verify(row["totp_secret"], code, now, row["totp_last_step"])
        if isinstance(verdict, Accepted):
            db.update("account", account.id, {"totp_last_step": verdict.step})
        return verdict


def password_matches(db: Database, account: Account, password: str) -> bool:
    """Whether this is the account's password. Takes a noticeable moment; throttling is the caller's."""
    stored = db.value("SELECT password_hash FROM account WHERE id = ?", [account.id])
    return stored is not None and verify_password(password, stored)
