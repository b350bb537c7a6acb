"""The charts of a period: which figures are drawn from its days, under which headings, and what a reader hears of each.

Pure but for translation. No chart is drawn where no day has anything to show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask_babel import gettext as _

from appliance.control.reports import Point
from webui import formats
from webui.charts import Chart, Series, Tone, Unit, cap_of


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its heading and the sentence below it. `id` is its place in the page."""

    id: str
    heading: str
    sentence: str
    chart: Chart


@dataclass(frozen=True, slots=True)
class Total:
    """A period in a few numbers; `ratio` and `seconds` are means, None where nothing was backed up."""

    backups: int
    bytes_sent: int
    bytes_source: int
    ratio: float | None
    seconds: float | None


def total(points: Sequence[Point]) -> Total:
    """What the days of a period come to. The source is the volume held on the last of them."""
    backups = sum(point.backups for point in points)
    ratios = [point.ratio for point in points if point.ratio is not None]
    return Total(
        backups,
        sum(point.bytes_sent for point in points),
        points[-1].bytes_source if points else 0,
        sum(ratios) / len(ratios) if ratios else None,
        sum(point.seconds for point in points) / backups if backups else None,
    )


def mean(point: Point, seconds: float) -> float | None:
    """A day's seconds, for each of its backups."""
    return seconds / point.backups if point.backups else None


class _Period:
    """The days of a period, and how their figures are put together."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points
        self.days = tuple(point.day for point in points)
        self.span = _("du %(first)s au %(last)s", first=formats.day(self.days[0]), last=formats.day(self.days[-1]))

    def values(self, of: Callable[[Point], float | None]) -> tuple[float | None, ...]:
        return tuple(of(point) for point in self.points)

    def peak(self, values: tuple[float | None, ...], write: Callable[[float], str]) -> str:
        """The highest value and its day, as a sentence; empty where there is none."""
        known = [(value, place) for place, value in enumerate(values) if value is not None]
        if not known:
            return ""
        most, place = max(known)
        words = {"value": write(most), "day": formats.day(self.days[place])}
        cap = cap_of(values)
        if cap is not None and most > cap:
            return str(_("Au plus %(value)s, le %(day)s (▲ : au-delà de l’échelle).", **words))
        return str(_("Au plus %(value)s, le %(day)s.", **words))

    def figure(
        self,
        id_: str,
        heading: str,
        sentence: str,
        unit: Unit,
        *series: Series,
        bars: bool = False,
        from_zero: bool = True,
        cuts: bool = False,
    ) -> Figure:
        title = _("%(heading)s, %(span)s. %(sentence)s", heading=heading, span=self.span, sentence=sentence).strip()
        cap = cap_of(series[0].values) if cuts else None
        return Figure(id_, heading, sentence, Chart(title, unit, self.days, series, bars, from_zero, cap))


def figures(points: Sequence[Point], allocated_bytes: int | None) -> list[Figure]:
    """All charts of a period; `allocated_bytes` is None where there is nothing to hold the volume against."""
    if not any(point.backups for point in points):
        return []
    period = _Period(points)
    found = [_transfer(period), _source(period), _ratio(period), _duration(period)]
    if allocated_bytes:
        found.append(_space(period, allocated_bytes))
    return found


def _transfer(period: _Period) -> Figure:
    heading = _("Volume transféré par jour")
    values = period.values(lambda point: float(point.bytes_sent))
    sentence = period.peak(values, formats.size)
    return period.figure(
        "transfer", heading, sentence, Unit.BYTES, Series(heading, Tone.ACCENT, values), bars=True, cuts=True
    )


def _source(period: _Period) -> Figure:
    heading = _("Volume des données sauvegardées")
    values = period.values(lambda point: float(point.bytes_source))
    first, last = period.points[0].bytes_source, period.points[-1].bytes_source
    sentence = _("De %(first)s à %(last)s.", first=formats.size(first), last=formats.size(last))
    # Not from zero: what is asked of it is how it moves, and beside it stands the volume as a whole.
    return period.figure("source", heading, sentence, Unit.BYTES, Series(heading, Tone.ACCENT, values), from_zero=False)


def _ratio(period: _Period) -> Figure:
    heading = _("Ratio transfert / source")
    values = period.values(lambda point: point.ratio)
    sentence = period.peak(values, lambda share: formats.percent(share, 2))
    return period.figure("ratio", heading, sentence, Unit.SHARE, Series(heading, Tone.ACCENT, values), cuts=True)


def _duration(period: _Period) -> Figure:
    heading = _("Durée moyenne d’une sauvegarde")
    whole = period.values(lambda point: mean(point, point.seconds))
    transfer = period.values(lambda point: mean(point, point.transfer_seconds))
    return period.figure(
        "duration",
        heading,
        period.peak(whole, formats.duration),
        Unit.SECONDS,
        Series(_("Durée totale"), Tone.ACCENT, whole),
        Series(_("dont transfert"), Tone.QUIET, transfer),
        cuts=True,
    )


def _space(period: _Period, allocated_bytes: int) -> Figure:
    heading = _("Espace utilisé et espace alloué")
    used = period.values(lambda point: float(point.bytes_source))
    last = period.points[-1].bytes_source
    sentence = _(
        "%(used)s utilisés sur %(allocated)s alloués aujourd’hui, soit %(share)s.",
        used=formats.size(last),
        allocated=formats.size(allocated_bytes),
        share=formats.percent(last / allocated_bytes),
    )
    return period.figure(
        "space",
        heading,
        sentence,
        Unit.BYTES,
        Series(_("Utilisé"), Tone.ACCENT, used),
        Series(_("Alloué"), Tone.BAD if last > allocated_bytes else Tone.QUIET, (float(allocated_bytes),) * len(used)),
    )
