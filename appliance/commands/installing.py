"""`pilulier install-systemd`, `migrate` and `web work`: what units of systemd start, and writing the units."""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import sys
from pathlib import Path

from appliance.commands.invocation import Commands, Invocation
from transport.errors import UsageError

UNITS_FOLDER = "/etc/systemd/system"


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    parser = commands.add_parser(
        "install-systemd",
        parents=[common],
        allow_abbrev=False,
        help="write the units of systemd for this home",
        description="Write the units of the appliance (or, with --agent, of the agent) for this home. Nothing is "
        "started: what to type next is printed.",
    )
    parser.add_argument("--user", metavar="U", help="whom the appliance runs as (default: who owns the home)")
    parser.add_argument("--to", metavar="DIR", default=UNITS_FOLDER, help="where units go (default: %(default)s)")
    parser.add_argument("--agent", metavar="DIR", help="write the agent's units for the agent's home DIR instead")
    parser.set_defaults(run=install)

    parser = commands.add_parser(
        "migrate",
        parents=[common],
        allow_abbrev=False,
        help="bring the control database up to date; every command does so by itself",
        description="Bring the control database to the schema of this version. Every command does so by itself; as a "
        "unit of its own it is done once, before the services start.",
    )
    parser.set_defaults(run=migrate)

    web = commands.add_parser(
        "web",
        parents=[common],
        allow_abbrev=False,
        help="the web interface by itself: work",
        description="The web interface by itself, as a unit of systemd starts it.",
    )
    actions = web.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "work",
        parents=[common],
        allow_abbrev=False,
        help="serve the web interface until SIGTERM; a part of 'pilulier serve'",
        description="Serve the web interface until SIGTERM, on the socket that systemd hands over or on the address "
        "that is remembered. 'pilulier serve' starts this by itself.",
    )
    parser.set_defaults(run=web_work)


def _program(name: str, module: str) -> tuple[str, ...]:
    """How a unit starts a console script: the script beside this interpreter, or the module in it."""
    script = Path(sys.executable).with_name(name)
    return (str(script),) if script.exists() else (sys.executable, "-P", "-m", module)


def install(invocation: Invocation) -> int:
    """`install-systemd`."""
    from appliance import endpoints, units
    from appliance.endpoints import Overrides

    arguments = invocation.arguments
    target = Path(arguments.to)
    if not target.is_dir():
        raise UsageError(f"{target} is no folder: is systemd installed here? Give another with --to")
    if arguments.agent is not None:
        made = units.agent_units(Path(arguments.agent).absolute(), _program("pilulier-agent", "agent.cli"))
        starts = "pilulier-agent.service"
    else:
        home = invocation.home()
        owner = home.root.stat().st_uid
        try:
            user = arguments.user or pwd.getpwuid(owner).pw_name
        except KeyError:
            raise UsageError(f"user {owner}, who owns {home.root}, has no name here: give --user") from None
        web = endpoints.current(home).web
        # The socket is systemd's from now on: a port that was to be chosen is chosen for good.
        endpoints.remember(home, Overrides(web=web.host_port))
        settings = home.load_settings()
        extra = (Path(settings.safety_folder),) if settings.safety_folder else ()
        site = units.Site(home.root, user, _program("pilulier", "appliance.cli"), web.host_port, extra)
        made = units.appliance_units(site)
        starts = "pilulier.target"
        if user != pwd.getpwuid(owner).pw_name:
            invocation.note(f"{home.root} belongs to another user than {user}: run 'chown -R {user}: {home.root}'")
    for unit in made:
        temporary = target / f".{unit.name}.new"
        try:
            temporary.write_text(unit.content, encoding="utf-8")
            temporary.chmod(0o644)
            shutil.move(temporary, target / unit.name)
        except OSError as error:
            raise UsageError(f"{target / unit.name} cannot be written ({error.strerror}): run this as root") from None
    invocation.document({"units": [str(target / unit.name) for unit in made], "start": starts})
    for unit in made:
        invocation.say(str(target / unit.name))
    invocation.say(f"Next: systemctl daemon-reload && systemctl enable --now {starts}")
    return 0


def migrate(invocation: Invocation) -> int:
    """`migrate`."""
    with invocation.database() as db:
        version = db.schema_version()
    invocation.document({"schema": version})
    invocation.say(f"The control database has schema {version}.")
    return 0


def web_work(invocation: Invocation) -> int:
    """`web work`: becomes the web interface's own program, under the same process id, as systemd expects."""
    from appliance import endpoints, web_part

    home = invocation.home()
    part = web_part.part(home, endpoints.current(home).web, home.load_settings())
    sys.stdout.flush()
    os.execv(part.argv[0], part.argv)
