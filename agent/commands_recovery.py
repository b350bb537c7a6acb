"""`pilulier-agent recover`: a burnt PC's data and its place in the history, on new hardware. Owns words and numbers."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.key_files import RepositoryKey, read_exported_key
from agent.key_keeping import passphrase_from
from agent.settings import AgentHome, exclusive
from transport.enrolment import CODE_PREFIX, EnrolmentCode, decode_code
from transport.errors import PilulierError, UsageError

if TYPE_CHECKING:
    from agent.recovering import Recovery
    from agent.restore import RestoreReport

_ADDRESS: Final = re.compile(r"(?:tcp://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?")


def recover(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`recover`."""
    from agent.commands_limits import proxy_from
    from agent.recovering import Wanted, fill_ledger
    from agent.recovering import recover as recover_machine

    key = read_exported_key(Path(options.key)) if options.key else None
    given = options.passphrase_file
    proxy, proxy_password = proxy_from(options)
    wanted = Wanted(
        code=_where(options.appliance, key),
        account=options.account,
        password=passphrase_from(options.password_file),
        one_time_code=options.otp,
        machine=options.machine,
        key=key,
        passphrase=passphrase_from(given) if given else None,
        head=options.head,
        proxy=proxy,
        proxy_password=proxy_password,
    )
    with exclusive(home, "recovery"):
        recovery = recover_machine(home, wanted)
        if not as_json:
            _tell(recovery)
        report, received = None, 0
        if options.target or options.in_place:
            target = None if options.in_place else os.path.abspath(os.fsencode(options.target))
            report, received = _fetch(recovery, target)
        try:
            fill_ledger(recovery)
        except PilulierError as error:
            print(f"note: the next backup lists what is there once more ({error})", file=sys.stderr)
    return _show(recovery, report, received, as_json)


def _where(given: str | None, key: RepositoryKey | None) -> EnrolmentCode:
    """Where the appliance is and who must answer there; UsageError that says what is missing."""
    known = key.address if key is not None else None
    text = (given or "").strip()
    if text.upper().startswith(CODE_PREFIX):
        code = decode_code(text)
        if key is not None and key.identity not in (None, code.identity):
            raise UsageError("the code of --appliance names another appliance than the --key file: give one of the two")
        return code
    if known is None:
        raise UsageError(
            ("an address alone does not say" if text else "nothing says")
            + " which appliance must answer, and another one could: give --appliance the code PIL1-… that stands on "
            "the recovery sheet, or any enrolment code of it, used or not"
        )
    if not text:
        return known
    seen = _ADDRESS.fullmatch(text)
    if seen is None or int(seen[2] or 1) > 65535:
        raise UsageError(f"--appliance {text!r} is neither a code PIL1-… nor an address like backup.example.org:9444")
    return _moved(known, seen[1], int(seen[2]) if seen[2] else None)


def _moved(known: EnrolmentCode, host: str, port: int | None) -> EnrolmentCode:
    """The same appliance at another address. A port may be that of either door: both are tried, the key decides."""
    transport, door = (int(endpoints[0].rpartition(":")[2]) for endpoints in (known.transport, known.enrolment))
    if port is None:
        return _at(known, host, [transport], [door])
    away = door - transport
    return _at(known, host, [port, port - away], [port + away, port])


def _at(known: EnrolmentCode, host: str, transport: list[int], doors: list[int]) -> EnrolmentCode:
    def endpoints(ports: list[int]) -> list[str]:
        return [f"tcp://{host}:{port}" for port in dict.fromkeys(ports) if 0 < port < 65536]

    return EnrolmentCode(endpoints(transport), endpoints(doors), known.identity, known.curve_key, known.token)


def _fetch(recovery: Recovery, target: bytes | None) -> tuple[RestoreReport | None, int]:
    from agent.progress import watched
    from agent.recovering import open_session
    from agent.remote import RemoteSource
    from agent.restore import restore

    session = open_session(recovery.machine.home)
    if recovery.head is None or session is None:
        return None, 0
    machine = recovery.machine
    client = machine.client()
    try:
        client.connect()
        source = RemoteSource(client)
        source.take_up_restore(session)
        with watched("Restoring") as progress:
            report = restore(
                source,
                machine.sealer(),
                machine.keys.signing.public,
                witness=recovery.head.signed,
                target=target,
                repository=machine.settings.machine,
                approver=machine.settings.appliance.identity,
                recent_first=True,
                progress=progress,
            )
        return report, client.channel.bytes_received
    finally:
        client.close()


def _tell(recovery: Recovery) -> None:
    """What is there now, before the files come: they may take hours."""
    from agent.commands import iso

    settings = recovery.machine.settings
    print(f"Recovered {settings.name} of contract {settings.contract}; its former installation is refused from now on.")
    head = recovery.head
    if head is not None:
        print(f"Newest snapshot: {head.number} of {iso(head.received_ms)}, head code {_code(recovery)}.")
    if recovery.newer:
        print(f"Your head code is that of an older snapshot: {recovery.newer} more came after it.")
    for one in recovery.history.taken_over:
        when = f"after snapshot {one.after} ({iso(one.approved_ms)})"
        print(f"note: another installation took this machine's history over {when}", file=sys.stderr)
    if settings.selection.include:
        print("What is backed up, and when, is as it was: see select show and schedule show.")
    else:
        print("What is backed up is not known here: choose it with pilulier-agent select include PATH.")
    if settings.key_mode == "local":
        print("No key is left with the appliance: pilulier-agent key confide or key protect leaves one.")
    if recovery.to_set_again:
        print(f"To be set again by hand (source add, hooks, onsite): {', '.join(recovery.to_set_again)}.")


def _code(recovery: Recovery) -> str:
    from transport.commits import head_code

    return head_code(recovery.head.signed.hash()) if recovery.head is not None else ""


def _show(recovery: Recovery, report: RestoreReport | None, received: int, as_json: bool) -> int:
    from agent.commands import restored_document, restored_text, show, shown_path

    settings, held = recovery.machine.settings, recovery.history.held()
    restored: dict[str, Any] = {} if report is None else {"restored": restored_document(report, received)}
    show(
        as_json,
        {
            "machine": settings.machine.hex(),
            "snapshots": len(held),
            "name": settings.name,
            "contract": settings.contract,
            "head": _code(recovery),
            "newer": recovery.newer,
            "taken_over": [{"after": one.after, "at_ms": one.approved_ms} for one in recovery.history.taken_over],
            "key_mode": settings.key_mode,
            "include": [shown_path(path) for path in settings.selection.include],
            "exclude": [shown_path(path) for path in settings.selection.exclude],
            "to_set_again": list(recovery.to_set_again),
        }
        | restored,
        "Next: pilulier-agent restore --in-place (no other code for a quarter of an hour), then pilulier-agent backup"
        if report is None
        else restored_text(report),
    )
    if report is None:
        return 0
    if not as_json:
        for error in report.errors[:50]:
            print(f"not restored: {shown_path(error.path)}: {error.reason}", file=sys.stderr)
    return 3 if report.errors else 0
