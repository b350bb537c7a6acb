"""Logs of machines: filtered, paged by cursor, followed live, exported.

Words of the address: `machine`, `contract`, `space` (read by `periods`), `level` (and everything worse), `since` and
`until` (day, or day and minute, where the reader is), `text`, and `before`, a cursor. A date that is none is said
beside its field and left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from flask import Blueprint, Response, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from appliance.control import contract_cards, control_room, log_search
from appliance.control.log_search import LogFilter
from appliance.control.machine_logs import LEVELS
from webui import attention, context, formats, periods
from webui.gate import EVERYONE, allow
from webui.periods import Chosen
from webui.tables import csv_stream

blueprint = Blueprint("logs", __name__)

PER_PAGE: Final = 200
EXPORTED: Final = 200_000
"""Lines of an export, newest first."""
NEWEST_HEADER: Final = "X-Pilulier-Newest"
"""Of a live tail's answer: the line after which the next one begins."""
_CURSOR_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the log as readers see it; `least` is the choice of it and all that is worse."""

    label: Any
    least: Any
    kind: str
    icon: str


LEVEL_LOOKS: Final = {
    "debug": Level(_l("Détail"), _l("Tout, avec les détails"), "none", "three-dots"),
    "info": Level(_l("Info"), _l("Informations et plus grave"), "none", "info-circle"),
    "warning": Level(_l("Avertissement"), _l("Avertissements et erreurs"), "warning", "exclamation-triangle-fill"),
    "error": Level(_l("Erreur"), _l("Erreurs seulement"), "failed", "x-octagon-fill"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the reader asks for. `problems` maps a field to what is wrong with it."""

    place: Chosen
    level: str
    text: str
    problems: dict[str, str]
    filter: LogFilter


def asked() -> Asked:
    """This request's choice; NotFoundError for a machine or contract out of the reader's scope."""
    place = periods.chosen()
    problems: dict[str, str] = {}
    since, until = _moment("since", problems), _moment("until", problems)
    if since is not None and until is not None and until <= since:
        problems["until"] = _("La fin précède le début : inversez les deux dates.")
        since = until = None
    level = request.args.get("level", "")
    level = level if level in LEVELS else ""
    text = request.args.get("text", "").strip()[:200]
    chosen = LogFilter(
        machine_id=place.machine.id if place.machine else None,
        contract_id=place.contract.id if place.contract and not place.machine else None,
        space_id=place.window.space_id,
        levels=frozenset(LEVELS[LEVELS.index(level) :]) if level and level != LEVELS[0] else frozenset(),
        text=text,
        since=since,
        until=until,
    )
    return Asked(place, level, text, problems, chosen)


def _moment(name: str, problems: dict[str, str]) -> float | None:
    """A field's moment, seconds since 1970; a day alone is all of it."""
    text = request.args.get(name, "").strip()
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None or not 1970 < at.year < 9998:
            raise ValueError(text)
    except ValueError:
        problems[name] = _("Cette date n’en est pas une : choisissez-la dans le calendrier.")
        return None
    if name == "until":
        # What was chosen is included: the whole day, or the whole minute.
        at += timedelta(days=1) if len(text) <= len("2026-11-25") else timedelta(minutes=1)
    return at.replace(tzinfo=formats.ZONE).timestamp()


def _cursor(name: str) -> int | None:
    word = request.args.get(name, "")
    return int(word) if word.isascii() and word.isdigit() and len(word) <= _CURSOR_DIGITS else None


@blueprint.get("/logs")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Lines, newest first."""
    what, before = asked(), _cursor("before")
    db, scope, now = context.db(), context.scope(), context.now()
    machine, contract = what.place.machine, what.place.contract
    row = control_room.find(db, scope, now, machine.id, attention.running_ids()) if machine else None
    return render_template(
        "logs/index.html",
        title=_("Logs"),
        asked=what,
        page=log_search.search(db, scope, what.filter, before=before, limit=PER_PAGE),
        before=before,
        row=row,
        card=contract_cards.one(db, scope, contract.id, now) if contract and not machine else None,
        LEVEL_LOOKS=LEVEL_LOOKS,
    )


@blueprint.get("/logs/tail")
@allow(EVERYONE)
def tail() -> ResponseReturnValue:
    """The lines that came after line `after`, newest first, as rows of the table; for the page's live tail."""
    what, after = asked(), _cursor("after") or 0
    # Asked for before the lines: what comes in between is found now or next time, never lost.
    newest = log_search.newest_line(context.db())
    lines = log_search.tail(context.db(), context.scope(), what.filter, after, PER_PAGE)
    if lines:
        newest = lines[-1].id if len(lines) == PER_PAGE else max(newest, lines[-1].id)
    answer: Response = make_response(
        render_template("logs/rows.html", lines=lines[::-1], asked=what, LEVEL_LOOKS=LEVEL_LOOKS)
    )
    answer.headers[NEWEST_HEADER] = str(max(newest, after))
    return answer


@blueprint.get("/logs.csv")
@allow(EVERYONE)
def export() -> ResponseReturnValue:
    """The same lines for a spreadsheet, at most `EXPORTED`."""
    what = asked()
    found = log_search.every(context.db(), context.scope(), what.filter, EXPORTED)
    columns = [_("Date"), _("Client"), _("Machine"), _("Niveau"), _("Module"), _("Message")]
    return csv_stream(
        "logs.csv",
        columns,
        (
            (
                formats.stamp(line.at),
                line.client_id,
                line.machine_name,
                str(LEVEL_LOOKS[line.level].label) if line.level in LEVEL_LOOKS else line.level,
                line.module,
                line.text,
            )
            for line in found
        ),
    )
