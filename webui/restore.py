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
from typing import Final

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import acts, machine_keys, restores
from appliance.control.contracts import Escrow
from appliance.control.machines import Machine
from appliance.errors import KeyModeError
from appliance.opening import words
from appliance.opening.clients import Opened, OpeningError, TooManyDownloadsError, beginning
from appliance.opening.clients import download as archive_of
from appliance.store.errors import UnknownItemError
from webui import calendars, context, formats
from webui.forms import CodeForm, confirmed, has_grant, spend
from webui.gate import EVERYONE, allow
from webui.machines import of_address, room_row

log = logging.getLogger("pilulier.web")
blueprint = Blueprint("restore", __name__)
ACTION: Final = "restore"
DAYS: Final = 90
PER_PAGE: Final = 500
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


def _opened(machine: Machine) -> Opened | None:
    return context.appliance().openers.find(context.my_session().id, machine.id)


def _back(machine: Machine) -> ResponseReturnValue:
    return redirect(url_for("restore.start", machine=machine.hex), 303)


@blueprint.route("/machines/<machine>/restore", methods=["GET", "POST"])
@allow(EVERYONE)
def start(machine: str) -> ResponseReturnValue:
    """Open the backups with a code; or how the agent restores, where nothing can be opened here."""
    found = of_address(machine)
    row = room_row(found)
    held = machine_keys.find(context.db(), context.scope(), found.id)
    if held is None or held.mode is not Escrow.CONFIDED or row.last_at is None:
        return render_template("machines/restore.html", machine=found, row=row, private=held is not None)
    if _opened(found) is not None and request.method == "GET":
        return redirect(url_for("restore.browse", machine=found.hex), 303)
    form = CodeForm()
    if form.validate_on_submit() and confirmed(form, ACTION, found.hex):
        try:
            _open(found)
        except (OpeningError, KeyModeError) as error:
            log.error("machine %s: its backups do not open: %s", found.hex, error)
            flash(_("Les sauvegardes n’ont pas pu être ouvertes ici : restaurez avec l’agent."), "danger")
        else:
            return redirect(url_for("restore.browse", machine=found.hex), 303)
    return render_template(
        "restore/start.html", machine=found, row=row, form=form, granted=has_grant(ACTION, found.hex)
    )


def _open(machine: Machine) -> None:
    db = context.db()
    context.appliance().openers.open(
        context.my_session().id, machine.id, beginning(context.home(), db, context.scope(), machine)
    )
    with db.write():
        spend(ACTION, machine.hex)
        restores.record_web(db, context.me(), machine.id, context.now())
        acts.note(db, context.actor(), "restore.open", machine, now=context.now())


def _snapshot(opened: Opened) -> words.Snapshot:
    """The one that the address names, else the newest."""
    wanted = request.values.get("snapshot", type=int)
    for snapshot in opened.snapshots:
        if snapshot.number == wanted:
            return snapshot
    return opened.snapshots[-1]


