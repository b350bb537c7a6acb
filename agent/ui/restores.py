"""The tab Restauration: a day, its folders, what is ticked, where it goes; and the restore itself with its end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from agent import receiving
from agent.errors import BusyError
from agent.system.people import home_of_the_person
from agent.ui import calendars, disk_tree
from agent.ui.codes import show_code
from agent.ui.disk_tree import path_of, shown_name, token_of
from agent.ui.failures import explained, explained_error
from agent.ui.gate import is_fragment
from agent.ui.machine import Machine, this
from agent.ui.reasons import in_words
from agent.ui.restoring import NoCodeError, Order
from transport.errors import PilulierError, UsageError
from transport.snapshot_reader import Node, Snapshot
from transport.tree import FileType

blueprint = Blueprint("restores", __name__, url_prefix="/restore")

PAGE: Final = disk_tree.PAGE
_KINDS: Final = {int(FileType.FILE): "file", int(FileType.FOLDER): "folder", int(FileType.SYMLINK): "link"}


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a snapshot. `held`: how it stands to what was ticked, see `Basket.held`."""

    path: bytes
    name: str
    kind: str
    size_bytes: int | None
    modified_at: float
    held: str

    @property
    def token(self) -> str:
        """Its path for addresses."""
        return token_of(self.path)


@dataclass(frozen=True, slots=True)
class Branch:
    """A folder of a snapshot as a page shows it. `error` is why it cannot be."""

    path: bytes
    pages: int
    rows: tuple[Row, ...]
    total: int
    open: dict[bytes, Branch]
    error: str = ""

    @property
    def token(self) -> str:
        """Its path for addresses."""
        return token_of(self.path)

    @property
    def more(self) -> int:
        """How many rows are not shown yet."""
        return self.total - len(self.rows)


def _order(node: Node) -> tuple[bool, bytes, bytes]:
    return (not node.is_folder, node.name.lower(), node.name)


def grown(machine: Machine, snapshot: int, opened: dict[bytes, int], at: bytes = b"/") -> Branch:
    """A snapshot's tree from a folder down, with the folders of `opened` open."""
    pages = opened.get(at, 1)
    try:
        nodes = sorted(machine.lookout.children(snapshot, at), key=_order)
    except UsageError:
        return Branch(at, pages, (), 0, {}, _("Ce dossier n’est pas dans cette sauvegarde."))
    rows = [_row(machine, node, disk_tree.joined(at, node.name)) for node in nodes[: pages * PAGE]]
    below = {
        row.path: grown(machine, snapshot, opened, row.path)
        for row in rows
        if row.kind == "folder" and row.path in opened
    }
    return Branch(at, pages, tuple(rows), len(nodes), below)


def _row(machine: Machine, node: Node, path: bytes, *, by_path: bool = False) -> Row:
    return Row(
        path,
        shown_name(path if by_path else node.name),
        _KINDS.get(node.type, "file"),
        node.size if node.type == FileType.FILE else None,
        node.mtime_ns / 1e9,
        machine.basket.held(path),
    )


def found(machine: Machine, snapshot: int, text: str) -> Branch:
    """What a search finds, as one flat branch of whole paths."""
    matches = machine.lookout.search(snapshot, text)
    rows = tuple(_row(machine, node, node.path(), by_path=True) for node in matches.nodes)
    # Nothing more can be shown of it: whoever wants less types more.
    return Branch(b"/", 1, rows, len(rows), {}, "" if rows else _("Aucun nom ne contient ce texte."))


def _searched() -> str:
    return request.values.get("text", "").strip()[:200]


def _opened() -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for word in request.values.getlist("open")[:200]:
        token, _colon, pages = word.partition(":")
        try:
            found[path_of(token)] = max(1, min(int(pages or 1), 1000))
        except ValueError:
            continue
    return found


def _first_steps(machine: Machine, snapshot: int) -> dict[bytes, int]:
    """Folders that hold one folder and nothing else are opened: nobody wants to press five times for one way."""
    opened = {b"/": 1}
    at = b"/"
    for _step in range(8):
        nodes = machine.lookout.children(snapshot, at)
        if len(nodes) != 1 or not nodes[0].is_folder:
            break
        at = disk_tree.joined(at, nodes[0].name)
        opened[at] = 1
    return opened


def _chosen(snapshots: list[Snapshot]) -> Snapshot | None:
    """The snapshot that the address names, else the newest complete one."""
    number = request.values.get("snapshot", type=int)
    for one in snapshots:
        if one.number == number:
            return one
    complete = [one for one in snapshots if one.record.complete]
    return next(reversed(complete or snapshots), None)


