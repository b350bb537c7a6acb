"""`pilulier-agent`: the command line of a machine.

Owns arguments, exit codes and what goes to which stream: with --json exactly one JSON document on stdout, everything
else on stderr. Commands themselves are in `agent.commands`; only this module prints an error or exits.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from agent import __version__, cli_guards, cli_limits, cli_onsite
from agent.cli_databases import add_commands, apart
from agent.cli_recovery import add_command as add_recover
from agent.settings import AgentHome, agent_home
from agent.system.program import keep_what_was_unpacked
from transport.errors import PilulierError

STARTED_BY = ("manual", "scheduled", "missed", "asked", "continuous")
"""What may have started a backup, for the log and the statistics."""


class _Parser(argparse.ArgumentParser):
    """Errors on one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _common() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--home", metavar="DIR", default=argparse.SUPPRESS, help="the agent's folder (default /var/lib/pilulier-agent)"
    )
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document on stdout, nothing else"
    )
    return common


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = _common()
    parser = _Parser(
        prog="pilulier-agent",
        description="Back up this machine to a Pilulier appliance, sealed end to end, and restore from it.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 4 refused, 5 appliance unreachable.",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"pilulier-agent {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, text: str, *, into: argparse._SubParsersAction[_Parser] = commands) -> _Parser:
        return into.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])

    enrol = command("enrol", "register this machine with an appliance")
    enrol.add_argument("code", metavar="CODE", help="the enrolment code, from PIL1- to its end")
    enrol.add_argument("--name", required=True, help="what the machine is called in the web interface")
    enrol.add_argument(
        "--passphrase-file",
        metavar="F",
        help="keep the key private: a file whose only line is the passphrase that opens it (default: confided to the "
        "appliance)",
    )
    cli_limits.proxy_arguments(enrol)

    select = command("select", "choose what is backed up")
    selects = select.add_subparsers(dest="selecting", metavar="WHAT", required=True, parser_class=_Parser)
    include = command("include", "back up these paths", into=selects)
    include.add_argument("paths", metavar="PATH", nargs="+")
    exclude = command("exclude", "leave these paths or patterns out (*.tmp, **/cache, /home/x)", into=selects)
    exclude.add_argument("paths", metavar="PATH_OR_PATTERN", nargs="+")
    forget = command("remove", "drop rules given before", into=selects)
    forget.add_argument("paths", metavar="PATH_OR_PATTERN", nargs="+")
    command("show", "print the selection", into=selects)

    backup = command("backup", "back up what is selected")
    backup.add_argument(
        "--allow-empty",
        action="store_true",
        help="go on where an included folder is missing or empty although the last snapshot had files in it",
    )

    backup.add_argument("--started-by", metavar="WHY", default="manual", choices=STARTED_BY, help=argparse.SUPPRESS)
    backup.add_argument("--only-marked", action="store_true", help=argparse.SUPPRESS)

    command("run", "run the service: backups at their times, settings from the appliance; until SIGTERM")

    install = command("install-service", "have this machine start the service by itself: systemd, launchd or a task")
    install.add_argument("--to", metavar="DIR", help="where the file goes (default: where the system looks for it)")

    window = command("ui", "open the local interface: print an address that opens it once, on this machine only")
    window.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)

    schedule = command("schedule", "when backups start by themselves, where the service runs")
    schedules = schedule.add_subparsers(dest="scheduling", metavar="WHAT", required=True, parser_class=_Parser)
    command("show", "print the schedule", into=schedules)
    setting = command("set", "back up at these times of day, in this machine's time zone", into=schedules)
    setting.add_argument("times", metavar="HH:MM", nargs="+")
    setting.add_argument("--days", metavar="DAYS", default="mon-sun", help="mon-fri, or mon,wed,sat (default: all)")
    following = command("continuous", "whether a snapshot follows each change within a minute", into=schedules)
    following.add_argument("following", choices=("on", "off"))
    command("off", "start no backup by itself", into=schedules)

    remote = command("remote", "whether the appliance may set what is backed up and when, and start backups")
    remotes = remote.add_subparsers(dest="remoting", metavar="WHAT", required=True, parser_class=_Parser)
    command("allow", "let it (the default)", into=remotes)
    command("refuse", "do not let it; the web interface says so", into=remotes)
    command("show", "print whether it may, and what it set last", into=remotes)

    def group(parent: argparse.ArgumentParser, kept: str) -> argparse._SubParsersAction[_Parser]:
        return parent.add_subparsers(dest=kept, metavar="WHAT", required=True, parser_class=_Parser)

    add_commands(command, group)
    cli_guards.add_commands(command, group)
    cli_onsite.add_commands(command, group)
    add_recover(command)
    cli_limits.add_commands(command, group)
    cli_onsite.add_from(command("snapshots", "list the snapshots of this machine"))

    listing = command("ls", "list a folder of a snapshot")
    _which_snapshot(listing)
    cli_onsite.add_from(listing)
    listing.add_argument("path", metavar="PATH", nargs="?", help="a folder or file (default: the top)")

    restore = command("restore", "put files back")
    where = restore.add_mutually_exclusive_group(required=True)
    where.add_argument("--target", metavar="DIR", help="restore /a/b to DIR/a/b")
    where.add_argument("--in-place", action="store_true", help="restore to where the files were")
    restore.add_argument("--account", metavar="EMAIL", help="an account that may see this machine's contract")
    restore.add_argument("--otp", metavar="CODE", help="its current TOTP code (each works once)")
    restore.add_argument("--recent-first", action="store_true", help="folders that were used last come first")
    cli_onsite.add_from(restore)
    _what_to_restore(restore)

    received = command("deliveries", "what was sent here from the web interface to be restored")
    received.add_argument("--folder", metavar="DIR", help="restore deliveries below this folder from now on")
    deliveries = received.add_subparsers(dest="receiving", metavar="WHAT", parser_class=_Parser)
    command("list", "list what waits or is under way", into=deliveries)
    for name, text in (
        ("show", "name what was selected, as this machine's own backup has it"),
        ("accept", "restore it into a new folder of its own; nothing is replaced"),
        ("refuse", "do not restore it"),
    ):
        command(name, text, into=deliveries).add_argument("number", metavar="N", type=int)

    verify = command("verify", "compare the originals with the backup")
    verify.add_argument(
        "--sample", metavar="PERCENT", type=_percent, default=1.0, help="sealed segments to open as well (default 1)"
    )

    key = command("key", "the key of this machine")
    keys = key.add_subparsers(dest="keying", metavar="WHAT", required=True, parser_class=_Parser)
    export = command("export", "write the key to a file, to keep where no burglar and no fire gets it", into=keys)
    export.add_argument("--out", metavar="FILE", required=True, help="a file that does not exist yet")

    sheet = command("sheet", "write the recovery sheet, to print and keep in a safe", into=keys)
    sheet.add_argument("--out", metavar="FILE", required=True, help="FILE.html to print, FILE.txt for plain text")
    sheet.add_argument("--language", choices=("fr", "en", "de"), help="of its words (default: this machine's)")
    protect = command("protect", "keep the key private, under a passphrase that the appliance never learns", into=keys)
    protect.add_argument(
        "--passphrase-file", metavar="F", required=True, help="a file whose only line is the passphrase"
    )
    rotate = command("rotate", "seal what comes from now on under a new key; old snapshots stay readable", into=keys)
    rotate.add_argument("--passphrase-file", metavar="F", help="of a private key: a file with its passphrase")
    command("confide", "let the appliance open this machine's backups for its owner", into=keys)

    folder = command("read-repository", "restore from a repository folder in hand, without any server")
    folder.add_argument("folder", metavar="DIR", help="the folder that holds packs/ (a copy of it will do)")
    folder.add_argument("--key", metavar="FILE", required=True, help="what key export wrote, or a recovery sheet")
    folder.add_argument("--target", metavar="DIR", required=True, help="restore /a/b to DIR/a/b")
    _what_to_restore(folder)

    command("status", "what this agent knows of itself")

    resync = command("resync", "go on after this PC was restored from an image, or its state was lost")
    resync.add_argument("--account", metavar="EMAIL", required=True)
    resync.add_argument("--otp", metavar="CODE", required=True)
    return parser


