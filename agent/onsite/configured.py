"""Which copies on site are configured: the part of config.json. Knows neither disks nor runs."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

KEEP_DAYS: Final = 90
WARN_DAYS: Final = 7
LONGEST_DAYS: Final = 36_500


class CopyPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One copy: the medium's id, and where it was when it was added."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    path: str
    """The folder that was given to `onsite add`."""
    inside: str = ""
    """That folder below its mount point: the medium is looked for there wherever it is mounted."""
    keep_days: Annotated[int, Meta(ge=1, le=LONGEST_DAYS)] = KEEP_DAYS
    limit_bytes: Annotated[int, Meta(ge=0)] = 0
    """What the copy may take of the medium; 0 for all of it."""


class OnSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configured copies, in the order added."""

    copies: tuple[CopyPlace, ...] = ()
    warn_days: Annotated[int, Meta(ge=1, le=LONGEST_DAYS)] = WARN_DAYS
    """An alert is raised where no copy was written for so many days."""
