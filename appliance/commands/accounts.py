"""`pilulier account`: people who log in and open restores."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from transport.errors import UsageError

if TYPE_CHECKING:
    from appliance.control.accounts import Account, NewTotp
    from appliance.control.database import Database


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    account = commands.add_parser(
        "account",
        parents=[common],
        allow_abbrev=False,
        help="people: add, list, edit",
        description="People who log in.",
    )
    actions = account.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "add",
        parents=[common],
        allow_abbrev=False,
        help="add an account and show its TOTP secret, once",
        description="Add an account. Its TOTP secret is shown once: type it, or the otpauth address as a QR code, "
        "into an authenticator.",
    )
    parser.add_argument("--email", required=True, metavar="E")
    parser.add_argument("--role", required=True, choices=["super", "admin", "support", "customer"])
    parser.add_argument("--space", metavar="S", help="for admin and support: their space, id or name")
    parser.add_argument("--contract", metavar="C", help="for customer: the contract, id or client id")
    parser.add_argument("--password-file", metavar="F", help="a file with the password on its only line (-: stdin)")
    parser.set_defaults(run=add)
    parser = actions.add_parser("list", parents=[common], allow_abbrev=False, help="list the accounts")
    parser.set_defaults(run=list_all)
    parser = actions.add_parser(
        "edit", parents=[common], allow_abbrev=False, help="new password, new TOTP secret, disable or enable"
    )
    parser.add_argument("email", metavar="EMAIL")
    parser.add_argument("--password-file", metavar="F", help="a file with the new password (-: stdin)")
    parser.add_argument("--new-totp", action="store_true", help="a new TOTP secret, for a lost phone")
    parser.add_argument("--state", choices=["active", "disabled"])
    parser.set_defaults(run=edit)


def _document(account: Account) -> dict[str, object]:
    return {
        "account": account.email,
        "id": account.id,
        "role": str(account.role),
        "space": account.space_id,
        "contract": account.contract_id,
        "state": str(account.state),
    }


def show_totp(invocation: Invocation, totp: NewTotp) -> None:
    """Print a new secret for people, the one time it is shown."""
    invocation.say(f"TOTP secret: {totp.secret}")
    invocation.say(f"TOTP address: {totp.uri}")
    invocation.say("Put one of them into an authenticator now: it is not shown again.")


def _space_of(db: Database, role: str, given: str | None) -> str | None:
    from appliance.control import spaces

    if given is not None:
        return spaces.find(db, given).id
    if role not in ("admin", "support"):
        return None
    every = spaces.every(db)
    if len(every) != 1:
        raise UsageError(f"an account of role {role} belongs to a space: give --space, see 'pilulier space list'")
    return every[0].id


def add(invocation: Invocation) -> int:
    """`account add`."""
    from appliance.control import accounts, contracts
    from appliance.control.scope import EVERYTHING

    arguments = invocation.arguments
    with invocation.database() as db:
        contract = None
        if arguments.contract is not None:
            contract = contracts.find(db, EVERYTHING, arguments.contract).id
        space = _space_of(db, arguments.role, arguments.space)
        password = invocation.password(arguments.password_file, arguments.email)  # may ask a person: no lock meanwhile
        with db.write():
            new = accounts.add(
                db,
                email=arguments.email,
                role=accounts.Role(arguments.role),
                password=password,
                now=invocation.now(),
                space_id=space,
                contract_id=contract,
            )
            audited.note(invocation, db, "account.add", new.account, after={"role": str(new.account.role)})
    invocation.document(_document(new.account) | {"totp_secret": new.totp.secret, "totp_uri": new.totp.uri})
    invocation.say(f"Account {new.account.email} added, role {new.account.role}.")
    show_totp(invocation, new.totp)
    return 0


def list_all(invocation: Invocation) -> int:
    """`account list`."""
    from appliance.control import accounts

    with invocation.database() as db:
        every = accounts.every(db)
    invocation.document([_document(account) | {"created_at": iso_time(account.created_at)} for account in every])
    invocation.table(
        ["e-mail", "role", "space", "contract", "state", "created"],
        [[a.email, a.role, a.space_id or "", a.contract_id or "", a.state, people_time(a.created_at)] for a in every],
        "There is no account yet: add one with 'pilulier account add'.",
    )
    return 0


def edit(invocation: Invocation) -> int:
    """`account edit EMAIL`."""
    from appliance.control import accounts

    arguments = invocation.arguments
    if arguments.password_file is None and not arguments.new_totp and arguments.state is None:
        raise UsageError("nothing to change: give --password-file, --new-totp or --state")
    with invocation.database() as db:
        before, totp, changes = accounts.find(db, arguments.email), None, dict[str, str]()
        password = None
        if arguments.password_file is not None:
            password = invocation.password(arguments.password_file, before.email)
        with db.write():
            if arguments.state is not None:
                accounts.set_state(db, before, accounts.AccountState(arguments.state))
                changes["state"] = arguments.state
            if password is not None:
                accounts.set_password(db, before, password)
                changes["password"] = "changed"
            if arguments.new_totp:
                totp = accounts.renew_totp(db, before)
                changes["totp"] = "renewed"
            account = accounts.find(db, before.id)
            audited.note(
                invocation, db, "account.edit", account, before={"state": str(before.state)}, after=changes
            )
    secrets = {"totp_secret": totp.secret, "totp_uri": totp.uri} if totp else {}
    invocation.document(_document(account) | secrets)
    invocation.say(f"Account {account.email} changed, state {account.state}.")
    if totp:
        show_totp(invocation, totp)
    return 0
