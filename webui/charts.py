"""Charts: numbers in, SVG text out. The only room for matplotlib, through `Figure`, never pyplot.

Pure. The SVG carries no style element or attribute, so that it may stand inline under a strict content policy; text
stays text and takes the page's font; tones become the page's own colours, so that a drawing follows the space's theme
and light and dark. matplotlib is loaded by the first drawing, since it costs seconds and tens of megabytes that a
service which draws nothing need not pay. Its settings are a process's own: one drawing at a time (`drawings`).
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final
from xml.sax.saxutils import quoteattr


class Tone(StrEnum):
    """A colour of the page: the stand-in that matplotlib draws with."""

    INK = "#010203"
    ACCENT = "#010204"
    QUIET = "#010205"
    BAD = "#010206"


PAGE_COLOURS: Final = {
    Tone.INK: "currentColor",
    Tone.ACCENT: "var(--accent)",
    Tone.QUIET: "var(--idle)",
    Tone.BAD: "var(--bad)",
}
WIDTH_INCHES: Final = 5.4
"""Narrow, so that the text is still readable when a telephone shows the drawing as wide as its window."""
HEIGHT_INCHES: Final = 2.35
_FONT_SIZE: Final = 10.5
_DAY_TICKS: Final = 5
_VALUE_TICKS: Final = 4
_TIME_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_STYLE: Final = re.compile(r' style="([^"]*)"')
_STYLE_ELEMENT: Final = re.compile(r"<style.*?</style>", re.S)
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.S)
_METADATA: Final = re.compile(r"<metadata>.*?</metadata>", re.S)
_SIZE: Final = re.compile(r'(<svg\b[^>]*?) width="[^"]*"| height="[^"]*pt"', re.S)
_FONT: Final = re.compile(r"([0-9.]+)px")
_ID: Final = re.compile(r' id="([^"]+)"')
_REFERENCE: Final = re.compile(r'(?:href="#|url\(#)([^")]+)')
_PATH: Final = re.compile(r' d="([^"]*)"')
_LONG: Final = re.compile(r"(\d+\.\d\d)\d+")


class Unit(StrEnum):
    """What values are, which decides where the lines of the scale stand."""

    BYTES = "bytes"
    SHARE = "share"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class Series:
    """One line or row of bars: a name, a tone, and a value for each day, None where there is none."""

    name: str
    tone: Tone
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw: the days along the bottom and one or more series over them. `title` is for screen readers."""

    title: str
    unit: Unit
    days: tuple[date, ...]
    series: tuple[Series, ...]
    bars: bool = False
    from_zero: bool = True
    cap: float | None = None
    """The scale ends about here; what is higher is cut off and marked."""


def cap_of(values: Sequence[float | None]) -> float | None:
    """Where to end a scale whose rare peaks, a first backup say, would leave all else flat; None where none does so."""
    known = sorted(value for value in values if value is not None and value > 0)
    if len(known) < 8:
        return None
    usual = 4 * known[int(0.9 * (len(known) - 1))]
    return None if known[-1] <= usual else max(value for value in known if value <= usual)


def step_of(span: float, unit: Unit) -> float:
    """The distance between lines of the scale that divides `span` into about four: round in its unit."""
    raw = span / _VALUE_TICKS
    if unit is Unit.SECONDS and raw <= _TIME_STEPS[-1]:
        return float(next(step for step in _TIME_STEPS if step >= raw))
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= raw * 0.999)


def scale_of(values: list[float], unit: Unit, from_zero: bool) -> list[float]:
    """Where the lines of the scale stand, lowest first; the first and last enclose all values."""
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    low = 0.0 if from_zero else low
    if high <= low:
        high, low = (high * 1.05, low * 0.95) if high else (1.0, 0.0)
    step = step_of(high - low, unit)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def day_ticks(count: int) -> list[int]:
    """Which of `count` days are named along the bottom: the last, and evenly before it."""
    step = max(1, math.ceil(count / _DAY_TICKS))
    return sorted(range(count - 1, -1, -step))


