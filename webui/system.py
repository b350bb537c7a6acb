"""The box itself, for whoever runs it: disks, services, jobs, clock, versions; repositories by size; mails; checks.

What costs much is asked for: sizes of repositories are remembered for some minutes, checks run when a button says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext

from appliance import box, doctor, endpoints, escrow, job_kinds, jobs
from appliance.box import Disk, Process, Stored
from appliance.control import alarms, audit, clock, disk_readings, job_table, machines, outbox
from appliance.control.job_table import Job, Outcome
from appliance.control.machines import Overview
from appliance.control.outbox import MailState
from appliance.control.scope import EVERYTHING
from appliance.errors import NotFoundError
from appliance.escrow import KeyState
from appliance.job_running import JobKind
from appliance.schedules import Daily
from appliance.store.errors import StoreError
from appliance.store.repository import Repository
from transport.errors import PilulierError
from webui import context, mail_words
from webui.gate import OPERATORS, allow
from webui.machines import of_address
from webui.states import Look

blueprint = Blueprint("system", __name__)
STORED_S: Final = 600.0
"""For how long sizes of repositories are remembered."""
SHOWN: Final = 100
_MAILS: Final = 200

SERVICES: Final = {
    box.TRANSPORT: _l("Réception des sauvegardes"),
    box.JOBS: _l("Tâches de fond"),
    box.WEB: _l("Interface web"),
}
JOBS: Final = {
    "alerts": _l("Recherche des alertes"),
    "deletions": _l("Suppressions arrivées à terme"),
    "exports": _l("Exports de contrats"),
    "logs": _l("Effacement des anciens logs"),
    "outbox": _l("Envoi des e-mails"),
    "parcels": _l("Envois entre machines"),
    "prune": _l("Effacement des anciennes sauvegardes"),
    "quota": _l("Espaces au-delà de leur volume"),
    "safety": _l("Copie de sécurité de l’appliance"),
    "scrub": _l("Relecture des données stockées"),
    "sessions": _l("Fermeture des sessions échues"),
    "synthesis": _l("Synthèse quotidienne par e-mail"),
    "webhooks": _l("Appels des webhooks"),
}
OUTCOMES: Final = {
    Outcome.RUNNING: Look("busy", _l("En cours"), "arrow-repeat"),
    Outcome.DONE: Look("ok", _l("Réussie"), "check-circle-fill"),
    Outcome.WARNINGS: Look("warn", _l("Avertissements"), "exclamation-triangle-fill"),
    Outcome.FAILED: Look("bad", _l("Échec"), "x-octagon-fill"),
    Outcome.STOPPED: Look("idle", _l("Suspendue"), "pause-circle"),
    Outcome.INTERRUPTED: Look("warn", _l("Interrompue"), "slash-circle"),
}
MAIL_STATES: Final = {
    MailState.WAITING: Look("busy", _l("En attente"), "hourglass-split"),
    MailState.SENT: Look("ok", _l("Envoyé"), "check-circle-fill"),
    MailState.GIVEN_UP: Look("bad", _l("Abandonné"), "x-octagon-fill"),
}
CHECKS: Final = {
    "home": _l("Dossier de l’appliance"),
    "permissions": _l("Droits sur les dossiers"),
    "settings": _l("Réglages"),
    "keys": _l("Clés"),
    "sqlite": _l("Version de SQLite"),
    "disk space": _l("Place sur le disque"),
    "control database": _l("Base de données"),
    "clock": _l("Horloge"),
    "alarm": _l("Alarme"),
    "repositories": _l("Dépôts"),
    "ports": _l("Ports réseau"),
    "escrow key": _l("Clé de séquestre"),
    "jobs": _l("Tâches de fond"),
}


@dataclass(frozen=True, slots=True)
class EscrowRow:
    """What the page says of the escrow key."""

    badge: str
    word: Any
    icon: str
    detail: Any


_ESCROW: Final = {
    KeyState.HALF: EscrowRow(
        "bad",
        _l("Protection inachevée"),
        "exclamation-octagon-fill",
        _l("La clé est encore lisible sur le disque : relancez « pilulier escrow protect »."),
    ),
    KeyState.LOCKED: EscrowRow(
        "warn",
        _l("Verrouillée"),
        "lock",
        _l(
            "Les restaurations par le web attendent « pilulier escrow unlock », à chaque démarrage du service. Les "
            "sauvegardes et les enrôlements continuent."
        ),
    ),
    KeyState.UNLOCKED: EscrowRow(
        "ok", _l("Déverrouillée"), "unlock", _l("En mémoire du service seulement, jusqu’à son arrêt.")
    ),
    KeyState.CREDENTIAL: EscrowRow("ok", _l("Confiée à systemd"), "check-circle-fill", ""),
    KeyState.CLEAR: EscrowRow(
        "ok",
        _l("Sans phrase secrète"),
        "check-circle-fill",
        _l("Lisible par le seul compte du service. « pilulier escrow protect » la ferme par une phrase secrète."),
    ),
    KeyState.ELSEWHERE: EscrowRow(
        "warn", _l("Absente"), "exclamation-triangle-fill", _l("Aucune restauration par le web n’est possible.")
    ),
}
"""The first that holds for any key is what is said."""


@dataclass(frozen=True, slots=True)
class DiskRow:
    """A disk, and when it will be full: None where that is not in sight. `measured`: whether that can be told yet."""

    disk: Disk
    full_at: float | None
    measured: bool


@dataclass(frozen=True, slots=True)
class Service:
    """A part of the service; `process` is None where it cannot be seen from here."""

    name: Any
    runs: bool
    process: Process | None
    detail: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job with what the table knows of it, which is nothing before the service first ran."""

    kind: JobKind
    name: Any
    schedule: str
    job: Job | None


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """A repository on disk and whose it is."""

    stored: Stored
    overview: Overview


