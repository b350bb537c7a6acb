"""`pilulier safety`: copies of the appliance itself, the key they are sealed under, and putting one back."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from appliance.sizes import format_size
from transport.errors import UsageError


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    safety = commands.add_parser(
        "safety",
        parents=[common],
        allow_abbrev=False,
        help="copies of the appliance itself: key, list, set, restore",
        description="Each night the appliance's database, keys and settings are copied, sealed under the safety key. "
        "'pilulier jobs run safety' does it now.",
    )
    actions = safety.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "key",
        parents=[common],
        allow_abbrev=False,
        help="show the safety key, to be written down and kept in a safe",
        description="Show the safety key. Without it no copy opens; with it every copy does: it belongs on paper in a "
        "safe, and nowhere near the copies.",
    )
    parser.set_defaults(run=key)
    parser = actions.add_parser("list", parents=[common], allow_abbrev=False, help="the copies that are there")
    parser.set_defaults(run=listed)
    parser = actions.add_parser("set", parents=[common], allow_abbrev=False, help="where copies go, and for how long")
    parser.add_argument("--folder", metavar="DIR", help="on another disk, best; empty: in the home")
    parser.add_argument("--days", metavar="N", help="a copy goes after so many days")
    parser.set_defaults(run=change)
    parser = actions.add_parser(
        "restore",
        parents=[common],
        allow_abbrev=False,
        help="put the appliance back into an empty home",
        description="Put the appliance back into the folder that --home names, which is empty or holds nothing but "
        "the repositories. Agents go on where they were.",
    )
    parser.add_argument("copy", metavar="FILE", help="the safety copy")
    parser.add_argument("--key-file", required=True, metavar="F", help="a file with the safety key (-: stdin)")
    parser.set_defaults(run=restore)


def key(invocation: Invocation) -> int:
    """`safety key`."""
    from appliance import safety
    from appliance.control import audit

    home = invocation.home()
    shown = safety.written(safety.load_key(home))
    with invocation.database(home) as db:
        audit.write(db, audited.actor(), "safety.key", now=invocation.now(), object_kind="appliance")
    invocation.document({"key": shown})
    invocation.say(shown)
    invocation.note("write this down and keep it in a safe, away from the copies: without it none of them opens")
    return 0


def listed(invocation: Invocation) -> int:
    """`safety list`."""
    from appliance import safety

    copies = safety.listed(invocation.home())
    invocation.document(
        [{"copy": str(copy.path), "at": iso_time(copy.at), "bytes": copy.bytes} for copy in reversed(copies)]
    )
    invocation.table(
        ["made", "size", "file"],
        [[people_time(copy.at), format_size(copy.bytes), copy.path] for copy in reversed(copies)],
        "There is no safety copy yet: one is made each night, or by 'pilulier jobs run safety'.",
    )
    return 0


def change(invocation: Invocation) -> int:
    """`safety set`."""
    import msgspec

    from appliance.control import audit

    arguments = invocation.arguments
    if arguments.folder is None and arguments.days is None:
        raise UsageError("nothing to change: give --folder or --days")
    changes: dict[str, object] = {}
    if arguments.folder is not None:
        if arguments.folder and not (Path(arguments.folder).is_absolute() and Path(arguments.folder).is_dir()):
            raise UsageError(f"{arguments.folder!r} is not the absolute path of a folder that is there")
        changes["safety_folder"] = arguments.folder
    if arguments.days is not None:
        if not arguments.days.isascii() or not arguments.days.isdigit() or not 1 <= int(arguments.days[:4]) <= 365:
            raise UsageError(f"--days {arguments.days!r} is not a number from 1 to 365")
        changes["safety_days"] = int(arguments.days)
    home = invocation.home()
    with home.settings_locked():
        settings = msgspec.structs.replace(home.load_settings(), **changes)
        home.save_settings(settings)
    with invocation.database(home) as db:
        audit.write(
            db, audited.actor(), "safety.set", now=invocation.now(), object_kind="appliance", after=changes
        )
    shown = {"folder": settings.safety_folder or str(home.root / "safety"), "days": settings.safety_days}
    invocation.document(shown)
    invocation.say(f"Copies go to {shown['folder']} and are kept for {shown['days']} days.")
    return 0


def restore(invocation: Invocation) -> int:
    """`safety restore FILE`."""
    from appliance import safety

    arguments = invocation.arguments
    opened = safety.read(invocation.password(arguments.key_file, "the safety copy"))
    home = safety.restore(invocation.root.absolute(), Path(arguments.copy), opened, invocation.now())
    invocation.document({"home": str(home.root), "copy": arguments.copy})
    invocation.say(f"{home.root} is the home of the appliance again, as of {arguments.copy}.")
    invocation.say("Next: put the repositories' disk back below it, 'pilulier doctor', then 'pilulier serve'.")
    return 0
