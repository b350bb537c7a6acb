"""Sizes, ratios, dates and durations as the reader writes them: 1 234,5 Go in French, 1,234.5 GB in English.

Owns the reader's language and time zone for a request. Sizes are decimal, as disks are sold and contracts are
written. Pure but for `language`, which asks flask-babel.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from babel import dates, numbers
from flask_babel import get_locale
from flask_babel import gettext as _

LANGUAGES: Final = {"fr": "Français", "en": "English", "de": "Deutsch"}
ZONE: Final = ZoneInfo("Europe/Paris")
_UNITS: Final = {
    "fr": ("o", "ko", "Mo", "Go", "To", "Po"),
    "en": ("B", "kB", "MB", "GB", "TB", "PB"),
    "de": ("B", "kB", "MB", "GB", "TB", "PB"),
}
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
NOTHING: Final = "–"


def language() -> str:
    """The reader's language: one of LANGUAGES."""
    return str(get_locale() or "fr")


def _calendar(locale: str | None = None) -> str:
    """The locale of dates: English of Europe, whose readers would take 8/6 for June."""
    locale = locale or language()
    return "en_GB" if locale == "en" else locale


def size(size_bytes: int | float | None, locale: str | None = None) -> str:
    """A size in bytes with at most one decimal; a dash where there is none."""
    if size_bytes is None:
        return NOTHING
    locale = locale or language()
    value, unit = float(size_bytes), 0
    # 999 950 and more would read 1 000,0 of its unit.
    while abs(value) >= 999.95 and unit < 5 or abs(value) >= 1000 and unit == 0:
        value /= 1000
        unit += 1
    digits = "#,##0" if unit == 0 else "#,##0.#"
    return numbers.format_decimal(value, format=digits, locale=locale) + _NO_BREAK + _UNITS[locale][unit]


def gigabytes(size_bytes: int | float | None, locale: str | None = None) -> str:
    """A size in Go whatever it is, for what contracts allocate; in a smaller unit where it would read 0."""
    if size_bytes is None:
        return NOTHING
    if 0 < size_bytes < 50_000_000:
        return size(size_bytes, locale)
    locale = locale or language()
    return numbers.format_decimal(size_bytes / 1e9, format="#,##0.#", locale=locale) + _NO_BREAK + _UNITS[locale][3]


def count(value: int | None, locale: str | None = None) -> str:
    """A whole number with groups."""
    return NOTHING if value is None else numbers.format_decimal(value, format="#,##0", locale=locale or language())


def percent(share: float | None, decimals: int = 0, locale: str | None = None) -> str:
    """A share of 1 as per cent."""
    if share is None:
        return NOTHING
    pattern = "#,##0" + ("." + "0" * decimals if decimals else "")
    number = numbers.format_decimal(share * 100, format=pattern, locale=locale or language())
    return number + _NO_BREAK + "%"


