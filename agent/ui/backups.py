"""The tab Sauvegarde: where this machine stands, what is backed up, when; and the button that begins one now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext

from agent import receiving, stale
from agent.knocking import service_runs
from agent.selection import Selection
from agent.settings import Settings
from agent.state import LastRun, read_state
from agent.system import network, power
from agent.ui import disk_tree, formats
from agent.ui.disk_tree import Listed
from agent.ui.failures import explained, explained_error
from agent.ui.gate import is_fragment
from agent.ui.machine import Machine, this
from agent.under_way import UnderWay
from transport.errors import UsageError
from transport.schedule import DAYS, Schedule

blueprint = Blueprint("backups", __name__)

OPEN_LIMIT: Final = 300
"""Folders that one page shows opened."""
LATE_S: Final = 3 * 86400.0
"""A last backup that is older makes the page say so."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the machine stands: a verdict with its colour and icon, and a sentence."""

    kind: str
    icon: str
    verdict: str
    sentence: str


def standing(machine: Machine, settings: Settings, run: LastRun, under_way: UnderWay | None) -> Standing:
    """What a pharmacist wants to know first."""
    if under_way is not None and under_way.what == "backup":
        return Standing("busy", "arrow-repeat", _("Sauvegarde en cours"), _("Vous pouvez continuer à travailler."))
    if not settings.has_source:
        return Standing(
            *("warn", "exclamation-triangle-fill", _("Rien n’est sauvegardé")),
            _("Cochez ci-dessous les dossiers à sauvegarder."),
        )
    last = _("Dernière sauvegarde réussie : %(when)s.", when=formats.plainly(run.at_ms / 1000)) if run.at_ms else ""
    if run.error:
        return Standing(
            *("bad", "x-octagon-fill", _("La dernière sauvegarde a échoué")),
            f"{explained(run.error_code)} {last}".strip(),
        )
    if not run.snapshot:
        return Standing(
            *("warn", "hourglass-split", _("Pas encore de sauvegarde")),
            _("La première commencera à l’heure prévue, ou dès maintenant si vous le demandez."),
        )
    if machine.now() - run.at_ms / 1000 > LATE_S:
        return Standing("warn", "exclamation-triangle-fill", _("La dernière sauvegarde est ancienne"), last)
    if run.warnings:
        told = ngettext(
            "%(num)d fichier n’a pas pu être sauvegardé : voyez le journal.",
            "%(num)d fichiers n’ont pas pu être sauvegardés : voyez le journal.",
            run.warnings,
        )
        return Standing("warn", "exclamation-triangle-fill", _("Sauvegardé, sauf quelques fichiers"), f"{last} {told}")
    return Standing("well", "check-circle-fill", _("Tout est sauvegardé"), last)


def following(machine: Machine, settings: Settings) -> str:
    """When the next one begins, in a sentence."""
    at = machine.next_run(settings)
    if at is not None:
        if at <= machine.now():
            return _held_up(settings)
        return str(_("Prochaine sauvegarde : %(when)s.", when=formats.plainly(at)))
    if not settings.has_source:
        return ""
    if not settings.schedule.minutes and not settings.schedule.continuous:
        return str(_("Aucune heure n’est fixée : aucune sauvegarde ne commence d’elle-même."))
    if not service_runs(machine.home):
        return str(_("Le service ne tourne pas sur ce poste : aucune sauvegarde ne commence d’elle-même."))
    return str(_("La prochaine sauvegarde suit la prochaine modification.")) if settings.schedule.continuous else ""


def _held_up(settings: Settings) -> str:
    """Why a backup that is due has not begun."""
    if settings.limits.on_battery == "wait" and power.on_battery():
        return str(_("Une sauvegarde attend que ce poste soit branché sur le secteur."))
    if settings.limits.on_metered == "wait" and network.metered():
        return str(_("Une sauvegarde attend un réseau qui n’est pas facturé au volume."))
    return str(_("Une sauvegarde est due : elle commence dès que possible."))


def _status() -> dict[str, Any]:
    machine = this()
    settings = machine.settings()
    under_way = machine.under_way()
    busy = under_way is not None or machine.starts()
    state = read_state(machine.home)
    shown = standing(machine, settings, state, under_way)
    if under_way is None and busy:
        shown = Standing("busy", "arrow-repeat", _("Sauvegarde en cours"), _("Elle commence…"))
    return {
        "standing": shown,
        "following": following(machine, settings),
        "under_way": under_way,
        "busy": busy,
        "now": machine.now(),
        "selected": settings.has_source,
        "waiting": len(receiving.waiting(machine.home)),
    }


@dataclass(frozen=True, slots=True)
class Branch:
    """A folder of the tree as a page shows it: what it holds, and those of its folders that are open."""

    path: bytes
    pages: int
    listed: Listed
    open: dict[bytes, Branch]

    @property
    def token(self) -> str:
        """Its path for addresses."""
        return disk_tree.token_of(self.path)


class Grower:
    """Makes trees of the disk for one request: the selection and what is stale are read once."""

    def __init__(self, machine: Machine, settings: Settings) -> None:
        self._selection = settings.selection
        self._home = bytes(machine.home.path)
        self._stale = disk_tree.aged(stale.load(machine.home))

    def grown(self, opened: dict[bytes, int], at: bytes = disk_tree.ROOT) -> Branch:
        """The tree from a folder down, with the folders of `opened` (and so many pages of each) open."""
        pages = opened.get(at, 1)
        listed = disk_tree.listed(at, self._selection, home=self._home, pages=pages, stale=self._stale)
        below = {
            row.path: self.grown(opened, row.path)
            for row in listed.rows
            if row.kind == "folder" and row.path in opened
        }
        return Branch(at, pages, listed, below)


