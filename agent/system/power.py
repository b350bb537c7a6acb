"""Whether this machine runs on its battery. None where the system does not tell.

On Linux from sysfs (Documentation/ABI/testing/sysfs-class-power); on Windows by GetSystemPowerStatus, written from its
documentation and not run here. Batteries of mice and the like are no battery of the machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

SUPPLIES: Final = Path("/sys/class/power_supply")


def on_battery(supplies: Path = SUPPLIES) -> bool | None:
    """Whether the machine lives on what its battery holds."""
    if sys.platform == "win32":
        return _windows()
    mains: list[bool] = []
    discharging = False
    try:
        found = sorted(supplies.iterdir())
    except OSError:
        return None
    for supply in found:
        kind = _word(supply / "type")
        if _word(supply / "scope") == "Device":
            continue
        if kind in ("Mains", "USB", "Wireless"):
            mains.append(_word(supply / "online") == "1")
        elif kind == "Battery":
            discharging = discharging or _word(supply / "status") == "Discharging"
    if any(mains):
        return False
    return discharging if mains or discharging else None


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _windows() -> bool | None:
    import ctypes

    # SYSTEM_POWER_STATUS: ACLineStatus is its first byte; 0 offline, 1 online, 255 unknown.
    status = (ctypes.c_ubyte * 12)()
    if not ctypes.windll.kernel32.GetSystemPowerStatus(ctypes.byref(status)):  # type: ignore[attr-defined, unused-ignore]
        return None
    return {0: True, 1: False}.get(status[0])
