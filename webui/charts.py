"""Charts: numbers in, SVG text out. The only room for matplotlib, through `Figure`, never pyplot.

Pure. The SVG carries no style element or attribute, so that it may stand inline under a strict content policy; text
stays text and takes the page's font; what is drawn in INK becomes `currentColor`, so that it follows light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import matplotlib
from matplotlib import dates
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK: Final = "#010203"
"""Stands for the page's text colour in the drawing."""
WIDTH_INCHES: Final = 7.2
HEIGHT_INCHES: Final = 2.6
_DATES: Final[Any] = dates
"""matplotlib's dates, which carry no types."""
_STYLE: Final = re.compile(r' style="([^"]*)"')
_STYLE_ELEMENT: Final = re.compile(r"<style.*?</style>", re.S)
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.S)
_METADATA: Final = re.compile(r"<metadata>.*?</metadata>", re.S)
_SIZE: Final = re.compile(r'(<svg\b[^>]*?) width="[^"]*"| height="[^"]*pt"', re.S)
_FONT: Final = re.compile(r"([0-9.]+)px")


@dataclass(frozen=True, slots=True)
class Series:
    """One line or row of bars: a name, a colour (#rrggbb), and a value for each day, None where there is none."""

    name: str
    colour: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw: the days along the bottom and one or more series over them. `title` is for screen readers."""

    title: str
    days: tuple[date, ...]
    series: tuple[Series, ...]
    bars: bool = False


def render(chart: Chart, value_text: Callable[[float], str], day_text: Callable[[date], str]) -> str:
    """The chart as one <svg> element; `value_text` and `day_text` write the axes in the reader's language."""
    if any(len(series.values) != len(chart.days) for series in chart.series):
        raise ValueError(f"chart {chart.title!r} has {len(chart.days)} days and a series of another length")
    # hashsalt: ids in the drawing depend on what is drawn, so the same numbers give the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.title}):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        FigureCanvasSVG(figure)
        axes: Any = figure.add_subplot()
        _draw(axes, chart)
        _dress(axes, chart, value_text, day_text)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return for_pages(file.getvalue().decode(), chart.title)


def _draw(axes: Any, chart: Chart) -> None:
    positions = [float(_DATES.date2num(day)) for day in chart.days]
    for series in chart.series:
        known = [(x, y) for x, y in zip(positions, series.values, strict=True) if y is not None]
        xs, ys = [x for x, _ in known], [y for _, y in known]
        if chart.bars:
            axes.bar(xs, ys, width=0.75, color=series.colour, linewidth=0, label=series.name)
        else:
            axes.plot(xs, ys, color=series.colour, linewidth=1.8, solid_capstyle="round", label=series.name)
            axes.fill_between(xs, ys, 0, color=series.colour, alpha=0.14, linewidth=0)
    if positions:
        axes.set_xlim(positions[0] - 0.6, positions[-1] + 0.6)


def _dress(axes: Any, chart: Chart, value_text: Callable[[float], str], day_text: Callable[[date], str]) -> None:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: value_text(value)))
    axes.xaxis.set_major_locator(_DATES.AutoDateLocator(minticks=3, maxticks=8, interval_multiples=False))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: day_text(_DATES.num2date(value).date())))
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=0, pad=5)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
        spine.set_alpha(0.3)
    if len(chart.series) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", ncols=len(chart.series))


def for_pages(svg: str, title: str) -> str:
    """matplotlib's SVG as it may stand in a page: no style, no fixed size, a title, the page's ink."""
    svg = _METADATA.sub("", _STYLE_ELEMENT.sub("", _PROLOGUE.sub("", svg)))
    svg = _STYLE.sub(_attributes, svg)
    svg = _SIZE.sub(lambda match: match.group(1) or "", svg)
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    opening = f'<svg class="chart" role="img" aria-label="{escaped}" stroke-linejoin="round" stroke-linecap="butt"'
    return svg.replace("<svg", opening, 1).replace(INK, "currentColor").strip()


def _attributes(match: re.Match[str]) -> str:
    """A style attribute as the presentation attributes that mean the same (SVG 2, 6.6)."""
    result = []
    for declaration in match.group(1).split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            found = _FONT.search(value)
            name, value = "font-size", found.group(1) if found else "10"
        if name and value:
            result.append(f' {name}="{value}"')
    return "".join(result)
