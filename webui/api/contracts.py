"""Contracts by the API: listed, made, changed, paused, resumed; their enrolment codes; deletions that wait.

What the pages do, by the same calls and with the same lines in the audit log. As there, what a contract keeps can be
lengthened and not shortened, and a deletion waits seven days.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

from msgspec import UNSET, UnsetType

from appliance import enrolment_codes
from appliance.control import acts, api_tokens, contract_cards, contracts, deletions, enrol_tokens, machines
from appliance.control import space_settings as settings_of
from appliance.control.contract_cards import Card
from appliance.control.contracts import Changes
from appliance.control.deletions import Kind
from appliance.errors import ConflictError, NotFoundError
from appliance.store.upkeep.retention import Policy
from transport.errors import UsageError
from webui import context
from webui.api import contract_nouns as nouns
from webui.api import cursors
from webui.api.contract_nouns import ContractChanges, ContractsWanted, NewContract
from webui.api.nouns import moment, moment_or_none
from webui.api.operations import operation

GROUP: Final = "Contracts"
READ, WRITE, DELETE = api_tokens.Permission.READ, api_tokens.Permission.WRITE, api_tokens.Permission.DELETE
_T = TypeVar("_T")


def by() -> str:
    """Who asks, for rows that name somebody."""
    return context.actor().email


def of_id(contract_id: str) -> contracts.Contract:
    """The contract with exactly this id, if the token sees it; NotFoundError otherwise."""
    found = contracts.find(context.db(), context.scope(), contract_id)
    # Commands take a client's name too; an address must not.
    if found.id != contract_id:
        raise NotFoundError("an address names a contract by its id")
    return found


def _given(value: _T | UnsetType) -> _T | None:
    return None if value is UNSET or isinstance(value, UnsetType) else value


def _shown(card: Card, contract: contracts.Contract) -> nouns.Contract:
    return nouns.Contract(
        id=card.id,
        space_id=card.space_id,
        client_id=card.client_id,
        email=card.email,
        state=card.state,
        allocated_bytes=card.allocated_bytes,
        used_bytes=card.used_bytes,
        machines_active=card.machines_used,
        machines_total=card.machines_total,
        machines_allowed=card.machines_allowed,
        created_at=moment(card.created_at),
        start_date=card.start_date,
        end_date=card.end_date,
        last_backup_at=moment_or_none(card.last_at),
        deletion_due_at=moment_or_none(card.delete_due_at),
        notify=card.notify,
        late_hours=card.late_hours,
        open_days=contract.open_days.split(",") if contract.open_days else None,
        escrow=card.escrow,
        keep_days=contract.retention.keep_days,
    )


def _one(contract_id: str) -> nouns.Contract:
    card = contract_cards.one(context.db(), context.scope(), contract_id, context.now())
    return _shown(card, of_id(contract_id))


@operation("GET", "/contracts", "List contracts", group=GROUP, needs_permission=READ, query=ContractsWanted,
           answer=nouns.ContractPage)  # fmt: skip
def list_contracts(query: ContractsWanted) -> nouns.ContractPage:
    """In the order of their ids, which never change, so that pages neither skip nor repeat one."""
    after = "" if query.cursor is None else cursors.decode("contracts", query.cursor)
    found = contract_cards.after(
        context.db(),
        context.scope(),
        context.now(),
        after=after,
        limit=query.limit + 1,
        text=query.text,
        state=query.state,
    )
    cards = found[: query.limit]
    kept = {one.id: one for one in contracts.every(context.db(), context.scope())}
    return nouns.ContractPage(
        items=[_shown(card, kept[card.id]) for card in cards if card.id in kept],
        next=cursors.encode("contracts", cards[-1].id) if len(found) > query.limit else None,
    )


@operation("POST", "/contracts", "Make a contract", group=GROUP, needs_permission=WRITE, body=NewContract,
           answer=nouns.Contract, status=201)  # fmt: skip
def create_contract(body: NewContract) -> nouns.Contract:
    """In the token's space. Two contracts may have the same client: an idempotency key guards against a double."""
    db, now, space_id = context.db(), context.now(), context.my_token().space_id
    rules = settings_of.of_space(db, space_id)
    keep_days = _or(body.keep_days, rules.keep_days)
    if keep_days < rules.floor_days:
        raise UsageError(f"{keep_days} days are less than the {rules.floor_days} that this space always keeps")
    made = contracts.add(
        db,
        space_id=space_id,
        client_id=body.client_id,
        email=body.email,
        now=now,
        allocated_bytes=_or(body.allocated_bytes, contracts.DEFAULT_ALLOCATED_BYTES),
        machine_quota=_or(body.machines_allowed, contracts.DEFAULT_MACHINE_QUOTA),
        start_date=body.start_date,
        end_date=body.end_date,
        escrow=body.escrow,
        retention=Policy(keep_days=keep_days, floor_days=rules.floor_days),
    )
    acts.note(db, context.actor(), "contract.add", made, now=now, after=acts.changed_from_nothing(made))
    return _one(made.id)