@blueprint.get("/machines/<machine>/restore/browse")
@allow(EVERYONE)
def browse(machine: str) -> ResponseReturnValue:
    """A folder of a snapshot, the calendar, and what is to be restored."""
    found = of_address(machine)
    opened = _opened(found)
    if opened is None or not opened.snapshots:
        return _back(found)
    snapshot = _snapshot(opened)
    try:
        path = opened.basket.path(request.args.get("at", ""))
        listing = opened.ask(words.ListFolder(snapshot.number, path), words.Entries)
    except UnknownItemError:
        return redirect(url_for("restore.browse", machine=found.hex, snapshot=snapshot.number), 303)
    except OpeningError as error:
        if error.code == "opener":
            return _closed(found)
        # A folder that this snapshot does not hold: a day on which it was not there yet.
        flash(_("Ce dossier n’existe pas dans la sauvegarde choisie : en voici le premier niveau."), "info")
        return redirect(url_for("restore.browse", machine=found.hex, snapshot=snapshot.number), 303)
    page = max(1, request.args.get("page", 1, type=int))
    entries = sorted(listing.entries, key=lambda entry: (entry.kind != "d", shown(entry.path).casefold()))
    pages = max(1, -(-len(entries) // PER_PAGE))
    page = min(page, pages)
    return _page(
        found,
        opened,
        snapshot,
        path,
        rows=_rows(opened, snapshot, entries[(page - 1) * PER_PAGE : page * PER_PAGE]),
        total=len(entries),
        page=page,
        pages=pages,
    )


def _closed(machine: Machine) -> ResponseReturnValue:
    flash(_("Les sauvegardes se sont refermées après un quart d’heure : saisissez un nouveau code."), "info")
    return _back(machine)


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
    machine: Machine,
    opened: Opened,
    snapshot: words.Snapshot,
    path: bytes,
    *,
    rows: list[Row],
    total: int,
    page: int = 1,
    pages: int = 1,
    searched: str = "",
    cut: bool = False,
) -> ResponseReturnValue:
    day = formats.local_day(snapshot.received_ms / 1000)
    return render_template(
        "restore/browse.html",
        machine=machine,
        snapshot=snapshot,
        here_token="" if path == b"/" else opened.basket.token(path),
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
        measured=_measured(opened, snapshot),
        closes_at=context.now() + opened.seconds_left(),
    )


def _measured(opened: Opened, snapshot: words.Snapshot) -> words.Measured | None:
    ticked = opened.basket.ticked(snapshot.number)
    if not ticked:
        return None
    try:
        return opened.ask(words.Measure(snapshot.number, ticked), words.Measured)
    except OpeningError:
        return None


@blueprint.post("/machines/<machine>/restore/search")
@allow(EVERYONE)
def search(machine: str) -> ResponseReturnValue:
    """Names that hold a word. A POST, since the word may be a patient's name and addresses are kept."""
    found = of_address(machine)
    opened = _opened(found)
    if opened is None or not opened.snapshots:
        return _back(found)
    snapshot = _snapshot(opened)
    text = request.form.get("text", "").strip()[:200]
    if not text:
        return redirect(url_for("restore.browse", machine=found.hex, snapshot=snapshot.number), 303)
    try:
        answer = opened.ask(words.Search(snapshot.number, text), words.Entries)
    except OpeningError:
        return _closed(found)
    return _page(
        found,
        opened,
        snapshot,
        b"/",
        rows=_rows(opened, snapshot, answer.entries),
        total=len(answer.entries),
        searched=text,
        cut=answer.more,
    )


@blueprint.get("/machines/<machine>/restore/versions")
@allow(EVERYONE)
def versions(machine: str) -> ResponseReturnValue:
    """A file as it was, each time it differed."""
    found = of_address(machine)
    opened = _opened(found)
    if opened is None:
        return _back(found)
    try:
        path = opened.basket.path(request.args.get("at", ""))
        answer = opened.ask(words.FileVersions(path), words.Versions)
    except (OpeningError, UnknownItemError):
        return _closed(found)
    return render_template(
        "restore/versions.html",
        machine=found,
        path=shown(path),
        token=opened.basket.token(path),
        versions=list(reversed(answer.versions)),
    )


@blueprint.post("/machines/<machine>/restore/tick")
@allow(EVERYONE)
def tick(machine: str) -> ResponseReturnValue:
    """Put paths on the list of what is to be restored, or take them off."""
    found = of_address(machine)
    opened = _opened(found)
    if opened is None or not opened.snapshots:
        return _back(found)
    snapshot = _snapshot(opened)
    basket = opened.basket
    try:
        if "remove" in request.form:
            token = request.form["remove"]
            basket.untick(snapshot.number, None if token == "all" else basket.path(token))
        else:
            basket.tick(snapshot.number, [basket.path(token) for token in request.form.getlist("pick") if token])
        at = request.form.get("at", "")
        basket.path(at)
    except UnknownItemError:
        at = ""
    number = snapshot.number
    place = url_for("restore.browse", machine=found.hex, snapshot=number, at=at or None, _anchor="restore-list")
    return redirect(place, 303)


@blueprint.post("/machines/<machine>/restore/download")
@allow(EVERYONE)
def download(machine: str) -> ResponseReturnValue:
    """What is on the list, or one file, as it streams."""
    found = of_address(machine)
    opened = _opened(found)
    if opened is None or not opened.snapshots:
        return _back(found)
    snapshot = _snapshot(opened)
    form = request.form.get("form", "zip")
    only = request.form.get("only", "")
    try:
        paths = [opened.basket.path(only)] if only else opened.basket.ticked(snapshot.number)
    except UnknownItemError:
        paths = []
    if form not in FORMS or not paths:
        flash(_("Cochez d’abord ce qui est à restaurer."), "warning")
        return redirect(url_for("restore.browse", machine=found.hex, snapshot=snapshot.number), 303)
    db = context.db()
    try:
        measured = opened.ask(words.Measure(snapshot.number, paths), words.Measured)
        parts = archive_of(
            context.appliance().openers.downloads,
            beginning(context.home(), db, context.scope(), found),
            words.Archive(snapshot.number, paths, form, found.name),
        )
    except TooManyDownloadsError:
        flash(_("Trop de téléchargements sont en cours : réessayez dans quelques minutes."), "warning")
        return redirect(url_for("restore.browse", machine=found.hex, snapshot=snapshot.number), 303)
    except (OpeningError, KeyModeError) as error:
        log.error("machine %s: no archive: %s", found.hex, error)
        return _closed(found)
    acts.note(
        db,
        context.actor(),
        "restore.download",
        found,
        now=context.now(),
        after={
            "snapshot": snapshot.number,
            "files": measured.files,
            "size": measured.size,
            "form": form,
        },
    )
    # Cut short, it raises: the connection ends without its last chunk, so that browsers say it failed.
    answer = Response(parts, mimetype=FORMS[form])
    day = formats.local_day(snapshot.received_ms / 1000).isoformat()
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in found.name)[:40]
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
