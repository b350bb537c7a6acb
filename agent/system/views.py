"""Folders that are read elsewhere for a while: a frozen copy in the place of the live one, for this process alone.

Where a process can have a view of the disks of its own (`agent.system.namespaces`) nobody asks here. Windows has none:
there whoever opens a file or lists a folder asks `seen` first. Set by the one thread that begins and ends a run.
"""

from __future__ import annotations

from typing import Final

_VERBATIM: Final = b"\\\\?\\"
"""Windows takes what follows as it is: a slash is no separator there."""

_covered: dict[bytes, bytes] = {}


def cover(over: bytes, at: bytes) -> None:
    """Read what is below `over` below `at`; an inner folder covered with itself shines through."""
    _covered[over.rstrip(b"/")] = at.rstrip(b"/\\")


def uncover(over: bytes) -> None:
    """Read it where it is again."""
    _covered.pop(over.rstrip(b"/"), None)


def seen(path: bytes) -> bytes:
    """Where a path is to be read now."""
    if not _covered:
        return path
    inside = [over for over in _covered if path == over or path.startswith(over + b"/")]
    if not inside:
        return path
    over = max(inside, key=len)
    at, rest = _covered[over], path[len(over) :]
    return at + (rest.replace(b"/", b"\\") or b"\\") if at.startswith(_VERBATIM) else at + rest