def render(chart: Chart, value_text: Callable[[float], str], day_text: Callable[[date], str]) -> str:
    """The chart as one <svg> element; `value_text` and `day_text` write the axes in the reader's language."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    if any(len(series.values) != len(chart.days) for series in chart.series):
        raise ValueError(f"chart {chart.title!r} has {len(chart.days)} days and a series of another length")
    salt = hashlib.sha256(repr(chart).encode()).hexdigest()
    # hashsalt: ids in the drawing depend on what is drawn, so the same numbers give the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        FigureCanvasSVG(figure)
        axes: Any = figure.add_subplot()
        _draw(axes, chart)
        _dress(axes, chart, value_text, day_text)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return for_pages(file.getvalue().decode(), chart.title)


def _draw(axes: Any, chart: Chart) -> None:
    for place, series in enumerate(chart.series):
        known = [(x, y) for x, y in enumerate(series.values) if y is not None]
        xs, ys = [x for x, _ in known], [y for _, y in known]
        if chart.bars:
            axes.bar(xs, ys, width=0.75, color=series.tone.value, linewidth=0, label=series.name)
            continue
        # Dashes as well as another tone, for those who do not tell colours apart.
        dashes = "-" if place == 0 else (0, (4, 2))
        axes.plot(xs, ys, color=series.tone.value, linewidth=1.8, linestyle=dashes, label=series.name)
        if len(xs) == 1:
            axes.plot(xs, ys, color=series.tone.value, marker="o", markersize=4)
        if place == 0 and chart.from_zero:
            axes.fill_between(xs, ys, 0, color=series.tone.value, alpha=0.14, linewidth=0)
    if chart.days:
        axes.set_xlim(-0.6, len(chart.days) - 0.4)


def _dress(axes: Any, chart: Chart, value_text: Callable[[float], str], day_text: Callable[[date], str]) -> None:
    ink = Tone.INK.value
    values = [value for series in chart.series for value in series.values if value is not None]
    if chart.cap is not None:
        values = [min(value, chart.cap) for value in values]
    lines = scale_of(values, chart.unit, chart.from_zero)
    named = day_ticks(len(chart.days))
    axes.set_ylim(lines[0], lines[-1])
    for series in chart.series[:1]:
        cut = [place for place, value in enumerate(series.values) if value is not None and value > lines[-1]]
        axes.plot(cut, [lines[-1]] * len(cut), "^", color=ink, markersize=5, clip_on=False, label="_cut")
    axes.set_yticks(lines, [value_text(line) for line in lines])
    axes.set_xticks(named, [day_text(chart.days[place]) for place in named])
    axes.grid(axis="y", color=ink, alpha=0.14, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=ink, labelsize=_FONT_SIZE, length=0, pad=5)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(ink)
        spine.set_alpha(0.3)
    if len(chart.series) > 1:
        axes.legend(
            frameon=False, fontsize=_FONT_SIZE, labelcolor=ink, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2,
            borderaxespad=0.2,
        )  # fmt: skip


def for_pages(svg: str, title: str) -> str:
    """matplotlib's SVG as it may stand in a page: no style, no fixed size, a title, the page's colours."""
    svg = _METADATA.sub("", _STYLE_ELEMENT.sub("", _PROLOGUE.sub("", svg)))
    svg = _STYLE.sub(_attributes, svg)
    svg = _SIZE.sub(lambda match: match.group(1) or "", svg)
    # Only ids that something points to: a page holds several drawings, and matplotlib numbers the rest alike in all.
    wanted = set(_REFERENCE.findall(svg))
    svg = _ID.sub(lambda match: match.group(0) if match.group(1) in wanted else "", svg)
    svg = _PATH.sub(lambda match: " d=" + quoteattr(_LONG.sub(r"\1", match.group(1))), svg)
    for tone, colour in PAGE_COLOURS.items():
        svg = svg.replace(tone.value, colour)
    opening = f'<svg class="chart" role="img" aria-label={quoteattr(title)} stroke-linejoin="round"'
    return svg.replace("<svg", opening, 1).strip()


def _attributes(match: re.Match[str]) -> str:
    """A style attribute as the presentation attributes that mean the same (SVG 2, 6.6)."""
    result = []
    for declaration in match.group(1).split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            found = _FONT.search(value)
            name, value = "font-size", found.group(1) if found else "10"
        # The page's font, not matplotlib's.
        if name and value and name != "font-family":
            result.append(f' {name}="{value}"')
    return "".join(result)
