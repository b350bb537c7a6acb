"""What an agent's guards saw while it backed up, told beside the commit: counts alone, never a name.

The appliance decides from `decoys_touched` to freeze pruning, which a liar can only do to its own history.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from transport.message_types import Count

AHEAD_LIMIT_S: Final = 2**40
"""Clocks that are further off say no more than that."""


class Observed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was seen since the commit before."""

    decoys: Count = 0
    """Decoy documents that lie on the machine."""
    decoys_touched: Count = 0
    """Those that were found changed, renamed or gone, and were not told of before."""
    clock_ahead_s: Annotated[int, Meta(ge=-AHEAD_LIMIT_S, le=AHEAD_LIMIT_S)] = 0
    """How far the machine's clock is before the appliance's."""
    stale_files: Count = 0
    """Files that could not be read, or would not hold still: an older copy is kept."""
    cloud_files: Count = 0
    """Files of which only a placeholder is on the machine."""