def _opened() -> dict[bytes, int]:
    """The folders that the page shows open, `token:pages` each."""
    found: dict[bytes, int] = {}
    for word in request.values.getlist("open")[:OPEN_LIMIT]:
        token, _colon, pages = word.partition(":")
        try:
            found[disk_tree.path_of(token)] = max(1, min(int(pages or 1), 1000))
        except ValueError:
            continue
    return found


def _tree(machine: Machine, settings: Settings, opened: dict[bytes, int]) -> Branch:
    return Grower(machine, settings).grown({disk_tree.ROOT: 1, **opened})


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The tab."""
    machine = this()
    settings = machine.settings()
    opened = _opened()
    if not opened:
        opened = dict.fromkeys(disk_tree.way_to(settings.selection.include), 1)
    if request.args.get("at"):
        opened |= dict.fromkeys(disk_tree.way_to([disk_tree.path_of(request.args["at"]) + b"/-"]), 1)
    return render_template(
        "backups/index.html",
        **_status(),
        branch=_tree(machine, settings, opened),
        opened=opened,
        **_chosen(machine, settings),
        **_schedule(settings.schedule),
    )


def _chosen(machine: Machine, settings: Settings) -> dict[str, Any]:
    return {
        "counted": machine.counter.ask(settings),
        "include": [(disk_tree.shown_name(rule), disk_tree.token_of(rule)) for rule in settings.selection.include],
        "exclude": [(disk_tree.shown_name(rule), disk_tree.token_of(rule)) for rule in settings.selection.exclude],
        "from_afar": bool(settings.remote.selection_version),
    }


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return {"times": schedule.times, "weekdays": schedule.weekdays, "continuous": schedule.continuous}


@blueprint.get("/status")
def status() -> ResponseReturnValue:
    """The part that says where the machine stands."""
    return render_template("backups/status.html", **_status())


@blueprint.get("/selection")
def chosen() -> ResponseReturnValue:
    """The part that says what is chosen and what it comes to."""
    machine = this()
    return render_template("backups/chosen.html", **_chosen(machine, machine.settings()))


@blueprint.get("/branch")
def branch() -> ResponseReturnValue:
    """A folder that is being opened, or more of one."""
    machine = this()
    try:
        path = disk_tree.path_of(request.args.get("at", ""))
    except (ValueError, UsageError):
        return "", 404
    pages = max(1, min(request.args.get("pages", 1, type=int), 1000))
    tree = Grower(machine, machine.settings()).grown({**_opened(), path: pages}, path)
    return render_template("backups/branch.html", branch=tree)


@blueprint.post("/selection")
def press() -> ResponseReturnValue:
    """A tick or a cross was pressed, or a rule taken out of the list."""
    machine = this()
    settings = machine.settings()
    try:
        selection = _pressed(settings.selection)
    except UsageError as error:
        flash(explained_error(error), "warning")
        selection = settings.selection
    if selection != settings.selection:
        settings = machine.choose(selection=selection)
    opened = _opened()
    if is_fragment():
        return render_template("backups/branch.html", branch=_tree(machine, settings, opened))
    where = request.form.get("tick") or request.form.get("cross") or None
    anchor = f"row-{where}" if where else None
    kept = [f"{disk_tree.token_of(path)}:{pages}" for path, pages in opened.items()]
    return redirect(url_for(".index", open=kept, _anchor=anchor), 303)


def _pressed(selection: Selection) -> Selection:
    try:
        if token := request.form.get("tick"):
            return disk_tree.tick(selection, disk_tree.path_of(token))
        if token := request.form.get("cross"):
            return disk_tree.cross(selection, disk_tree.path_of(token))
        if token := request.form.get("drop_include"):
            return selection.without(disk_tree.path_of(token))
        if token := request.form.get("drop_exclude"):
            kept = (rule for rule in selection.exclude if disk_tree.token_of(rule) != token)
            return Selection.of(selection.include, kept)
        if pattern := request.form.get("pattern", "").strip():
            return selection.excluding(pattern.encode())
    except ValueError:
        pass
    return selection


@blueprint.post("/backup")
def start() -> ResponseReturnValue:
    """Back up now."""
    machine = this()
    if not machine.settings().has_source:
        flash(explained("empty-selection"), "warning")
        return redirect(url_for(".index"), 303)
    try:
        if not machine.back_up():
            flash(explained("busy"), "warning")
    except OSError:
        flash(_("La sauvegarde n’a pas pu être lancée."), "danger")
    return redirect(url_for(".index"), 303)


@blueprint.post("/schedule")
def schedule() -> ResponseReturnValue:
    """Other times, or other days."""
    machine = this()
    times = [time for time in request.form.getlist("time") if time.strip()]
    days = [day for day in request.form.getlist("day") if day in DAYS]
    try:
        follows = "continuous" in request.form
        chosen_now = Schedule.of(times, days, continuous=follows) if times else Schedule(continuous=follows)
    except UsageError:
        flash(
            _("Choisissez au moins un jour.") if times and not days else _("Une heure s’écrit comme 12:30."), "danger"
        )
        return redirect(url_for(".index", _anchor="schedule"), 303)
    settings = machine.choose(schedule=chosen_now)
    flash(_("Horaires enregistrés. %(next)s", next=following(machine, settings)), "success")
    return redirect(url_for(".index", _anchor="schedule"), 303)
