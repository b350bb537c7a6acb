"""Accounts as lists show them: with the names of what they hang on, their last login, the recovery codes left.

Searched and cut into pages here, so that a space with thousands of customers costs one query a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from appliance.control import accounts, throttling
from appliance.control.accounts import Account, AccountState, Role
from appliance.control.database import Database
from appliance.control.scope import Scope, over
from appliance.errors import NotFoundError

PER_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as lists show it. `space_*` of a customer are its contract's; `last_login_at` of the web interface."""

    account: Account
    space_id: str | None
    space_name: str | None
    client_id: str | None
    recovery_codes_left: int
    last_login_at: float | None


@dataclass(frozen=True, slots=True)
class AccountPage:
    """One page of `pages`; `page` counts from 1, `total` counts accounts."""

    rows: list[AccountRow]
    total: int
    page: int
    pages: int


_FROM: Final = (
    "FROM account LEFT JOIN contract ON contract.id = account.contract_id "
    "LEFT JOIN space ON space.id = coalesce(account.space_id, contract.space_id)"
)
_SELECT: Final = (
    f"SELECT {accounts.COLUMNS}, space.id AS shown_space, space.name AS space_name, contract.client_id AS client_id, "
    "(SELECT count(*) FROM recovery_code WHERE recovery_code.account_id = account.id) AS codes, "
    "(SELECT max(at) FROM attempt WHERE attempt.email = account.email AND outcome = 'accepted' "
    f"AND purpose = '{throttling.LOGIN}') AS seen {_FROM}"
)


def _row(row: dict[str, Any]) -> AccountRow:
    return AccountRow(
        space_id=row.pop("shown_space"),
        space_name=row.pop("space_name"),
        client_id=row.pop("client_id"),
        recovery_codes_left=row.pop("codes"),
        last_login_at=row.pop("seen"),
        account=accounts.from_row(row),
    )


def search(
    db: Database,
    scope: Scope,
    *,
    text: str = "",
    role: Role | None = None,
    state: AccountState | None = None,
    page: int = 1,
    per_page: int = PER_PAGE,
) -> AccountPage:
    """The accounts in a scope, by address: of a space its admins and technicians and its contracts' customers.

    `text` is looked for in the address, the client and the space. A page too far is the last.
    """
    where = over(scope, space="coalesce(account.space_id, contract.space_id)", contract="account.contract_id")
    sql, parameters = [where.sql], [*where.parameters]
    if text.strip():
        sql.append(
            "instr(lower(account.email || ' ' || coalesce(contract.client_id, '') || ' ' || coalesce(space.name, '')), "
            "lower(?)) > 0"
        )
        parameters.append(text.strip())
    for column, chosen in (("account.role", role), ("account.state", state)):
        if chosen is not None:
            sql.append(f"{column} = ?")
            parameters.append(str(chosen))
    condition = " AND ".join(sql)
    total = int(db.value(f"SELECT count(*) AS n {_FROM} WHERE {condition}", parameters))
    pages = max(1, -(-total // per_page))
    page = min(max(1, page), pages)
    rows = db.rows(
        f"{_SELECT} WHERE {condition} ORDER BY account.email LIMIT ? OFFSET ?",
        [*parameters, per_page, (page - 1) * per_page],
    )
    return AccountPage([_row(row) for row in rows], total, page, pages)


def one(db: Database, scope: Scope, account_id: str) -> AccountRow:
    """The account of this id in a scope; NotFoundError otherwise."""
    where = over(scope, space="coalesce(account.space_id, contract.space_id)", contract="account.contract_id")
    row = db.row(f"{_SELECT} WHERE account.id = ? AND {where.sql}", [account_id, *where.parameters])
    if row is None:
        raise NotFoundError(f"there is no account {account_id!r} here")
    return _row(row)
