"""QR codes: the right modules, drawn so that the content policy lets them through."""

from __future__ import annotations

import re

import segno

from webui.qr_codes import CORRECTION, QUIET_MODULES, qr_code

URI = "otpauth://totp/Pilulier:a%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Pilulier"


def dark_modules(path: str) -> set[tuple[int, int]]:
    """Columns and rows that the path's horizontal strokes cover, the quiet border taken off."""
    found: set[tuple[int, int]] = set()
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([^Mmh]*)", path):
        values = [float(number) for number in re.findall(r"-?\d*\.?\d+", numbers)]
        if command == "M":
            x, y = values
        elif command == "m":
            x, y = x + values[0], y + values[1]
        else:
            found |= {(int(x) + step - QUIET_MODULES, int(y) - QUIET_MODULES) for step in range(int(values[0]))}
            x += values[0]
    return found


def test_the_strokes_are_the_modules_of_the_code() -> None:
    drawn = str(qr_code(URI, "label"))
    [path] = re.findall(r'<path stroke="#000" d="([^"]+)"', drawn) or re.findall(
        r'stroke="#000"[^>]* d="([^"]+)"', drawn
    )
    expected = {
        (column, row)
        for row, line in enumerate(segno.make(URI, error=CORRECTION, micro=False).matrix)
        for column, module in enumerate(line)
        if module
    }
    assert dark_modules(path) == expected


def test_nothing_in_it_needs_a_style_or_a_script_and_the_label_is_text() -> None:
    drawn = str(qr_code(URI, 'a "label" <b>'))
    assert "style" not in drawn and 'class="qr"' in drawn and "<script" not in drawn
    assert 'aria-label="a &#34;label&#34; &lt;b&gt;"' in drawn
    assert URI not in drawn and "xmlns" not in drawn