def duration(seconds: float | None) -> str:
    """38 min 17 s; the two largest units only."""
    if seconds is None:
        return NOTHING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}{_NO_BREAK}s"
    parts = [(whole // 86400, _("j")), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    while parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{number}{_NO_BREAK}{unit}" for number, unit in parts[:2] if number)


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(ZONE)


def moment(at: float | None) -> str:
    """Day and minute; seconds since 1970."""
    return str(_("jamais")) if at is None else dates.format_datetime(_local(at), "short", locale=_calendar())


def moment_full(at: float) -> str:
    """Day and second."""
    return dates.format_datetime(_local(at), "medium", locale=_calendar())


def stamp(at: float) -> str:
    """Day and second as every spreadsheet reads them, where the reader is."""
    return _local(at).strftime("%Y-%m-%d %H:%M:%S")


def minute(at: float) -> str:
    """Day and minute as the `datetime-local` field of a form holds them, where the reader is."""
    return _local(at).strftime("%Y-%m-%dT%H:%M")


def clock_time(at: float) -> str:
    """The minute of the day."""
    return dates.format_time(_local(at), "short", locale=_calendar())


def clock_second(at: float) -> str:
    """The second of the day."""
    return dates.format_time(_local(at), "medium", locale=_calendar())


def day(value: date | float | None) -> str:
    """A day, short."""
    if value is None:
        return NOTHING
    return _day(value if isinstance(value, date) else _local(value).date(), language())


@lru_cache(4096)
def _day(value: date, locale: str) -> str:
    # Lists say the same few hundred days thousands of times.
    return dates.format_date(value, "short", locale=_calendar(locale))


def day_short(value: date, locale: str | None = None) -> str:
    """A day and its month, for the axis of a chart."""
    text: str = dates.format_skeleton("MMMd", value, locale=_calendar(locale))
    return text


def day_long(value: date | float) -> str:
    """A day with its name, for headings."""
    return dates.format_date(value if isinstance(value, date) else _local(value).date(), "full", locale=_calendar())


def local_day(at: float) -> date:
    """The calendar day of a moment where the reader is."""
    return _local(at).date()


def day_begins(value: date) -> float:
    """The first moment of a day where the reader is, seconds since 1970."""
    return datetime.combine(value, datetime.min.time(), ZONE).timestamp()


def decimal(value: float | None, digits: int, locale: str | None = None) -> str | None:
    """A number with a fraction as spreadsheets of the reader's language read it: no groups, their own comma."""
    if value is None:
        return None
    text: str = numbers.format_decimal(value, format="0." + "0" * digits, locale=locale or language())
    return text


def iso(at: float) -> str:
    """For the `datetime` attribute of a <time>."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(at: float | None, now: float) -> str:
    """How long ago, roughly."""
    if at is None:
        return str(_("jamais"))
    # This very moment lies in the past: « dans 0 seconde » is what nobody says.
    seconds = -1.0 if -1 < at - now <= 0 else at - now
    since = timedelta(seconds=seconds)
    text: str = dates.format_timedelta(since, add_direction=True, locale=_calendar(), threshold=1.1)
    return text


_NUMBER_LIMIT: Final = 40


def number(value: Decimal | float | int, locale: str | None = None) -> str:
    """A number with up to nine decimals, none of them idle: what a form's field shows."""
    return numbers.format_decimal(value, format="#,##0.#########", locale=locale or language())


def parse_decimal(text: str, locale: str | None = None) -> Decimal:
    """The number, 0 or more, that a reader typed: 1 234,5 in French, 1,234.5 in English, 1.234,5 in German.

    ValueError for anything else. A group sign must stand before three digits: in English 1,5 is a slip and no 15.
    """
    locale = locale or language()
    compact = "".join(text.split())
    mark, group = numbers.get_decimal_symbol(locale), numbers.get_group_symbol(locale)
    # French groups by spaces, which are gone; the point is what a French numeric keypad types.
    marks = re.escape(mark) if group in ".,'" else "[.,]"
    whole = rf"[0-9]{{1,3}}(?:{re.escape(group)}[0-9]{{3}})+|[0-9]+"
    match = re.fullmatch(rf"({whole})(?:{marks}([0-9]+))?", compact)
    if match is None or len(compact) > _NUMBER_LIMIT:
        raise ValueError("not a number as it is written in this language")
    return Decimal(f"{match[1].replace(group, '')}.{match[2] or '0'}")


def sheet_moment(at: float | None) -> str:
    """Day and minute where the reader is, as every spreadsheet reads them; empty where there is none."""
    return "" if at is None else _local(at).strftime("%Y-%m-%d %H:%M")


def sheet_gigabytes(size_bytes: int, locale: str | None = None) -> str:
    """A size in Go for a spreadsheet in the reader's language: its decimal mark, no groups, no unit."""
    return numbers.format_decimal(size_bytes / 1e9, format="0.000", locale=locale or language())


def month_name(year: int, month: int) -> str:
    """octobre 2026."""
    return dates.format_date(date(year, month, 1), "LLLL y", locale=_calendar())
