"""What commands write into the audit log: who typed them; `control.acts` says the rest.

Rule: a command that changes something writes its line in the transaction of the act; where the act is on a repository's
disk, before it begins, so that nothing happens without a line.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

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
    from appliance.control import acts

    acts.note(db, actor(), kind, about, now=invocation.now(), before=before, after=after)