def _disks() -> list[DiskRow]:
    readings = disk_readings.since(context.db(), context.now() - disk_readings.FORECAST_S)
    enough = len(readings) > 1 and readings[-1].at - readings[0].at >= disk_readings.LEAST_S
    # Readings are those of the disk with the repositories, which comes first.
    return [
        DiskRow(disk, disk_readings.full_at(readings), enough) if place == 0 else DiskRow(disk, None, False)
        for place, disk in enumerate(box.disks(context.home()))
    ]


def _services() -> list[Service]:
    home = context.home()
    found = {process.name: process for process in box.processes(home)}
    addresses = endpoints.remembered(home)
    served = home.is_served()
    reached = served and box.is_reachable(addresses.transport)
    agents = _("à l’écoute sur %(address)s", address=str(addresses.transport)) if reached else ""
    if served and not reached:
        agents = _("ne répond pas sur %(address)s", address=str(addresses.transport))
    told = {
        box.TRANSPORT: (served, agents),
        box.JOBS: (box.JOBS in found, ""),
        # Who reads this page is served by it.
        box.WEB: (True, _("à l’écoute sur %(address)s", address=addresses.web.host_port) if served else ""),
    }
    return [Service(SERVICES[name], runs, found.get(name), detail) for name, (runs, detail) in told.items()]


