"""Restoring by the web: choose a day, browse, search, tick, download. Only where the machine's key is confided.

A fresh code opens one machine's backups for a quarter of an hour; the key then lives in a process of its own
(`appliance.opening`), never in this one. Addresses hold no file names. A private key is opened by the agent alone, and
the page says so.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeVar

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance import escrow
from appliance.control import acts, alert_table, deliveries, machine_keys, restores
from appliance.control.contracts import Escrow
from appliance.control.machines import Machine, MachineState
from appliance.errors import EscrowLockedError, KeyModeError
from appliance.opening import words
from appliance.opening.baskets import TOP
from appliance.opening.clients import BUSY, GONE, Opened, OpeningError, TooManyDownloadsError, beginning
from appliance.opening.clients import download as archive_of
from appliance.opening.words import Snapshot
from appliance.store.errors import UnknownItemError
from transport.errors import UsageError
from webui import calendars, context, formats
from webui.forms import CodeForm, confirmed, has_grant, spend
from webui.gate import EVERYONE, allow
from webui.machines import of_address, room_row
from webui.states import DELIVERIES

log = logging.getLogger("pilulier.web")
blueprint = Blueprint("restore", __name__)
ACTION: Final = "restore"
DAYS: Final = 90
PER_PAGE: Final = 500
SENT_SHOWN: Final = 3
"""Deliveries beside the list."""
_Answer = TypeVar("_Answer", bound=words.Answer)
FORMS: Final = {"zip": "application/zip", "tar": "application/x-tar"}


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as a page shows it."""

    token: str
    name: str
    where: str
    kind: str
    size: int
    modified_at: float
    ticked: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One folder of the way from the top."""

    token: str
    name: str


def shown(path: bytes) -> str:
    """A path or name for reading."""
    return path.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Seat:
    """A person before a machine's opened backups, looking at one snapshot."""

    machine: Machine
    opened: Opened
    snapshot: words.Snapshot

    def ask(self, question: words.AnyQuestion, expected: type[_Answer]) -> _Answer:
        """The opener's answer. One that is gone leads back to the code; OpeningError where it answers with an error."""
        try:
            return self.opened.ask(question, expected)
        except OpeningError as error:
            if error.code == GONE:
                flash(
                    _("Les sauvegardes se sont refermées après un quart d’heure : saisissez un nouveau code."), "info"
                )
                abort(to("restore.start", self.machine))
            if error.code != UsageError.code:
                log.error("machine %s: %s", self.machine.hex, error)
            raise

    def browse(self, at: str = "", anchor: str | None = None) -> WerkzeugResponse:
        """To a folder of the snapshot."""
        number = self.snapshot.number
        place = url_for("restore.browse", machine=self.machine.hex, snapshot=number, at=at or None, _anchor=anchor)
        return redirect(place, 303)


def to(endpoint: str, machine: Machine) -> WerkzeugResponse:
    """To a page of a machine."""
    return redirect(url_for(endpoint, machine=machine.hex), 303)


def _opened(machine: Machine) -> Opened | None:
    """What this session has opened of a machine, if there is something in it to read."""
    opened = context.appliance().openers.find(context.my_session().id, machine.id)
    return opened if opened is not None and opened.snapshots else None


def seat_of(address: str) -> Seat:
    """Who asks, with the snapshot that the request names, else `shown_first`. Nothing opened leads to the code."""
    machine = of_address(address)
    opened = _opened(machine)
    if opened is None:
        abort(to("restore.start", machine))
    wanted = request.values.get("snapshot", type=int)
    chosen = next((one for one in opened.snapshots if one.number == wanted), None)
    return Seat(machine, opened, chosen or shown_first(opened.snapshots, suspicious(machine)))


def suspicious(machine: Machine) -> int | None:
    """The first snapshot that looks like the work of ransomware, while that is not settled."""
    return alert_table.first_suspicious(context.db(), machine.id)


def shown_first(snapshots: list[Snapshot], first_suspicious: int | None) -> Snapshot:
    """The newest, or the last calm one: what an attack has left is not what people come for."""
    if first_suspicious is None:
        return snapshots[-1]
    calm = [one for one in snapshots if one.number < first_suspicious]
    return next((one for one in reversed(calm) if one.complete), calm[-1] if calm else snapshots[-1])


def locked() -> str:
    """What is said while the escrow key waits for an operator."""
    return str(
        _(
            "La clé de séquestre est verrouillée depuis le dernier démarrage du service : un opérateur doit la "
            "déverrouiller avant toute restauration par le web. L’agent, sur la machine, restaure sans attendre."
        )
    )


def trouble(error: OpeningError) -> str:
    """An opener's error in the reader's words."""
    if error.code == BUSY:
        return str(_("La demande précédente n’est pas terminée : patientez un instant."))
    if error.code == EscrowLockedError.code:
        return locked()
    return str(_("Cette sauvegarde n’a pas pu être lue telle qu’elle a été signée : prévenez l’assistance."))


