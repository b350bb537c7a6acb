"""What somebody above changes of an account: its address, its role and place, its language, whether it may log in.

One rule for all: `by` stands above the account as it is and as it will be, and both lie within the scope; so nobody
lifts an account above themselves, moves one out of what they see, or touches one of another tenant. Each act is decided
and done in one transaction, which the caller's audit line joins.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.control import accounts, outbox
from appliance.control.accounts import Account, AccountState, Role
from appliance.control.database import Database
from appliance.control.scope import Scope
from transport.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an account is to be."""

    email: str
    role: Role
    space_id: str | None
    contract_id: str | None
    language: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The account before and after."""

    before: Account
    after: Account

    def fields(self) -> tuple[dict[str, object], dict[str, object]]:
        """The fields that differ, before and after, for the audit log."""
        names = [
            name
            for name in ("email", "role", "space_id", "contract_id", "language", "state")
            if getattr(self.before, name) != getattr(self.after, name)
        ]
        return {name: getattr(self.before, name) for name in names}, {name: getattr(self.after, name) for name in names}


def _below(db: Database, by: Account, scope: Scope, account_id: str) -> Account:
    account = accounts.find_in(db, scope, account_id)
    if not accounts.may_manage(by, account):
        raise RefusedError(f"{account.email} is for someone above {by.email} to change")
    return account


def edit(db: Database, account_id: str, wanted: Wanted, *, by: Account, scope: Scope, now: float) -> Changed:
    """Make it so; what differs ends the account's sessions, but for the language. The former address is told of a new.

    NotFoundError for what lies outside of the scope, RefusedError where `by` does not stand above, ConflictError where
    the address is taken or no super account would be left, UsageError for an address that is none or a role out of
    place.
    """
    with db.write():
        before = after = _below(db, by, scope, account_id)
        place = (wanted.role, wanted.space_id, wanted.contract_id)
        if place != (before.role, before.space_id, before.contract_id):
            if not accounts.may_give(by, wanted.role):
                raise RefusedError(f"an account of role {by.role} makes no account of role {wanted.role}")
            accounts.check_belonging(*place)
            accounts.checked_place(db, scope, wanted.space_id, wanted.contract_id)
            after = accounts.set_role(db, after, wanted.role, space_id=wanted.space_id, contract_id=wanted.contract_id)
        if wanted.language != before.language:
            after = accounts.set_language(db, after, wanted.language)
        if wanted.email.strip().lower() != before.email:
            after = accounts.set_email(db, after, wanted.email)
            outbox.add(
                db,
                recipient=before.email,
                kind=outbox.EMAIL_CHANGED,
                language=before.language,
                space_id=accounts.space_of(db, before),
                fields={"email": after.email, "by": by.email},
                now=now,
            )
        return Changed(before, after)


def set_state(db: Database, account_id: str, state: AccountState, *, by: Account, scope: Scope) -> Changed:
    """Let it log in, or not any more, which ends its sessions; errors as for `edit`."""
    with db.write():
        before = _below(db, by, scope, account_id)
        accounts.set_state(db, before, state)
        return Changed(before, accounts.find(db, before.id))
