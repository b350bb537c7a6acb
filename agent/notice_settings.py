"""What a machine shows on its own screen: the setting alone."""

from __future__ import annotations

from typing import Literal

import msgspec

Shown = Literal["on", "failures", "off"]
"""Everything (failures, and that all is well again), failures only, nothing."""


class NoticeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which desktop notices there are."""

    shown: Shown = "on"