@blueprint.route("/machines/<machine>/restore", methods=["GET", "POST"])
@allow(EVERYONE)
def start(machine: str) -> ResponseReturnValue:
    """Open the backups with a code; or how the agent restores, where nothing can be opened here."""
    found = of_address(machine)
    row = room_row(found)
    held = machine_keys.find(context.db(), context.scope(), found.id)
    if held is None or held.mode is not Escrow.CONFIDED or row.last_at is None:
        may_send = row.good_at is not None and found.state is MachineState.ACTIVE
        return render_template(
            "machines/restore.html", machine=found, row=row, private=held is not None, may_send=may_send
        )
    if _opened(found) is not None and request.method == "GET":
        return to("restore.browse", found)
    form = CodeForm()
    if form.validate_on_submit() and confirmed(form, ACTION, found.hex):
        try:
            readable = _open(found)
        except (OpeningError, KeyModeError) as error:
            log.error("machine %s: its backups do not open: %s", found.hex, error)
            unopened = _("Les sauvegardes n’ont pas pu être ouvertes ici : restaurez avec l’agent.")
            flash(locked() if error.code == EscrowLockedError.code else unopened, "danger")
        else:
            if readable:
                return to("restore.browse", found)
            flash(_("Aucune sauvegarde de cette machine ne peut être lue ici."), "warning")
    return render_template(
        "restore/start.html",
        machine=found,
        row=row,
        form=form,
        granted=has_grant(ACTION, found.hex),
        locked=locked() if escrow.is_locked(context.home(), held.escrow_key or b"") else "",
    )


def _open(machine: Machine) -> bool:
    """Whether there is a snapshot to read."""
    db = context.db()
    opened = context.appliance().openers.open(
        context.my_session().id, machine.id, beginning(context.home(), db, context.scope(), machine)
    )
    with db.write():
        spend(ACTION, machine.hex)
        restores.record(db, context.me().email, machine.id, context.now())
        acts.note(db, context.actor(), "restore.open", machine, now=context.now())
    return bool(opened.snapshots)


