"""Deliveries as the exchange answers their machine: what waits, what was selected, its owner's word, its beginning and
its end.

Identity is the connection's; the installation must be the machine's present one, so that a copied PC takes nothing.
Whoever sent a delivery must still be in charge of the machine when it begins. What an agent reports is its word: it
is shown, told by mail and written to the audit log as that.
"""

from __future__ import annotations

import time
from typing import Final

from appliance import notices, spool
from appliance.connections import Connection
from appliance.control import acts, audit, crossings, deliveries, machine_logs, machines, restores
from appliance.control.database import Database
from appliance.control.deliveries import Delivery, DeliveryState
from appliance.control.machines import AuthorisedMachine
from appliance.control.scope import EVERYTHING
from appliance.errors import ConflictError
from appliance.granting import Grant, ParcelGrant
from appliance.restoring import CodeNeededError, RestoreSession, RestoreSessions
from appliance.settings import Home
from appliance.store.repository import Repository
from transport import messages as m
from transport.keys import verify_receiving
from transport.names import VaultId
from transport.parcels import Wrapping

Question = m.DeliveriesQuery | m.SelectionQuery | m.DeliveryAnswer | m.ParcelQuery
QUESTIONS: Final = (m.DeliveriesQuery, m.SelectionQuery, m.DeliveryAnswer, m.ParcelQuery)
"""Answered from the control database alone."""


def answer(message: Question, machine: AuthorisedMachine, database: Database) -> m.Message:
    """The answer; NotFoundError, ConflictError where it is too late."""
    now = time.time()
    match message:
        case m.DeliveriesQuery():
            return m.Deliveries([_told(one) for one in deliveries.open_ones(database, machine.machine_id, now)])
        case m.SelectionQuery(number=number):
            chosen = deliveries.chosen(database, machine.machine_id, number)
            return m.DeliveredSelection(number, list(chosen.paths), list(chosen.above))
        case m.DeliveryAnswer():
            return _answered(message, machine, database, now)
        case m.ParcelQuery(number=number):
            sealed = crossings.sealed(database, machine.machine_id, number)
            known = sealed.wrapping or Wrapping(b"", VaultId(b""))
            reason = crossings.SENTENCES[sealed.why] if sealed.why is not None else ""
            return m.Parcel(number, known.envelope, known.vault, sealed.chunks, reason)


def _told(one: Delivery) -> m.Delivery:
    return m.Delivery(
        number=one.number,
        snapshot=one.snapshot,
        snapshot_ms=int(one.snapshot_at * 1000),
        sender=one.sent_by,
        created_ms=int(one.created_at * 1000),
        expires_ms=int(one.expires_at * 1000),
        accepted=one.state is not DeliveryState.WAITING,
        files=one.files,
        bytes=one.size_bytes,
        source=one.source_name,
    )


def _answered(message: m.DeliveryAnswer, machine: AuthorisedMachine, database: Database, now: float) -> m.Noted:
    number, accepted = message.number, message.accepted
    with database.write():
        before = deliveries.find(database, EVERYTHING, machine.machine_id, number, now)
        after = deliveries.answer(database, machine.machine_id, number, accepted=accepted, now=now)
        if accepted and after.source_id is not None:
            if not message.key:
                raise ConflictError("another machine's files are sealed to a key of this one: update the agent")
            verify_receiving(machine.signing_key, message.signature, machine.machine_id, number, message.key)
            crossings.keep_key(database, machine.machine_id, number, message.key, message.signature)
        if after.state is not before.state:
            kind = "delivery.accept" if accepted else "delivery.refuse"
            _note(database, machine, kind, {"delivery": number}, now)
            word = "accepted" if accepted else "refused"
            text = f"Delivery {number} from {after.sent_by} was {word} on the machine"
            machine_logs.add(database, machine.machine_id, level="info", module="delivery", text=text, now=now)
    return m.Noted()


