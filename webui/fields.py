"""Fields whose text is in the reader's own writing: gigabytes with decimals, whole numbers, days.

What cannot be read is kept as it was typed, with a sentence beside it. Know no form.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from flask_babel import gettext as _
from wtforms import Field
from wtforms.widgets import DateInput, TextInput

from webui import formats

GIGABYTE: Final = 10**9
_DAY_FORMATS: Final = ("%Y-%m-%d", "%d/%m/%Y", "%d.%m.%Y")
"""What browsers send, and what people type where a browser knows no dates."""


class GigabytesField(Field):  # type: ignore[misc]  # untyped base
    """A volume; `data` is bytes."""

    widget = TextInput()
    data: Any

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return "" if self.data is None else formats.number(Decimal(self.data) / GIGABYTE)

    def process_formdata(self, values: list[str]) -> None:
        """Bytes out of what was typed."""
        if not values or not values[0].strip():
            self.data = None
            return
        try:
            self.data = int(formats.parse_decimal(values[0]) * GIGABYTE)
        except ValueError:
            self.data = None
            example = formats.number(Decimal("1234.5"))
            raise ValueError(_("Écrivez un nombre de Go, par exemple %(example)s.", example=example)) from None


class CountField(Field):  # type: ignore[misc]  # untyped base
    """A whole number, 0 or more, of at most nine digits; None where nothing was typed."""

    widget = TextInput()
    data: Any

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return "" if self.data is None else str(self.data)

    def process_formdata(self, values: list[str]) -> None:
        """The number that was typed."""
        text = "".join(values[0].split()) if values else ""
        self.data = None
        if not text:
            return
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise ValueError(_("Écrivez un nombre entier, par exemple 5."))
        self.data = int(text)


class DayField(Field):  # type: ignore[misc]  # untyped base
    """A day; None where nothing was typed."""

    widget = DateInput()
    data: Any

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return "" if self.data is None else self.data.isoformat()

    def process_formdata(self, values: list[str]) -> None:
        """The day that was chosen or typed."""
        text = values[0].strip() if values else ""
        self.data = None
        if not text:
            return
        for form in _DAY_FORMATS:
            try:
                self.data = datetime.strptime(text, form).date()
            except ValueError:
                continue
            return
        raise ValueError(_("Écrivez une date, par exemple 31/12/2027."))


def between(field: Any, least: int, most: int, sentence: str) -> bool:
    """Whether a field's number lies in a range; if not, the sentence stands beside it. Empty fields do."""
    if field.data is None or least <= field.data <= most:
        return True
    field.errors = [*field.errors, sentence]
    return False