def _or(value: int | UnsetType, otherwise: int) -> int:
    given = _given(value)
    return otherwise if given is None else given


@operation("GET", "/contracts/<contract_id>", "Show a contract", group=GROUP, needs_permission=READ,
           answer=nouns.Contract)  # fmt: skip
def show_contract(contract_id: str) -> nouns.Contract:
    """One contract with what it uses."""
    return _one(contract_id)


@operation("PATCH", "/contracts/<contract_id>", "Change a contract", group=GROUP, needs_permission=WRITE,
           body=ContractChanges, answer=nouns.Contract)  # fmt: skip
def change_contract(contract_id: str, body: ContractChanges) -> nouns.Contract:
    """What is kept can be made longer here, not shorter: that is done on the appliance itself."""
    db, now = context.db(), context.now()
    before = of_id(contract_id)
    keep_days = _or(body.keep_days, before.retention.keep_days)
    if keep_days < before.retention.keep_days:
        raise UsageError(
            f"{before.retention.keep_days} days are kept and cannot become {keep_days} here: shorten them on the "
            "appliance itself"
        )
    start = _given(body.start_date) or before.start_date
    end = before.end_date if body.end_date is UNSET else _given(body.end_date)
    if end is not None and end < start and (body.end_date is not UNSET or body.start_date is not UNSET):
        raise UsageError(f"the end date {end} lies before the start date {start}: give a later one")
    after = contracts.edit(
        db,
        before,
        Changes(
            client_id=_given(body.client_id),
            email=_given(body.email),
            allocated_bytes=_given(body.allocated_bytes),
            machine_quota=_given(body.machines_allowed),
            start_date=_given(body.start_date),
            end_date=_given(body.end_date),
            no_end_date=body.end_date is None,
            retention=replace(before.retention, keep_days=keep_days),
            notify=_given(body.notify),
            late_hours=_given(body.late_hours),
            no_late_hours=body.late_hours is None,
            open_days=",".join(body.open_days) if isinstance(body.open_days, list) else None,
            no_open_days=body.open_days is None,
        ),
    )
    old, new = acts.changed(before, after)
    if new:
        acts.note(db, context.actor(), "contract.edit", after, now=now, before=old, after=new)
    return _one(contract_id)


def _note_state(kind: str, before: contracts.Contract, after: contracts.Contract) -> None:
    now = context.now()
    states = {"before": {"state": str(before.state(now))}, "after": {"state": str(after.state(now))}}
    acts.note(context.db(), context.actor(), kind, after, now=now, **states)


@operation("POST", "/contracts/<contract_id>/pause", "Pause a contract", group=GROUP, needs_permission=WRITE,
           answer=nouns.Contract)  # fmt: skip
def pause_contract(contract_id: str) -> nouns.Contract:
    """Its backups and enrolments are refused from now on; restores go on."""
    before = of_id(contract_id)
    if not before.paused:
        _note_state("contract.pause", before, contracts.pause(context.db(), before))
    return _one(contract_id)


@operation("POST", "/contracts/<contract_id>/resume", "Resume a contract", group=GROUP, needs_permission=WRITE,
           answer=nouns.Contract)  # fmt: skip
def resume_contract(contract_id: str) -> nouns.Contract:
    """Its backups are taken again. One that is to be deleted is kept by taking back its deletion first."""
    before = of_id(contract_id)
    if before.delete_requested_at is not None:
        raise ConflictError("this contract is to be deleted: take its deletion back first")
    if before.paused:
        after = contracts.resume(context.db(), before, by=by(), now=context.now())
        _note_state("contract.resume", before, after)
    return _one(contract_id)


