"""`pilulier audit`: what accounts did, and whether that log is whole."""

from __future__ import annotations

import argparse

from appliance.commands.invocation import Commands, Invocation
from transport.errors import UsageError

_EXIT_FAILED = 1


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    audit = commands.add_parser(
        "audit",
        parents=[common],
        allow_abbrev=False,
        help="the log of what accounts did: verify",
        description="The hash-chained log of what accounts did.",
    )
    actions = audit.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "verify",
        parents=[common],
        allow_abbrev=False,
        help="walk the chain of the audit log; names the first altered line",
        description="Walk the chain of the audit log from its first line. Exit code 1 where a line was altered or is "
        "missing; the first such line is named. The head that is printed, noted elsewhere, shows later that the log "
        "was not written anew.",
    )
    parser.add_argument("--head", metavar="HEX", help="a head noted earlier, which must still be in the chain")
    parser.set_defaults(run=verify)


def verify(invocation: Invocation) -> int:
    """`audit verify`: exit code 1 where the chain is broken."""
    from appliance.control import audit

    known = None
    if invocation.arguments.head is not None:
        try:
            known = bytes.fromhex(invocation.arguments.head)
        except ValueError:
            known = b""
        if len(known) != 32:
            raise UsageError("--head is not a head as 'pilulier audit verify' prints it: 64 hexadecimal digits")
    with invocation.database() as db:
        found = audit.verify(db, known)
    invocation.document(
        {"ok": found.ok, "lines": found.lines, "first_altered": found.first_altered, "head": found.head.hex()}
    )
    if found.ok:
        invocation.say(f"All {found.lines} lines of the audit log hold; its head is {found.head.hex()}")
        return 0
    invocation.say(f"The audit log was altered: line {found.first_altered} is the first that does not hold.")
    return _EXIT_FAILED
