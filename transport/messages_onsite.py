"""The message about copies on site: which ones a machine has, and when each was written last. Carried on by
`transport.messages`.

A copy is told by its id and the label that its owner gave it; where it lies is the machine's own matter.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from transport.message_types import Count, Id, Message

COPIES_LIMIT: Final = 32
Label = Annotated[str, Meta(min_length=1, max_length=64)]


class CopyTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One copy. Times in milliseconds, by the machine's clock, 0 for never."""

    copy: Id
    name: Label
    place: Count
    """The same for disks that alternate in one place: one of them is always away."""
    state: Literal["", "written", "not there", "behind", "failed"]
    """What became of it in the last run; empty before the first."""
    written_ms: Count
    free_bytes: Annotated[int, Meta(ge=-1, le=2**62)]
    """Of its medium, when it was seen last; -1 where that is not known."""


class CopiesReport(Message, frozen=True):
    """Agent: all its copies on site, after each run; none where none is configured any more."""

    copies: Annotated[list[CopyTold], Meta(max_length=COPIES_LIMIT)]
    warn_days: Annotated[int, Meta(ge=1, le=36_500)]
