"""What a page of figures looks at: a period of days, and one space, contract or machine, out of its address.

Owns the words of such addresses: `days`, `from`, `to`, `space`, `contract`, `machine`. Rules: ids are looked up in the
reader's scope, so that another tenant's is not found; a period that makes no sense is said and the usual one taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from flask import request
from flask_babel import gettext as _

from appliance.control import contracts, machines, spaces
from appliance.control.contracts import Contract
from appliance.control.machines import Machine
from appliance.control.reports import Window
from appliance.control.scope import Everything, OneContract
from appliance.control.spaces import Space
from webui import context, formats
from webui.machines import of_address

DAYS: Final = (7, 30, 90)
USUAL_DAYS: Final = 30
LONGEST_DAYS: Final = 3660


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the reader chose, and what there is to choose. `days` is None where two dates were given.

    `problem` says what was wrong with the dates. `spaces` is empty where there is nothing to choose between.
    """

    window: Window
    first: date
    last: date
    days: int | None
    problem: str
    contract: Contract | None
    machine: Machine | None
    spaces: list[Space]
    contracts: list[Contract]
    machines: list[Machine]

    @property
    def usual(self) -> tuple[int, ...]:
        """Numbers of days to choose from."""
        return DAYS

    @property
    def query(self) -> dict[str, object]:
        """The words that lead another page to the same choice."""
        period: dict[str, object] = (
            {"from": self.first.isoformat(), "to": self.last.isoformat()} if self.days is None else {"days": self.days}
        )
        return period | {
            name: value
            for name, value in (
                ("space", self.window.space_id),
                ("contract", self.window.contract_id),
                ("machine", self.machine.hex if self.machine else None),
            )
            if value
        }


def _date(name: str) -> date | None:
    text = request.args.get(name, "").strip()
    return date.fromisoformat(text) if text else None


def _period(today: date) -> tuple[date, date, int | None, str]:
    """First and last day, the number of days if that was chosen, what was wrong."""
    problem = ""
    days = request.args.get("days", type=int)
    # A form sends all its fields: a number of days that was just chosen counts more than dates that stood there.
    if days in DAYS and days != request.args.get("was", type=int):
        return today - timedelta(days=days - 1), today, days, ""
    try:
        first, last = _date("from"), _date("to")
    except ValueError:
        first = last = None
        problem = _("Cette date n’en est pas une : choisissez-la dans le calendrier.")
    if first or last:
        last = last or today
        first = first or max(last, date(1971, 1, 1)) - timedelta(days=USUAL_DAYS - 1)
        if first > last:
            problem = _("La période commence après sa fin : inversez les deux dates.")
        elif (last - first).days > LONGEST_DAYS or not 1970 < first.year <= last.year < 9999:
            problem = _("Cette période est trop longue : choisissez moins de dix ans.")
        else:
            return first, last, None, ""
    days = days if days in DAYS else USUAL_DAYS
    return today - timedelta(days=days - 1), today, days, problem


def _place(space: str) -> tuple[Contract | None, Machine | None]:
    """The contract and machine that are named. What was chosen last counts: a machine of another contract is let go."""
    db, scope = context.db(), context.scope()
    named, wanted = request.args.get("machine", ""), request.args.get("contract")
    machine = of_address(named) if named else None
    if machine and wanted is not None and machine.contract_id != wanted:
        machine = None
    wanted = machine.contract_id if machine else wanted
    contract = contracts.find(db, scope, wanted) if wanted else None
    if contract and space and contract.space_id != space:
        return None, None
    return contract, machine


def chosen() -> Chosen:
    """What this request looks at; NotFoundError for what the reader may not see."""
    db, scope = context.db(), context.scope()
    first, last, days, problem = _period(formats.local_day(context.now()))
    choices = spaces.in_scope(db, scope) if isinstance(scope, Everything) else []
    space = request.args.get("space", "")
    if space not in {one.id for one in choices}:
        space = ""
    everyone = contracts.every(db, scope)
    everyone.sort(key=lambda contract: contract.client_id.lower())
    contract, machine = _place(space)
    if contract is None and isinstance(scope, OneContract):
        contract = everyone[0] if everyone else None
    below = [row.machine for row in machines.overviews(db, scope, contract.id)] if contract else []
    below.sort(key=lambda one: one.name.lower())
    window = Window(
        formats.day_begins(first),
        formats.day_begins(last + timedelta(days=1)),
        space or None,
        contract.id if contract else None,
        machine.id if machine else None,
    )
    return Chosen(
        window,
        first,
        last,
        days,
        problem,
        contract,
        machine,
        choices if len(choices) > 1 else [],
        [] if isinstance(scope, OneContract) else [one for one in everyone if not space or one.space_id == space],
        below,
    )
