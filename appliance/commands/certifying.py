"""`pilulier certificate`: what was erased, signed by the appliance's identity."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from appliance.commands.invocation import Commands, Invocation, iso_time, people_time
from transport.errors import UsageError


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    certificate = commands.add_parser(
        "certificate",
        parents=[common],
        allow_abbrev=False,
        help="certificates of erasure: list, show, verify",
        description="Deleting a contract, a machine or a space destroys keys and repositories, and leaves a signed "
        "certificate.",
    )
    actions = certificate.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "list",
        parents=[common],
        allow_abbrev=False,
        help="list the certificates, newest first",
        description="List the certificates of erasure, newest first.",
    )
    parser.set_defaults(run=list_all)
    parser = actions.add_parser(
        "show",
        parents=[common],
        allow_abbrev=False,
        help="show one; --out writes it with its signature to a file",
        description="Show a certificate: what was destroyed of each machine, and from when on no copy is left.",
    )
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--out", metavar="FILE", help="a new file: the statement and its signature, to hand out")
    parser.set_defaults(run=show)
    parser = actions.add_parser(
        "verify",
        parents=[common],
        allow_abbrev=False,
        help="check that a certificate in a file was signed by this appliance, or by another of a known identity",
        description="Check the signature of a certificate that 'certificate show --out' or the web interface wrote.",
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--identity", metavar="HEX", help="of another appliance: its public key (needs no home)")
    parser.set_defaults(run=verify)


def list_all(invocation: Invocation) -> int:
    """`certificate list`."""
    from appliance.control import certificates
    from appliance.control.scope import EVERYTHING

    with invocation.database() as db:
        found = certificates.listed(db, EVERYTHING)
    invocation.document(
        [
            {
                "certificate": one.id,
                "kind": one.statement.kind,
                "name": one.statement.name,
                "erased_at": iso_time(one.statement.erased_at),
                "machines": len(one.statement.machines),
            }
            for one in found
        ]
    )
    invocation.table(
        ["certificate", "kind", "name", "erased", "machines"],
        [
            [one.id, one.statement.kind, one.statement.name, people_time(one.statement.erased_at),
             str(len(one.statement.machines))]
            for one in found
        ],
        "Nothing was erased yet.",
    )  # fmt: skip
    return 0


def show(invocation: Invocation) -> int:
    """`certificate show`."""
    import msgspec

    from appliance.control import certificates
    from appliance.control.scope import EVERYTHING
    from transport.keys import write_key_file

    with invocation.database() as db:
        found = certificates.find(db, EVERYTHING, invocation.arguments.id)
    out = invocation.arguments.out
    if out:
        path = Path(os.path.abspath(out))
        if path.exists() or not path.parent.is_dir():
            raise UsageError(f"{path} exists already, or its folder does not: choose a new file")
        write_key_file(path, certificates.as_file(found.signed))
    one = found.statement
    invocation.document(msgspec.to_builtins(one) | {"signature": found.signed.signature, "file": out})
    _facts(invocation, one)
    if out:
        invocation.say(f"Written to {out}, with the signature of identity {one.identity}.")
    return 0


def _facts(invocation: Invocation, one: object) -> None:
    from appliance.control.certificates import Statement

    assert isinstance(one, Statement)
    invocation.facts(
        [
            ("certificate", one.certificate),
            (one.kind, f"{one.name} ({one.object})"),
            ("asked for", f"{people_time(one.requested_at)} by {one.requested_by}"),
            ("erased", people_time(one.erased_at)),
            ("exports erased", one.exports),
            ("copies gone", f"{people_time(one.copies_gone_at)}, {one.copies_kept_days} days kept"),
            ("identity", one.identity),
        ]
    )
    invocation.table(
        ["machine", "name", "wrapped key", "SHA-256 of the wrapped key", "files", "bytes"],
        [
            [
                machine.machine,
                machine.name,
                machine.key.mode if machine.key else "none was held",
                machine.key.sha256 if machine.key else "",
                str(machine.files),
                str(machine.bytes),
            ]
            for machine in one.machines
        ],
        "It had no machines.",
    )


def verify(invocation: Invocation) -> int:
    """`certificate verify`: exit code 1 where the signature does not hold."""
    from appliance.control import certificates
    from transport.errors import IntegrityError

    file, given = invocation.arguments.file, invocation.arguments.identity
    try:
        identity = bytes.fromhex(given) if given else invocation.home().load_identity().public
    except ValueError:
        identity = b""
    if len(identity) != 32:
        raise UsageError("--identity takes 64 hexadecimal digits: the appliance's public key")
    try:
        with open(file, "rb") as source:
            content = source.read(certificates.FILE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    try:
        statement = certificates.verified(content, identity)
    except IntegrityError as error:
        raise IntegrityError(f"{file}: {error}") from None
    invocation.document({"ok": True, "certificate": statement.certificate, "identity": statement.identity})
    _facts(invocation, statement)
    invocation.say("The signature holds.")
    return 0