def _moment(snapshot: Snapshot) -> float:
    return snapshot.received_ms / 1000


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The tab: a restore that goes on or has just ended, else a day and its folders."""
    machine = this()
    if machine.restores.running() or machine.restores.ended() is not None:
        return render_template("restores/job.html", **_job(machine))
    snapshots, trouble = [], ""
    try:
        snapshots = machine.lookout.snapshots(anew="anew" in request.args)
        chosen = _chosen(snapshots)
        if chosen is None:
            return render_template("restores/none.html", trouble="")
        opened = _opened() or _first_steps(machine, chosen.number)
        if request.args.get("at"):
            opened |= dict.fromkeys(disk_tree.way_to([path_of(request.args["at"]) + b"/-"]), 1)
        text = _searched()
        tree = found(machine, chosen.number, text) if text else grown(machine, chosen.number, {b"/": 1, **opened})
        total = machine.lookout.search(chosen.number, text).total if text else 0
    except PilulierError as error:
        trouble = explained_error(error)
        return render_template("restores/none.html", trouble=trouble, detail=str(error))
    zone = machine.zone()
    today = datetime.fromtimestamp(machine.now(), zone).date()
    day = calendars.day_of(chosen, zone)
    return render_template(
        "restores/index.html",
        branch=tree,
        opened={} if text else opened,
        searched=text,
        total=total,
        snapshot=chosen,
        moment=_moment(chosen),
        day=day,
        months=calendars.months(snapshots, today, zone),
        waiting=receiving.waiting(machine.home),
        same_day=[one for one in snapshots if calendars.day_of(one, zone) == day],
        **_list(machine, chosen.number),
    )


def _list(machine: Machine, snapshot: int) -> dict[str, Any]:
    paths = machine.basket.paths()
    measured = machine.basket.measure(snapshot)
    return {
        "basket": [(shown_name(path), token_of(path)) for path in paths],
        "measured": measured,
        "measure_error": explained_error(measured.error) if measured.error is not None else "",
        "missing": [shown_name(path) for path in measured.missing[:20]],
        "number": snapshot,
    }


@blueprint.get("/branch")
def branch() -> ResponseReturnValue:
    """A folder of a snapshot that is being opened, or more of one."""
    machine = this()
    try:
        path = path_of(request.args.get("at", ""))
    except (ValueError, UsageError):
        return "", 404
    number = request.args.get("snapshot", 0, type=int)
    pages = max(1, min(request.args.get("pages", 1, type=int), 1000))
    return render_template(
        "restores/branch.html", branch=grown(machine, number, {**_opened(), path: pages}, path), number=number
    )


@blueprint.get("/list")
def listed() -> ResponseReturnValue:
    """The part with what is ticked."""
    return render_template("restores/list.html", **_list(this(), request.args.get("snapshot", 0, type=int)))


@blueprint.post("/pick")
def pick() -> ResponseReturnValue:
    """Something was ticked, unticked, or taken out of the list."""
    machine = this()
    number = request.form.get("snapshot", 0, type=int)
    if request.form.get("clear"):
        machine.basket.clear()
    for token in request.form.getlist("pick"):
        try:
            machine.basket.toggle(path_of(token))
        except (ValueError, UsageError):
            continue
    opened, text = _opened(), _searched()
    if is_fragment():
        tree = found(machine, number, text) if text else grown(machine, number, {b"/": 1, **opened})
        return render_template("restores/branch.html", branch=tree, number=number)
    kept = [f"{token_of(path)}:{pages}" for path, pages in opened.items()]
    return redirect(url_for(".index", snapshot=number, open=kept, text=text or None, _anchor="list"), 303)


@blueprint.get("/measure")
def measured() -> ResponseReturnValue:
    """The part that says how much it is."""
    return render_template("restores/measure.html", **_list(this(), request.args.get("snapshot", 0, type=int)))


@blueprint.get("/standing")
def standing() -> ResponseReturnValue:
    """The part that says what stands where the files were."""
    return render_template("restores/standing.html", **_list(this(), request.args.get("snapshot", 0, type=int)))


# where to, and the code


def suggested_target(machine: Machine) -> str:
    """A new folder in the home of whoever sits here, named by the day."""
    base = machine.seats.person or home_of_the_person()
    day = datetime.fromtimestamp(machine.now(), machine.zone()).strftime("%Y-%m-%d")
    name = _("Restauration du %(day)s", day=day)
    target, again = base / name, 2
    while os.path.lexists(target):
        target = base / f"{name} ({again})"
        again += 1
    return str(target)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed before a restore begins, and what is wrong with it, by field."""

    where: str = "new"
    target: str = ""
    overwrite: bool = False
    account: str = ""
    errors: dict[str, str] | None = None

    def wrong(self, field: str) -> str:
        """What is wrong with a field."""
        return (self.errors or {}).get(field, "")


