"""The parser of `pilulier-agent recover`; what it does is in `commands_recovery`, loaded when it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from agent.cli_limits import proxy_arguments


def add_command(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The parser."""
    recover = command("recover", "make this blank machine go on where one that is lost ended, and fetch its files")
    recover.add_argument(
        "--appliance",
        metavar="CODE_OR_ADDRESS",
        help="the code PIL1-… of the recovery sheet, or any enrolment code of that appliance; or its address, with a "
        "--key file that says who must answer there (default: as the --key file says)",
    )
    recover.add_argument("--account", metavar="EMAIL", required=True, help="an account that may see the contract")
    recover.add_argument("--password-file", metavar="F", required=True, help="a file with its password, one line")
    recover.add_argument("--otp", metavar="CODE", required=True, help="its current TOTP code (each works once)")
    recover.add_argument("--machine", metavar="NAME", default="", help="which machine, where the account sees several")
    recover.add_argument(
        "--key",
        metavar="FILE",
        help="what key export wrote, or the typed lines of the recovery sheet (default: the key that was left with the "
        "appliance)",
    )
    recover.add_argument("--passphrase-file", metavar="F", help="of a private key: a file with its passphrase")
    recover.add_argument(
        "--head", metavar="CODE", default="", help="the head code of a mail or sheet: nothing older is taken for it"
    )
    proxy_arguments(recover)
    where = recover.add_mutually_exclusive_group()
    where.add_argument("--target", metavar="DIR", help="fetch the files at once, /a/b to DIR/a/b, newest folders first")
    where.add_argument("--in-place", action="store_true", help="fetch them at once to where they were")
