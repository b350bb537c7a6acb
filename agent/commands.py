"""What each command of `pilulier-agent` does: gather, call, show.

Owns the words and numbers that people and scripts read (the JSON keys are fixed by the interface document). Decides
nothing about backups or restores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from agent.enrolling import Enrolled, check_welcome, enrol, enrolled
from agent.key_keeping import check_passphrase, leave_key, passphrase_from, protect
from agent.settings import AgentHome, exclusive
from transport.errors import UsageError

if TYPE_CHECKING:
    from agent.report import BackupReport, Warned
    from agent.restore import RestoreReport
    from agent.selection import Selection

Row = dict[str, Any]


Handler = Callable[[argparse.Namespace, AgentHome, bool], int]


def run(options: argparse.Namespace, home: AgentHome, *, as_json: bool) -> int:
    """Carry out a parsed command line; returns the exit code."""
    here: dict[str, Handler] = {
        "enrol": _enrol,
        "select": _select,
        "backup": _backup,
        "resync": _resync,
    }
    handler = here.get(options.command) or _elsewhere(options.command)
    return handler(options, home, as_json)


def _elsewhere(command: str) -> Handler:
    """What another module does. That one alone is loaded: a backup every few minutes must not pay for all of them."""
    room: ModuleType
    if command in ("status", "run", "schedule", "remote"):
        from agent import commands_service as room
    elif command in ("hooks", "source", "volumes", "restore-database"):
        from agent import commands_databases as room
    elif command in ("canary", "stale"):
        from agent import commands_guards as room
    elif command in ("limits", "network", "notices"):
        from agent import commands_limits as room
    elif command in ("snapshots", "ls", "restore", "verify"):
        from agent import commands_restoring as room
    elif command == "deliveries":
        from agent import commands_deliveries as room
    elif command == "install-service":
        from agent import commands_installing as room
    elif command == "ui":
        from agent import commands_interface as room
    elif command == "recover":
        from agent import commands_recovery as room
    elif command == "onsite":
        from agent import commands_onsite as room
    else:
        from agent import commands_folder as room
    handler: Handler = getattr(room, "run_service" if command == "run" else command.replace("-", "_"))
    return handler


def show(as_json: bool, document: Row | list[Row], text: str) -> None:
    """Print one JSON document, or the text for people."""
    print(json.dumps(document, ensure_ascii=False) if as_json else text)


def shown_path(path: bytes) -> str:
    """A path for people and JSON: UTF-8, other bytes as \\xNN."""
    return path.decode("utf-8", "backslashreplace")


def human_bytes(count: int) -> str:
    """An amount for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""


def iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time; a date alone means its end; without a zone, local time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at {text!r} is not a date or time like 2026-11-22 or 2026-11-22T18:30") from None
    if len(text) <= 10:
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999999)
    return int(moment.astimezone().timestamp() * 1000)


