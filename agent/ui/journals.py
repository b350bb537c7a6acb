"""The tab Journal: what ran on this machine and how it ended, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext

from agent import diary
from agent.client import one_line
from agent.diary import Entry
from agent.ui import formats
from agent.ui.failures import explained
from agent.ui.machine import this
from agent.ui.reasons import in_words

blueprint = Blueprint("journals", __name__, url_prefix="/journal")

SHOWN: Final = 100
LEVELS: Final = {
    "": _l("Tout"),
    "warning": _l("Avertissements et échecs"),
    "error": _l("Échecs seulement"),
}
_WEIGHTS: Final = {"": 0, "info": 0, "warning": 1, "error": 2}
_TITLES: Final = {
    "backup-done": _l("Sauvegarde réussie"),
    "backup-failed": _l("Sauvegarde échouée"),
    "restore-done": _l("Restauration terminée"),
    "restore-failed": _l("Restauration interrompue"),
}
_PARTLY: Final = {
    "backup-done": _l("Sauvegarde faite, sauf quelques fichiers"),
    "restore-done": _l("Restauration faite, sauf quelques fichiers"),
}
_CAUSES: Final = {
    "manual": _l("demandée ici"),
    "scheduled": _l("à l’heure prévue"),
    "missed": _l("rattrapage"),
    "asked": _l("demandée à distance"),
    diary.CONTINUOUS: _l("après un changement"),
}
_LOOKS: Final = {
    "info": ("ok", "check-circle-fill"),
    "warning": ("warn", "exclamation-triangle-fill"),
    "error": ("bad", "x-octagon-fill"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """An entry in the reader's words."""

    at: float
    kind: str
    icon: str
    title: str
    cause: str
    sentence: str
    named: list[tuple[str, str]]
    more: int
    detail: str


def line(entry: Entry) -> Line:
    """The words for an entry."""
    kind, icon = _LOOKS[entry.level]
    titles = _PARTLY if entry.level == "warning" and entry.event in _PARTLY else _TITLES
    named = [(one_line(one.path), in_words(one.reason)) for one in entry.named]
    return Line(
        entry.at_ms / 1000,
        kind,
        icon,
        str(titles[entry.event]),
        str(_CAUSES.get(entry.started_by, "")),
        _sentence(entry),
        named,
        max(0, entry.problems - len(named)),
        one_line(entry.reason),
    )


def _sentence(entry: Entry) -> str:
    files = ngettext("%(count)s fichier", "%(count)s fichiers", entry.files, count=formats.count(entry.files))
    took = formats.duration(entry.seconds)
    if entry.times > 1:
        return str(
            _(
                "%(times)s sauvegardes depuis %(since)s ; %(files)s, %(size)s ; %(sent)s envoyés",
                times=formats.count(entry.times),
                since=formats.clock(entry.since_ms / 1000),
                files=files,
                size=formats.size(entry.bytes),
                sent=formats.size(entry.bytes_sent),
            )
        )
    if entry.event == "backup-done":
        size, sent = formats.size(entry.bytes), formats.size(entry.bytes_sent)
        sentence = _("%(files)s, %(size)s ; %(sent)s envoyés en %(time)s", files=files, size=size, sent=sent, time=took)
        return str(sentence)
    if entry.event == "restore-done":
        where = one_line(entry.target) or _("leur place d’origine")
        return str(_("%(files)s, %(size)s, vers %(where)s", files=files, size=formats.size(entry.bytes), where=where))
    return explained(entry.code)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The tab."""
    level = request.args.get("level", "")
    least = _WEIGHTS.get(level, 0)
    kept = [entry for entry in diary.entries(this().home) if _WEIGHTS[entry.level] >= least]
    lines = [line(entry) for entry in kept[:SHOWN]]
    days: list[tuple[Any, list[Line]]] = []
    for one in lines:
        day = formats.local(one.at).date()
        if not days or days[-1][0] != day:
            days.append((day, []))
        days[-1][1].append(one)
    return render_template("journals/index.html", days=days, level=level, levels=LEVELS, total=len(kept), shown=SHOWN)
