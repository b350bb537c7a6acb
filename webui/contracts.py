"""Contracts as cards or as a table, one contract with its machines, and both as CSV.

Parses addresses, asks `contract_cards` and `control_room`, renders. Acts on contracts are elsewhere: `contract_forms`
writes them, `contract_acts` pauses and deletes them. A customer's list is one contract, so they are led to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l

from appliance.control import (
    contract_cards,
    contracts,
    control_room,
    crossings,
    deletions,
    enrol_tokens,
    machine_keys,
    running,
    space_settings,
    spaces,
)
from appliance.control.accounts import Role
from appliance.control.contract_cards import Card, CardFilter, CardSort
from appliance.control.contracts import Contract
from appliance.control.control_room import RoomRow
from appliance.control.deletions import Deletion, Kind
from appliance.control.scope import Everything
from appliance.control.spaces import Space
from appliance.enrolment_codes import IssuedCode
from appliance.errors import NotFoundError
from webui import context, formats, states
from webui.gate import EVERYONE, STAFF, allow
from webui.tables import Cell, csv_response

blueprint = Blueprint("contracts", __name__)

PER_PAGE: Final = 24
TEXT_LIMIT: Final = 100
CODE: Final = "enrol_code"
"""In the cookie until the contract's page has shown it, once: the code that was just made."""
FILTERS: Final = {
    CardFilter.ACTIVE: _l("Actifs"),
    CardFilter.PAUSED: _l("En pause"),
    CardFilter.EXPIRED: _l("Échus"),
    CardFilter.OVER_QUOTA: _l("Au-delà du volume alloué"),
    CardFilter.DELETING: _l("À supprimer"),
}
SORTS: Final = {
    CardSort.CLIENT: _l("Client"),
    CardSort.RATIO: _l("Taux d’occupation"),
    CardSort.USED: _l("Espace utilisé"),
    CardSort.MACHINES: _l("Machines"),
    CardSort.LAST: _l("Dernière sauvegarde"),
    CardSort.CREATED: _l("Création"),
    CardSort.END: _l("Échéance"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an address asks of the list. Words that mean nothing count as not said."""

    text: str
    state: CardFilter | None
    space_id: str | None
    sort: CardSort
    descending: bool
    page: int
    as_table: bool

    @classmethod
    def of_request(cls) -> Wanted:
        """Out of the query."""
        given = request.args
        state, sort, page = given.get("state", ""), given.get("sort", ""), given.get("page", "")
        return cls(
            text=given.get("q", "").strip()[:TEXT_LIMIT],
            state=CardFilter(state) if state in list(CardFilter) else None,
            space_id=given.get("space") or None,
            sort=CardSort(sort) if sort in list(CardSort) else CardSort.CLIENT,
            descending=given.get("order") == "desc",
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
            as_table=given.get("view") == "table",
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether some contracts are left out."""
        return bool(self.text or self.state or self.space_id)


def choosable_spaces() -> list[Space]:
    """The spaces among which a super-user who looks at all of them may choose; nothing for everybody else."""
    return spaces.every(context.db()) if isinstance(context.scope(), Everything) else []


def of_address(contract_id: str) -> Contract:
    """The contract that an address names by its id, if it lies in the reader's scope; NotFoundError otherwise."""
    found = contracts.find(context.db(), context.scope(), contract_id)
    # The command line takes a client id too; an address must not.
    if found.id != contract_id:
        raise NotFoundError("an address names a contract by its id")
    return found


def waiting_deletions() -> list[Deletion]:
    """The contracts and machines of the scope that are to be deleted, next due first."""
    found = deletions.pending(context.db(), context.scope())
    return [deletion for deletion in found if deletion.kind is not Kind.SPACE]


@blueprint.get("/contracts")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """The list; for a customer their contract."""
    me = context.me()
    if me.role is Role.CUSTOMER:
        return redirect(url_for("contracts.detail", contract_id=me.contract_id), 303)
    wanted = Wanted.of_request()
    found = contract_cards.search(
        context.db(),
        context.scope(),
        context.now(),
        text=wanted.text,
        state=wanted.state,
        space_id=wanted.space_id,
        sort=wanted.sort,
        descending=wanted.descending,
        page=wanted.page,
        per_page=PER_PAGE,
    )
    return render_template(
        "contracts/index.html",
        found=found,
        wanted=wanted,
        FILTERS=FILTERS,
        SORTS=SORTS,
        spaces=choosable_spaces(),
        waiting=waiting_deletions(),
    )


_COLUMNS: Final = (
    *(_l("Contrat"), _l("Espace"), _l("Client"), _l("E-mail"), _l("État"), _l("Utilisé (octets)"), _l("Utilisé (Go)")),
    *(_l("Alloué (Go)"), _l("Taux (%)"), _l("Machines actives"), _l("Machines en tout"), _l("Machines allouées")),
    *(_l("Dernière sauvegarde"), _l("Création"), _l("Début"), _l("Fin"), _l("Clé")),
)


def _every_card(wanted: Wanted) -> Iterator[Card]:
    page, pages = 1, 1
    while page <= pages:
        found = contract_cards.search(
            context.db(),
            context.scope(),
            context.now(),
            text=wanted.text,
            state=wanted.state,
            space_id=wanted.space_id,
            sort=wanted.sort,
            descending=wanted.descending,
            page=page,
            per_page=contract_cards.PER_PAGE_LIMIT,
        )
        yield from found.cards
        page, pages = page + 1, found.pages


def _line(card: Card) -> list[Cell]:
    return [
        card.id,
        card.space_name,
        card.client_id,
        card.email,
        str(states.CONTRACTS[card.state].label),
        card.used_bytes,
        formats.sheet_gigabytes(card.used_bytes),
        formats.sheet_gigabytes(card.allocated_bytes),
        "" if card.ratio is None else formats.count(round(card.ratio * 100)),
        card.machines_used,
        card.machines_total,
        card.machines_allowed,
        formats.sheet_moment(card.last_at),
        formats.sheet_moment(card.created_at),
        card.start_date.isoformat(),
        card.end_date.isoformat() if card.end_date else "",
        str(states.ESCROWS[card.escrow]),
    ]


@blueprint.get("/contracts.csv")
@allow(STAFF)
def export() -> ResponseReturnValue:
    """The whole list as it is filtered and sorted."""
    lines = [_line(card) for card in _every_card(Wanted.of_request())]
    return csv_response("contracts.csv", [str(column) for column in _COLUMNS], lines)


def machines_of(contract_id: str) -> list[RoomRow]:
    """The machines of a contract as the control room sees them, worst first."""
    now = context.now()
    ids = running.ids(context.home().running_file, now)
    return control_room.rows(context.db(), context.scope(), now, ids, contract_id=contract_id)


@blueprint.get("/contracts/<contract_id>")
@allow(EVERYONE)
def detail(contract_id: str) -> ResponseReturnValue:
    """One contract: what it uses, its keys and codes, its alerts, its machines."""
    db, scope, now = context.db(), context.scope(), context.now()
    card = contract_cards.one(db, scope, contract_id, now)
    contract = contracts.find(db, scope, contract_id)
    is_customer = context.me().role is Role.CUSTOMER
    return render_template(
        "contracts/own.html" if is_customer else "contracts/detail.html",
        card=card,
        contract=contract,
        machines=machines_of(contract_id),
        deletion=deletions.of_object(db, scope, Kind.CONTRACT, contract_id),
        going=[one for one in waiting_deletions() if one.kind is Kind.MACHINE and one.contract_id == contract_id],
        key_modes=machine_keys.modes(db, scope, contract_id),
        settings=space_settings.of_space(db, contract.space_id),
        tokens=[] if is_customer else enrol_tokens.waiting(db, scope, contract_id, now),
        code=_fresh_code(contract_id),
        crossings=crossings.allowed(db, contract_id),
    )


def keep_code(contract_id: str, code: IssuedCode) -> None:
    """Have the contract's page show the code that was just made."""
    session[CODE] = [contract_id, code.text, code.expires_at]


def _fresh_code(contract_id: str) -> IssuedCode | None:
    """The code that was just made for this contract, once."""
    match session.get(CODE):
        case [str(owner), str(text), float(expires_at)] if owner == contract_id:
            session.pop(CODE)
            return IssuedCode(text, expires_at)
    return None


_MACHINE_COLUMNS: Final = (
    *(_l("Machine"), _l("Identifiant"), _l("État"), _l("Dernière sauvegarde"), _l("Dernière sauvegarde complète")),
    *(_l("Sauvegardé (octets)"), _l("Sauvegardé (Go)"), _l("Avertissements"), _l("Version"), _l("Système")),
    *(_l("Vue pour la dernière fois"), _l("Création"), _l("Dernière erreur")),
)


@blueprint.get("/contracts/<contract_id>.csv")
@allow(EVERYONE)
def machines_csv(contract_id: str) -> Response:
    """The machines of a contract."""
    of_address(contract_id)
    lines: list[list[Cell]] = [
        [
            row.name,
            row.hex,
            str(states.MACHINES[row.state].label),
            formats.sheet_moment(row.last_at),
            formats.sheet_moment(row.good_at),
            row.bytes_source,
            formats.sheet_gigabytes(row.bytes_source),
            row.warnings,
            row.agent_version,
            row.platform,
            formats.sheet_moment(row.last_seen_at),
            formats.sheet_moment(row.created_at),
            row.last_error,
        ]
        for row in machines_of(contract_id)
    ]
    return csv_response(f"{contract_id}.csv", [str(column) for column in _MACHINE_COLUMNS], lines)
