"""CSV that a spreadsheet opens without running anything: formulas are defused, Excel in French finds its columns.

Owns the rule against formula injection (OWASP, CSV Injection): a text cell that begins like a formula gets an
apostrophe before it; numbers stay numbers. Semicolons and a byte order mark are what French spreadsheets expect.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from flask import Response, stream_with_context

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_BATCH: Final = 500
"""Rows that are written at a time where a file may be long."""

Cell = str | int | float | None


def safe_cell(value: Cell) -> str | int | float:
    """The cell as it may stand in a file for a spreadsheet."""
    if value is None:
        return ""
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS):
        return "'" + value
    return value


def to_csv(columns: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """The whole file as text."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=";", quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerow([safe_cell(column) for column in columns])
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
    return file.getvalue()


def csv_response(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """A download called `name`, which is ours and never a customer's text."""
    response = Response("\ufeff" + to_csv(columns, rows), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def csv_stream(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """The same for rows that may be very many: they are read and sent bit by bit, within this request."""

    def parts() -> Iterator[str]:
        yield "\ufeff" + to_csv(columns, ())
        remaining = iter(rows)
        while batch := list(itertools.islice(remaining, _BATCH)):
            yield to_csv(batch[0], batch[1:])

    response = Response(stream_with_context(parts()), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
