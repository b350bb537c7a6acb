"""Machines by the API: listed, renamed, revoked, deleted, set, and asked for a backup.

What the pages do, by the same calls and with the same lines in the audit log. Whether a machine takes what is wanted of
it is its owner's matter.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import UnsetType

from appliance.control import acts, api_tokens, backup_requests, control_room, deletions, machine_settings, running
from appliance.control import machines as machine_table
from appliance.control.backup_requests import BackupRequest
from appliance.control.control_room import RoomRow
from appliance.control.deletions import Kind
from appliance.control.machine_settings import SelectionRules, Wanted
from appliance.control.machines import MachineState
from appliance.control.selection_changes import loss
from appliance.errors import ConflictError, NotFoundError
from transport.schedule import Schedule
from webui import context
from webui.api import contract_nouns, cursors, nouns
from webui.api.contracts import by, deletion
from webui.api.contracts import of_id as of_contract_id
from webui.api.nouns import MachineChanges, MachineMove, MachinesWanted, SettingsWanted, moment, moment_or_none
from webui.api.operations import operation

GROUP: Final = "Machines"
READ, WRITE, DELETE = api_tokens.Permission.READ, api_tokens.Permission.WRITE, api_tokens.Permission.DELETE
_ID: Final = re.compile("[0-9a-f]{32}")


def of_id(machine: str) -> machine_table.Machine:
    """The machine with exactly this id, if the token sees it; NotFoundError otherwise."""
    # Commands take names and beginnings of ids too; an address must not.
    if not _ID.fullmatch(machine):
        raise NotFoundError("an address names a machine by its whole id")
    return machine_table.find(context.db(), context.scope(), machine)


def _running() -> frozenset[bytes]:
    return running.ids(context.home().running_file, context.now())


def _shown(row: RoomRow) -> nouns.Machine:
    return nouns.Machine(
        id=row.hex,
        name=row.name,
        contract_id=row.contract_id,
        client_id=row.client_id,
        space_id=row.space_id,
        state=row.state,
        last_snapshot=row.last_number,
        last_snapshot_at=moment_or_none(row.last_at),
        last_complete_at=moment_or_none(row.good_at),
        source_bytes=row.bytes_source,
        warnings=row.warnings,
        last_error=row.last_error,
        last_error_at=moment_or_none(row.last_error_at),
        last_seen_at=moment_or_none(row.last_seen_at),
        agent_version=row.agent_version,
        platform=row.platform,
        language=row.language,
        created_at=moment(row.created_at),
        deletion_due_at=moment_or_none(row.delete_due_at),
    )


def _one(machine_id: bytes) -> nouns.Machine:
    row = control_room.find(context.db(), context.scope(), context.now(), machine_id, _running())
    if row is None:
        raise NotFoundError("this machine has just gone")
    return _shown(row)


@operation("GET", "/machines", "List machines", group=GROUP, needs_permission=READ, query=MachinesWanted,
           answer=nouns.MachinePage)  # fmt: skip
def list_machines(query: MachinesWanted) -> nouns.MachinePage:
    """In the order of their ids, with how their backups stand."""
    after = "" if query.cursor is None else cursors.decode("machines", query.cursor)
    rows = control_room.rows(
        context.db(),
        context.scope(),
        context.now(),
        _running(),
        contract_id=query.contract_id,
        text=query.text,
        state=query.state,
    )
    found = sorted((row for row in rows if row.hex > after), key=lambda row: row.machine_id)
    page = found[: query.limit]
    return nouns.MachinePage(
        items=[_shown(row) for row in page],
        next=cursors.encode("machines", page[-1].hex) if len(found) > query.limit else None,
    )


@operation("GET", "/machines/<machine>", "Show a machine", group=GROUP, needs_permission=READ, answer=nouns.Machine)
def show_machine(machine: str) -> nouns.Machine:
    """One machine and how its backups stand."""
    return _one(of_id(machine).id)


@operation("PATCH", "/machines/<machine>", "Rename a machine, set its language", group=GROUP, needs_permission=WRITE,
           body=MachineChanges, answer=nouns.Machine)  # fmt: skip
def change_machine(machine: str, body: MachineChanges) -> nouns.Machine:
    """Names are unique within a contract."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    if not isinstance(body.name, UnsetType):
        after = machine_table.rename(db, found, body.name)
        if after.name != found.name:
            names = {"before": {"name": found.name}, "after": {"name": after.name}}
            acts.note(db, context.actor(), "machine.rename", after, now=now, **names)
    if not isinstance(body.language, UnsetType):
        after = machine_table.set_language(db, found, body.language)
        if after.language != found.language:
            languages = {"before": {"language": found.language}, "after": {"language": after.language}}
            acts.note(db, context.actor(), "machine.language", after, now=now, **languages)
    return _one(found.id)


@operation("POST", "/machines/<machine>/revoke", "Revoke a machine", group=GROUP, needs_permission=DELETE,
           answer=nouns.Machine)  # fmt: skip
def revoke_machine(machine: str) -> nouns.Machine:
    """It may never connect again; its backups stay. This cannot be taken back."""
    db = context.db()
    found = of_id(machine)
    if found.state is not MachineState.REVOKED:
        after = machine_table.revoke(db, found)
        states = {"before": {"state": str(found.state)}, "after": {"state": str(after.state)}}
        acts.note(db, context.actor(), "machine.revoke", after, now=context.now(), **states)
    return _one(found.id)


@operation("POST", "/machines/<machine>/move", "Move a machine to another contract", group=GROUP,
           needs_permission=DELETE, body=MachineMove, answer=nouns.Machine)  # fmt: skip
