"""Part of the tab Réglages: copies on site, besides the appliance's: where, since when, and another one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from agent.onsite import keeping
from agent.onsite.configured import LONGEST_DAYS
from agent.onsite.writing import CopyState
from agent.ui import formats
from agent.ui.disk_tree import shown_name
from agent.ui.failures import explained_error
from agent.ui.machine import Machine, this
from transport.errors import PilulierError, UsageError

blueprint = Blueprint("copies", __name__, url_prefix="/settings/copies")

PATIENCE_S: Final = 1.5
"""For a medium to answer while a page waits: a NAS that hangs shows as absent."""
_STATES: Final = {
    CopyState.WRITTEN: ("ok", "check-circle-fill", _l("à jour à la dernière sauvegarde")),
    CopyState.ABSENT: ("warn", "plug", _l("absente à la dernière sauvegarde")),
    CopyState.BEHIND: ("warn", "hourglass-split", _l("en retard : elle se complète à chaque sauvegarde")),
    CopyState.FAILED: ("bad", "x-octagon-fill", _l("échec à la dernière sauvegarde")),
}
_NEVER: Final = ("warn", "hourglass-split", _l("pas encore écrite"))


@dataclass(frozen=True, slots=True)
class Shown:
    """A copy in the reader's words."""

    id: str
    name: str
    path: str
    here: bool
    kind: str
    icon: str
    state: str
    written: str
    room: str


def shown(machine: Machine) -> list[Shown]:
    """The configured copies as they stand."""
    result = []
    for one in keeping.list_copies(machine.home, patience_s=PATIENCE_S):
        state = one.standing.state
        kind, icon, words = _STATES[CopyState(state)] if state in set(CopyState) else _NEVER
        written = one.standing.written_ms
        result.append(
            Shown(
                one.place.id,
                shown_name(os.fsencode(one.place.name)),
                shown_name(os.fsencode(one.place.path)),
                one.folder is not None,
                kind,
                icon,
                str(words),
                formats.plainly(written / 1000) if written else "",
                formats.size(one.free_bytes) if one.free_bytes >= 0 else "",
            )
        )
    return result


@blueprint.get("/")
def listed() -> ResponseReturnValue:
    """The part that says how they stand: fetched apart, since a medium may take its time."""
    return render_template("settings_page/copies_part.html", copies=shown(this()), asked=True)


@blueprint.post("/add")
def add() -> ResponseReturnValue:
    """One more copy, or other settings of a known one."""
    machine = this()
    typed = request.form.get("path", "").strip()[:4096]
    wrong = _wrong_place(machine, typed)
    try:
        days = int(request.form.get("days") or 90)
        limit = float((request.form.get("limit") or "0").replace(",", ".").strip() or 0)
        if not 1 <= days <= LONGEST_DAYS or not 0 <= limit < 1e7:
            raise ValueError("out of range")
    except ValueError:
        wrong = wrong or _("Donnez des nombres : des jours, des gigaoctets.")
    if not wrong:
        try:
            place = keeping.add_copy(machine.home, Path(typed), keep_days=days, limit_bytes=round(limit * 1e9))
        except UsageError:
            wrong = _("Ce dossier ne peut pas recevoir de copie : vérifiez que le disque est branché et accessible.")
        except PilulierError as error:
            wrong = explained_error(error)
        else:
            flash(_("Copie « %(name)s » ajoutée : la prochaine sauvegarde l’écrit.", name=place.name), "success")
    if wrong:
        flash(wrong, "danger")
    return redirect(url_for("settings_page.index", _anchor="copies"), 303)


def _wrong_place(machine: Machine, typed: str) -> str:
    """What speaks against a folder before anything is asked of its disk."""
    if not os.path.isabs(typed) or "\0" in typed:
        return str(_("Donnez le chemin complet, depuis la racine."))
    real = os.path.realpath(os.fsencode(typed))
    own = os.fsencode(machine.home.path)
    if real == own or real.startswith(own + b"/"):
        return str(_("C’est le dossier de Pilulier lui-même : choisissez-en un sur un autre disque."))
    if machine.settings().selection.selects(real):
        return str(_("Ce dossier est lui-même sauvegardé : excluez-le d’abord, ou choisissez-en un autre."))
    return ""


@blueprint.post("/remove")
def remove() -> ResponseReturnValue:
    """Write one no more."""
    try:
        place = keeping.remove_copy(this().home, request.form.get("copy", "")[:64])
    except UsageError:
        pass  # somebody else removed it
    else:
        flash(_("La copie « %(name)s » n’est plus écrite ; ce qu’elle contient reste.", name=place.name), "info")
    return redirect(url_for("settings_page.index", _anchor="copies"), 303)


@blueprint.post("/alert")
def alert() -> ResponseReturnValue:
    """After how many days without a written copy somebody is told."""
    try:
        keeping.set_warn_days(this().home, request.form.get("days", 0, type=int))
    except UsageError:
        flash(_("Donnez un nombre de jours."), "danger")
    else:
        flash(_("Réglage enregistré."), "success")
    return redirect(url_for("settings_page.index", _anchor="copies"), 303)
