"""Statistics: backups by day, one row each, with what each was made with; their charts; all of it as CSV.

A page of charts is sent bit by bit: what stands above a chart has left before the chart is drawn, so that nobody
looks at a white window while matplotlib works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, current_app, render_template, request, stream_with_context
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import configurations, reports
from appliance.control.configurations import MachineConfiguration
from appliance.control.reports import Backup, Point
from appliance.errors import NotFoundError
from transport.errors import UsageError
from webui import context, formats, periods, series
from webui.drawings import Drawings
from webui.gate import EVERYONE, allow
from webui.machines import of_address
from webui.periods import Chosen
from webui.series import Figure, Total
from webui.tables import Cell, csv_stream

blueprint = Blueprint("statistics", __name__)
PER_PAGE: Final = 60
_MARGIN_S: Final = 120.0
"""Around a backup's own time: a log's minute is the machine's, the reception ours."""
_PIECE: Final = 2048
_drawings = Drawings()


@blueprint.get("/statistics")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """Backups by day, newest first."""
    chosen = periods.chosen()
    cursor = request.args.get("cursor", "")
    try:
        page = reports.rows(
            context.db(), context.scope(), chosen.window, cursor=cursor, limit=PER_PAGE, zone=formats.ZONE
        )
    except UsageError:
        # An address that was cut on its way: the first page is what it meant.
        cursor = ""
        page = reports.rows(context.db(), context.scope(), chosen.window, limit=PER_PAGE, zone=formats.ZONE)
    return render_template(
        "statistics/list.html", title=_("Statistiques"), chosen=chosen, page=page, cursor=cursor, here_tab="list"
    )


@blueprint.get("/statistics/charts")
@allow(EVERYONE)
def charts() -> ResponseReturnValue:
    """Charts of a period."""
    chosen = periods.chosen()
    values = {"chosen": chosen, "loaded": loaded, "drawn": drawn, "here_tab": "charts", "title": _("Statistiques")}
    current_app.update_template_context(values)
    template = current_app.jinja_env.get_template("statistics/charts.html")
    return Response(stream_with_context(_pieces(template.generate(values))), mimetype="text/html")


@blueprint.app_template_global("logs_of")
def logs_of(one: Backup) -> dict[str, object]:
    """The words of the address of the logs of a backup's time."""
    begun = one.received_at - one.figures.seconds - _MARGIN_S
    return {
        "machine": one.machine_id.hex(),
        "since": formats.minute(begun),
        "until": formats.minute(one.received_at + _MARGIN_S),
    }


@dataclass(frozen=True, slots=True)
class Loaded:
    """A period's days, what they come to, and their charts."""

    points: list[Point]
    total: Total
    figures: list[Figure]


def loaded(chosen: Chosen) -> Loaded:
    """What a page of charts shows, read once the top of the page has left: two thousand machines take a while."""
    db, scope, window = context.db(), context.scope(), chosen.window
    points = reports.series(db, scope, window, formats.ZONE)
    allocated = None if chosen.machine else reports.allocated(db, scope, window)
    return Loaded(points, series.total(points), series.figures(points, allocated))


def drawn(figure: Figure) -> str:
    """A figure's SVG, which is ours from the first byte to the last."""
    return _drawings.svg(figure.chart, formats.language(), context.home().cache / "matplotlib")


def _pieces(words: Iterator[str]) -> Iterator[str]:
    """What a template says, in pieces worth sending."""
    waiting: list[str] = []
    length = 0
    for word in words:
        waiting.append(word)
        length += len(word)
        if length >= _PIECE:
            yield "".join(waiting)
            waiting, length = [], 0
    yield "".join(waiting)


@blueprint.get("/statistics/<machine>/<int:number>")
@allow(EVERYONE)
def backup(machine: str, number: int) -> ResponseReturnValue:
    """One backup: its figures, its files in numbers, what it was made with."""
    found = of_address(machine)
    if number >= 2**63:
        raise NotFoundError("no snapshot has such a number")
    one = reports.one(context.db(), context.scope(), found.id, number)
    configuration: MachineConfiguration | None
    try:
        configuration = configurations.find(context.db(), context.scope(), found.id, number)
    except NotFoundError:
        configuration = None
    return render_template(
        "statistics/backup.html",
        title=_("Sauvegarde n° %(number)s de %(machine)s", number=formats.count(number), machine=one.machine_name),
        backup=one,
        configuration=configuration,
    )


@blueprint.get("/statistics.csv")
@allow(EVERYONE)
def export() -> ResponseReturnValue:
    """All backups of the choice as a file for spreadsheets."""
    chosen = periods.chosen()
    columns = (
        *(_("Date"), _("Client"), _("Machine"), _("Sauvegarde"), _("État"), _("Transfert (octets)")),
        *(_("Fichiers full"), _("Fichiers diff"), _("Durée du transfert (s)"), _("Source (octets)"), _("Ratio (%)")),
        *(_("Durée totale (s)"), _("Fichiers"), _("Inchangés"), _("Déplacés"), _("Supprimés"), _("Avertissements")),
        *(_("Version"), _("Plate-forme"), _("PID")),
    )
    states = {True: _("complète"), False: _("partielle")}
    language = formats.language()

    def row(one: Backup) -> list[Cell]:
        figures = one.figures
        return [
            *(formats.stamp(one.received_at), one.client_id, one.machine_name, one.number, states[one.complete]),
            *(figures.bytes_sent, figures.files_full, figures.files_delta),
            *(formats.decimal(figures.transfer_seconds, 1, language), figures.bytes_source),
            formats.decimal(None if one.ratio is None else one.ratio * 100, 4, language),
            *(formats.decimal(figures.seconds, 1, language), figures.files_total, figures.files_unchanged),
            *(figures.files_moved, figures.files_deleted, figures.warnings),
            *(one.agent_version, one.platform, one.pid),
        ]

    name = f"statistiques-{chosen.first.isoformat()}-{chosen.last.isoformat()}.csv"
    return csv_stream(name, columns, map(row, reports.export(context.db(), context.scope(), chosen.window)))