def _what_to_restore(parser: argparse.ArgumentParser) -> None:
    _which_snapshot(parser)
    parser.add_argument(
        "--keep-privileges", action="store_true", help="put set-uid, set-gid and capabilities back as well"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are newer than the snapshot's")
    parser.add_argument("paths", metavar="PATH", nargs="*", help="files and folders (default: everything)")


def _which_snapshot(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--snapshot", metavar="N", type=int, help="snapshot number (default: the newest)")
    group.add_argument("--at", metavar="TIME", help="the newest snapshot at that time (2026-11-22, 2026-11-22T18:30)")


def _percent(text: str) -> float:
    value = float(text.rstrip("%"))
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100")
    return value


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line. argparse takes `DIR --key FILE PATH` for an error: paths may come after options here."""
    parser = build_parser()
    given = sys.argv[1:] if arguments is None else arguments
    before, words = apart(given)
    options, rest = parser.parse_known_args(before)
    if words is not None and options.command != "hooks":
        options, rest = parser.parse_known_args(given)
    options.words = words or []
    if rest and options.command == "read-repository" and not any(word.startswith("-") for word in rest):
        options.paths += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    keep_what_was_unpacked()
    options = _parsed(arguments)
    home = agent_home(getattr(options, "home", None))
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="pilulier-agent: %(message)s")
    try:
        from agent import commands
        from transport.allocator import collect_seldom, keep_large_buffers

        if options.command in ("backup", "restore", "recover", "verify", "read-repository"):
            keep_large_buffers()
            collect_seldom()
        return commands.run(options, home, as_json=getattr(options, "json", False))
    except PilulierError as error:
        print(f"pilulier-agent: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("pilulier-agent: interrupted; what was sent is kept and need not be sent again", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(f"pilulier-agent: no room is left on the disk of {home.path}: free some, try again", file=sys.stderr)
        else:
            print(_unexpected(error, home), file=sys.stderr)
        return 1
    except Exception as error:  # the edge of the program: a person gets a sentence, the file the details
        print(_unexpected(error, home), file=sys.stderr)
        return 1


def _unexpected(error: Exception, home: AgentHome) -> str:
    return f"pilulier-agent: unexpected {type(error).__name__}: {error}{_kept_details(home)}"


def _kept_details(home: AgentHome) -> str:
    try:
        path = home.path / "crash.txt"
        path.write_text(traceback.format_exc())
    except OSError:
        return ""
    return f" (details in {path})"


if __name__ == "__main__":
    sys.exit(main())
