"""Marks: folders in which something may have changed since the ledger's head, as whoever watches the disk noted them.

Owns the noun, the tree of names by which a walk follows them, and the file that hands them to a backup's process. A
**folder** mark says: list this folder, and look at its own status. A **tree** mark says: walk it and all below, for it
appeared, or what happened in it is not known. Marks only ever add looks: one too many costs a look, one too few would
lose a change until the next full scan. Knows no disk but its own file, no watcher, no selection.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from agent.selection import components
from agent.settings import AgentHome

MARKS_LIMIT: Final = 20_000
"""More marked folders than this are not worth following one by one: the next run walks everything."""
TROUBLED_LIMIT: Final = 1000
_FILE_LIMIT: Final = 128 << 20


class Marks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Absolute, normalised paths."""

    folders: frozenset[bytes] = frozenset()
    trees: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.folders or self.trees)

    def __len__(self) -> int:
        return len(self.folders) + len(self.trees)

    def and_also(self, other: Marks) -> Marks:
        """Both."""
        return Marks(self.folders | other.folders, self.trees | other.trees)


class MarkedTree:
    """The marks as a tree of names: what a walk is to do in one folder, and on the way to which children it goes on."""

    __slots__ = ("_below", "listed", "whole")

    def __init__(self, *, whole: bool = False) -> None:
        self._below: dict[bytes, MarkedTree] = {}
        self.listed = whole
        """The folder itself is to be listed."""
        self.whole = whole
        """So is everything below it."""

    @classmethod
    def of(cls, marks: Marks) -> MarkedTree:
        """The tree from the file system's root down."""
        root = cls()
        for path in marks.folders:
            root._reach(path).listed = True
        for path in marks.trees:
            node = root._reach(path)
            node.listed = node.whole = True
        return root

    def _reach(self, path: bytes) -> MarkedTree:
        node = self
        for name in components(path):
            node = node._below.setdefault(name, MarkedTree())
        return node

    @property
    def names(self) -> Iterable[bytes]:
        """Children that are marked, or lead to what is."""
        return self._below.keys()

    def below(self, name: bytes) -> MarkedTree | None:
        """What is marked at and below a child; None for nothing."""
        return self if self.whole else self._below.get(name)


EVERYTHING: Final = MarkedTree(whole=True)
"""A full scan."""
NOTHING: Final = MarkedTree()

_decoder = msgspec.msgpack.Decoder(Marks)


def hand_over(home: AgentHome, marks: Marks | None) -> None:
    """Leave the marks for the backup that is about to start, None for everything; OSError where the disk does not
    take them."""
    if marks is None:
        home.marks.unlink(missing_ok=True)
    else:
        _write(home.marks, marks)


def take_over(home: AgentHome) -> Marks | None:
    """The marks that were left, and they are gone with that; None where there are none that can be read."""
    marks = _read(home.marks)
    with contextlib.suppress(OSError):
        home.marks.unlink()
    return marks


def keep_troubled(home: AgentHome, paths: Iterable[bytes]) -> None:
    """Remember what could not be backed up as it should be: runs that follow marks look there again.

    A disk that does not take it costs a look, which the next full scan gives.
    """
    with contextlib.suppress(OSError):
        _write(home.troubled, Marks(frozenset(itertools.islice(filter(os.path.isabs, paths), TROUBLED_LIMIT))))


def troubled(home: AgentHome) -> Marks:
    """What the last run could not back up as it should be."""
    return _read(home.troubled) or Marks()


def _write(path: Path, marks: Marks) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(msgspec.msgpack.encode(marks))
    os.replace(new, path)


def _read(path: Path) -> Marks | None:
    try:
        with open(path, "rb") as file:
            return _decoder.decode(file.read(_FILE_LIMIT))
    except (OSError, msgspec.MsgspecError):
        return None
