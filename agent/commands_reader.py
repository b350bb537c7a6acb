"""The standalone reader of an export: `pilulier-reader.pyz restore|snapshots|verify`. Needs no server and no network.

Owns its command line alone; runs without ZeroMQ, librsync or anything else of an agent that sends.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from agent import __version__
from transport.errors import IntegrityError, PilulierError, UsageError

_FAILED, _WARNINGS = 1, 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pilulier-reader",
        description="Open a Pilulier repository with its key alone: a recovery sheet, or what key export wrote.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 4 refused (a wrong key).",
    )
    parser.add_argument("--version", action="version", version=f"pilulier-reader {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    restore = commands.add_parser("restore", help="restore from a repository's folder")
    restore.add_argument("folder", metavar="DIR", help="the folder that holds packs/ and the catalog")
    restore.add_argument("--key", metavar="FILE", required=True)
    restore.add_argument("--target", metavar="DIR", required=True, help="restore /a/b to DIR/a/b")
    which = restore.add_mutually_exclusive_group()
    which.add_argument("--snapshot", metavar="N", type=int, help="its number (default: the newest)")
    which.add_argument("--at", metavar="TIME", help="the newest at that time (2026-11-22, 2026-11-22T18:30)")
    restore.add_argument("--path", metavar="PATH", action="append", default=[], help="only this; may be repeated")
    snapshots = commands.add_parser("snapshots", help="list the snapshots of a repository's folder")
    snapshots.add_argument("folder", metavar="DIR")
    snapshots.add_argument("--key", metavar="FILE", required=True)
    verify = commands.add_parser("verify", help="check every file of an export against its signed manifest")
    verify.add_argument("folder", metavar="DIR", help="the folder that holds MANIFEST.sha256")
    verify.add_argument("--identity", metavar="HEX", help="of the appliance, from a recovery sheet")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    commands = {"restore": _restore, "snapshots": _snapshots, "verify": _verify}
    try:
        return commands[options.command](options)
    except PilulierError as error:
        print(f"pilulier-reader: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"pilulier-reader: {error.strerror}: {error.filename or ''}", file=sys.stderr)
        return _FAILED
    except ImportError as error:
        print(f"pilulier-reader: {error.name} is missing: pip install -r requirements.txt first", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("pilulier-reader: interrupted", file=sys.stderr)
        return _FAILED


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at {text!r} is not a date or time like 2026-11-22 or 2026-11-22T18:30") from None
    if len(text) <= 10:
        moment = moment.replace(hour=23, minute=59, second=59)
    return int(moment.astimezone().timestamp() * 1000)


def _restore(options: argparse.Namespace) -> int:
    from agent.key_files import read_exported_key
    from agent.repository_folder import open_folder
    from agent.restore import restore
    from appliance.store.source import RepositorySource
    from transport.names import VaultId
    from transport.sealing import Sealer, vault_keys

    found = read_exported_key(Path(options.key))
    with open_folder(Path(options.folder)) as (repository, remarks):
        for remark in remarks:
            print(f"note: {remark}", file=sys.stderr)
        if found.repository not in (None, repository.repository) or found.vault not in (None, repository.vault):
            raise IntegrityError(f"{options.key} is the key of another machine than the one in {options.folder}")
        report = restore(
            RepositorySource(repository),
            Sealer(vault_keys(found.machine_key, VaultId(repository.vault))),
            found.public_key or repository.public_key,
            witness=None,
            target=os.path.abspath(os.fsencode(options.target)),
            paths=[os.path.abspath(os.fsencode(path)) for path in options.path],
            snapshot=options.snapshot,
            at_ms=_moment(options.at) if options.at else None,
            approver=found.identity,
            may_have_moved_on=True,
        )
    print(f"Restored {report.files} files, {report.bytes} bytes, of snapshot {report.snapshot}.")
    for error in report.errors:
        print(f"not restored: {error.path.decode('utf-8', 'backslashreplace')}: {error.reason}", file=sys.stderr)
    return _WARNINGS if report.errors else 0


def _snapshots(options: argparse.Namespace) -> int:
    from agent.key_files import read_exported_key
    from agent.repository_folder import open_folder
    from appliance.store.source import RepositorySource
    from transport.commits import head_code
    from transport.history import verify_history

    found = read_exported_key(Path(options.key))
    with open_folder(Path(options.folder)) as (repository, _):
        source = RepositorySource(repository)
        history = verify_history(
            source.commits(),
            found.public_key or repository.public_key,
            None,
            successions=source.successions(),
            approver=found.identity,
            may_have_moved_on=True,
        )
    for one in history.held():
        when = datetime.fromtimestamp(one.received_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
        state = "complete" if one.record.complete else "partial"
        print(f"{one.number:>6}  {when}  {state:<8}  {one.record.entry_count} entries  {one.record.bytes_source} bytes")
    if history.head is not None:
        print(f"Code of the last one: {head_code(history.head.signed.hash())}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from agent.manifest import check

    identity = None
    if options.identity:
        try:
            identity = bytes.fromhex(options.identity)
        except ValueError:
            raise UsageError("--identity takes 64 hexadecimal digits, as they stand on a recovery sheet") from None
    found = check(Path(options.folder), identity)
    for sentence in found.wrong:
        print(f"wrong: {sentence}", file=sys.stderr)
    print(f"{found.files} files, {found.size_bytes} bytes are as the appliance {found.identity.hex()} signed them.")
    if identity is None:
        print("note: compare this identity with the one on a recovery sheet", file=sys.stderr)
    return _FAILED if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