def _ask(machine: Machine, number: int, asked: Asked, near: str) -> ResponseReturnValue:
    snapshot = next((one for one in machine.lookout.snapshots() if one.number == number), None)
    if snapshot is None or not machine.basket.paths():
        return redirect(url_for(".index"), 303)
    return render_template(
        "restores/ask.html",
        asked=asked,
        account=asked.account,
        errors=asked.errors or {},
        near=shown_name(os.fsencode(near)),
        moment=_moment(snapshot),
        open_s=machine.restores.open_s(),
        **_list(machine, number),
    )


@blueprint.get("/ask")
def ask() -> ResponseReturnValue:
    """Where to, and the code."""
    machine = this()
    number = request.args.get("snapshot", 0, type=int)
    asked = Asked(target=suggested_target(machine), account=machine.account)
    return _ask(machine, number, asked, machine.near_copy(number))


def _target(asked: Asked) -> tuple[bytes | None, str]:
    """The folder to restore to, and what is wrong with it. None: where the files were."""
    if asked.where == "place":
        return None, ""
    typed = asked.target.strip()
    if not typed or "\0" in typed:
        return None, _("Indiquez un dossier.")
    if not os.path.isabs(typed):
        return None, _("Donnez le chemin complet, depuis la racine.")
    target = os.fsencode(os.path.normpath(typed))
    if os.path.lexists(target):
        if not os.path.isdir(target):
            return None, _("Un fichier porte déjà ce nom : choisissez-en un autre.")
        try:
            if os.listdir(target):
                return None, _("Ce dossier existe et n’est pas vide : choisissez-en un nouveau, rien n’y sera écrasé.")
        except OSError:
            return None, _("Ce dossier ne peut pas être lu.")
    return target, ""


@blueprint.post("/ask")
def begin() -> ResponseReturnValue:
    """Begin, once a code was accepted in the last quarter of an hour."""
    machine = this()
    number = request.form.get("snapshot", 0, type=int)
    asked = Asked(
        "place" if request.form.get("where") == "place" else "new",
        request.form.get("target", "")[:4096],
        bool(request.form.get("overwrite")),
        request.form.get("account", "").strip()[:254],
    )
    target, wrong = _target(asked)
    errors = {"target": wrong} if wrong else {}
    if not errors and machine.under_way() is not None:
        errors["form"] = explained("busy")
    near = machine.near_copy(number)
    if not errors and not near and not machine.restores.open_s():
        # Last, so that a slip elsewhere does not use the code up.
        errors = show_code(machine, asked.account, request.form.get("code", ""))
    if not errors:
        paths = tuple(machine.basket.paths())
        if not paths:
            return redirect(url_for(".index"), 303)
        try:
            machine.restores.begin(
                Order(number, paths, target, asked.where == "place" and asked.overwrite, near=bool(near))
            )
        except NoCodeError as error:
            errors = {"code": explained_error(error)}
        else:
            return redirect(url_for(".index"), 303)
    return _ask(machine, number, Asked(asked.where, asked.target, asked.overwrite, asked.account, errors), near)


# the restore


def _job(machine: Machine) -> dict[str, Any]:
    ended, order = machine.restores.ended(), machine.restores.order()
    errors = ended.errors if ended is not None else []
    return {
        "ended": ended,
        "order": order,
        "progress_now": machine.restores.progress(),
        "target": shown_name(ended.target) if ended is not None and ended.target is not None else "",
        "said": explained_error(ended.error) if ended is not None and ended.error is not None else "",
        "detail": str(ended.error) if ended is not None and ended.error is not None else "",
        "busy_error": ended is not None and isinstance(ended.error, BusyError),
        "errors": [(shown_name(one.path), in_words(one.reason)) for one in errors[:200]],
        "more_errors": max(0, len(errors) - 200),
        "notes": [(shown_name(one.example), one.count) for one in (ended.notes if ended is not None else [])],
    }


@blueprint.get("/job")
def job() -> ResponseReturnValue:
    """The part that shows how far a restore is."""
    return render_template("restores/job_part.html", **_job(this()))


@blueprint.post("/cancel")
def cancel() -> ResponseReturnValue:
    """Stop it."""
    this().restores.cancel()
    return redirect(url_for(".index"), 303)


@blueprint.post("/done")
def done() -> ResponseReturnValue:
    """Its end was read: back to the folders."""
    machine = this()
    ended = machine.restores.ended()
    if ended is not None and ended.report is not None and not ended.errors and not ended.order.delivery:
        machine.basket.clear()
    machine.restores.forget()
    # Back to the day that was looked at.
    return redirect(url_for(".index", snapshot=ended.order.snapshot or None if ended is not None else None), 303)


@blueprint.post("/shut")
def shut() -> ResponseReturnValue:
    """Give the rest of the quarter of an hour up."""
    this().restores.shut()
    flash(_("Un nouveau code sera demandé."), "info")
    return redirect(url_for(".index"), 303)
