"""Secret bytes as lines that a person can type from paper, each with a check of its own.

Owns the alphabet, the shape of a line (`K3  4 groups of 6 letters and digits, 2 that check`) and the strict way back.
Knows nothing of what the bytes mean.

*Why base32 and not words?* **Because a sheet holds more than a key.** With the ids and the public key that prove a
repository it has 105 bytes: 168 letters and digits, or 77 words of a list of 2,048. Crockford's alphabet
(https://www.crockford.com/base32.html) has no I, L, O or U, and reads I and L as 1 and O as 0.

*Why a check of our own on each line?* Crockford's check symbol counts modulo 37 and needs `* ~ $ =`, which a French
keyboard hides; a digest's first letters miss one wrong letter in a thousand. Two symbols of a Reed-Solomon code over
GF(32) miss no one or two wrong letters in a line, hence no swap either, and its place (kind and number) is counted in:
a line typed in another one's place is noticed too. What lies beyond that is left to the digest over all lines.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from transport.errors import KeyFileError

KINDS: Final = "KA"
"""First letters of lines: the key, and the appliance's address."""
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GROUP: Final = 6
LINE_SYMBOLS: Final = 24
CHECK_SYMBOLS: Final = 2
LINE_BYTES: Final = LINE_SYMBOLS * 5 // 8
FORMAT: Final = 1
_BODY_LIMIT: Final = (1 << 12) - 1
_DIGEST_BYTES: Final = 7
"""At least; what is left of the last line is filled with more of it."""
_CONTEXT: Final = b"pilulier/recovery-sheet/1/"