def _enrol(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands_limits import proxy_from

    proxy, password = proxy_from(options)
    passphrase = passphrase_from(options.passphrase_file) if options.passphrase_file else None
    if passphrase is not None:
        check_passphrase(passphrase)
    with exclusive(home, "enrolment"):
        settings = enrol(
            home, options.code, options.name, "confided" if passphrase is None else "private", proxy, password
        )
        machine = enrolled(home)
        if passphrase is not None:
            machine = protect(machine, passphrase)
        remark = leave_key(machine)
    if remark is not None:
        print(f"note: {remark}", file=sys.stderr)
    show(
        as_json,
        {
            "machine": settings.machine.hex(),
            "name": settings.name,
            "contract": settings.contract,
            "key_mode": machine.settings.key_mode,
        },
        f"Enrolled as {settings.name} of contract {settings.contract}.\n"
        "Next: pilulier-agent select include PATH, then pilulier-agent backup",
    )
    return 0


def _select(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.knocking import knock
    from agent.remote_settings import chosen_here
    from agent.settings import change_settings, load_settings

    selection = load_settings(home).selection
    if options.selecting == "show":
        document = {
            "include": [shown_path(p) for p in selection.include],
            "exclude": [shown_path(p) for p in selection.exclude],
        }
        lines = [f"+ {p}" for p in document["include"]] + [f"- {p}" for p in document["exclude"]]
        show(as_json, document, "\n".join(lines) or "Nothing is selected: pilulier-agent select include PATH")
        return 0

    def chosen(selection: Selection) -> Selection:
        for given in options.paths:
            raw = os.fsencode(given)
            if options.selecting == "include":
                selection = selection.including(_real(raw))
            elif options.selecting == "exclude":
                is_path = b"/" in raw and not any(c in raw for c in b"*?[") and not raw.startswith(b"**")
                selection = selection.excluding(os.path.abspath(raw) if is_path else raw)
            else:
                selection = selection.without(raw, os.path.abspath(raw))
        return selection

    change_settings(home, lambda settings: chosen_here(settings, selection=chosen(settings.selection)))
    knock(home)
    return _select(argparse.Namespace(selecting="show"), home, as_json)


def _real(path: bytes) -> bytes:
    """The absolute path through real folders: the last name may be a link and is then saved as one."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name) if name else folder


def _backup(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent import diary, under_way
    from agent.commands_guards import stale_line, stale_rows
    from agent.commands_onsite import lines_of, rows_of
    from agent.commands_service import told_if_failed
    from agent.marks import take_over
    from agent.progress import watched
    from agent.stale import stale_folders

    if options.started_by != "manual":
        from agent.system.priority import lower

        lower()
    with told_if_failed(home, options.started_by), exclusive(home, "backup"):
        from agent.backup import run_backup

        machine = enrolled(home)
        marks = take_over(home) if options.only_marked else None
        with watched("Backing up") as shown, under_way.noted(home, "backup", shown) as progress:
            def backup(warnings: tuple[Warned, ...] = ()) -> BackupReport:
                return run_backup(
                    machine,
                    allow_empty=options.allow_empty,
                    progress=progress,
                    watched=shown is not None,
                    started_by=options.started_by,
                    warnings=warnings,
                    marks=marks,
                )

            # Hooks and frozen disks are for a backup of everything: every minute they would be in the way.
            whole = marks is None
            report = _with_hooks(machine, options.started_by, _frozen(machine, backup)) if whole else backup()
    diary.backup_done(home, options.started_by, report)
    document: Row = {
        "snapshot": report.snapshot,
        "state": report.state,
        "files_total": report.files_total,
        "files_full": report.files_full,
        "files_delta": report.files_delta,
        "files_unchanged": report.files_unchanged,
        "files_moved": report.files_moved,
        "files_deleted": report.files_deleted,
        "bytes_source": report.bytes_source,
        "bytes_read": report.bytes_read,
        "bytes_sent": report.bytes_sent,
        "bytes_received": report.bytes_received,
        "seconds": round(report.seconds, 3),
        "over_quota": report.over_quota,
        "reconnections": report.reconnections,
        "bytes_mended": report.bytes_mended,
        "stale_folders": stale_rows(stale_folders(home)),
        "onsite": rows_of(report.onsite),
        "warnings": [{"path": shown_path(w.path), "reason": w.reason} for w in report.warnings],
    }
    ratio = 100 * report.bytes_sent / report.bytes_source if report.bytes_source else 0.0
    lines = [
        f"Snapshot {report.snapshot} ({report.state}): {report.files_total} files, {human_bytes(report.bytes_source)}; "
        f"{report.files_full} full, {report.files_delta} delta, {report.files_moved} moved, "
        f"{report.files_deleted} deleted, {report.files_unchanged} unchanged.",
        f"Sent {human_bytes(report.bytes_sent)} ({ratio:.2f} % of the source) in {report.seconds:.1f} s.",
    ]
    if report.bytes_mended:
        lines.append(f"The appliance had lost {human_bytes(report.bytes_mended)} to damage: they were given back.")
    if report.over_quota:
        lines.append("The contract is over its allocated volume; the backup was made all the same.")
    lines += lines_of(report.onsite)
    show(as_json, document, "\n".join(lines))
    if not as_json:
        for warning in report.warnings[:50]:
            print(f"warning: {shown_path(warning.path)}: {warning.reason}", file=sys.stderr)
        if len(report.warnings) > 50:
            print(f"… and {len(report.warnings) - 50} more warnings", file=sys.stderr)
        for folder in stale_folders(home):
            print(f"not fresh: {stale_line(folder)}", file=sys.stderr)
    return 3 if report.warnings else 0


def _frozen(
    machine: Enrolled, backup: Callable[[tuple[Warned, ...]], BackupReport]
) -> Callable[[tuple[Warned, ...]], BackupReport]:
    """The backup, reading frozen disks where the owner wants that."""
    if not machine.settings.volumes.freeze:
        return backup
    from agent.sources.volumes import frozen

    def reading(warnings: tuple[Warned, ...]) -> BackupReport:
        with frozen(machine.home, machine.settings.selection, True) as more:
            return backup((*warnings, *more))

    return reading


def _with_hooks(
    machine: Enrolled, started_by: str, backup: Callable[[tuple[Warned, ...]], BackupReport]
) -> BackupReport:
    hooks = machine.settings.hooks
    if not hooks.numbered():
        return backup(())
    from agent.hooks import run_around  # what starts programs is only loaded where there are some

    return run_around(machine.home, hooks, started_by, backup)


def open_source(machine: Enrolled) -> tuple[Any, Any]:
    """A connection, and the snapshots behind it."""
    from agent.pacing import for_restores
    from agent.remote import RemoteSource

    client = machine.client()
    check_welcome(machine, client.connect())
    source = RemoteSource(client)
    source.bucket = for_restores(machine.home, machine.settings.limits)
    return client, source


def restored_document(report: RestoreReport, received_bytes: int, reconnections: int = 0) -> Row:
    """What a restore did, for JSON."""
    return {
        "snapshot": report.snapshot,
        "files": report.files,
        "files_same": report.files_same,
        "bytes": report.bytes,
        "bytes_received": received_bytes,
        "seconds": round(report.seconds, 3),
        "reconnections": reconnections,
        "errors": [{"path": shown_path(e.path), "reason": e.reason} for e in report.errors],
        "notes": [{"path": shown_path(n.example), "reason": n.reason, "count": n.count} for n in report.notes],
    }


def restored_text(report: RestoreReport) -> str:
    """The same for people."""
    same = f"; {report.files_same} were there already." if report.files_same else "."
    return (
        f"Restored {report.files} files, {human_bytes(report.bytes)}, of snapshot {report.snapshot} "
        f"in {report.seconds:.1f} s{same}"
    )


def show_restored(
    report: RestoreReport,
    received_bytes: int,
    as_json: bool,
    *,
    reconnections: int = 0,
    landed: Row | None = None,
    origin: str = "",
) -> int:
    """Print what a restore did, how often its line was taken up again, where a delivery landed, and from where it
    came; its exit code."""
    where = f" It lies in {landed['folder']}." if landed else ""
    for one in report.taken_over:
        when = f"after snapshot {one.after} ({iso(one.approved_ms)})"
        print(f"note: another installation took this machine's history over {when}", file=sys.stderr)
    document = restored_document(report, received_bytes, reconnections) | ({"from": origin} if origin else {})
    errors = document["errors"]
    show(as_json, document | (landed or {}), restored_text(report) + where)
    if not as_json:
        for error in errors[:50]:
            print(f"not restored: {error['path']}: {error['reason']}", file=sys.stderr)
        for note in report.notes:
            others = f" (and {note.count - 1} more)" if note.count > 1 else ""
            print(f"note: {shown_path(note.example)}{others}: {note.reason}", file=sys.stderr)
    return 3 if errors else 0


def _resync(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.resync import resync

    with exclusive(home, "resync"):
        number = resync(enrolled(home), options.account, options.otp)
    show(
        as_json,
        {"snapshot": number},
        f"This machine continues after snapshot {number}; the next backup compares every file with it.",
    )
    return 0
