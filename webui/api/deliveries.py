"""Deliveries by the API: a restore that is sent to its machine, and what became of it there.

As `restores`, it needs a person's one-time code beside the token. Nothing is opened longer than it takes to find what
was named: the machine restores by itself, with its own key, once its owner has said yes on it.
"""

from __future__ import annotations

import logging
import secrets
from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta

from appliance.control import acts, api_tokens, control_room, crossings, deliveries, restores
from appliance.control.accounts import Role
from appliance.control.deliveries import Chosen, DeliveryState
from appliance.control.machines import Machine, MachineState
from appliance.control.restores import Purpose
from appliance.errors import ConflictError
from appliance.opening.clients import OpeningError, beginning
from appliance.opening.sending import Parcel, parcel
from transport.errors import RefusedError, UsageError
from webui import context
from webui.api import cursors
from webui.api.machines import of_id
from webui.api.nouns import Answer, Asked, Email, Listing, MachineId, Number, moment, moment_or_none
from webui.api.operations import operation
from webui.api.restores import Path

log = logging.getLogger("pilulier.web")
GROUP: Final = "Deliveries"
READ, RESTORE = api_tokens.Permission.READ, api_tokens.Permission.RESTORE
PATHS: Final = 1000


Target = Literal["machine", "other-machine"]


class DeliveryWanted(Asked, frozen=True, kw_only=True):
    """What the machine is to restore, and whose code it is. Paths with all below; none at all is the whole snapshot,
    the latest complete one without a number. Paths need a machine whose key is confided."""

    account: Email
    code: Annotated[str, Meta(min_length=6, max_length=10)]
    target: Target = "machine"
    to: MachineId | None = None
    """The receiving machine, for another one of the same contract: only where that was allowed for it, of paths alone,
    and with an administrator's code."""
    snapshot: Number | None = None
    paths: Annotated[list[Path], Meta(max_length=PATHS)] = []


class MachineDelivery(Answer, frozen=True, kw_only=True):
    """A restore that was sent to a machine. `state`: waiting for a word there, accepted, running, done, failed (it may
    go on), refused, cancelled, expired. Counts of what was restored are the machine's word."""

    machine_id: str
    number: int
    target: Target
    source_machine_id: str
    snapshot: int
    snapshot_at: datetime
    files: int
    size_bytes: int
    state: DeliveryState
    sent_by: str
    created_at: datetime
    expires_at: datetime
    answered_at: datetime | None
    began_at: datetime | None
    ended_at: datetime | None
    files_restored: int
    restored_bytes: int
    errors: int
    reason: str


class MachineDeliveryPage(Answer, frozen=True, kw_only=True):
    """Some deliveries, newest first; `next` is the cursor of the page after, null on the last."""

    items: list[MachineDelivery]
    next: str | None


def _shown(one: deliveries.Delivery) -> MachineDelivery:
    return MachineDelivery(
        machine_id=one.machine_id.hex(),
        number=one.number,
        target="machine" if one.source_id is None else "other-machine",
        source_machine_id=one.owner.hex(),
        snapshot=one.snapshot,
        snapshot_at=moment(one.snapshot_at),
        files=one.files,
        size_bytes=one.size_bytes,
        state=one.state,
        sent_by=one.sent_by,
        created_at=moment(one.created_at),
        expires_at=moment(one.expires_at),
        answered_at=moment_or_none(one.answered_at),
        began_at=moment_or_none(one.began_at),
        ended_at=moment_or_none(one.ended_at),
        files_restored=one.files_done,
        restored_bytes=one.bytes_done,
        errors=one.errors,
        reason=one.reason,
    )


@operation("POST", "/machines/<machine>/deliveries", "Send a restore to the machine", group=GROUP,
           needs_permission=RESTORE, body=DeliveryWanted, answer=MachineDelivery, status=201, apart=True)  # fmt: skip
