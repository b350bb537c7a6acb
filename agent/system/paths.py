"""How paths and names are written on each system, as rules that any system can be asked for.

Within Pilulier a path is bytes with slashes, whatever the machine: `/srv/base` or `C:/Users/x`. `HERE` are the rules of
this machine; tests take another system's. The rules of Windows are those of "Naming Files, Paths, and Namespaces"
(Microsoft Learn). macOS keeps the case of names and does not tell it apart, as its disks are made by default.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Final

_FORBIDDEN: Final = frozenset('<>:"|?*\\')
_DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)
_DRIVE: Final = re.compile(rb"[A-Za-z]:")
_LONG: Final = 240
"""Longer paths are given to Windows with the prefix that lifts its limit of 260 characters for all that lies below."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs. `drives`: paths begin with a letter. `folds_case`: `A` and `a` are one name."""

    drives: bool
    folds_case: bool

    def spelled(self, path: bytes) -> bytes:
        """A path as people give it, with slashes."""
        return path.replace(b"\\", b"/") if self.drives else path

    def is_absolute(self, path: bytes) -> bool:
        """Whether a path begins at a root."""
        if self.drives:
            return _DRIVE.match(path) is not None and path[2:3] in (b"", b"/", b"\\")
        return path.startswith(b"/")

    def rooted(self, names: list[bytes]) -> bytes:
        """The absolute path of these names, the drive among them where there are drives."""
        if self.drives:
            names = [names[0].upper(), *names[1:]]
            return b"/".join(names) if len(names) > 1 else names[0] + b"/"
        return b"/" + b"/".join(names)

    def folded(self, name: bytes) -> bytes:
        """A name as it is compared."""
        if not self.folds_case:
            return name
        return name.decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")

    def joined(self, folder: bytes, name: bytes) -> bytes:
        """The path of a name in a folder; `/` is the folder of all roots."""
        if folder == b"/":
            return name if self.drives else b"/" + name
        return folder + b"/" + name

    def native(self, path: bytes) -> bytes:
        """A path as the system's calls take it, however long."""
        if not self.drives or len(path) < _LONG or not self.is_absolute(path):
            return path
        return b"\\\\?\\" + path.replace(b"/", b"\\")

    def is_drive(self, name: bytes) -> bool:
        """Whether the first name of a saved path is a drive: below a restore's target it is called `C`."""
        return self.drives and _DRIVE.fullmatch(name) is not None

    def refusal(self, name: bytes) -> str | None:
        """Why `name` must not be created as one path component, or None where it may be."""
        if not name:
            return "the name is empty"
        if name in (b".", b".."):
            return "the name points out of its folder"
        if b"/" in name:
            return "the name holds a path separator"
        if b"\0" in name:
            return "the name holds a NUL byte"
        if not self.drives:
            return "the name is longer than 255 bytes" if len(name) > 255 else None
        return _windows_refusal(name)


def _windows_refusal(name: bytes) -> str | None:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return "the name is not UTF-8, which Windows needs"
    if ":" in text:
        return "the name holds a colon: a drive or an alternate stream"
    for character in text:
        if character < " " or character in _FORBIDDEN:
            return f"the name holds {character!r}, which Windows does not allow"
    if text[-1] in ". ":
        return "the name ends in a dot or a space, which Windows drops"
    if text.split(".", 1)[0].rstrip(" ").lower() in _DEVICES:
        return "the name is reserved for a device of Windows"
    if len(text.encode("utf-16-le")) > 2 * 255:
        return "the name is longer than 255 characters"
    return None


POSIX: Final = Rules(drives=False, folds_case=False)
MACOS: Final = Rules(drives=False, folds_case=True)
WINDOWS: Final = Rules(drives=True, folds_case=True)
HERE: Rules = WINDOWS if sys.platform == "win32" else MACOS if sys.platform == "darwin" else POSIX
"""The rules of this machine. Read where it is used, so that a test may put another system's in its place."""


def joined(folder: bytes, name: bytes) -> bytes:
    """The path of `name` in a listed folder, on this machine."""
    return HERE.joined(folder, name)


def native(path: bytes) -> bytes:
    """A path as this machine's calls take it."""
    return HERE.native(path)
