"""From a mail of the outbox to a message that a mail server takes: subject, plain text, HTML, the space's logo.

Rules: every fact is escaped on its way into HTML and loses control characters before it comes anywhere; a header is
one line whatever a fact holds; links begin with the appliance's public address and hold nothing but ids and the mail's
own token. A fact that is missing leaves its line out, so that a mail written by another version can still be sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote

import jinja2
from babel import dates, numbers, units

from appliance.control.outbox import Mail, Scalar, Value
from appliance.control.text import one_line
from appliance.control.themes import Logo, Theme, text_on
from appliance.errors import NotFoundError
from appliance.mail import english, french, german
from appliance.mail.wording import SHAPES, Language, Shape, Tone

LANGUAGES: Final = {language.locale: language for language in (french.LANGUAGE, english.LANGUAGE, german.LANGUAGE)}
_BANDS: Final = {Tone.GOOD: "#1b7a4b", Tone.WARNING: "#8a5a00", Tone.BAD: "#b3261e"}
"""Colours of bands beside the space's own; white on each contrasts by more than 5."""
_STATES: Final = {"complete": "#1b7a4b", "started": "#8a5a00", "none": "#b3261e"}
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
_NOTHING: Final = "–"
_RIGHT: Final = frozenset({"source_bytes", "sent_bytes", "files"})
_SAID_WHEN_NONE: Final = frozenset({"end_date", "good_at", "seen_at"})
"""Facts whose absence is worth a line: no end date, never."""
_VALUE_LIMIT: Final = 400
_SUBJECT_LIMIT: Final = 180


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom mails come from, and where links lead: `public_url` without a slash at its end, empty where none is set."""

    address: str
    name: str
    public_url: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; `fixed` for codes."""

    text: str
    colour: str = ""
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class _Column:
    label: str
    align: str


