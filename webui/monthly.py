"""What a month is invoiced from: each contract's source volume, machines, peak and dates, by space, as page and CSV.

Months are those of UTC, as `reports.monthly` counts them. The month that is shown first is the last one that is over.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l

from appliance.control import reports
from appliance.control.reports import MonthlyRow
from webui import context, formats, states
from webui.contracts import choosable_spaces
from webui.gate import MANAGERS, allow
from webui.tables import Cell, csv_response

blueprint = Blueprint("monthly", __name__)

MONTHS: Final = 24
"""How far back the list of months goes."""


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month."""

    year: int
    month: int

    @property
    def text(self) -> str:
        """2026-10, as addresses spell it."""
        return f"{self.year}-{self.month:02}"

    @property
    def name(self) -> str:
        """octobre 2026."""
        return formats.month_name(self.year, self.month)

    def before(self) -> Month:
        """The one before."""
        return Month(self.year - 1, 12) if self.month == 1 else Month(self.year, self.month - 1)


@dataclass(frozen=True, slots=True)
class SpaceSum:
    """The rows of one space and what they come to. `peak_bytes` adds the contracts' peaks, whatever their days."""

    space_id: str
    name: str
    rows: list[MonthlyRow]

    @property
    def machines(self) -> int:
        """All machines."""
        return sum(row.machines for row in self.rows)

    @property
    def source_bytes(self) -> int:
        """At the month's end."""
        return sum(row.source_bytes for row in self.rows)

    @property
    def peak_bytes(self) -> int:
        """Of the contracts' peaks."""
        return sum(row.peak_bytes for row in self.rows)

    @property
    def allocated_bytes(self) -> int:
        """Of all contracts."""
        return sum(row.allocated_bytes for row in self.rows)

    @property
    def backups(self) -> int:
        """Of the month."""
        return sum(row.backups for row in self.rows)


def present(now: float) -> Month:
    """The month under way. Pure."""
    today = datetime.fromtimestamp(now, UTC)
    return Month(today.year, today.month)


def utc_day(at: float | None) -> date | None:
    """The day of a moment as months are counted: a backup of the last night must not read as the next month's. Pure."""
    return None if at is None else datetime.fromtimestamp(at, UTC).date()


def listed(now: float) -> list[Month]:
    """The months to choose from, the newest first. Pure."""
    months = [present(now)]
    while len(months) < MONTHS:
        months.append(months[-1].before())
    return months


def _wanted() -> Month:
    """The month of the address; else the last that is over."""
    try:
        day = date.fromisoformat(request.args.get("month", "") + "-01")
    except ValueError:
        return present(context.now()).before()
    return Month(day.year, day.month)


def _rows(month: Month) -> list[MonthlyRow]:
    space_id = request.args.get("space") or None
    return reports.monthly(context.db(), context.scope(), month.year, month.month, space_id)


@blueprint.get("/contracts/monthly")
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """The month by space."""
    month = _wanted()
    rows = _rows(month)
    sums = [
        SpaceSum(group[0].space_id, group[0].space_name, group)
        for group in (list(found) for _, found in itertools.groupby(rows, lambda row: row.space_id))
    ]
    return render_template(
        "monthly/index.html",
        month=month,
        months=listed(context.now()),
        is_over=(month.year, month.month) < (present(context.now()).year, present(context.now()).month),
        sums=sums,
        # A super-user's view of all: what each space comes to, and its contracts on its own page.
        is_overview=len(sums) > 1,
        spaces=choosable_spaces(),
        chosen_space=request.args.get("space", ""),
        utc_day=utc_day,
    )


_COLUMNS: Final = (
    *(_l("Mois"), _l("Espace"), _l("Contrat"), _l("Client"), _l("E-mail"), _l("État")),
    *(_l("Volume source (octets)"), _l("Volume source (Go)"), _l("Pic (octets)"), _l("Pic (Go)"), _l("Jour du pic")),
    *(_l("Alloué (Go)"), _l("Machines"), _l("Sauvegardes"), _l("Première sauvegarde"), _l("Dernière sauvegarde")),
    *(_l("Début"), _l("Fin")),
)


@blueprint.get("/contracts/monthly.csv")
@allow(MANAGERS)
def export() -> Response:
    """The month for a spreadsheet or an invoicing program."""
    month = _wanted()
    lines: list[list[Cell]] = [
        [
            month.text,
            row.space_name,
            row.contract_id,
            row.client_id,
            row.email,
            str(states.CONTRACTS[row.state].label),
            row.source_bytes,
            formats.sheet_gigabytes(row.source_bytes),
            row.peak_bytes,
            formats.sheet_gigabytes(row.peak_bytes),
            row.peak_date.isoformat() if row.peak_date else "",
            formats.sheet_gigabytes(row.allocated_bytes),
            row.machines,
            row.backups,
            str(utc_day(row.first_backup) or ""),
            str(utc_day(row.last_backup) or ""),
            row.start_date.isoformat(),
            row.end_date.isoformat() if row.end_date else "",
        ]
        for row in _rows(month)
    ]
    return csv_response(f"pilulier-{month.text}.csv", [str(column) for column in _COLUMNS], lines)