_TO_CROCKFORD: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ALPHABET)
_FROM_CROCKFORD: Final = str.maketrans(ALPHABET, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_LOOKALIKES: Final = str.maketrans("ILO", "110")
_VALUES: Final = {symbol: value for value, symbol in enumerate(ALPHABET)}
_LINE: Final = re.compile(rf"^\W*([{KINDS}])\s?([0-9OIL]{{1,3}})[\s.:)\-]+(\S.*)$", re.IGNORECASE)
_WORTH_READING: Final = 12
"""Letters after a label that make a line; fewer are prose ("A 4 pages")."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a sheet: which one it is, and its 26 symbols."""

    kind: str
    number: int
    symbols: str

    @property
    def label(self) -> str:
        """As it is printed: K3."""
        return f"{self.kind}{self.number}"

    @property
    def groups(self) -> list[str]:
        """As they are printed: four of six, and the two that check."""
        return [self.symbols[at : at + GROUP] for at in range(0, len(self.symbols), GROUP)]

    def __repr__(self) -> str:
        return f"Line({self.label})"


def _times(left: int, right: int) -> int:
    """The product in GF(32), modulo x^5 + x^2 + 1."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left = (left << 1) ^ (0b100101 if left & 16 else 0)
        right >>= 1
    return product


def _check(kind: str, number: int, symbols: str) -> str:
    """Division by (x - a)(x - a²) = x² + 6x + 8, where a = 2: every codeword of at most 31 symbols has both roots."""
    place = (KINDS.index(kind), number // 32 % 32, number % 32)
    high = low = 0
    for value in (*place, *(_VALUES[symbol] for symbol in symbols)):
        carried = value ^ high
        high, low = low ^ _times(carried, 6), _times(carried, 8)
    return ALPHABET[high] + ALPHABET[low]


def _digest(kind: str, framed: bytes, length: int) -> bytes:
    return hashlib.sha256(_CONTEXT + kind.encode() + framed).digest()[:length]


def _lines_of(body_bytes: int) -> int:
    return -(-(2 + body_bytes + _DIGEST_BYTES) // LINE_BYTES)


def to_lines(kind: str, body: bytes) -> list[Line]:
    """The lines of a body of at most 4,095 bytes: format and length, body, digest up to the end of the last line."""
    if not 0 < len(body) <= _BODY_LIMIT:
        raise ValueError(f"a sheet's part has 1 to {_BODY_LIMIT} bytes, not {len(body)}")
    framed = (FORMAT << 12 | len(body)).to_bytes(2, "big") + body
    count = _lines_of(len(body))
    text = base64.b32encode(framed + _digest(kind, framed, count * LINE_BYTES - len(framed))).decode()
    symbols = text.translate(_TO_CROCKFORD)
    cut = [symbols[at : at + LINE_SYMBOLS] for at in range(0, len(symbols), LINE_SYMBOLS)]
    return [Line(kind, number, part + _check(kind, number, part)) for number, part in enumerate(cut, start=1)]


@dataclass(frozen=True, slots=True)
class Typed:
    """The lines found in a text, by kind and number; and what is wrong, a sentence each."""

    lines: dict[tuple[str, int], Line]
    wrong: tuple[str, ...]


def find_lines(pieces: Iterable[str]) -> Typed:
    """Every piece that looks like a line of a sheet; others are prose and are passed over."""
    found: dict[tuple[str, int], Line] = {}
    wrong: list[str] = []
    for piece in pieces:
        seen = _LINE.match(piece)
        symbols = re.sub(r"[\s\-.·]", "", seen[3]).upper().translate(_LOOKALIKES) if seen else ""
        if seen is None or len(symbols) < _WORTH_READING:
            continue
        line = Line(seen[1].upper(), int(seen[2].upper().translate(_LOOKALIKES)), symbols)
        fault = _fault(line)
        if fault is not None:
            wrong.append(f"line {line.label} {fault}")
        elif found.setdefault((line.kind, line.number), line) != line:
            wrong.append(f"line {line.label} is there twice and differs: remove the wrong one")
    return Typed(found, tuple(wrong))


def _fault(line: Line) -> str | None:
    strange = sorted(set(line.symbols) - set(ALPHABET))
    if strange:
        return f"holds {' '.join(strange)[:40]}, which no sheet has: compare it with the sheet"
    if len(line.symbols) != LINE_SYMBOLS + CHECK_SYMBOLS:
        wanted = LINE_SYMBOLS + CHECK_SYMBOLS
        return f"has {len(line.symbols)} letters and digits instead of {wanted}: compare it with the sheet"
    body, check = line.symbols[:LINE_SYMBOLS], line.symbols[LINE_SYMBOLS:]
    if _check(line.kind, line.number, body) != check:
        return "has a typing error: compare it with the sheet, group by group"
    return None


def from_lines(kind: str, typed: Typed) -> bytes | None:
    """The body of a kind; None where the text has no line of it. KeyFileError that names what is missing or wrong."""
    lines = {number: line for (of, number), line in typed.lines.items() if of == kind}
    if not lines:
        return None
    if 1 not in lines:
        raise KeyFileError(f"line {kind}1 is not there")
    first = _bytes_of(lines[1])
    head = int.from_bytes(first[:2], "big")
    if head >> 12 != FORMAT:
        raise KeyFileError(f"the sheet is of format {head >> 12}, this program reads {FORMAT}: update it")
    length = head & _BODY_LIMIT
    count = _lines_of(length)
    missing = [f"{kind}{number}" for number in range(1, count + 1) if number not in lines]
    if missing:
        raise KeyFileError(f"{', '.join(missing)}: not there; lines {kind}1 to {kind}{count} are needed")
    beyond = [f"{kind}{number}" for number in sorted(lines) if number > count]
    if beyond:
        raise KeyFileError(f"line {beyond[0]} belongs to another sheet: lines {kind}1 to {kind}{count} are this one's")
    whole = b"".join(_bytes_of(lines[number]) for number in range(1, count + 1))
    framed = whole[: 2 + length]
    if whole[2 + length :] != _digest(kind, framed, len(whole) - len(framed)):
        raise KeyFileError(f"lines {kind}1 to {kind}{count} do not belong together, or several of them are mistyped")
    return framed[2:]


def _bytes_of(line: Line) -> bytes:
    return base64.b32decode(line.symbols[:LINE_SYMBOLS].translate(_FROM_CROCKFORD))
