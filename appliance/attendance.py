"""Attendance: what the appliance answers an agent that runs as a service, between its backups.

Owns what is wanted of a machine, as it travels, and what becomes of the agent's word. Identity is the connection's:
nothing here takes a machine from a message. Being asked costs no disk; only a change does. Knows nothing of sockets.
"""

from __future__ import annotations

import hashlib
import time
from typing import Final

from appliance import handing, notices
from appliance.connections import HEARTBEAT_S, Connection
from appliance.control import (
    audit,
    backup_requests,
    contracts,
    former_settings,
    machine_keys,
    machine_logs,
    machine_settings,
    machines,
    site_copies,
)
from appliance.control.contracts import Escrow
from appliance.control.database import Database
from appliance.control.machine_settings import Outcome, Report
from appliance.control.machines import AuthorisedMachine
from appliance.control.scope import EVERYTHING
from appliance.intake import InstallationError
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.commits import SignedCommit
from transport.errors import RefusedError
from transport.escrow import MODE_CONFIDED, EscrowPublic, mode_of
from transport.keys import Certificate, EscrowCertificate

AGAIN_S: Final = 20
"""How often an agent asks: a change is picked up within a minute, even when one answer is lost."""
REPORTS: Final = 20
REPORTS_S: Final = 60.0
"""Words of one machine written down in so many seconds: each costs an fsync of the database that all share."""
Written = (
    m.SettingsQuery
    | m.SettingsReport
    | m.CopiesReport
    | m.BackupAnswer
    | m.PutKey
    | m.PutSettings
    | handing.Question
)
WRITTEN: Final = (
    *(m.SettingsQuery, m.SettingsReport, m.CopiesReport, m.BackupAnswer, m.PutKey, m.PutSettings),
    *handing.QUESTIONS,
)
"""What is answered from the control database."""


class TooOftenError(RefusedError):
    """The agent reports more often than a machine changes."""

    code = "throttled"


def spread_s(machine_id: bytes, window_s: int) -> int:
    """How long after its scheduled times a machine begins: the same each day, and evenly spread over machines."""
    if window_s <= 0:
        return 0
    chance = int.from_bytes(hashlib.sha256(b"pilulier/spread/1\0" + machine_id).digest()[:8], "big")
    return chance % min(window_s, m.SPREAD_LIMIT_S)


def attends(connection: Connection, message: m.AgentMessage) -> bool:
    """Whether a connection only waits between backups, as far as this message tells."""
    return connection.backup is None and isinstance(message, (m.Attend, m.LogLine, *WRITTEN))


def welcome(
    machine: AuthorisedMachine, head: SignedCommit | None, certificate: Certificate, escrow: EscrowCertificate | None
) -> m.Welcome:
    """The answer to a hello."""
    return m.Welcome(
        protocol=PROTOCOL_VERSION,
        machine=machine.machine_id,
        name=machine.name,
        contract=machine.client_id,
        vault=machine.vault,
        paused=machine.paused,
        over_quota=machine.over_quota,
        retention_floor_days=machine.retention_floor_days,
        heartbeat_s=HEARTBEAT_S,
        certificate=certificate,
        head=head,
        key=m.KeptKey(
            mode="private" if machine.key_wanted is Escrow.PRIVATE else "confided",
            escrow_key=EscrowPublic(escrow.public).key_id if escrow is not None else b"",
            envelope=machine.key_envelope,
            wrapped_to=machine.key_wrapped_to,
        ),
        now_ms=int(time.time() * 1000),
    )


def escrow_offer(escrow: EscrowCertificate | None) -> m.EscrowOffer:
    """The present escrow key; RefusedError where there is none."""
    if escrow is None:
        raise RefusedError("this appliance has no escrow key: ask whoever runs it")
    return m.EscrowOffer(escrow)


def attended(
    connection: Connection, machine: AuthorisedMachine | None, window_s: int, now: float
) -> m.Attended | m.Refused:
    """What is wanted of a machine now; from memory, in the polling thread."""
    if machine is None:  # revoked since its message was let through
        return m.Refused("revoked", "this machine was revoked: ask whoever manages the contract")
    try:
        check_installation(connection, machine)
    except InstallationError as error:
        return m.Refused(error.code, str(error))
    asked = not machine.paused and backup_requests.still_waits(machine.requested_at, now)
    return m.Attended(
        settings=machine.settings_version,
        backup=machine.backup_request if asked else 0,
        paused=machine.paused,
        language=machine.language,
        spread_s=spread_s(machine.machine_id, window_s),
        again_s=AGAIN_S,
        delivery=machine.delivery if now < machine.delivery_expires_at else 0,
        now_ms=int(now * 1000),
    )


def written(
    message: Written, connection: Connection, machine: AuthorisedMachine, database: Database, *, may: bool
) -> m.Message:
    """Answer what concerns the control database; TooOftenError unless the machine `may` have one more answer."""
    check_installation(connection, machine)
    if not may:
        raise TooOftenError("this machine reports too often: try again in a minute")
    match message:
        case m.SettingsQuery():
            return _wanted(machine, database)
        case m.SettingsReport():
            return _report(message, machine, database)
        case m.BackupAnswer():
            return _answer(message, machine, database)
        case m.PutKey():
            return _key(message, machine, database)
        case m.CopiesReport():
            site_copies.keep(database, machine.machine_id, message, time.time())
            return m.Noted()
        case m.PutSettings(sealed=sealed):
            former_settings.keep(database, machine.machine_id, sealed, time.time())
            return m.Noted()
    return handing.answer(message, machine, database)


