"""`pilulier-agent key` and `read-repository`: the way back when no appliance is left.

Owns nothing but words; needs no enrolment, no network and no server.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from agent.settings import AgentHome
from transport.errors import IntegrityError
from transport.names import VaultId


def key(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`key export --out FILE`, `key sheet --out FILE`, `key protect`, `key confide`, `key rotate`."""
    from agent.commands import show
    from agent.enrolling import enrolled
    from agent.key_files import export_key

    if options.keying == "sheet":
        return _sheet(options, home, as_json)
    if options.keying != "export":
        return _keep(options, home, as_json)
    path = Path(os.path.abspath(options.out))
    export_key(enrolled(home), path)
    show(
        as_json,
        {"key": str(path)},
        f"The key of this machine is in {path}. Whoever has it can read every backup of this machine: keep it outside "
        "of this building, and off this PC.",
    )
    return 0


def _sheet(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands import show
    from agent.enrolling import enrolled
    from agent.recovery_sheet import sheet_of
    from agent.sheet_page import write_sheet
    from agent.system.language import machine_language

    path = Path(os.path.abspath(options.out))
    machine = enrolled(home)
    sheet = sheet_of(machine, round(time.time() * 1000))
    write_sheet(sheet, path, options.language or machine_language(machine.settings.language))
    show(
        as_json,
        {"sheet": str(path), "epochs": sheet.epochs, "head_code": sheet.head.code if sheet.head else ""},
        f"The recovery sheet of this machine is in {path}. Print it, check the print, delete the file: whoever has it "
        "can read every backup of this machine.",
    )
    return 0


def _keep(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands import show
    from agent.enrolling import enrolled
    from agent.key_keeping import confide, leave_key, passphrase_from, protect, rotate
    from agent.settings import exclusive

    with exclusive(home, "change of the key's keeping"):
        machine = enrolled(home)
        if options.keying == "rotate":
            given = options.passphrase_file
            machine = rotate(machine, passphrase_from(given) if given else None)
            epoch = machine.sealer().keys.epoch
            said = f"Key {epoch} seals from the next backup on. Exported copies of the key are older: export it again."
            show(as_json, {"key_mode": machine.settings.key_mode, "epoch": epoch}, said)
            return 0
        if options.keying == "protect":
            machine = protect(machine, passphrase_from(options.passphrase_file))
            said = "The appliance now holds this machine's key under your passphrase alone, which nobody can reset."
        else:
            machine = confide(machine)
            said = "The appliance may now open this machine's backups on its owner's behalf."
        remark = leave_key(machine)
    if remark is not None:
        print(f"note: {remark}", file=sys.stderr)
    show(as_json, {"key_mode": machine.settings.key_mode}, said)
    return 0 if remark is None else 3


def read_repository(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`read-repository DIR --key FILE --target DIR`; `home` is not looked at."""
    from agent.commands import parse_time, show_restored
    from agent.key_files import read_exported_key
    from agent.progress import watched
    from agent.repository_folder import open_folder
    from agent.restore import restore
    from appliance.store.source import RepositorySource
    from transport.sealing import Sealer, vault_keys

    found = read_exported_key(Path(options.key))
    at_ms = parse_time(options.at) if options.at else None
    with open_folder(Path(options.folder)) as (repository, remarks):
        for remark in remarks:
            print(f"note: {remark}", file=sys.stderr)
        # A copy on site has a repository id of its own in its machine's vault: the vault decides where it is known.
        known, is_at = (found.vault, repository.vault) if found.vault else (found.repository, repository.repository)
        if known not in (None, is_at):
            raise IntegrityError(f"{options.key} is the key of another machine than the one in {options.folder}")
        if found.public_key is None:
            print("note: a bare key cannot tell a forged repository: prefer what key export wrote", file=sys.stderr)
        source = RepositorySource(repository)
        with watched("Restoring") as progress:
            report = restore(
                source,
                Sealer(vault_keys(found.machine_key, VaultId(repository.vault))),
                found.public_key or repository.public_key,
                witness=None,
                target=os.path.abspath(os.fsencode(options.target)),
                paths=[os.path.abspath(os.fsencode(path)) for path in options.paths],
                snapshot=options.snapshot,
                at_ms=at_ms,
                approver=found.identity,
                may_have_moved_on=True,
                overwrite=options.overwrite,
                keep_privileges=options.keep_privileges,
                progress=progress,
            )
    return show_restored(report, source.bytes_read, as_json)
