"""Files for spreadsheets: nothing in them is run, every cell comes back as it was."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webui.web_house import WebHouse
from webui import tables
from webui.tables import FORMULA_STARTS, Cell, csv_response, csv_stream, safe_cell, to_csv


@pytest.mark.parametrize(
    "cell",
    [
        *('=HYPERLINK("http://evil.example")', "+33 1", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1"),
        *("  =1", "＝1", "＋1", "－1", "＠1"),
    ],
)
def test_what_begins_like_a_formula_is_defused(cell: str) -> None:
    assert safe_cell(cell) == "'" + cell


@pytest.mark.parametrize("cell", [0, -5, 1.5, "Pharmacie du Marché", "a=1", "", "3,98"])
def test_all_else_stays_as_it_is(cell: Cell) -> None:
    assert safe_cell(cell) == cell


def test_nothing_is_an_empty_cell() -> None:
    assert safe_cell(None) == ""


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


@given(st.lists(st.lists(_TEXT, min_size=2, max_size=2), max_size=6))
def test_any_text_comes_back(rows: list[list[str]]) -> None:
    text = to_csv(["a", "b"], rows)
    found = list(csv.reader(io.StringIO(text, newline=""), delimiter=";"))
    assert found == [["a", "b"], *([str(safe_cell(cell)) for cell in row] for row in rows)]
    assert not any(cell.lstrip(" ").startswith(FORMULA_STARTS) for row in found for cell in row)


def test_downloads_are_named_and_begin_with_a_byte_order_mark(web: WebHouse) -> None:
    with web.app.test_request_context():
        answer = csv_response("contrats.csv", ["Client"], [["=1"], ["é;"]])
    assert answer.get_data() == '\ufeffClient\r\n\'=1\r\n"é;"\r\n'.encode()
    assert answer.headers["Content-Disposition"] == 'attachment; filename="contrats.csv"'
    assert answer.mimetype == "text/csv"


@pytest.mark.parametrize("count", [0, 1, tables._BATCH, tables._BATCH + 1])
def test_long_files_are_read_bit_by_bit_and_say_the_same(web: WebHouse, count: int) -> None:
    read: list[int] = []

    def rows() -> Iterator[list[Cell]]:
        for number in range(count):
            read.append(number)
            yield [number, "=x", None]

    with web.app.test_request_context():
        streamed = csv_stream("f.csv", ["n", "t", "v"], rows())
        pieces = iter(streamed.response)
        next(pieces)
        assert not read
        rest = "".join(piece if isinstance(piece, str) else piece.decode() for piece in pieces)
        whole = csv_response("f.csv", ["n", "t", "v"], rows()).get_data(as_text=True)
    assert "\ufeffn;t;v\r\n" + rest == whole