def send_restore(machine: str, body: DeliveryWanted) -> MachineDelivery:
    """Where `restores` downloads, this has the machine restore by itself: its owner says yes on it, and the files land
    there in a new folder, replacing nothing. Good for a week and for this selection; audited, and told by mail. For
    another machine of the contract the appliance seals the files anew; the delivery is that machine's from then on."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    receiving = _receiving(found, body)
    whole = not any(path.strip("/") for path in body.paths)
    if whole and receiving is not None:
        raise UsageError("for another machine name the paths: a whole backup is for its own machine")
    what = _whole(found, body.snapshot) if whole else None
    # Before the code, which works once.
    begin = None if what is not None else beginning(context.home(), db, context.scope(), found)
    account = restores.verify_restore_code(db, body.account, body.code, found.id, now, Purpose.SEND)
    if receiving is not None and account.role not in (Role.SUPER, Role.ADMIN):
        raise RefusedError("only an administrator sends one machine's files to another")
    if begin is not None:
        session = f"api:{context.my_token().id}:{secrets.token_hex(8)}"
        openers = context.appliance().openers
        try:
            opened = openers.open(session, found.id, begin)
            wanted = [("/" + "/".join(part for part in path.split("/") if part)).encode() for path in body.paths]
            known = {one.number: one for one in opened.snapshots}
            number = max(known, default=0) if body.snapshot is None else body.snapshot
            if number not in known:
                raise UsageError("there is no such snapshot of this machine")
            what = parcel(opened, known[number], wanted)
        except OpeningError as error:
            if error.code == UsageError.code:
                raise UsageError("this snapshot does not hold one of these paths") from None
            log.error("machine %s: its backups do not open: %s", found.hex, error)
            raise ConflictError("this machine's backups could not be opened here: restore with its agent") from None
        finally:
            openers.end(session, found.id)
    assert what is not None
    with db.write():
        sent = deliveries.send(
            db,
            (receiving or found).id,
            what.chosen,
            snapshot=what.snapshot,
            snapshot_at=what.received_at,
            files=what.files,
            size_bytes=what.size_bytes,
            account_id=account.id,
            by=account.email,
            now=now,
            source_id=None if receiving is None else found.id,
        )
        told: dict[str, object] = {"delivery": sent.number, "snapshot": what.snapshot, "user": account.email}
        told |= {"files": what.files, "size": what.size_bytes}
        if receiving is not None:
            told |= {"source": found.name, "target": receiving.name}
            acts.note(db, context.actor(), "delivery.send", receiving, now=now, after=told)
        acts.note(db, context.actor(), "delivery.send", found, now=now, after=told)
    return _shown(sent)


def _receiving(machine: Machine, body: DeliveryWanted) -> Machine | None:
    """The other machine that is to receive; None where it is the same. ConflictError where it may not."""
    if body.target == "machine":
        if body.to is not None:
            raise UsageError("`to` is for the target other-machine")
        if machine.state is not MachineState.ACTIVE:
            raise ConflictError("this machine is revoked: nothing can be sent to it")
        return None
    for one in crossings.targets(context.db(), context.scope(), machine):
        if one.hex == body.to:
            return one
    raise ConflictError("this machine's files may not be sent there: see whether its contract allows that")


def _whole(machine: Machine, snapshot: int | None) -> Parcel:
    """All of the latest complete snapshot; UsageError where another one is named, since nobody here can say how much
    that is, or there is none."""
    row = control_room.find(context.db(), context.scope(), context.now(), machine.id, frozenset())
    if row is None or row.good_number is None or row.good_at is None:
        raise ConflictError("this machine has no complete backup yet")
    if snapshot not in (None, row.good_number):
        raise UsageError(f"a whole backup can be sent of the latest complete snapshot alone, {row.good_number}")
    return Parcel(row.good_number, row.good_at, Chosen(), 0, row.bytes_source or 0)


@operation("GET", "/machines/<machine>/deliveries", "List what was sent to a machine", group=GROUP,
           needs_permission=READ, query=Listing, answer=MachineDeliveryPage)  # fmt: skip
def list_sent(machine: str, query: Listing) -> MachineDeliveryPage:
    """Newest first."""
    found = of_id(machine)
    before = cursors.number("sent", query.cursor)
    rows = deliveries.of_machine(
        context.db(), context.scope(), found.id, context.now(), limit=query.limit + 1, before=before
    )
    page = rows[: query.limit]
    return MachineDeliveryPage(
        items=[_shown(one) for one in page],
        next=cursors.encode("sent", str(page[-1].number)) if len(rows) > query.limit else None,
    )


@operation("GET", "/machines/<machine>/deliveries/<int(max=9007199254740992):number>", "Show what became of a delivery",
           group=GROUP, needs_permission=READ, answer=MachineDelivery)  # fmt: skip
def show_sent(machine: str, number: int) -> MachineDelivery:
    """How far it is, and what its machine said of it."""
    found = of_id(machine)
    return _shown(deliveries.find(context.db(), context.scope(), found.id, number, context.now()))


@operation("DELETE", "/machines/<machine>/deliveries/<int(max=9007199254740992):number>", "Take a delivery back",
           group=GROUP, needs_permission=RESTORE, answer=MachineDelivery)  # fmt: skip
def cancel_sent(machine: str, number: int) -> MachineDelivery:
    """What nobody has brought to its end; what has already landed stays there."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    before = deliveries.find(db, context.scope(), found.id, number, now)
    after = deliveries.cancel(db, context.scope(), found.id, number, now)
    told = {"before": {"state": str(before.state)}, "after": {"delivery": number, "state": "cancelled"}}
    acts.note(db, context.actor(), "delivery.cancel", found, now=now, **told)
    return _shown(after)