def move_machine(machine: str, body: MachineMove) -> nouns.Machine:
    """It and its backups pass to another contract of the space, whose people may restore them from then on. Where its
    name is taken there, it gets another; deliveries that wait are gone."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    target = of_contract_id(body.contract_id)
    if deletions.of_object(db, context.scope(), Kind.MACHINE, found.hex) is not None:
        raise ConflictError("this machine is about to be deleted: take that back first")
    if target.id != found.contract_id:
        moved = {"before": {"contract": found.contract_id, "name": found.name}, "after": {"contract": target.id}}
        # One line on each side: a tenant reads the log of their own contracts only.
        acts.note(db, context.actor(), "machine.move", found, now=now, **moved)
        after = machine_table.move(db, found, target)
        acts.note(db, context.actor(), "machine.move", after, now=now, **moved)
    return _one(found.id)


@operation("DELETE", "/machines/<machine>", "Ask for a machine's deletion", group=GROUP, needs_permission=DELETE,
           answer=contract_nouns.Deletion, status=202)  # fmt: skip
def delete_machine(machine: str) -> contract_nouns.Deletion:
    """In seven days, announced by mail; until then it goes on, and the deletion can be taken back."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    asked = deletions.request(db, context.scope(), Kind.MACHINE, found.hex, by=by(), now=now)
    acts.note(db, context.actor(), "machine.delete", found, now=now, after={"due_at": asked.due_at})
    return deletion(asked)


def _asked(request: BackupRequest) -> nouns.BackupAsked:
    return nouns.BackupAsked(
        number=request.number,
        requested_by=request.requested_by,
        requested_at=moment(request.requested_at),
        state=request.state,
        answered_at=moment_or_none(request.answered_at),
        reason=request.reason,
    )


@operation("POST", "/machines/<machine>/backup", "Ask for a backup", group=GROUP, needs_permission=WRITE,
           answer=nouns.BackupAsked, status=202)  # fmt: skip
def ask_backup(machine: str) -> nouns.BackupAsked:
    """The agent takes it up within a minute, if it runs. One that waits already is answered as it is."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    before = backup_requests.get(db, context.scope(), found.id, now)
    request = backup_requests.ask(db, context.scope(), found.id, by(), now)
    if before is None or request.number != before.number:
        acts.note(db, context.actor(), "machine.backup", found, now=now)
    return _asked(request)


@operation("GET", "/machines/<machine>/backup", "Show what became of a backup asked for", group=GROUP,
           needs_permission=READ, answer=nouns.BackupAsked)  # fmt: skip
def show_backup(machine: str) -> nouns.BackupAsked:
    """The newest request; not found where none was ever made."""
    found = of_id(machine)
    request = backup_requests.get(context.db(), context.scope(), found.id, context.now())
    if request is None:
        raise NotFoundError("no backup was asked for")
    return _asked(request)


def _settings(known: machine_settings.MachineSettings) -> nouns.MachineSettings:
    report = known.report
    rules, schedule = known.wanted.selection, known.wanted.schedule
    return nouns.MachineSettings(
        version=known.version,
        selection=None
        if rules is None
        else nouns.Selection(include=list(rules.include), exclude=list(rules.exclude)),
        schedule=None if schedule is None else nouns.Times(
            times=schedule.times, days=schedule.days, continuous=schedule.continuous
        ),
        language=known.wanted.language,
        saved_by=known.saved_by,
        saved_at=moment_or_none(known.saved_at),
        sync=known.sync,
        remote_allowed=known.remote_allowed,
        next_run_at=moment_or_none(report.next_run_at if report else None),
        reason=report.reason if report else "",
    )


@operation("GET", "/machines/<machine>/settings", "Show what is wanted of a machine", group=GROUP,
           needs_permission=READ, answer=nouns.MachineSettings)  # fmt: skip
def show_settings(machine: str) -> nouns.MachineSettings:
    """What is wanted from here, and how far the machine is with it; its own settings are known to it alone."""
    return _settings(machine_settings.get(context.db(), context.scope(), of_id(machine).id))


@operation("PUT", "/machines/<machine>/settings", "Set a machine", group=GROUP, needs_permission=WRITE,
           body=SettingsWanted, answer=nouns.MachineSettings)  # fmt: skip
def save_settings(machine: str, body: SettingsWanted) -> nouns.MachineSettings:
    """Selection, schedule and language as a whole. The agent takes them within a minute, unless its owner refuses."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    before = machine_settings.get(db, context.scope(), found.id)
    rules, times = body.selection, body.schedule
    selection = None if rules is None else machine_settings.checked_rules(rules.include, rules.exclude)
    if not body.allow_loss and loss(before.wanted.selection, selection):
        raise ConflictError("this selection leaves out what was backed up: say allow_loss if that is meant")
    schedule = None if times is None else Schedule.of(times.times, times.days, continuous=times.continuous)
    wanted = Wanted(selection, schedule, body.language)
    after = machine_settings.save(db, context.scope(), found.id, wanted, by(), now, impose=body.impose)
    old, new = _told(before.wanted), _told(after.wanted)
    if body.impose:
        new["imposed"] = True
    if old != new:
        acts.note(db, context.actor(), "machine.settings", found, now=now, before=old, after=new)
    return _settings(after)


def _rules(selection: SelectionRules | None) -> dict[str, list[str]] | None:
    return None if selection is None else {"include": list(selection.include), "exclude": list(selection.exclude)}


def _told(wanted: Wanted) -> dict[str, object]:
    """For the audit log."""
    schedule = wanted.schedule
    return {
        "selection": _rules(wanted.selection),
        "schedule": schedule and {"times": schedule.times, "days": schedule.days, "continuous": schedule.continuous},
        "language": wanted.language,
    }
