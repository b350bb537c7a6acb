"""Lines that people type: what they miss and what they notice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sheet_lines import ALPHABET, LINE_BYTES, Line, find_lines, from_lines, to_lines
from transport.errors import KeyFileError

bodies = st.binary(min_size=1, max_size=400)
kinds = st.sampled_from("KA")


def printed(lines: list[Line]) -> list[str]:
    """As they stand on paper."""
    return [f"{line.label}  {'  '.join(line.groups)}" for line in lines]


@given(kinds, bodies)
@settings(max_examples=60, deadline=None)
def test_what_is_typed_comes_back(kind: str, body: bytes) -> None:
    lines = printed(to_lines(kind, body))
    assert from_lines(kind, find_lines(lines)) == body
    careless = [line.lower().replace("  ", "-", 3).replace("0", "o").replace("1", "l") for line in lines]
    assert from_lines(kind, find_lines(careless)) == body
    assert from_lines("A" if kind == "K" else "K", find_lines(lines)) is None


def test_a_key_takes_seven_lines_and_a_hundred_epochs_work() -> None:
    assert len(to_lines("K", bytes(range(96)))) == 7 and 7 * LINE_BYTES == 105
    long = bytes(range(256)) * 8
    lines = to_lines("K", long)
    assert len(lines) > 64, "more lines than one symbol counts"
    assert from_lines("K", find_lines(printed(lines))) == long
    with pytest.raises(ValueError, match="4095"):
        to_lines("K", bytes(4096))


@given(kinds, st.integers(1, 40), st.binary(min_size=15, max_size=15))
@settings(max_examples=15, deadline=None)
def test_every_wrong_symbol_and_every_swap_of_neighbours_is_noticed(kind: str, number: int, part: bytes) -> None:
    line = to_lines(kind, part * 41)[number - 1]
    for at, symbol in enumerate(line.symbols):
        for other in ALPHABET:
            if other != symbol:
                wrong = Line(kind, number, line.symbols[:at] + other + line.symbols[at + 1 :])
                [told] = find_lines(printed([wrong])).wrong
                assert told.startswith(f"line {line.label} has a typing error")
        following = line.symbols[at + 1 : at + 2]
        if following and following != symbol:
            swapped = line.symbols[:at] + following + symbol + line.symbols[at + 2 :]
            assert find_lines(printed([Line(kind, number, swapped)])).wrong


@given(st.binary(min_size=15, max_size=15), st.data())
@settings(max_examples=300, deadline=None)
def test_two_wrong_symbols_in_a_line_are_noticed(part: bytes, data: st.DataObject) -> None:
    line = to_lines("K", part)[0]
    one, two = data.draw(st.lists(st.integers(0, 25), min_size=2, max_size=2, unique=True))
    symbols = list(line.symbols)
    for at in (one, two):
        symbols[at] = data.draw(st.sampled_from([other for other in ALPHABET if other != symbols[at]]))
    assert find_lines(printed([Line("K", 1, "".join(symbols))])).wrong


def test_a_line_in_anothers_place_is_noticed() -> None:
    lines = to_lines("K", bytes(range(96)))
    for line in lines:
        for number in range(1, 40):
            if number != line.number:
                assert find_lines(printed([Line("K", number, line.symbols)])).wrong
        assert find_lines(printed([Line("A", line.number, line.symbols)])).wrong


def refusal(lines: list[str]) -> str:
    """What is said of the K lines."""
    with pytest.raises(KeyFileError) as told:
        from_lines("K", find_lines(lines))
    return str(told.value)


def test_what_is_missing_double_or_of_another_sheet_is_named() -> None:
    lines = printed(to_lines("K", bytes(range(96))))
    others = printed(to_lines("K", bytes(range(1, 97))))
    assert refusal(lines[1:]) == "line K1 is not there"
    assert refusal(lines[:-1]) == "K7: not there; lines K1 to K7 are needed"
    assert "do not belong together" in refusal([*lines[:3], others[3], *lines[4:]])
    assert find_lines([*lines, others[2]]).wrong == ("line K3 is there twice and differs: remove the wrong one",)
    assert from_lines("K", find_lines([*lines, lines[2]])) == bytes(range(96)), "the same line twice is one"
    longer = printed(to_lines("K", bytes(range(96)) * 2))
    assert "line K8 belongs to another sheet" in refusal([*lines, longer[7]])


def test_a_line_cut_short_or_with_a_letter_that_is_none_is_named() -> None:
    line = printed(to_lines("K", bytes(96)))[0]
    [told] = find_lines([line[:-1]]).wrong
    assert told == "line K1 has 25 letters and digits instead of 26: compare it with the sheet"
    [told] = find_lines([line[:-1] + "U"]).wrong
    assert told.startswith("line K1 holds U, which no sheet has")
    assert find_lines(["A 4 pages", "K1", "Keep this safe", "K1 2 3", ""]).wrong == ()


def test_nothing_secret_is_in_a_repr() -> None:
    [line] = to_lines("K", b"secret")
    assert repr(line) == "Line(K1)"