@operation("DELETE", "/contracts/<contract_id>", "Ask for a contract's deletion", group=GROUP, needs_permission=DELETE,
           answer=nouns.Deletion, status=202)  # fmt: skip
def delete_contract(contract_id: str) -> nouns.Deletion:
    """In seven days, announced by mail; until then it is paused and the deletion can be taken back."""
    before = of_id(contract_id)
    db, now = context.db(), context.now()
    asked = deletions.request(db, context.scope(), Kind.CONTRACT, contract_id, by=by(), now=now)
    _note_state("contract.delete", before, of_id(contract_id))
    return deletion(asked)


def deletion(asked: deletions.Deletion) -> nouns.Deletion:
    """A deletion as it is answered."""
    return nouns.Deletion(
        id=asked.id,
        kind=str(asked.kind),
        object_id=asked.object_id,
        name=asked.object_name,
        contract_id=asked.contract_id,
        requested_by=asked.requested_by,
        requested_at=moment(asked.requested_at),
        due_at=moment(asked.due_at),
    )


def _waiting() -> list[deletions.Deletion]:
    """Those of contracts and machines: a space's is the super-user's."""
    found = deletions.pending(context.db(), context.scope())
    return [one for one in found if one.kind is not Kind.SPACE]


@operation("GET", "/deletions", "List deletions that wait", group=GROUP, needs_permission=READ,
           answer=nouns.Deletions)  # fmt: skip
def list_deletions() -> nouns.Deletions:
    """Of contracts and machines, next due first."""
    return nouns.Deletions(items=[deletion(one) for one in _waiting()])


@operation("DELETE", "/deletions/<deletion_id>", "Take a deletion back", group=GROUP, needs_permission=WRITE,
           status=204)  # fmt: skip
def cancel_deletion(deletion_id: str) -> None:
    """What was to be deleted stays, as it was before."""
    if all(one.id != deletion_id for one in _waiting()):
        raise NotFoundError("this deletion was cancelled or carried out already")
    db, now = context.db(), context.now()
    ended = deletions.cancel(db, context.scope(), deletion_id, by=by(), now=now)
    about = (
        machines.find(db, context.scope(), ended.object_id) if ended.kind is Kind.MACHINE else of_id(ended.object_id)
    )
    acts.note(db, context.actor(), "deletion.cancel", about, now=now)


@operation("GET", "/contracts/<contract_id>/codes", "List enrolment codes that wait", group="Enrolment codes",
           needs_permission=READ, answer=nouns.WaitingCodes)  # fmt: skip
def list_codes(contract_id: str) -> nouns.WaitingCodes:
    """How many still enrol a machine, and until when; the codes themselves are kept nowhere."""
    of_id(contract_id)
    found = enrol_tokens.waiting(context.db(), context.scope(), contract_id, context.now())
    return nouns.WaitingCodes(
        items=[nouns.WaitingCode(created_at=moment(one.created_at), expires_at=moment(one.expires_at)) for one in found]
    )


@operation("POST", "/contracts/<contract_id>/codes", "Make an enrolment code", group="Enrolment codes",
           needs_permission=WRITE, answer=nouns.EnrolmentCode, status=201, secret=True)  # fmt: skip
def create_code(contract_id: str) -> nouns.EnrolmentCode:
    """For one machine, good for seven days, shown in this answer alone: asked again with the same idempotency key, the
    answer is a conflict that says so."""
    db, now = context.db(), context.now()
    contract = of_id(contract_id)
    code = enrolment_codes.issue(context.home(), db, contract, now)
    acts.note(db, context.actor(), "contract.code", contract, now=now)
    return nouns.EnrolmentCode(code=code.text, command=code.command(), expires_at=moment(code.expires_at))


@operation("DELETE", "/contracts/<contract_id>/codes", "Withdraw enrolment codes", group="Enrolment codes",
           needs_permission=WRITE, status=204)  # fmt: skip
def withdraw_codes(contract_id: str) -> None:
    """All that wait of a contract become worthless; machines that are enrolled stay so."""
    db, now = context.db(), context.now()
    contract = of_id(contract_id)
    count = enrol_tokens.withdraw(db, context.scope(), contract.id, now)
    if count:
        acts.note(db, context.actor(), "contract.codes-withdraw", contract, now=now, before={"codes": count})