def _schedule(kind: JobKind) -> str:
    schedule = kind.schedule
    if isinstance(schedule, Daily):
        return str(_("chaque jour à %(time)s", time=f"{schedule.hour:02d}:{schedule.minute:02d}"))
    minutes = round(schedule.seconds / 60)
    if minutes % 60 == 0:
        return str(ngettext("toutes les heures", "toutes les %(num)s heures", minutes // 60))
    return str(ngettext("chaque minute", "toutes les %(num)s minutes", minutes))


def _jobs() -> list[JobRow]:
    known = {job.name: job for job in job_table.every(context.db())}
    return [
        JobRow(kind, JOBS.get(kind.name, kind.name), _schedule(kind), known.get(kind.name))
        for kind in job_kinds.KINDS.values()
    ]


@blueprint.get("/system")
@allow(OPERATORS)
def index() -> ResponseReturnValue:
    """Disks, services, jobs, clock, versions."""
    reading = clock.read(context.now())
    return render_template(
        "system/overview.html",
        title=_("Super utilisateur"),
        here_tab="overview",
        disks=_disks(),
        services=_services(),
        jobs=_jobs(),
        outcomes=OUTCOMES,
        booted_at=reading.at - reading.counted if reading.boot else None,
        clock_alarms=[alarm for alarm in alarms.every(context.db()) if alarm.kind == alarms.CLOCK],
        versions=box.versions(),
        escrow=_escrow(),
    )


def _escrow() -> EscrowRow | None:
    """The state of the escrow key, as far as somebody must know; None before there is one, or where it is damaged."""
    try:
        states = {info.state for info in escrow.listed(context.home())}
    except PilulierError:
        return None
    for state, row in _ESCROW.items():
        if state in states:
            return row
    return None


@blueprint.post("/system/jobs/<name>/start")
@allow(OPERATORS)
def start(name: str) -> ResponseReturnValue:
    """Ask for a run of a job as soon as may be."""
    kind = job_kinds.find(name)
    db = context.db()
    with db.write():
        job_table.know(db, name, kind.schedule.first(context.now()))
        job_table.ask(db, name, by=context.me().email, now=context.now())
        _note("job.start", "job", name)
    # After the transaction: who is woken looks at the table at once.
    jobs.wake(context.home(), name)
    said = _("La tâche « %(name)s » est demandée : elle commence dès que possible.", name=JOBS.get(name, name))
    flash(said, "success")
    return redirect(url_for("system.index", _anchor="jobs"), 303)


def _note(kind: str, object_kind: str, object_id: str, object_name: str = "", **after: object) -> None:
    audit.write(
        context.db(),
        context.actor(),
        kind,
        now=context.now(),
        object_kind=object_kind,
        object_id=object_id,
        object_name=object_name,
        after=after or None,
    )


_remembered: dict[Path, tuple[float, list[Stored]]] = {}


def _stored(ids: list[bytes], *, fresh: bool) -> tuple[float, list[Stored]]:
    """What repositories take, and when that was looked at."""
    root, now = context.home().root, context.now()
    found = _remembered.get(root)
    if found is None or fresh or not found[0] <= now < found[0] + STORED_S:
        found = _remembered[root] = (now, box.stored(context.home(), ids))
    return found


@blueprint.get("/system/repositories")
@allow(OPERATORS)
def repositories() -> ResponseReturnValue:
    """Machines by what their repositories take on disk."""
    known: dict[bytes, Overview] = {row.machine.id: row for row in machines.overviews(context.db(), EVERYTHING)}
    looked_at, stored = _stored(list(known), fresh="fresh" in request.args)
    rows = [RepositoryRow(one, known[one.machine_id]) for one in stored if one.machine_id in known]
    return render_template(
        "system/repositories.html",
        title=_("Super utilisateur"),
        here_tab="repositories",
        rows=rows[:SHOWN],
        left=max(0, len(rows) - SHOWN),
        count=len(rows),
        stored_bytes=sum(row.stored.bytes for row in rows),
        source_bytes=sum(row.overview.bytes_source or 0 for row in rows),
        looked_at=looked_at,
    )


@blueprint.get("/system/repositories/<machine>")
@allow(OPERATORS)
def repository(machine: str) -> ResponseReturnValue:
    """One repository, opened for reading beside whoever writes to it."""
    found = of_address(machine)
    folder = context.home().repository(found.id)
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is missing")
    stats, problem = None, ""
    try:
        with Repository.open(folder, read_only=True) as opened:
            stats = opened.stats()
    except (StoreError, OSError) as error:
        problem = str(error)
    return render_template(
        "system/repository.html",
        title=_("Dépôt de %(machine)s", machine=found.name),
        machine=found,
        stats=stats,
        problem=problem,
    )


@blueprint.get("/system/mails")
@allow(OPERATORS)
def mails() -> ResponseReturnValue:
    """The newest mails, without what only they may say."""
    return render_template(
        "system/mails.html",
        title=_("Super utilisateur"),
        here_tab="mails",
        mails=outbox.recent(context.db(), _MAILS),
        counts=outbox.counts(context.db()),
        states=MAIL_STATES,
        kind_word=mail_words.kind_word,
        sends=bool(context.home().load_settings().mail.host),
    )


@blueprint.post("/system/mails/<int:number>/retry")
@allow(OPERATORS)
def retry(number: int) -> ResponseReturnValue:
    """Try a mail that waits again now, whatever its pause."""
    if number >= 2**63:
        raise NotFoundError("no mail has such a number")
    with context.db().write():
        outbox.try_now(context.db(), number)
        _note("mail.retry", "mail", str(number))
    jobs.wake(context.home(), "outbox")
    flash(_("L’e-mail part au prochain envoi, d’ici une minute."), "success")
    return redirect(url_for("system.mails"), 303)


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check in the reader's words; `about` is what it looked at where there are many of its sort."""

    name: str
    about: str
    ok: bool
    detail: str


def _check(found: doctor.Check) -> CheckRow:
    one = re.fullmatch(r"repository (.*) \([0-9a-f]{32}\)", found.name)
    if one is not None:
        return CheckRow(_("Dépôt"), one[1], found.ok, found.detail)
    return CheckRow(str(CHECKS.get(found.name, found.name)), "", found.ok, found.detail)


@blueprint.route("/system/doctor", methods=["GET", "POST"])
@allow(OPERATORS)
def checks() -> ResponseReturnValue:
    """What the appliance stands on, looked at when asked; changes nothing."""
    found = None
    if request.method == "POST":
        found = [_check(one) for one in doctor.examine(context.home().root, context.now())]
        # What needs somebody comes first.
        found.sort(key=lambda one: one.ok)
    return render_template("system/doctor.html", title=_("Super utilisateur"), here_tab="doctor", found=found)
