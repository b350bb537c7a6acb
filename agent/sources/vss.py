"""Freezing a disk of Windows by a shadow copy (VSS), through the class Win32_ShadowCopy of WMI.

Written from Microsoft's documentation of that class (Create, DeviceObject) and never run on a Windows: a test holds
only the conversation with PowerShell and the looking up of paths. A shadow copy needs an administrator, lives until it
is removed, and asks databases that know VSS (SQL Server, for one) to put their data down first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from agent.errors import VolumeError
from agent.sources.dumps import Call, found
from agent.sources.volume_kinds import Frozen, Mounted

_ASK_S: Final = 300.0
_ID: Final = re.compile(r"\{[0-9A-Fa-f-]{36}\}")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_CREATE: Final = (
    "$made = Invoke-CimMethod -ClassName Win32_ShadowCopy -MethodName Create"
    " -Arguments @{{Volume='{drive}\\'; Context='ClientAccessible'}};"
    " if ($made.ReturnValue -ne 0) {{ throw \"VSS answers $($made.ReturnValue)\" }};"
    " $copy = Get-CimInstance Win32_ShadowCopy -Filter \"ID='$($made.ShadowID)'\";"
    ' "$($copy.ID) $($copy.DeviceObject)"'
)
_REMOVE: Final = "Get-CimInstance Win32_ShadowCopy -Filter \"ID='{id}'\" | Remove-CimInstance"


class Vss:
    """One shadow copy of a drive a run."""

    name = "vss"

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], str] = {}
        """The device of a copy, by run and drive."""

    def fits(self, mounted: Mounted) -> bool:
        """Whether it is a drive of Windows."""
        return mounted.fstype == "ntfs" and _DRIVE.fullmatch(mounted.target) is not None

    def freeze(self, path: str, mounted: Mounted, stamp: str, number: int) -> Iterator[Frozen]:
        """A copy of the drive, looked up for `path`."""
        release: Callable[[], None] = _nothing
        device = self._made.get((stamp, mounted.target))
        if device is None:
            shadow, _, device = _powershell(_CREATE.format(drive=mounted.target)).strip().partition(" ")
            if _ID.fullmatch(shadow) is None or not device.startswith("\\\\?\\GLOBALROOT\\Device\\"):
                raise VolumeError(f"the shadow copy of {mounted.target} was not made: {shadow} {device}")
            self._made[(stamp, mounted.target)] = device

            def release() -> None:
                _powershell(_REMOVE.format(id=shadow))

        yield Frozen(path, device + path[len(mounted.target) :].replace("/", "\\"), release)


def _powershell(script: str) -> str:
    words = ("-NoProfile", "-NonInteractive", "-Command", f"$ErrorActionPreference = 'Stop'; {script}")
    return Call([found("powershell", "Windows PowerShell"), *words]).run(_ASK_S).decode("utf-8", "replace")


def _nothing() -> None:
    """The release of what somebody else releases."""
