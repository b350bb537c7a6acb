"""`pilulier escrow`: the keys to which confided machine keys are wrapped."""

from __future__ import annotations

import argparse

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    escrow = commands.add_parser(
        "escrow",
        parents=[common],
        allow_abbrev=False,
        help="the keys to which confided machine keys are wrapped: show, rotate, protect by a passphrase",
        description="Machines of contracts with confided keys wrap theirs to the appliance's present escrow key.",
    )
    actions = escrow.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "show",
        parents=[common],
        allow_abbrev=False,
        help="list the escrow keys and how many machine keys each opens",
        description="List the escrow keys, the present one first, and how many wrapped machine keys each opens.",
    )
    parser.set_defaults(run=show)
    parser = actions.add_parser(
        "rotate",
        parents=[common],
        allow_abbrev=False,
        help="make another escrow key the present one; machines wrap anew once the service was restarted",
        description="Make another escrow key the present one. Machines wrap their keys anew at their next backup once "
        "the service was restarted; keys that open nothing any more are removed. Put the new private half into the "
        "safe.",
    )
    _passphrase(parser, "where the present key is protected: the passphrase, under which the new one lies too")
    parser.set_defaults(run=rotate)
    parser = actions.add_parser(
        "protect",
        parents=[common],
        allow_abbrev=False,
        help="keep the private halves under a passphrase of the operator's",
        description="Close the private halves in this home under a passphrase (Argon2id) and destroy the clear ones. "
        "From the next start of the service on, restores by the web wait for 'escrow unlock'; backups and enrolments "
        "go on.",
    )
    _passphrase(parser, "a new passphrase, at least 12 characters")
    parser.set_defaults(run=protect)
    parser = actions.add_parser(
        "unlock",
        parents=[common],
        allow_abbrev=False,
        help="hand the protected keys to the running service, which keeps them in memory until it stops",
        description="Hand the protected keys to the running service, which keeps them in memory until it stops, or "
        "until 'escrow lock'.",
    )
    _passphrase(parser, "the passphrase")
    parser.set_defaults(run=unlock)
    parser = actions.add_parser(
        "lock",
        parents=[common],
        allow_abbrev=False,
        help="have the running service forget the unlocked keys",
        description="Have the running service forget the unlocked keys. A restore that is open already goes on.",
    )
    parser.set_defaults(run=lock)
    parser = actions.add_parser(
        "unprotect",
        parents=[common],
        allow_abbrev=False,
        help="lay the private halves down in clear again",
        description="Lay the private halves down in clear again, readable by the owner of the home alone.",
    )
    _passphrase(parser, "the passphrase")
    parser.set_defaults(run=unprotect)


def _passphrase(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--passphrase-file", metavar="F", help=f"{text}; a file's only line, or - for standard input (else it is asked)"
    )


_STATES = {
    "clear": "here, in clear",
    "half-protected": "here, half protected: run 'escrow protect' again",
    "locked": "here, locked",
    "unlocked": "here, unlocked",
    "credential": "a credential of systemd",
    "elsewhere": "elsewhere",
}


def show(invocation: Invocation) -> int:
    """`escrow show`."""
    from appliance import escrow
    from appliance.control import machine_keys

    home = invocation.home()
    with invocation.database(home) as db:
        used = machine_keys.escrow_keys_in_use(db)
    keys = escrow.listed(home)
    invocation.document(
        [
            {
                "key": key.key_id.hex(),
                "present": key.present,
                "private_half": key.private_there,
                "state": str(key.state),
                "machines": used.get(key.key_id, 0),
            }
            for key in keys
        ]
    )
    invocation.table(
        ["key", "present", "private half", "machines"],
        [
            [key.key_id.hex(), "yes" if key.present else "", _STATES[key.state], str(used.get(key.key_id, 0))]
            for key in keys
        ],
        "There is no escrow key yet: 'pilulier serve' makes one.",
    )
    return 0


