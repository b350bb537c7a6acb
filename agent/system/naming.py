"""What this machine runs on, in the style `Windows-7-6.1`, `Debian-12-6.1.0-18-amd64`, `macOS-14.5-arm64`."""

from __future__ import annotations

import platform
import re
from typing import Final

_LIMIT: Final = 100


def platform_name() -> str:
    """System, its version, and what is below it; letters, digits, dots, dashes and underscores only."""
    system = platform.system()
    if system == "Windows":
        parts = ["Windows", platform.release(), platform.version()]
    elif system == "Darwin":
        parts = ["macOS", platform.mac_ver()[0] or platform.release(), platform.machine()]
    else:
        parts = [*_distribution(), platform.release()]
    return named(parts)


def named(parts: list[str]) -> str:
    """Parts joined to one name. Pure."""
    clean = [re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-") for part in parts]
    return "-".join(part for part in clean if part)[:_LIMIT] or "unknown"


def _distribution() -> list[str]:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return [platform.system()]
    return [release.get("ID", platform.system()).capitalize(), release.get("VERSION_ID", "")]
