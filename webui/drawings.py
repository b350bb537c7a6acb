"""Drawn charts, kept in memory by what they show: the same numbers in the same language are drawn once.

Owns where matplotlib keeps its list of fonts (the home, not whoever's ~), that one drawing is made at a time, and how
much memory the drawings of a process may take. Colours are the page's, so a theme needs no drawing of its own.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

from webui import charts, formats
from webui.charts import Chart, Unit

KEPT_BYTES: Final = 4 * 1024 * 1024
FOLDER: Final = "MPLCONFIGDIR"
"""matplotlib's own name for where it keeps what it found out about this machine."""


def value_text(unit: Unit, language: str) -> Callable[[float], str]:
    """How values of a unit are written on an axis."""

    def share(value: float) -> str:
        decimals = 0 if value == 0 or value >= 0.1 else 1 if value >= 0.001 else 2
        return formats.percent(value, decimals, language)

    match unit:
        case Unit.BYTES:
            return lambda value: formats.size(value, language)
        case Unit.SHARE:
            return share
        case Unit.SECONDS:
            return formats.duration


class Drawings:
    """The drawings of a process. `render` is `charts.render`, but for tests."""

    def __init__(
        self, render: Callable[[Chart, Callable[[float], str], Callable[[date], str]], str] = charts.render
    ) -> None:
        self._render = render
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0

    def svg(self, chart: Chart, language: str, cache: Path) -> str:
        """The chart as <svg>; `cache` is a folder for what matplotlib finds out once a machine."""
        key = hashlib.sha256(f"{language} {chart!r}".encode()).hexdigest()
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            _prepare(cache)
            drawn = self._render(chart, value_text(chart.unit, language), lambda day: formats.day_short(day, language))
            self._kept[key] = drawn
            self._bytes += len(drawn)
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
            return drawn

    def __len__(self) -> int:
        return len(self._kept)


def _prepare(cache: Path) -> None:
    """Before the first drawing of a process: matplotlib asks for its folder when it is loaded."""
    if FOLDER not in os.environ:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[FOLDER] = str(cache)
