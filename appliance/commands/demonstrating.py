"""`pilulier demo-data`: fills an empty home with made-up contracts, machines and history."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from appliance.commands.invocation import Commands, Invocation
from transport.errors import UsageError


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "demo-data",
        parents=[common],
        allow_abbrev=False,
        help="fill an empty home with made-up contracts, machines and 90 days of history",
        description="Fill a home that has no contract with 3 spaces, 60 contracts, 150 machines, 90 days of history "
        "and accounts of every role, whose password and TOTP secrets are printed: never on a home that will be used. "
        "The same seed makes the same data.",
    )
    parser.add_argument("--seed", metavar="N", default="1", help="a number (default: 1)")
    parser.add_argument("--at", metavar="TIME", help="the time that counts as now, ISO 8601 (default: now)")
    parser.add_argument("--running", action="store_true", help="only pretend, for 90 seconds, that some backups run")
    parser.set_defaults(run=demo_data)


def demo_data(invocation: Invocation) -> int:
    """`demo-data`."""
    from appliance import demo_data, demo_history

    arguments = invocation.arguments
    if not arguments.seed.isascii() or not arguments.seed.isdigit() or len(arguments.seed) > 9:
        raise UsageError(f"--seed {arguments.seed!r} is not a number, 0 or more")
    seed, now = int(arguments.seed), invocation.now()
    if arguments.at is not None:
        try:
            at = datetime.fromisoformat(arguments.at)
        except ValueError:
            raise UsageError(f"--at {arguments.at!r} is not a time like 2026-11-23T08:00") from None
        now = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    home = invocation.home()
    with invocation.database(home) as db:
        if arguments.running:
            count = demo_history.pretend_running(db, home.running_file, seed, now)
            invocation.document({"running": count})
            invocation.say(f"{count} backups are shown as running for 90 seconds.")
            return 0
        made = demo_data.build(db, seed, now)
    invocation.document(
        {
            "spaces": made.spaces,
            "contracts": made.contracts,
            "machines": made.machines,
            "snapshots": made.snapshots,
            "log_lines": made.log_lines,
            "password": demo_data.PASSWORD,
            "accounts": [
                {"email": one.email, "role": one.role, "space": one.space, "totp_secret": one.totp_secret}
                for one in made.accounts
            ],
        }
    )
    invocation.say(
        f"{made.spaces} spaces, {made.contracts} contracts, {made.machines} machines, {made.snapshots} backups."
    )
    invocation.table(
        ["e-mail", "role", "space", "TOTP secret"],
        [[one.email, one.role, one.space, one.totp_secret] for one in made.accounts],
        "",
    )
    invocation.say(f"Their password is {demo_data.PASSWORD}: use this home for nothing else.")
    return 0
