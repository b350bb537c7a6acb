"""Charts: SVG that a strict page takes inline, scales that people read, drawings that are made once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import date, timedelta
from pathlib import Path

import pytest

from appliance.control.reports import Point
from tests.webui.web_house import WebHouse
from webui import charts, series
from webui.charts import Chart, Series, Tone, Unit, cap_of, day_ticks, render, scale_of
from webui.drawings import Drawings, value_text

DAYS = tuple(date(2026, 8, 28) + timedelta(days=day) for day in range(90))


def a_chart(title: str = "Volume", *, bars: bool = True) -> Chart:
    values = tuple(float(day % 7) * 1e9 if day % 11 else None for day in range(90))
    return Chart(title, Unit.BYTES, DAYS, (Series("Volume", Tone.ACCENT, values),), bars=bars)


@pytest.fixture(scope="module")
def svg() -> str:
    return render(a_chart('Volume "brut" & <net>'), lambda value: f"{value / 1e9:.0f} Go", lambda day: f"{day:%d/%m}")


def test_the_drawing_is_one_well_formed_element_with_a_title(svg: str) -> None:
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'Volume "brut" & <net>'
    assert root.get("viewBox") and root.get("width") is None and root.get("height") is None


def test_the_drawing_needs_no_style_that_a_strict_policy_refuses(svg: str) -> None:
    assert "style" not in svg
    assert "<script" not in svg and "<metadata" not in svg and "<?xml" not in svg and "font-family" not in svg


def test_tones_are_the_pages_own_colours(svg: str) -> None:
    assert "currentColor" in svg and "var(--accent)" in svg
    assert not any(tone.value in svg for tone in Tone)
    # Nothing else has a colour of its own, so that dark pages hold no white patch.
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) == set()


def test_ids_do_not_clash_between_the_drawings_of_a_page(svg: str) -> None:
    other = render(a_chart("Autre", bars=False), str, str)
    ids = re.findall(r' id="([^"]+)"', svg), re.findall(r' id="([^"]+)"', other)
    assert not set(ids[0]) & set(ids[1])
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(ids[0])


def test_axes_are_written_by_the_caller(svg: str) -> None:
    texts = [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "6 Go" in texts and "25/11" in texts


def test_the_same_numbers_give_the_same_bytes(svg: str) -> None:
    again = render(a_chart('Volume "brut" & <net>'), lambda value: f"{value / 1e9:.0f} Go", lambda day: f"{day:%d/%m}")
    assert again == svg


def test_lines_of_unequal_length_are_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="another length"):
        render(Chart("x", Unit.BYTES, DAYS, (Series("x", Tone.ACCENT, (1.0,)),)), str, str)


@pytest.mark.parametrize("values", [(), (0.0,), (5.0,), (None, None), (1e15, 2e15), (1e-9, 2e-9)])
def test_hardly_anything_can_be_drawn_too(values: tuple[float | None, ...]) -> None:
    for unit in Unit:
        chart = Chart("x", unit, DAYS[: len(values)], (Series("x", Tone.ACCENT, values),), from_zero=False)
        ET.fromstring(render(chart, str, str))


@pytest.mark.parametrize(
    ("values", "unit", "lines"),
    [
        ([0.0, 2.7e9], Unit.BYTES, [0, 1e9, 2e9, 3e9]),
        ([0.0, 154e6], Unit.BYTES, [0, 50e6, 100e6, 150e6, 200e6]),
        ([0.0, 3500.0], Unit.SECONDS, [0, 900, 1800, 2700, 3600]),
        ([0.0, 50.0], Unit.SECONDS, [0, 15, 30, 45, 60]),
        ([0.0, 1e6], Unit.SECONDS, [0, 250e3, 500e3, 750e3, 1e6]),
        ([0.0], Unit.SHARE, [0, 0.25, 0.5, 0.75, 1.0]),
        ([], Unit.SHARE, [0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_lines_of_the_scale_are_round_in_their_unit(values: list[float], unit: Unit, lines: list[float]) -> None:
    assert scale_of(values, unit, True) == pytest.approx(lines)


def test_a_scale_that_does_not_begin_at_zero_encloses_its_values() -> None:
    lines = scale_of([452e9, 950e9], Unit.BYTES, False)
    assert lines[0] <= 452e9 and lines[-1] >= 950e9 and lines[0] > 0


def test_the_last_day_is_always_named() -> None:
    for count in range(1, 400):
        places = day_ticks(count)
        assert places[-1] == count - 1 and len(places) <= 5
    assert day_ticks(0) == []


def test_a_rare_peak_does_not_flatten_the_rest() -> None:
    usual = [float(10 + day % 3) for day in range(60)]
    assert cap_of(usual) is None
    assert cap_of([*usual, 700.0, None]) == 12.0
    assert cap_of([1.0, 900.0]) is None, "of a few days none is usual"
    drawn = render(Chart("x", Unit.BYTES, DAYS[:61], (Series("x", Tone.ACCENT, (*usual, 700.0)),), cap=12.0), str, str)
    assert "15.0" in drawn and "800" not in drawn


def test_drawings_are_made_once_and_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def render(chart: Chart, value_text: object, day_text: object) -> str:
        made.append(chart.title)
        return "x" * 1_500_000

    drawings = Drawings(render)
    for title in ("a", "b", "a", "c", "a", "b"):
        drawings.svg(a_chart(title), "fr", tmp_path)
    # Two of these fit; b was the one unused for longest when c came.
    assert made == ["a", "b", "c", "b"]
    assert len(drawings) == 2
    drawings.svg(a_chart("b"), "de", tmp_path)
    assert made[-1] == "b", "axes speak the reader's language"


def test_matplotlib_keeps_its_fonts_in_the_home_and_waits_for_the_first_drawing(tmp_path: Path) -> None:
    script = (
        "import sys, os, pathlib\n"
        "import webui.app\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from webui.drawings import Drawings\n"
        "from webui.charts import Chart, Series, Tone, Unit\n"
        "chart = Chart('x', Unit.SECONDS, (), ())\n"
        f"Drawings().svg(chart, 'fr', pathlib.Path({str(tmp_path / 'cache')!r}))\n"
        "import matplotlib\n"
        "print(matplotlib.get_cachedir())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    environment["PYTHONPATH"] = os.getcwd()
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "cache")
    assert list((tmp_path / "cache").glob("fontlist*"))
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_axes_speak_the_readers_language() -> None:
    assert value_text(Unit.BYTES, "fr")(1.5e9) == "1,5\u00a0Go"
    assert value_text(Unit.BYTES, "en")(1.5e9) == "1.5\u00a0GB"
    assert value_text(Unit.SHARE, "fr")(0.0398) == "4,0\u00a0%"
    assert value_text(Unit.SHARE, "de")(0.5) == "50\u00a0%"


def points(count: int, **figures: float) -> list[Point]:
    return [Point(day, 10 * (place + 1), 1000, 0.01, 60.0, 30.0, 2) for place, day in enumerate(DAYS[:count])]


def test_a_period_has_its_five_charts_and_a_sentence_for_each(web: WebHouse) -> None:
    with web.app.test_request_context(headers={"Accept-Language": "fr"}):
        found = series.figures(points(3), 2000)
        assert [figure.id for figure in found] == ["transfer", "source", "ratio", "duration", "space"]
        assert found[0].sentence == "Au plus 30\u00a0o, le 30/08/2026."
        assert "50\u00a0%" in found[4].sentence
        assert found[0].heading in found[0].chart.title and "du 28/08/2026 au 30/08/2026" in found[0].chart.title
        assert found[3].chart.series[0].values == (30.0, 30.0, 30.0), "a mean, not a sum"
        assert [figure.id for figure in series.figures(points(3), None)][-1] == "duration"
        assert series.figures([], 2000) == []


def test_over_quota_is_drawn_as_it_is(web: WebHouse) -> None:
    with web.app.test_request_context(headers={"Accept-Language": "fr"}):
        space = series.figures(points(3), 500)[4]
        assert "200\u00a0%" in space.sentence
        assert space.chart.series[1].tone is Tone.BAD


def test_a_period_in_numbers() -> None:
    total = series.total(points(3))
    assert (total.backups, total.bytes_sent, total.bytes_source, total.seconds) == (6, 60, 1000, 30.0)
    assert series.total([]).ratio is None


def test_pages_colours_are_all_defined() -> None:
    style = (Path(charts.__file__).parent / "static" / "pilulier.css").read_text(encoding="utf-8")
    for colour in charts.PAGE_COLOURS.values():
        name = re.fullmatch(r"var\((--[a-z]+)\)", colour)
        assert name is None or name[1] == "--accent" or f"{name[1]}:" in style
