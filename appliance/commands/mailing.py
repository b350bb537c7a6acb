"""`pilulier mail`: the mail server and the public address, a test message, and what waits in the outbox."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from transport.errors import UsageError

if TYPE_CHECKING:
    from appliance.settings import Home, Settings

_SECURITY = ("starttls", "tls", "none")


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    mail = commands.add_parser(
        "mail",
        parents=[common],
        allow_abbrev=False,
        help="how mails leave: set, show, test, list",
        description="The mail server that takes the appliance's mails, and what waits to be sent.",
    )
    actions = mail.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "set",
        parents=[common],
        allow_abbrev=False,
        help="the mail server, its password, the sender, the address that links begin with",
        description="Change what is given; the rest stays. The password comes from a file, never from the command "
        "line, and is kept readable by the home's owner alone.",
    )
    parser.add_argument("--host", metavar="HOST", help="the mail server; empty: send no mails")
    parser.add_argument("--port", metavar="N", help="587 for starttls, 465 for tls")
    parser.add_argument("--security", choices=_SECURITY, help="none is for a server on this machine only")
    parser.add_argument("--user", metavar="NAME", help="to log in with; empty: no login")
    parser.add_argument("--password-file", metavar="F", help="a file with its password on its only line (-: stdin)")
    parser.add_argument("--sender", metavar="E", help="the address that mails come from")
    parser.add_argument("--sender-name", metavar="NAME", help="its name (default: the product name of the space)")
    parser.add_argument("--authority", metavar="FILE", help="certificates to believe beside the system's own")
    parser.add_argument(
        "--quiet", metavar="FROM-UNTIL", help="hours in which only what cannot wait is mailed, 21-7 say; 0-0: none"
    )
    parser.add_argument("--public-url", metavar="URL", help="where people reach the web interface, for links")
    parser.set_defaults(run=change)
    parser = actions.add_parser("show", parents=[common], allow_abbrev=False, help="the settings, without the password")
    parser.set_defaults(run=show)
    parser = actions.add_parser(
        "test", parents=[common], allow_abbrev=False, help="send a test message now; says what is wrong"
    )
    parser.add_argument("--to", metavar="E", required=True, help="who gets it")
    parser.add_argument("--language", choices=("fr", "en", "de"), default="fr", help="(default: fr)")
    parser.set_defaults(run=test)
    parser = actions.add_parser(
        "list", parents=[common], allow_abbrev=False, help="the newest mails and how far they are"
    )
    parser.set_defaults(run=listed)


def _document(home: Home, settings: Settings) -> dict[str, Any]:
    from appliance.mail import settings as mail_settings

    mail = settings.mail
    return {
        "host": mail.host,
        "port": mail.port,
        "security": mail.security,
        "user": mail.user,
        "has_password": mail_settings.has_password(home),
        "sender": mail.sender,
        "sender_name": mail.sender_name,
        "authority": mail.authority,
        "quiet": f"{mail.quiet_from}-{mail.quiet_until}",
        "public_url": settings.public_url,
    }


def _show(invocation: Invocation, home: Home, settings: Settings) -> None:
    shown = _document(home, settings)
    invocation.document(shown)
    password = "kept" if shown.pop("has_password") else "none"
    facts = [(name.replace("_", " "), value if value != "" else "–") for name, value in shown.items()]
    invocation.facts([*facts, ("password", password)])
    if not settings.mail.host:
        invocation.note("no mail server is set, so no mail is sent; they wait")
    elif not settings.public_url:
        invocation.note("no public address is set, so mails with a link wait: give --public-url")


def change(invocation: Invocation) -> int:
    """`mail set`."""
    import msgspec

    from appliance.control import audit
    from appliance.mail import settings as mail_settings

    arguments = invocation.arguments
    home = invocation.home()
    names = ("host", "security", "user", "sender", "sender_name", "authority")
    changes = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.port is not None:
        if not arguments.port.isascii() or not arguments.port.isdigit() or len(arguments.port) > 5:
            raise UsageError(f"--port {arguments.port!r} is not a port")
        changes["port"] = int(arguments.port)
    if arguments.quiet is not None:
        hours = re.fullmatch(r"([01]?[0-9]|2[0-3])-([01]?[0-9]|2[0-3])", arguments.quiet)
        if hours is None:
            raise UsageError(f"--quiet {arguments.quiet!r} is not of the form FROM-UNTIL, hours from 0 to 23")
        changes |= {"quiet_from": int(hours[1]), "quiet_until": int(hours[2])}
    password = None
    if arguments.password_file is not None:
        password = invocation.password(arguments.password_file, "the mail server")
    if not changes and password is None and arguments.public_url is None:
        raise UsageError("nothing to change: see 'pilulier mail set --help'")
    before = home.load_settings()
    settings = mail_settings.save(
        home, msgspec.structs.replace(before.mail, **changes) if changes else None, public_url=arguments.public_url
    )
    if password is not None:
        mail_settings.save_password(home, password)
    with invocation.database(home) as db:
        audit.write(
            db,
            audited.actor(),
            "mail.set",
            now=invocation.now(),
            object_kind="appliance",
            before={"mail": msgspec.structs.asdict(before.mail), "public_url": before.public_url},
            after={
                "mail": msgspec.structs.asdict(settings.mail),
                "public_url": settings.public_url,
                "password": "changed" if password is not None else "as before",
            },
        )
    _show(invocation, home, settings)
    return 0


def show(invocation: Invocation) -> int:
    """`mail show`."""
    home = invocation.home()
    _show(invocation, home, home.load_settings())
    return 0


def test(invocation: Invocation) -> int:
    """`mail test --to E`: the server's own words where it fails."""
    from appliance.control.text import checked_email
    from appliance.mail import delivery

    home = invocation.home()
    recipient = checked_email(invocation.arguments.to)
    with invocation.database(home) as db:
        delivery.send_test(home, db, recipient, invocation.arguments.language, now=invocation.now)
    server = home.load_settings().mail.host
    invocation.document({"to": recipient, "server": server, "sent": True})
    invocation.say(f"{server} has taken a test message for {recipient}.")
    return 0


def listed(invocation: Invocation) -> int:
    """`mail list`."""
    from appliance.control import outbox

    with invocation.database() as db:
        mails = outbox.recent(db, 100)
    invocation.document(
        [
            {
                "mail": mail.id,
                "to": mail.recipient,
                "kind": mail.kind,
                "state": str(mail.state),
                "created_at": iso_time(mail.created_at),
                "sent_at": iso_time(mail.sent_at),
                "attempts": mail.attempts,
                "next_at": iso_time(mail.next_at) if mail.next_at else None,
                "last_error": mail.last_error or None,
            }
            for mail in mails
        ]
    )
    invocation.table(
        ["mail", "written", "to", "kind", "state", "attempts", "why not"],
        [
            [one.id, people_time(one.created_at), one.recipient, one.kind, one.state, one.attempts, one.last_error]
            for one in mails
        ],
        "There are no mails.",
    )
    return 0