def _note(database: Database, machine: AuthorisedMachine, kind: str, told: dict[str, object], now: float) -> None:
    acts.note(database, _actor(machine), kind, machines.get(database, machine.machine_id), now=now, after=told)


def _actor(machine: AuthorisedMachine) -> audit.Actor:
    return audit.Actor("", machine.name, "machine", "")


def open_delivery(
    message: m.DeliveryOpen,
    connection: Connection,
    machine: AuthorisedMachine,
    repository: Repository,
    database: Database,
    sessions: RestoreSessions,
) -> RestoreSession:
    """A restore session for what was selected and nothing else; CodeNeededError where its sender has lost the right."""
    now = time.time()
    with database.write():
        found = deliveries.find(database, EVERYTHING, machine.machine_id, message.number, now)
        if found.source_id is not None and not _is_sealed(database, found):
            raise ConflictError(f"delivery {found.number} is not sealed yet: ask again in a minute")
        if found.source_id is not None:
            crossings.check_still(database, found)
        if not restores.may_still_restore(database, found.account_id, machine.machine_id):
            raise CodeNeededError(f"{found.sent_by} may not restore this machine any more: ask for another delivery")
        first = found.began_at is None
        begun = deliveries.began(database, machine.machine_id, message.number, now)
        if first:
            if begun.source_id is None:  # another machine's backups were opened, and told of, when they were sealed
                restores.record(database, begun.sent_by, machine.machine_id, now)
            text = f"Delivery {begun.number} from {begun.sent_by}: its restore begins"
            machine_logs.add(database, machine.machine_id, level="info", module="delivery", text=text, now=now)
    if begun.source_id is not None:
        parcel = ParcelGrant(begun.number, spool.Parcel(_home(database), machine.machine_id, begun.number))
        return sessions.open(connection, begun.account_id, parcel)
    chosen = deliveries.chosen(database, machine.machine_id, message.number)
    grant = Grant(begun.number, repository.file_versions(begun.snapshot, chosen.paths))
    return sessions.open(connection, begun.account_id, grant)


def _is_sealed(database: Database, delivery: Delivery) -> bool:
    return crossings.sealed(database, delivery.machine_id, delivery.number).wrapping is not None


def _home(database: Database) -> Home:
    """The home that the control database lies in."""
    return Home(database.path.parent)


def report(
    message: m.DeliveryReport, machine: AuthorisedMachine, database: Database, sessions: RestoreSessions
) -> m.Noted:
    """Keep what became of a delivery; its session ends, and where it was done the contract's people hear of it."""
    now = time.time()
    done = message.outcome == "done"
    with database.write():
        before = deliveries.find(database, EVERYTHING, machine.machine_id, message.number, now)
        after = deliveries.report(
            database,
            machine.machine_id,
            message.number,
            done=done,
            files=message.files,
            size=message.bytes,
            errors=message.errors,
            reason=message.reason,
            now=now,
        )
        if before.state is not DeliveryState.DONE:
            told: dict[str, object] = {"delivery": after.number, "snapshot": after.snapshot}
            told |= {"files": after.files_done, "size": after.bytes_done, "errors": after.errors}
            kind = "delivery.done" if done else "delivery.failed"
            _note(database, machine, kind, told, now)
            if after.source_id is not None:  # both sides can read what became of it
                source = machines.get(database, after.source_id)
                acts.note(database, _actor(machine), kind, source, now=now, after=told | {"to": machine.name})
            text = f"Delivery {after.number}: {after.files_done} files restored, {after.errors} not"
            if not done:
                text = f"Delivery {after.number} was not restored: {after.reason}"
            level = "info" if done and not after.errors else "warning"
            machine_logs.add(database, machine.machine_id, level=level, module="delivery", text=text, now=now)
            if done:
                notices.tell_delivered(database, machines.get(database, machine.machine_id), after, now)
    sessions.end_delivery(machine.machine_id.hex(), after.number)
    if done and after.source_id is not None:
        spool.remove(_home(database), machine.machine_id, after.number)
    return m.Noted()