@blueprint.get("/machines/<machine>/restore/browse")
@allow(EVERYONE)
def browse(machine: str) -> ResponseReturnValue:
    """A folder of a snapshot, the calendar, and what is to be restored."""
    seat = seat_of(machine)
    try:
        path = seat.opened.basket.path(request.args.get("at", ""))
    except UnknownItemError:
        return seat.browse()
    entries: list[words.Entry] = []
    try:
        entries = seat.ask(words.ListFolder(seat.snapshot.number, path), words.Entries).entries
    except OpeningError as error:
        if error.code == UsageError.code and path != TOP:
            # A day on which this folder was not there yet.
            flash(_("Ce dossier n’existe pas dans la sauvegarde choisie : en voici le premier niveau."), "info")
            return seat.browse()
        flash(trouble(error), "danger")
    page = max(1, request.args.get("page", 1, type=int))
    entries = sorted(entries, key=lambda entry: (entry.kind != "d", shown(entry.path).casefold()))
    pages = max(1, -(-len(entries) // PER_PAGE))
    page = min(page, pages)
    rows = _rows(seat.opened, seat.snapshot, entries[(page - 1) * PER_PAGE : page * PER_PAGE])
    return _page(seat, path, rows=rows, total=len(entries), page=page, pages=pages)


def _rows(opened: Opened, snapshot: words.Snapshot, entries: list[words.Entry]) -> list[Row]:
    ticked = set(opened.basket.ticked(snapshot.number))
    rows = []
    for entry in entries:
        folder, _slash, name = entry.path.rpartition(b"/")
        rows.append(
            Row(
                opened.basket.token(entry.path),
                shown(name),
                shown(folder) or "/",
                entry.kind,
                entry.size,
                entry.mtime_ns / 1e9,
                entry.path in ticked,
            )
        )
    return rows


def _steps(opened: Opened, path: bytes) -> list[Step]:
    names = [name for name in path.split(b"/") if name]
    return [Step(opened.basket.token(b"/" + b"/".join(names[: at + 1])), shown(name)) for at, name in enumerate(names)]


def _calendar(opened: Opened) -> list[calendars.Month[words.Snapshot]]:
    held: dict[date, tuple[words.Snapshot, ...]] = defaultdict(tuple)
    for snapshot in opened.snapshots:
        held[formats.local_day(snapshot.received_ms / 1000)] += (snapshot,)
    last = max(formats.local_day(context.now()), max(held, default=date.min))
    return calendars.months(held, last, DAYS)


def _page(
    seat: Seat,
    path: bytes,
    *,
    rows: list[Row],
    total: int,
    page: int = 1,
    pages: int = 1,
    searched: str = "",
    cut: bool = False,
) -> ResponseReturnValue:
    opened, snapshot = seat.opened, seat.snapshot
    day = formats.local_day(snapshot.received_ms / 1000)
    return render_template(
        "restore/browse.html",
        machine=seat.machine,
        snapshot=snapshot,
        here_token="" if path == TOP else opened.basket.token(path),
        steps=_steps(opened, path),
        rows=rows,
        total=total,
        page=page,
        pages=pages,
        searched=searched,
        cut=cut,
        months=_calendar(opened),
        chosen_day=day,
        same_day=[one for one in opened.snapshots if formats.local_day(one.received_ms / 1000) == day],
        basket=[Step(opened.basket.token(one), shown(one)) for one in opened.basket.ticked(snapshot.number)],
        measured=measured(seat),
        closes_at=context.now() + opened.seconds_left(),
        first_suspicious=suspicious(seat.machine),
        sent=deliveries.of_machine(context.db(), context.scope(), seat.machine.id, context.now(), limit=SENT_SHOWN),
        DELIVERIES=DELIVERIES,
    )


def measured(seat: Seat) -> words.Measured | None:
    """How much is ticked; None where that cannot be told: the list itself still shows."""
    ticked = seat.opened.basket.ticked(seat.snapshot.number)
    if not ticked:
        return None
    try:
        return seat.ask(words.Measure(seat.snapshot.number, ticked), words.Measured)
    except OpeningError:
        return None


@blueprint.post("/machines/<machine>/restore/search")
@allow(EVERYONE)
def search(machine: str) -> ResponseReturnValue:
    """Names that hold a word. A POST, since the word may be a patient's name and addresses are kept."""
    seat = seat_of(machine)
    text = request.form.get("text", "").strip()[:200]
    if not text:
        return seat.browse()
    try:
        answer = seat.ask(words.Search(seat.snapshot.number, text), words.Entries)
    except OpeningError as error:
        flash(trouble(error), "danger")
        return seat.browse()
    rows = _rows(seat.opened, seat.snapshot, answer.entries)
    return _page(seat, TOP, rows=rows, total=len(answer.entries), searched=text, cut=answer.more)


@blueprint.get("/machines/<machine>/restore/versions")
@allow(EVERYONE)
def versions(machine: str) -> ResponseReturnValue:
    """A file as it was, each time it differed."""
    seat = seat_of(machine)
    try:
        path = seat.opened.basket.path(request.args.get("at", ""))
        answer = seat.ask(words.FileVersions(path), words.Versions)
    except UnknownItemError:
        return seat.browse()
    except OpeningError as error:
        flash(trouble(error), "danger")
        return seat.browse()
    return render_template(
        "restore/versions.html",
        machine=seat.machine,
        path=shown(path),
        token=seat.opened.basket.token(path),
        versions=list(reversed(answer.versions)),
    )


@blueprint.post("/machines/<machine>/restore/tick")
@allow(EVERYONE)
def tick(machine: str) -> ResponseReturnValue:
    """Put paths on the list of what is to be restored, or take them off."""
    seat = seat_of(machine)
    basket, number = seat.opened.basket, seat.snapshot.number
    at = request.form.get("at", "")
    try:
        if "remove" in request.form:
            token = request.form["remove"]
            basket.untick(number, None if token == "all" else basket.path(token))
        else:
            basket.tick(number, [basket.path(token) for token in request.form.getlist("pick") if token])
        basket.path(at)
    except UnknownItemError:
        at = ""
    return seat.browse(at, "restore-list")


@blueprint.post("/machines/<machine>/restore/download")
@allow(EVERYONE)
def download(machine: str) -> ResponseReturnValue:
    """What is on the list, or one file, as it streams."""
    seat = seat_of(machine)
    number = seat.snapshot.number
    form, only = request.form.get("form", "zip"), request.form.get("only", "")
    try:
        paths = [seat.opened.basket.path(only)] if only else seat.opened.basket.ticked(number)
    except UnknownItemError:
        paths = []
    if form not in FORMS or not paths:
        flash(_("Cochez d’abord ce qui est à restaurer."), "warning")
        return seat.browse()
    db = context.db()
    try:
        size = seat.ask(words.Measure(number, paths), words.Measured)
        parts = archive_of(
            context.appliance().openers.downloads,
            beginning(context.home(), db, context.scope(), seat.machine),
            words.Archive(number, paths, form, seat.machine.name),
        )
    except TooManyDownloadsError:
        flash(_("Trop de téléchargements sont en cours : réessayez dans quelques minutes."), "warning")
        return seat.browse()
    except KeyModeError:
        return to("restore.start", seat.machine)
    except OpeningError as error:
        flash(trouble(error), "danger")
        return seat.browse()
    told = {"snapshot": number, "files": size.files, "size": size.size, "form": form}
    acts.note(db, context.actor(), "restore.download", seat.machine, now=context.now(), after=told)
    # Cut short, it raises: the connection ends without its last chunk, so that browsers say it failed.
    answer = Response(parts, mimetype=FORMS[form])
    day = formats.local_day(seat.snapshot.received_ms / 1000).isoformat()
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in seat.machine.name)[:40]
    answer.headers["Content-Disposition"] = f'attachment; filename="{safe}-{day}.{form}"'
    return answer


@blueprint.post("/machines/<machine>/restore/close")
@allow(EVERYONE)
def leave(machine: str) -> ResponseReturnValue:
    """Forget the key."""
    found = of_address(machine)
    if context.appliance().openers.end(context.my_session().id, found.id):
        acts.note(context.db(), context.actor(), "restore.close", found, now=context.now())
    flash(_("Les sauvegardes sont refermées."), "success")
    return redirect(url_for("machines.detail", machine=found.hex), 303)
