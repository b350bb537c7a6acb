"""Part of the tab Réglages: how much of the line backups take, at which hours, and what scheduled ones wait for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import msgspec
from flask import Blueprint, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from agent.knocking import knock
from agent.limits import RATE_LEAST, Limits, Window
from agent.settings import change_settings
from agent.ui import formats
from agent.ui.machine import this
from transport.errors import UsageError
from transport.schedule import EVERY_DAY, minute_of, time_of

blueprint = Blueprint("limits_page", __name__, url_prefix="/settings")

DAYS: Final = {
    "all": (EVERY_DAY, _l("tous les jours")),
    "week": (tuple(range(5)), _l("du lundi au vendredi")),
    "open": (tuple(range(6)), _l("du lundi au samedi")),
    "end": ((5, 6), _l("samedi et dimanche")),
}
_MOST_MBIT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Line:
    """A window in the reader's words, and its place in the list."""

    place: int
    hours: str
    days: str
    rate: str


def shown_rate(bytes_per_s: int) -> str:
    """2,5 Mbit/s."""
    return f"{formats.number(bytes_per_s * 8 / 1e6)}\N{NO-BREAK SPACE}Mbit/s"


def lines(limits: Limits) -> list[Line]:
    """All windows."""
    return [
        Line(
            place,
            _("toute la journée")
            if one.start == one.end
            else _("de %(start)s à %(end)s", start=time_of(one.start), end=time_of(one.end)),
            _days_text(one.weekdays),
            shown_rate(one.bytes_per_s),
        )
        for place, one in enumerate(limits.windows)
    ]


def _days_text(weekdays: tuple[int, ...]) -> str:
    for days, name in DAYS.values():
        if days == weekdays:
            return str(name)
    return ", ".join(formats.weekday(day) for day in weekdays)


def _typed_window() -> Window:
    """The window of the form; UsageError or ValueError where it makes no sense."""
    start, end = (minute_of(request.form.get(name, "")) for name in ("start", "end"))
    days, _name = DAYS[request.form.get("days", "all")]
    mbit = float(request.form.get("rate", "").strip().replace(",", "."))
    if not RATE_LEAST * 8 / 1e6 <= mbit <= _MOST_MBIT:
        raise ValueError("out of range")
    return Window(start, end, days, max(RATE_LEAST, round(mbit * 1e6 / 8)))


def _change(change: Limits) -> None:
    change_settings(this().home, lambda settings: dataclasses.replace(settings, limits=change))
    knock(this().home)


@blueprint.post("/limits")
def windows() -> ResponseReturnValue:
    """Hours with a rate: one more, or one taken away."""
    limits = this().settings().limits
    try:
        if "drop" in request.form:
            place = request.form.get("drop", -1, type=int)
            kept = tuple(one for at, one in enumerate(limits.windows) if at != place)
            _change(msgspec.structs.replace(limits, windows=kept))
            flash(_("Limite retirée."), "success")
        else:
            _change(limits.with_window(_typed_window()))
            flash(_("Limite enregistrée ; elle vaut aussi pour une sauvegarde en cours."), "success")
    except (UsageError, ValueError, KeyError):
        flash(
            _("Donnez deux heures comme 08:30, et un débit d’au moins %(rate)s.", rate=shown_rate(RATE_LEAST)),
            "danger",
        )
    return redirect(url_for("settings_page.index", _anchor="limits"), 303)


@blueprint.post("/waiting")
def waiting() -> ResponseReturnValue:
    """What scheduled backups wait for, and whether restores keep to the rates."""
    limits = this().settings().limits
    _change(
        msgspec.structs.replace(
            limits,
            on_battery="wait" if request.form.get("battery") else "run",
            on_metered="wait" if request.form.get("metered") else "run",
            restores=bool(request.form.get("restores")),
        )
    )
    flash(_("Réglage enregistré."), "success")
    return redirect(url_for("settings_page.index", _anchor="limits"), 303)