class _Speaker:
    """Values as a language writes them."""

    def __init__(self, language: Language, zone: tzinfo | None) -> None:
        self.language = language
        self._zone = zone

    def moment(self, at: object) -> str:
        """Day and minute, in the appliance's zone."""
        if not isinstance(at, int | float):
            return self.language.words["never"]
        patterns = {"en": "d MMMM y 'at' HH:mm", "de": "d. MMMM y 'um' HH:mm 'Uhr'"}
        return self._written(at, patterns, "d MMMM y 'à' HH:mm")

    def short_moment(self, at: object) -> str:
        """The same for a narrow column."""
        if not isinstance(at, int | float):
            return self.language.words["never"]
        return self._written(at, {"de": "d. MMM, HH:mm"}, "d MMM, HH:mm")

    def _written(self, at: float, patterns: Mapping[str, str], pattern: str) -> str:
        # Without its zone: Babel would turn it to the zone of this process.
        local = datetime.fromtimestamp(at, self._zone).replace(tzinfo=None)
        return dates.format_datetime(local, patterns.get(self.language.locale, pattern), locale=self.language.locale)

    def day(self, text: object) -> str:
        """A date out of ISO 8601."""
        if not text:
            return self.language.words["none"]
        return dates.format_date(date.fromisoformat(str(text)), "long", locale=self.language.locale)

    def size(self, value: object) -> str:
        """Bytes in decimal units, one digit after the point."""
        number, unit = float(value) if isinstance(value, int | float) else 0.0, 0
        while unit < len(self.language.units) - 1 and number >= (999.95 if unit else 1000):
            number, unit = number / 1000, unit + 1
        pattern = "#,##0.#" if unit else "#,##0"
        written = numbers.format_decimal(number, format=pattern, locale=self.language.locale)
        return f"{written}{_NO_BREAK}{self.language.units[unit]}"

    def number(self, value: object) -> str:
        """A whole number with its groups."""
        whole = value if isinstance(value, int | float) else 0
        return numbers.format_decimal(whole, format="#,##0", locale=self.language.locale)

    def span(self, hours: object) -> str:
        """A length of time: hours up to three days, days from then on."""
        count = int(hours) if isinstance(hours, int | float) else 0
        if count < 72:
            return units.format_unit(count, "duration-hour", length="long", locale=self.language.locale)
        return units.format_unit(count // 24, "duration-day", length="long", locale=self.language.locale)

    def word(self, value: object) -> str:
        """An alarm's kind in words."""
        return self.language.words.get(f"alarm:{value}", self.language.words["alarm:other"])

    def article(self, value: object) -> str:
        """What is deleted, as it stands in a sentence."""
        return self.language.words.get(f"article:{value}", str(value))

    def fact(self, name: str, value: Value) -> str:
        """A fact as its line shows it; its name says what it is."""
        if name.endswith("_at") or name in ("at", "since"):
            return self.moment(value)
        if name.endswith("_date"):
            return self.day(value)
        if name.endswith("_bytes"):
            return self.size(value)
        if name.endswith("percent"):
            return f"{self.number(value)}{_NO_BREAK}%"
        if name in ("role", "what"):
            return self.language.words.get(f"{name}:{value}", str(value))
        return self.number(value) if isinstance(value, int) else str(value)

    def cell(self, name: str, row: Mapping[str, Scalar]) -> Cell:
        """A cell of a table."""
        value = row.get(name)
        if name == "state":
            return Cell(self.language.words.get(f"state:{value}", str(value)), _STATES.get(str(value), ""))
        if name == "files":
            return Cell(f"{self.number(row.get('files_full') or 0)} / {self.number(row.get('files_delta') or 0)}")
        if name == "what":
            return Cell(self.language.words.get(f"digest:{value}", str(value)))
        if value is None or value == "":
            return Cell(self.language.words["never"] if name.endswith("_at") else _NOTHING)
        if name.endswith("_at"):
            return Cell(self.short_moment(value))
        if name.endswith("_bytes"):
            return Cell(self.size(value))
        return Cell(str(value), fixed=name == "head")


class _WholeWords(EmailPolicy):
    """The policy for SMTP, with encoded words (RFC 2047) made by the older of Python's two ways.

    The newer one drops the space between two words where it has to fold between them (CPython 3.11, seen).
    """

    def fold(self, name: str, value: str) -> str:
        """A header in lines of at most 78 characters."""
        if name in ("Subject", "From") and not value.isascii():
            return f"{name}: {self._encoded(name, value)}{self.linesep}"
        folded: str = super().fold(name, value)
        return folded

    def fold_binary(self, name: str, value: str) -> bytes:
        """The same as bytes."""
        if name in ("Subject", "From") and not value.isascii():
            return self.fold(name, value).encode("ascii")
        return super().fold_binary(name, value)

    def _encoded(self, name: str, value: str) -> str:
        address = ""
        if name == "From":
            (sender,) = value.addresses  # type: ignore[attr-defined]
            value, address = sender.display_name, f"{self.linesep} <{sender.addr_spec}>"
        return f"{Header(value, 'utf-8', header_name=name).encode(linesep=self.linesep)}{address}"


_WHOLE_WORDS: Final = _WholeWords(linesep="\r\n")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("appliance.mail", "templates"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=jinja2.ChainableUndefined,
        keep_trailing_newline=True,
    )


def _phrases(speaker: _Speaker, facts: Mapping[str, Any]) -> _Phrases:
    environment = _environment().overlay(autoescape=False)
    environment.filters = environment.filters | {
        "moment": speaker.moment,
        "day": speaker.day,
        "size": speaker.size,
        "span": speaker.span,
        "word": speaker.word,
        "article": speaker.article,
    }
    return _Phrases(environment, facts)


@dataclass(frozen=True, slots=True)
class _Phrases:
    """Sentences of a wording with facts in them, as plain text: escaping is the template's that shows them."""

    environment: jinja2.Environment
    facts: Mapping[str, Any]

    def __call__(self, text: str) -> str:
        return self.environment.from_string(text).render(self.facts).strip()


def _clean(value: Value) -> Any:
    """Facts come from people and machines: one line each, bounded."""
    if isinstance(value, str):
        return one_line(value, _VALUE_LIMIT)
    if value is None or isinstance(value, int | float):
        return value
    return [{name: _clean(cell) for name, cell in row.items()} for row in value]


def _link(shape: Shape, facts: Mapping[str, Any], secret: str | None, public_url: str) -> str:
    """The address behind the button; empty where there is none, or a part of it is missing."""
    if not shape.link or not public_url:
        return ""
    known = {name: str(value) for name, value in facts.items() if isinstance(value, str)} | {"secret": secret or ""}
    wanted = re.findall(r"\{(\w+)\}", shape.link)
    if not all(known.get(name) for name in wanted):
        return ""
    return public_url + re.sub(r"\{(\w+)\}", lambda found: quote(known[found[1]], safe=""), shape.link)


def compose(
    mail: Mail, theme: Theme, logo: Logo | None, sender: Sender, *, now: float, zone: tzinfo | None = None
) -> EmailMessage:
    """The message; NotFoundError for a kind that this program does not know.

    `zone` None is the appliance's own.
    """
    language = LANGUAGES.get(mail.language, french.LANGUAGE)
    shape, wording = SHAPES.get(mail.kind), language.wordings.get(mail.kind)
    if shape is None or wording is None:
        raise NotFoundError(f"mail {mail.id} is of kind {mail.kind!r}, which this version of the program does not know")
    product = one_line(theme.product_name, 60)
    facts: dict[str, Any] = {name: _clean(value) for name, value in mail.fields.items()} | {"product": product}
    speaker = _Speaker(language, zone)
    say = _phrases(speaker, facts)
    link = _link(shape, facts, mail.secret, sender.public_url)
    rows = facts.get("machines" if "state" in shape.columns else "rows", []) if shape.columns else []
    facts_shown = [
        (language.labels[name], speaker.fact(name, facts[name]))
        for name in shape.facts
        if facts.get(name) not in (None, "") or (name in facts and name in _SAID_WHEN_NONE)
    ]
    share = facts.get("percent" if shape.tone is Tone.BAD else "used_percent")
    ratio = None
    if "allocated_bytes" in shape.facts and isinstance(share, int | float):
        ratio = max(1, min(100, round(share)))
    band = _BANDS.get(shape.tone, theme.colour)
    context = {
        "locale": language.locale,
        "product": product,
        "theme": theme,
        "band": band,
        "on_band": text_on(band),
        "logo": f"logo.{logo.digest}" if logo else "",
        "title": say(wording.title),
        "paragraphs": [text for text in map(say, wording.paragraphs) if text],
        "facts": facts_shown,
        "width": max((len(label) for label, _ in facts_shown), default=0),
        "ratio": ratio,
        "columns": [
            _Column(language.labels[name], "right" if name in _RIGHT else "left") for name in shape.columns
        ],
        "rows": [[speaker.cell(name, row) for name in shape.columns] for row in rows],
        "button": say(wording.button) if link else "",
        "link": link,
        "secret": bool(mail.secret),
        "link_hint": language.link_hint,
        "note": say(wording.note),
        "support": language.support,
        "automatic": say(language.automatic),
    }
    message = EmailMessage(policy=_WHOLE_WORDS)
    message["From"] = _from(sender, product)
    message["To"] = Address(addr_spec=mail.recipient)
    message["Subject"] = one_line(say(wording.subject), _SUBJECT_LIMIT)
    message["Date"] = format_datetime(datetime.fromtimestamp(now, zone).astimezone(zone))
    message["Message-ID"] = mail.message_id or ""
    # RFC 3834: nobody's out-of-office answers this.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(_environment().get_template("mail.txt.j2").render(context), cte="quoted-printable")
    message.add_alternative(
        _environment().get_template("mail.html.j2").render(context), subtype="html", cte="quoted-printable"
    )
    message["Content-Language"] = language.locale
    if logo:
        parts = message.get_payload()
        assert isinstance(parts, list)
        html = parts[1]
        assert isinstance(html, EmailMessage)
        main, sub = logo.content_type.split("/")
        html.add_related(
            logo.data, main, sub, cid=f"<logo.{logo.digest}>", disposition="inline", filename=f"logo.{sub}"
        )
    return message


def _from(sender: Sender, product: str) -> Address:
    return Address(one_line(sender.name or product, 80), addr_spec=sender.address)
