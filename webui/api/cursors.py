"""Where a list goes on: opaque to whoever asks, so that what it counts by can change.

A cursor holds the last position shown and the name of its list, never anything that grants something: what it leads to
passes the scope like everything else.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from transport.errors import UsageError

_TEXT_LIMIT: Final = 200


def encode(listed: str, position: str) -> str:
    """The cursor of the page after `position` in a list."""
    return base64.urlsafe_b64encode(f"{listed}:{position}".encode()).decode().rstrip("=")


def decode(listed: str, cursor: str) -> str:
    """The position; UsageError for what is no cursor of this list."""
    wrong = UsageError("this cursor is not one of this list: begin without one, and pass on `next` as it is")
    if len(cursor) > _TEXT_LIMIT or not cursor.isascii():
        raise wrong
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise wrong from None
    name, colon, position = text.partition(":")
    if name != listed or not colon or not position:
        raise wrong
    return position


def number(listed: str, cursor: str | None) -> int | None:
    """The position of a list that counts by numbers; None for no cursor."""
    if cursor is None:
        return None
    position = decode(listed, cursor)
    if not (position.isascii() and position.isdigit() and len(position) < 19):
        raise UsageError("this cursor is not one of this list: begin without one, and pass on `next` as it is")
    return int(position)
