"""Sizes, numbers, days and times as people at this machine write them, in its time zone. Sizes are decimal."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from babel import dates, numbers
from flask_babel import get_locale
from flask_babel import gettext as _

from agent.ui.machine import this

_UNITS: Final = {"fr": ("o", "ko", "Mo", "Go", "To"), "en": ("B", "kB", "MB", "GB", "TB")}
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


def language() -> str:
    """The reader's."""
    return str(get_locale() or "fr")


def _calendar() -> str:
    """The locale of dates: English of Europe, whose readers would take 8/6 for June."""
    return "en_GB" if language() == "en" else language()


def size(size_bytes: int) -> str:
    """A size with at most one decimal."""
    value, unit = float(size_bytes), 0
    units = _UNITS["fr" if language() == "fr" else "en"]
    while value >= (1000 if unit == 0 else 999.95) and unit < len(units) - 1:
        value, unit = value / 1000, unit + 1
    digits = "#,##0.#" if unit else "#,##0"
    return numbers.format_decimal(value, format=digits, locale=language()) + _NO_BREAK + units[unit]


def count(value: int) -> str:
    """A whole number with groups."""
    text: str = numbers.format_decimal(value, format="#,##0", locale=language())
    return text


def number(value: float) -> str:
    """A number with up to three decimals."""
    text: str = numbers.format_decimal(value, format="#,##0.###", locale=language())
    return text


def percent(share: float) -> str:
    """A share of 1."""
    text: str = numbers.format_decimal(int(share * 100), format="#,##0", locale=language())
    return text + _NO_BREAK + "%"


def duration(seconds: float) -> str:
    """38 min 17 s: the two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{max(whole, 1)}{_NO_BREAK}s"
    parts = [(whole // 86400, _("j")), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    while parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{number}{_NO_BREAK}{unit}" for number, unit in parts[:2] if number)


def local(at: float) -> datetime:
    """A moment where the machine is."""
    return datetime.fromtimestamp(at, UTC).astimezone(this().zone())


def clock(at: float) -> str:
    """The minute of the day."""
    return dates.format_time(local(at), "short", locale=_calendar())


def moment(at: float) -> str:
    """Day and minute."""
    return dates.format_datetime(local(at), "short", locale=_calendar())


def day_long(day: date) -> str:
    """A day with its name."""
    return dates.format_date(day, "full", locale=_calendar())


def month(first: date) -> str:
    """novembre 2026."""
    return dates.format_date(first, "LLLL y", locale=_calendar())


def weekday(day: int) -> str:
    """The name of a day of the week, 0 is Monday."""
    names = dates.get_day_names("wide", context="stand-alone", locale=_calendar())
    return str(names[day])


def weekday_short(day: int) -> str:
    """Its short name."""
    return str(dates.get_day_names("abbreviated", context="stand-alone", locale=_calendar())[day])


def plainly(at: float) -> str:
    """« aujourd’hui à 12:30 », « hier à 19:31 », « jeudi 19 novembre à 12:30 »: how a person says it."""
    when, today = local(at), local(this().now()).date()
    time = clock(at)
    if when.date() == today:
        return str(_("aujourd’hui à %(time)s", time=time))
    if when.date() == today - timedelta(days=1):
        return str(_("hier à %(time)s", time=time))
    if when.date() == today + timedelta(days=1):
        return str(_("demain à %(time)s", time=time))
    day = dates.format_skeleton("MMMMEEEEd", when, locale=_calendar())
    return str(_("%(day)s à %(time)s", day=day, time=time))


def iso(at: float) -> str:
    """For the `datetime` attribute of a <time>."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
