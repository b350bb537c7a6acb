"""How much there is to do, counted beside a backup for whoever watches it: a walk of its own, 1 % of a first one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.scanner import Scanner
from transport.tree import FileType


@dataclass(frozen=True, slots=True)
class Extent:
    """Files and their bytes."""

    files: int
    bytes: int


def count(scanner: Scanner, enough: Callable[[], bool]) -> Extent | None:
    """What a walk over the selection comes to; None where it became pointless before its end."""
    files = size = 0
    for listing in scanner.scan():
        for found in listing.children:
            if found.type is FileType.FILE:
                files += 1
                size += found.size
        if enough():
            return None
    return Extent(files, size)