def check_installation(connection: Connection, machine: AuthorisedMachine) -> None:
    """A copy of the machine must not read or tell its settings."""
    if connection.installation not in (None, machine.installation):
        raise InstallationError(
            f"machine {machine.name} was taken over by another installation (a resync on another PC): "
            "if this PC is the right one, run pilulier-agent resync here; if it is a copy, enrol it as a new machine"
        )


def _key(message: m.PutKey, machine: AuthorisedMachine, database: Database) -> m.Noted:
    """Keep the machine's wrapped key; a line of the audit log says so, a mail where it is kept in another way now.

    Wrapped anew to another escrow key is no change to anybody.
    """
    now = time.time()
    with database.write():
        before = machine_keys.find(database, EVERYTHING, machine.machine_id)
        if machine_keys.put(database, machine.machine_id, message.envelope, now):
            contract = contracts.of_machine(database, machine.machine_id)
            audit.write(
                database,
                audit.Actor("", machine.name, "machine", ""),
                "machine.key-kept",
                now=now,
                object_kind="machine",
                object_id=machine.machine_id.hex(),
                object_name=machine.name,
                space_id=contract.space_id,
                contract_id=contract.id,
                before=None if before is None else str(before.mode),
                after="confided" if mode_of(message.envelope) == MODE_CONFIDED else "private",
            )
            after = machine_keys.find(database, EVERYTHING, machine.machine_id)
            if before is not None and after is not None and before.mode is not after.mode:
                enrolled = machines.get(database, machine.machine_id)
                notices.tell_key_changed(database, enrolled, by=f"pilulier-agent ({machine.name})", now=now)
    return m.Noted()


def _wanted(machine: AuthorisedMachine, database: Database) -> m.WantedSettings:
    """The settings that the web wants of this machine."""
    settings = machine_settings.get(database, EVERYTHING, machine.machine_id)
    selection = settings.wanted.selection
    return m.WantedSettings(
        version=settings.version,
        selection=None if selection is None else m.RemoteSelection(list(selection.include), list(selection.exclude)),
        selection_version=settings.selection_version,
        schedule=settings.wanted.schedule,
        schedule_version=settings.schedule_version,
    )


def _report(message: m.SettingsReport, machine: AuthorisedMachine, database: Database) -> m.Noted:
    """Keep what an agent says of itself; a selection that became smaller stands in the machine's log too."""
    now = time.time()
    outcome = Outcome(message.outcome)
    with database.write():
        before = machine_settings.get(database, EVERYTHING, machine.machine_id).report
        machine_settings.note(
            database,
            machine.machine_id,
            Report(
                at=now,
                version=message.version,
                outcome=outcome,
                reason=message.reason,
                remote_allowed=message.remote_allowed,
                schedule=message.schedule,
                schedule_version=message.schedule_version,
                language=message.language,
                selection=message.selection.hex(),
                selection_version=message.selection_version,
                includes=message.includes,
                excludes=message.excludes,
                next_run_at=message.next_run_ms / 1000 if message.next_run_ms else None,
            ),
            shrunk=message.shrunk,
        )
        for level, text in _told(message, before):
            machine_logs.add(database, machine.machine_id, level=level, module="settings", text=text, now=now)
    return m.Noted()


def _told(message: m.SettingsReport, before: Report | None) -> list[tuple[str, str]]:
    """Lines for the machine's log: what changed since its last report."""
    lines = []
    rules = f"{_many(message.includes, 'included path')}, {_many(message.excludes, 'exclusion')}"
    changed = before is not None and before.selection != message.selection.hex()
    if message.shrunk:
        lines.append(("warning", f"What is backed up was made smaller: now {rules}"))
    elif changed:
        lines.append(("info", f"What is backed up was changed: now {rules}"))
    if before is not None and before.remote_allowed != message.remote_allowed:
        verb = "allows" if message.remote_allowed else "refuses"
        lines.append(("info", f"The machine's owner {verb} settings from here"))
    if before is None or (before.version, before.outcome) != (message.version, message.outcome):
        match message.outcome:
            case "applied":
                lines.append(("info", f"Settings {message.version} from the appliance are in use"))
            case "refused":
                lines.append(("warning", f"Settings {message.version} from the appliance were refused"))
            case "invalid":  # the reason names a path, so it stands beside the settings and not here
                lines.append(("warning", f"Settings {message.version} from the appliance make no sense there"))
    return lines


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _answer(message: m.BackupAnswer, machine: AuthorisedMachine, database: Database) -> m.Noted:
    """Keep whether a backup that was asked for is taken up."""
    backup_requests.answer(
        database, machine.machine_id, message.backup, taken=message.taken, reason=message.reason, now=time.time()
    )
    return m.Noted()
