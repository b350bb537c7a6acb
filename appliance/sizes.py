"""Sizes as people write and read them: 50GB, 1.5TB, 500 MB are decimal; GiB and the like are binary."""

from __future__ import annotations

import re
from typing import Final

from transport.errors import UsageError

_UNITS: Final[dict[str, int]] = {
    "": 1,
    "B": 1,
    "O": 1,
    **{f"{letter}{end}": 1000**power for power, letter in enumerate("KMGTP", 1) for end in ("", "B", "O")},
    **{f"{letter}I{end}": 1024**power for power, letter in enumerate("KMGTP", 1) for end in ("B", "O")},
}
_SIZE: Final = re.compile(r"([0-9]{1,16}(?:[.,][0-9]{1,9})?)\s*([A-Za-z]*)")
SIZE_LIMIT: Final = 2**53


def parse_size(text: str) -> int:
    """Bytes out of `50GB`, `1.5 TB`, `500MB`, `20GiB` or a plain number; UsageError otherwise. Go and To work too."""
    match = _SIZE.fullmatch(text.strip())
    factor = _UNITS.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise UsageError(f"{text!r} is not a size: write it like 50GB, 1.5TB or 20GiB")
    whole, _, fraction = match[1].replace(",", ".").partition(".")
    # In integers: 1.1TB must be exactly 1,100,000,000,000 bytes.
    size = int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    if size > SIZE_LIMIT:
        raise UsageError(f"{text!r} is too large: at most 9000TB")
    return size


def format_size(size_bytes: int) -> str:
    """`394.6 GB`: decimal units, one digit after the point."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} PB"
