"""`pilulier init`, `serve` and `doctor`: the appliance itself."""

from __future__ import annotations

import argparse
import json
import os
import sys

from appliance.commands import audited
from appliance.commands.accounts import show_totp
from appliance.commands.invocation import Commands, Invocation
from appliance.errors import AlreadyServingError
from appliance.settings import DEFAULT_LISTEN, DEFAULT_WEB

_EXIT_FAILED = 1


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    parser = commands.add_parser(
        "init",
        parents=[common],
        allow_abbrev=False,
        help="make a new home with its keys and its first account",
        description="Make a new home: folders, keys, control database, and a super account whose TOTP secret is "
        "shown once.",
    )
    parser.add_argument("--admin", required=True, metavar="EMAIL", help="the first super account")
    parser.add_argument("--password-file", metavar="F", help="a file with its password on its only line (-: stdin)")
    _addresses(parser, f"(default: {DEFAULT_LISTEN})", f"(default: {DEFAULT_WEB})")
    parser.set_defaults(run=init)

    parser = commands.add_parser(
        "serve",
        parents=[common],
        allow_abbrev=False,
        help="run all services in the foreground until SIGTERM",
        description="Run all services in the foreground until SIGTERM. When all are up, one line of JSON on stdout "
        "says where. Addresses given here are remembered, since enrolment codes name them.",
    )
    parser.add_argument(
        "--transport-only",
        action="store_true",
        help="the exchange with agents alone: web and jobs are services of their own, as under systemd",
    )
    _addresses(parser, "(default: as remembered)", "(default: as remembered)")
    parser.add_argument("--web-certificate", metavar="F", help="a certificate chain (PEM) for the web interface")
    parser.add_argument("--web-key", metavar="F", help="its private key (PEM); the interface is served by TLS then")
    parser.add_argument(
        "--behind-proxy",
        action=argparse.BooleanOptionalAction,
        help="a proxy in front of the web interface ends TLS; its X-Forwarded-For and -Proto are believed",
    )
    parser.set_defaults(run=serve)

    parser = commands.add_parser(
        "doctor",
        parents=[common],
        allow_abbrev=False,
        help="check the home, its databases, keys, disks, ports and clock",
        description="Check everything the appliance stands on; exit code 1 where a check fails. Changes nothing.",
    )
    parser.set_defaults(run=doctor)


def _addresses(parser: argparse.ArgumentParser, listen: str, web: str) -> None:
    parser.add_argument("--listen", metavar="tcp://HOST:PORT", help=f"where agents connect; port 0: choose {listen}")
    parser.add_argument(
        "--enrol-listen", metavar="tcp://HOST:PORT", help="where machines enrol (default: the port after --listen's)"
    )
    parser.add_argument("--web", metavar="HOST:PORT", help=f"the web interface {web}")
    parser.add_argument(
        "--public-host", metavar="HOST", help="the name that enrolment codes tell agents (default: this machine's)"
    )


def init(invocation: Invocation) -> int:
    """`init`: all or nothing."""
    from appliance import endpoints
    from appliance.control import accounts, spaces
    from appliance.control.database import Database
    from appliance.control.passwords import checked_password
    from appliance.control.text import checked_email
    from appliance.settings import Settings, initialising
    from transport.channel import z85

    arguments = invocation.arguments
    email = checked_email(arguments.admin)
    password = checked_password(invocation.password(arguments.password_file, email))
    settings = endpoints.checked(
        Settings(
            listen=arguments.listen or DEFAULT_LISTEN,
            enrol_listen=arguments.enrol_listen or "",
            web=arguments.web or DEFAULT_WEB,
            public_host=arguments.public_host or "",
        )
    )
    with initialising(invocation.root, settings) as home, Database.create(home.control_db) as db:
        now = invocation.now()
        spaces.add(db, "default", now)
        with db.write():
            new = accounts.add(db, email=email, role=accounts.Role.SUPER, password=password, now=now)
            audited.note(invocation, db, "account.add", new.account, after={"role": str(new.account.role)})
        server_key = z85(home.curve_public())
    invocation.document(
        {
            "home": str(home.root),
            "server_key": server_key,
            "admin": new.account.email,
            "totp_secret": new.totp.secret,
            "totp_uri": new.totp.uri,
        }
    )
    invocation.say(f"{home.root} is now the home of an appliance, with super account {new.account.email}.")
    invocation.say(f"Server key: {server_key}")
    show_totp(invocation, new.totp)
    option = "" if arguments.home == "/var/lib/pilulier" else f" --home {arguments.home}"
    invocation.say(f"Next: pilulier{option} serve")
    return 0


def serve(invocation: Invocation) -> int:
    """`serve`: returns when a signal ends it."""
    from appliance import endpoints

    arguments = invocation.arguments
    home = invocation.home()
    # Before anything is remembered: a second service must not change what the first one's codes say.
    if home.is_served():
        raise AlreadyServingError(
            f"another 'pilulier serve' runs on {home.root}: stop it first, or give another --home"
        )
    # Opened once here so that a damaged database or key is one sentence now, and not a log of the service.
    invocation.database(home).close()
    home.load_identity()
    home.load_curve_keys()
    endpoints.remember(
        home,
        endpoints.Overrides(
            listen=arguments.listen,
            enrol_listen=arguments.enrol_listen,
            web=arguments.web,
            public_host=arguments.public_host,
            web_certificate=_absolute(arguments.web_certificate),
            web_key=_absolute(arguments.web_key),
            behind_proxy=arguments.behind_proxy,
        ),
    )
    from appliance import service

    service.log_to_stderr()

    def ready(where: dict[str, str]) -> None:
        line = {"event": "ready", "transport": where.get("transport"), "web": where.get("web")} | where
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    return service.serve(
        home,
        listen=arguments.listen,
        web=arguments.web,
        with_parts=not arguments.transport_only,
        on_ready=ready,
    )


def _absolute(path: str | None) -> str | None:
    """The path as the service can find it from anywhere; empty takes the setting back."""
    return path if not path else os.path.abspath(path)


def doctor(invocation: Invocation) -> int:
    """`doctor`: exit code 1 where a check fails."""
    from appliance.doctor import examine

    checks = examine(invocation.root, invocation.now())
    invocation.document([{"check": check.name, "ok": check.ok, "detail": check.detail} for check in checks])
    invocation.table(
        ["", "check", "detail"], [["ok" if check.ok else "FAIL", check.name, check.detail] for check in checks], ""
    )
    return 0 if all(check.ok for check in checks) else _EXIT_FAILED
