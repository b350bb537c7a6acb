"""Formats: sizes, shares, dates and durations as each language writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

import pytest

from tests.webui.web_house import WebHouse
from webui import formats

NB, THIN = "\u00a0", "\u202f"


@contextmanager
def reading(web: WebHouse, language: str) -> Iterator[None]:
    with web.app.test_request_context(headers={"Accept-Language": language}):
        assert formats.language() == language
        yield


@pytest.mark.parametrize(
    ("size", "locale", "written"),
    [
        (0, "fr", f"0{NB}o"),
        (999, "fr", f"999{NB}o"),
        (1000, "fr", f"1{NB}ko"),
        (1_234_500_000_000, "fr", f"1,2{NB}To"),
        (394_600_000_000, "fr", f"394,6{NB}Go"),
        (999_949_999, "fr", f"999,9{NB}Mo"),
        # What would read "1 000 Mo" is the next unit.
        (999_950_001, "fr", f"1{NB}Go"),
        (10**18, "fr", f"1{THIN}000{NB}Po"),
        (1_500_000, "en", f"1.5{NB}MB"),
        (1_500_000, "de", f"1,5{NB}MB"),
        (None, "fr", "–"),
    ],
)
def test_sizes(size: int | None, locale: str, written: str) -> None:
    assert formats.size(size, locale) == written


def test_gigabytes_stay_gigabytes() -> None:
    assert formats.gigabytes(1_234_500_000_000, "fr") == f"1{THIN}234,5{NB}Go"
    assert formats.gigabytes(1_234_500_000_000, "en") == f"1,234.5{NB}GB"
    assert formats.gigabytes(1_234_500_000_000, "de") == f"1.234,5{NB}GB"
    assert formats.gigabytes(None, "fr") == "–"
    assert formats.gigabytes(0, "fr") == f"0{NB}Go"
    # Never 0 Go where there is something.
    assert formats.gigabytes(100_000, "fr") == f"100{NB}ko"


def test_counts_and_shares() -> None:
    assert formats.count(28933, "fr") == f"28{THIN}933"
    assert formats.count(None, "fr") == "–"
    assert formats.percent(0.039829, 2, "fr") == f"3,98{NB}%"
    assert formats.percent(7.892, 0, "en") == f"789{NB}%"
    assert formats.percent(None, 0, "fr") == "–"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, f"0{NB}s"),
        (59.4, f"59{NB}s"),
        (59.6, f"1{NB}min"),
        (2297, f"38{NB}min 17{NB}s"),
        (3600, f"1{NB}h"),
        (3661, f"1{NB}h 1{NB}min"),
        (90061, f"1{NB}j 1{NB}h"),
        (-5, f"0{NB}s"),
        (None, "–"),
    ],
)
def test_durations(web: WebHouse, seconds: float | None, written: str) -> None:
    with reading(web, "fr"):
        assert formats.duration(seconds) == written


def test_moments_are_those_of_paris(web: WebHouse) -> None:
    summer = datetime(2026, 7, 1, 22, 30, tzinfo=UTC).timestamp()
    with reading(web, "fr"):
        assert formats.local_day(summer) == date(2026, 7, 2)
        assert formats.clock_time(summer) == "00:30"
        assert formats.day(summer) == "02/07/2026"
        assert formats.day_long(summer) == "jeudi 2 juillet 2026"
        assert formats.minute(summer) == "2026-07-02T00:30"
        assert formats.stamp(summer) == "2026-07-02 00:30:00"
        assert formats.day_short(date(2026, 7, 2)) == "2 juil."
        assert formats.moment(None) == "jamais"
    with reading(web, "de"):
        assert formats.day(summer) == "02.07.26"
    assert formats.iso(summer) == "2026-07-01T22:30:00Z"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)])
def test_days_begin_at_midnight_whatever_the_clocks_do(day: str, hours: int) -> None:
    begins = date.fromisoformat(day)
    following = date.fromordinal(begins.toordinal() + 1)
    assert formats.day_begins(following) - formats.day_begins(begins) == hours * 3600
    assert formats.local_day(formats.day_begins(begins)) == begins
    assert formats.local_day(formats.day_begins(begins) - 1) < begins


def test_fractions_for_spreadsheets_have_no_groups() -> None:
    assert formats.decimal(12345.678, 2, "fr") == "12345,68"
    assert formats.decimal(12345.678, 1, "en") == "12345.7"
    assert formats.decimal(None, 2, "fr") is None


def test_ago_tells_before_and_after(web: WebHouse) -> None:
    with reading(web, "fr"):
        assert formats.ago(1000, 1000 + 7200) == "il y a 2 heures"
        assert formats.ago(1000 + 3 * 86400, 1000) == "dans 3 jours"
        assert formats.ago(None, 1000) == "jamais"