def rotate(invocation: Invocation) -> int:
    """`escrow rotate`."""
    from appliance import escrow, escrow_holder, escrow_protection
    from appliance.control import audit, machine_keys
    from appliance.errors import EscrowLockedError

    home = invocation.home()
    protected = escrow_protection.is_protected(home)
    passphrase = ""
    if protected:
        passphrase = invocation.passphrase(invocation.arguments.passphrase_file, "the protected key", new=False)
    with invocation.database(home) as db:
        before = [key.key_id for key in escrow.listed(home) if key.present]
        if protected:
            public, key = escrow_protection.rotate(home, passphrase)
            try:
                escrow_holder.hand_over(home, [key])
            except escrow_holder.SilentHolderError as error:
                invocation.note(str(error))
            except EscrowLockedError:
                pass  # no service runs: there is nobody to hold it
        else:
            public = escrow.rotate(home)
        gone = escrow.forget(home, frozenset(machine_keys.escrow_keys_in_use(db)))
        audit.write(
            db,
            audited.actor(),
            "escrow.rotate",
            now=invocation.now(),
            object_kind="escrow-key",
            object_id=public.key_id.hex(),
            before=[key.hex() for key in before],
            after=public.key_id.hex(),
        )
    invocation.document({"key": public.key_id.hex(), "removed": [key.hex() for key in gone]})
    invocation.say(f"{public.key_id.hex()} is the present escrow key once the service was restarted.")
    if protected:
        invocation.say("It lies under the same passphrase: unlock after the restart.")
    else:
        invocation.say(f"Its private half is in {home.keys}: put a copy into the safe.")
    return 0


def protect(invocation: Invocation) -> int:
    """`escrow protect`."""
    from appliance import escrow, escrow_holder, escrow_protection
    from appliance.errors import EscrowLockedError

    home = invocation.home()
    again = escrow_protection.is_protected(home)
    passphrase = invocation.passphrase(invocation.arguments.passphrase_file, "the escrow key", new=not again)
    keys = escrow_protection.protect(home, passphrase)
    held = True
    try:
        # Whoever restores now is not interrupted.
        escrow_holder.hand_over(home, keys)
    except EscrowLockedError:
        held = False
    names = [info.key_id.hex() for info in escrow.listed(home) if escrow.wrapped_path(home, info.key_id).exists()]
    _audit(invocation, "escrow.protect", names)
    invocation.document({"protected": names, "unlocked": held})
    invocation.say(f"Under the passphrase now: {', '.join(names)}. Keep it in the safe, with a clear copy of the key.")
    days = home.load_settings().safety_days
    invocation.say(f"Copies of this home made before hold the clear key; its own safety copies go within {days} days.")
    invocation.say(
        "The running service goes on with it until it stops; then 'pilulier escrow unlock'."
        if held
        else "No service runs: unlock once it does, with 'pilulier escrow unlock'."
    )
    return 0


def unlock(invocation: Invocation) -> int:
    """`escrow unlock`."""
    from appliance import escrow_protection

    home = invocation.home()
    passphrase = invocation.passphrase(invocation.arguments.passphrase_file, "the escrow key", new=False)
    names = [key.public.key_id.hex() for key in escrow_protection.unlock(home, passphrase)]
    _audit(invocation, "escrow.unlock", names)
    invocation.document({"unlocked": names})
    invocation.say(f"The running service holds {', '.join(names)} in memory until it stops.")
    return 0


def lock(invocation: Invocation) -> int:
    """`escrow lock`."""
    from appliance import escrow, escrow_holder
    from appliance.errors import ConflictError

    home = invocation.home()
    if not any(escrow.wrapped_path(home, key.key_id).exists() for key in escrow.listed(home)):
        raise ConflictError("no escrow key of this home is protected: there is nothing to lock")
    running = escrow_holder.drop(home)
    _audit(invocation, "escrow.lock", [key.key_id.hex() for key in escrow.listed(home)])
    invocation.document({"service_running": running})
    invocation.say("Locked." if running else "Locked; no service runs.")
    return 0


def unprotect(invocation: Invocation) -> int:
    """`escrow unprotect`."""
    from appliance import escrow_protection

    home = invocation.home()
    passphrase = invocation.passphrase(invocation.arguments.passphrase_file, "the escrow key", new=False)
    names = [key.public.key_id.hex() for key in escrow_protection.unprotect(home, passphrase)]
    _audit(invocation, "escrow.unprotect", names)
    invocation.document({"in_clear": names})
    invocation.say(f"In {home.keys} in clear again: {', '.join(names)}.")
    return 0


def _audit(invocation: Invocation, kind: str, keys: list[str]) -> None:
    from appliance.control import audit

    with invocation.database(invocation.home()) as db:
        audit.write(
            db, audited.actor(), kind, now=invocation.now(), object_kind="escrow-key", object_id=keys[0], after=keys
        )
