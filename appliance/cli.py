"""`pilulier`: runs the appliance, and everything about it that is not a web page.

Owns the command line as a whole: options that every command takes, exit codes, how errors are told. An error is one
sentence on stderr; what nobody foresaw is one sentence too, and its details go to a log file. Commands themselves
are in `appliance.commands`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from appliance.commands import (
    accounts,
    alerting,
    auditing,
    certifying,
    contracts,
    demonstrating,
    escrowing,
    installing,
    jobs,
    machines,
    mailing,
    measuring,
    repositories,
    running,
    safekeeping,
    spaces,
)
from appliance.commands.invocation import Invocation, default_home
from transport.errors import PilulierError, UsageError

_DESCRIPTION: Final = """\
Pilulier keeps encrypted, versioned backups of other machines. This command runs the appliance
and looks after its contracts, accounts and machines. Begin with 'pilulier init', then 'pilulier serve'."""
_EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 4 refused, 5 unreachable. "
    "PILULIER_HOME sets the home folder."
)
_EXIT_INTERRUPTED: Final = 130


class _Parser(argparse.ArgumentParser):
    """argparse with errors in one sentence, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")


def _common(suppress: bool) -> argparse.ArgumentParser:
    """--home and --json; in subcommands without defaults, so that they do not undo what stood before them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--home",
        metavar="DIR",
        default=argparse.SUPPRESS if suppress else default_home(),
        help="the appliance's home folder (default: %(default)s)" if not suppress else "the appliance's home folder",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if suppress else False,
        help="print one JSON document on stdout, everything else on stderr",
    )
    return parser


def build_parser() -> argparse.ArgumentParser:
    """The whole command line. Loads nothing that a command needs to run."""
    parser = _Parser(
        prog="pilulier",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        parents=[_common(suppress=False)],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    common = _common(suppress=True)
    for module in (
        *(running, spaces, contracts, accounts, machines, repositories),
        *(jobs, alerting, mailing, measuring, safekeeping, auditing, certifying, escrowing, installing, demonstrating),
    ):
        module.register(commands, common)
    return parser


def run(argv: Sequence[str]) -> int:
    """Carry out one command line; PilulierError where it cannot be done."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return UsageError.exit_code
        raise UsageError(f"'pilulier {arguments.command}' needs a command (see 'pilulier {arguments.command} --help')")
    code = arguments.run(Invocation(arguments))
    sys.stdout.flush()
    return int(code)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return run(words)
    except PilulierError as error:
        _tell(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _tell("stopped")
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has left (`| head`); Python must not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PilulierError.exit_code
    except Exception as error:  # the edge of the program
        _tell(f"something unforeseen went wrong ({type(error).__name__}): the details are in {_log_details(words)}")
        return PilulierError.exit_code


def _tell(sentence: str) -> None:
    print("pilulier: " + " ".join(sentence.split()), file=sys.stderr)


def _log_details(words: Sequence[str]) -> Path:
    """Append the exception being handled to a file, in the home if it is there, and say where."""
    import time
    import traceback

    details = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} pilulier {' '.join(words[:2])}\n{traceback.format_exc()}\n"
    home = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "--home"), default_home())
    path = Path(home) / "logs" / "errors.log"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        descriptor, name = tempfile.mkstemp(prefix="pilulier-error-", suffix=".log")
        path = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(details)
    return path


if __name__ == "__main__":
    sys.exit(main())
