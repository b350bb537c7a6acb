"""Contracts as cards: what each uses of what it was allocated, its machines and dates; searched, sorted, in pages.

"Used" is the source volume of latest complete snapshots. More than 100 % is normal and is shown as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final

from appliance.control.contracts import LATEST_COMPLETE, ContractState, Escrow, Notify
from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.errors import NotFoundError

PER_PAGE_LIMIT: Final = 500


class CardFilter(StrEnum):
    """Which contracts to show."""

    ACTIVE = "active"
    PAUSED = "paused"
    EXPIRED = "expired"
    DELETING = "deleting"
    OVER_QUOTA = "over-quota"


class CardSort(StrEnum):
    """By what to sort; ties go by client and id."""

    CLIENT = "client"
    USED = "used"
    RATIO = "ratio"
    MACHINES = "machines"
    CREATED = "created"
    END = "end"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Card:
    """One contract. `ratio` is used / allocated, None where nothing is allocated; `machines_used` are the active."""

    id: str
    space_id: str
    space_name: str
    client_id: str
    email: str
    state: ContractState
    allocated_bytes: int
    used_bytes: int
    machines_used: int
    machines_total: int
    machines_allowed: int
    created_at: float
    start_date: date
    end_date: date | None
    last_at: float | None
    delete_due_at: float | None
    notify: Notify
    late_hours: int | None
    escrow: Escrow

    @property
    def ratio(self) -> float | None:
        """Used of allocated; over 1 where over quota."""
        return self.used_bytes / self.allocated_bytes if self.allocated_bytes else None

    @property
    def over_quota(self) -> bool:
        """Whether more is used than allocated; nothing is refused for it."""
        return self.used_bytes > self.allocated_bytes


@dataclass(frozen=True, slots=True)
class ContractName:
    """What a contract is called where one is chosen among many."""

    id: str
    client_id: str
    email: str
    space_name: str


@dataclass(frozen=True, slots=True)
class CardPage:
    """One page of `pages`; `page` counts from 1, `total` counts cards."""

    cards: list[Card]
    total: int
    page: int
    pages: int


_STATE: Final = (
    "CASE WHEN contract.delete_requested_at IS NOT NULL THEN 'deleting' WHEN contract.state = 'paused' THEN 'paused' "
    "WHEN contract.end_date IS NOT NULL AND contract.end_date < ? THEN 'expired' ELSE 'active' END"
)
"""SQL for Contract.state; its parameter is today in UTC."""
_QUERY: Final = f"""
WITH held AS (
    SELECT machine.contract_id AS contract_id, sum(machine.state = 'active') AS active, count(*) AS present,
        total(latest.bytes_source) AS used, max(latest.received_at) AS last_at
    FROM machine LEFT JOIN snapshot_statistics AS latest
    ON latest.machine_id = machine.id AND latest.number = {LATEST_COMPLETE}
    GROUP BY machine.contract_id
), card AS (
    SELECT contract.id, contract.space_id, space.name AS space_name, contract.client_id, contract.email,
        {_STATE} AS state, contract.allocated_bytes, CAST(coalesce(held.used, 0) AS INTEGER) AS used_bytes,
        coalesce(held.active, 0) AS machines_used, coalesce(held.present, 0) AS machines_total,
        contract.machine_quota AS machines_allowed, contract.created_at, contract.start_date, contract.end_date,
        held.last_at, deletion.due_at AS delete_due_at, contract.notify, contract.late_hours, contract.escrow
    FROM contract JOIN space ON space.id = contract.space_id
    LEFT JOIN held ON held.contract_id = contract.id
    LEFT JOIN deletion ON deletion.kind = 'contract' AND deletion.object_id = contract.id
        AND deletion.outcome = 'waiting'
    WHERE {{scope}}
)
SELECT *, count(*) OVER () AS total FROM card
"""
_FOUND: Final = "instr(lower(client_id || ' ' || email || ' ' || id), lower(?)) > 0"
_ORDER: Final = {
    CardSort.CLIENT: "client_id",
    CardSort.USED: "used_bytes",
    # Nothing allocated counts as infinitely over as soon as something is used.
    CardSort.RATIO: "CASE WHEN allocated_bytes > 0 THEN 1.0 * used_bytes / allocated_bytes ELSE 1e9 * used_bytes END",
    CardSort.MACHINES: "machines_total",
    CardSort.CREATED: "created_at",
    CardSort.END: "coalesce(end_date, '9999')",
    CardSort.LAST: "coalesce(last_at, 0)",
}


def _today(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def _card(row: dict[str, Any]) -> Card:
    row.pop("total")
    return Card(
        **{
            **row,
            "state": ContractState(row["state"]),
            "start_date": date.fromisoformat(row["start_date"]),
            "end_date": date.fromisoformat(row["end_date"]) if row["end_date"] else None,
            "notify": Notify(row["notify"]),
            "escrow": Escrow(row["escrow"]),
        }
    )


def search(
    db: Database,
    scope: Scope,
    now: float,
    *,
    text: str = "",
    state: CardFilter | str | None = None,
    space_id: str | None = None,
    sort: CardSort | str = CardSort.CLIENT,
    descending: bool = False,
    page: int = 1,
    per_page: int = 24,
) -> CardPage:
    """A page of the contracts in a scope; `text` is looked for in client, e-mail and id. A page too far is the last.

    ValueError for a filter or an order that is none.
    """
    per_page = max(1, min(per_page, PER_PAGE_LIMIT))
    where = condition(scope)
    sql, parameters = [], [_today(now), *where.parameters]
    if text.strip():
        sql.append(_FOUND)
        parameters.append(text.strip())
    if space_id is not None:
        sql.append("space_id = ?")
        parameters.append(space_id)
    if state is not None:
        chosen = CardFilter(state)
        sql.append("used_bytes > allocated_bytes" if chosen is CardFilter.OVER_QUOTA else f"state = '{chosen}'")
    filtered = _QUERY.format(scope=where.sql) + (f" WHERE {' AND '.join(sql)}" if sql else "")
    direction = "DESC" if descending else "ASC"
    ordered = f"{filtered} ORDER BY {_ORDER[CardSort(sort)]} {direction}, client_id, id LIMIT ? OFFSET ?"
    page = max(1, page)
    rows = db.rows(ordered, [*parameters, per_page, (page - 1) * per_page])
    if not rows and page > 1:
        total = db.value(f"SELECT count(*) AS n FROM ({filtered})", parameters)
        page = max(1, -(-total // per_page))
        rows = db.rows(ordered, [*parameters, per_page, (page - 1) * per_page])
    total = rows[0]["total"] if rows else 0
    return CardPage([_card(row) for row in rows], total, page, max(1, -(-total // per_page)))


def after(
    db: Database,
    scope: Scope,
    now: float,
    *,
    after: str,
    limit: int,
    text: str = "",
    state: ContractState | None = None,
) -> list[Card]:
    """The contracts in a scope whose id follows `after`, in the order of their ids: for lists read in pages."""
    where = condition(scope)
    sql, parameters = ["id > ?"], [_today(now), *where.parameters, after]
    if text.strip():
        sql.append(_FOUND)
        parameters.append(text.strip())
    if state is not None:
        sql.append("state = ?")
        parameters.append(str(state))
    rows = db.rows(
        f"{_QUERY.format(scope=where.sql)} WHERE {' AND '.join(sql)} ORDER BY id LIMIT ?",
        [*parameters, max(1, min(limit, PER_PAGE_LIMIT))],
    )
    return [_card(row) for row in rows]


def one(db: Database, scope: Scope, contract_id: str, now: float) -> Card:
    """A contract's card; NotFoundError where it is none or lies outside of the scope."""
    where = condition(scope)
    row = db.row(
        f"{_QUERY.format(scope=where.sql + ' AND contract.id = ?')}", [_today(now), *where.parameters, contract_id]
    )
    if row is None:
        raise NotFoundError(f"there is no contract {contract_id!r} here")
    return _card(row)


def names(db: Database, scope: Scope) -> list[ContractName]:
    """The names of all contracts in a scope, by client: light enough for a form that offers thousands."""
    where = condition(scope)
    rows = db.rows(
        "SELECT contract.id, contract.client_id, contract.email, space.name AS space_name FROM contract "
        f"JOIN space ON space.id = contract.space_id WHERE {where.sql} ORDER BY contract.client_id, contract.id",
        where.parameters,
    )
    return [ContractName(**row) for row in rows]
