"""The disk as a tree of rows, each with what the selection makes of it, and what a press on tick or cross makes of the
selection.

Reads one folder at a time, when it is opened, a page at a time: a folder of 50,000 files costs one listing and the
status of the rows that are shown. Paths are bytes; a row's token is its path in URL-safe base64, so that names of any
bytes pass through a browser unharmed. Never follows a symbolic link. The rules themselves are `agent.selection`'s.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.client import one_line
from agent.selection import Scope, Selection, Take, components, escaped_pattern, normalised_path
from agent.stale import StaleFile

PAGE: Final = 200
ROOT: Final = b"/"
_KERNEL: Final = frozenset({b"proc", b"sys", b"dev", b"run"}) if sys.platform == "linux" else frozenset()
"""Folders of the root that hold no data: the kernel's own. Whoever wants them has the command line."""


class Mark(StrEnum):
    """What becomes of a row."""

    INCLUDED = "included"
    INHERITED = "inherited"
    """Taken with a folder above."""
    EXCLUDED = "excluded"
    LEFT = "left"
    """Left out with a folder above, or by a pattern."""
    NONE = "none"
    """No rule says anything."""

    @property
    def taken(self) -> bool:
        """Whether it is backed up."""
        return self in (Mark.INCLUDED, Mark.INHERITED)

    @property
    def out(self) -> bool:
        """Whether it is left out on purpose."""
        return self in (Mark.EXCLUDED, Mark.LEFT)


@dataclass(frozen=True, slots=True)
class Row:
    """One name in a folder. `size_bytes` is None for folders and where it cannot be told."""

    path: bytes
    name: str
    kind: str
    """`folder`, `file` or `link`."""
    size_bytes: int | None
    mark: Mark
    mixed: bool
    """Some of what it holds is treated otherwise."""
    pattern: str
    """The pattern that leaves it out, where one does."""
    own: bool
    """The agent's own home, which is never backed up."""
    stale_ms: int | None = None
    """Where no fresh copy could be made, of it or of something in it: when the last good one was; 0 for never."""

    @property
    def token(self) -> str:
        """Its path for addresses."""
        return token_of(self.path)


@dataclass(frozen=True, slots=True)
class Listed:
    """What a folder holds, up to the page asked for; `error` is the system's sentence where it cannot be read."""

    rows: tuple[Row, ...]
    total: int
    error: str = ""

    @property
    def more(self) -> int:
        """How many rows are not shown yet."""
        return self.total - len(self.rows)


def token_of(path: bytes) -> str:
    """A path as it stands in addresses and forms."""
    return base64.urlsafe_b64encode(path).decode().rstrip("=")


def path_of(token: str) -> bytes:
    """The path of a token, normalised; ValueError for anything else."""
    try:
        path = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        return normalised_path(path)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not a path's token") from error


def shown_name(name: bytes) -> str:
    """A name for people: no line breaks, no signs that turn the direction of writing, other bytes as \\xNN."""
    return one_line(name.decode("utf-8", "backslashreplace"))


def joined(folder: bytes, name: bytes) -> bytes:
    """The path of a name in a folder."""
    return folder + name if folder.endswith(b"/") else folder + b"/" + name


class Marker:
    """What a selection makes of paths. Pure."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._include = frozenset(selection.include)
        self._exclude = frozenset(selection.exclude)
        self._patterns: dict[bytes, Selection] = {}

    def scope(self, folder: bytes) -> Scope | None:
        """The rules inside a folder; None where nothing in it is selected."""
        scope = self._selection.scope()
        for name in components(folder):
            take = scope.take(name)
            if take is Take.SKIP:
                return None
            scope = scope.enter(name, take)
        return scope

    def mark(self, path: bytes, scope: Scope | None) -> Mark:
        """What becomes of a path whose folder has this scope."""
        if path in self._include:
            return Mark.INCLUDED
        if escaped_pattern(path) in self._exclude:
            return Mark.EXCLUDED
        names = components(path)
        if scope is not None and names and scope.take(names[-1]) is Take.WHOLE:
            return Mark.INHERITED
        return Mark.LEFT if self._ruled_above(path) else Mark.NONE

    def mark_of(self, path: bytes) -> Mark:
        """What becomes of a path."""
        return self.mark(path, self.scope(os.path.dirname(path)) if path != ROOT else None)

    def _ruled_above(self, path: bytes) -> bool:
        while path != ROOT:
            path = os.path.dirname(path)
            if path in self._include or escaped_pattern(path) in self._exclude:
                return True
        return False

    def mixed(self, path: bytes, mark: Mark) -> bool:
        """Whether rules below a path treat some of it otherwise."""
        below = path if path.endswith(b"/") else path + b"/"
        if mark.taken:
            return any(rule.startswith(below) for rule in self._exclude)
        return any(rule.startswith(below) for rule in self._include)

    def pattern(self, path: bytes) -> str:
        """The pattern that leaves a path out; empty where its folder or a path rule does."""
        for rule in self._selection.exclude:
            if rule.startswith(b"/") and escaped_pattern(rule) == rule:
                continue
            alone = self._patterns.get(rule)
            if alone is None:
                alone = self._patterns[rule] = Selection.of(self._selection.include, (rule,))
            if not alone.selects(path):
                return shown_name(rule)
        return ""


def listed(
    folder: bytes, selection: Selection, *, home: bytes, pages: int = 1, stale: Mapping[bytes, int] | None = None
) -> Listed:
    """The first pages of a folder, folders first, names as people sort them."""
    try:
        with os.scandir(folder) as entries:
            found = [(kind, entry.name) for entry in entries if (kind := _kind(entry))]
    except OSError as error:
        return Listed((), 0, (error.strerror or str(error)).lower())
    if folder == ROOT:
        found = [(kind, name) for kind, name in found if name not in _KERNEL]
    found.sort(key=lambda one: (one[0] != "folder", one[1].lower(), one[1]))
    marker = Marker(selection)
    scope = marker.scope(folder)
    rows = []
    for kind, name in found[: pages * PAGE]:
        path = joined(folder, name)
        mark = marker.mark(path, scope)
        left_here = mark is Mark.LEFT and scope is not None and scope.selected
        rows.append(
            Row(
                path,
                shown_name(name),
                kind,
                _size(path) if kind == "file" else None,
                mark,
                kind == "folder" and marker.mixed(path, mark),
                marker.pattern(path) if left_here else "",
                path == home,
                (stale or {}).get(path) if mark.taken or mark is Mark.NONE else None,
            )
        )
    return Listed(tuple(rows), len(found))


def _kind(entry: os.DirEntry[bytes]) -> str:
    """What it is, as its folder says; empty for what is never backed up: devices, pipes, sockets."""
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else ""


def _size(path: bytes) -> int | None:
    try:
        return os.lstat(path).st_size
    except OSError:
        return None


def aged(files: Iterable[StaleFile]) -> dict[bytes, int]:
    """When the last good copy was made, of each path without a fresh one and of the folders above it: the oldest."""
    found: dict[bytes, int] = {}
    for one in files:
        path = one.path
        while path not in (b"", ROOT):
            found[path] = min(one.good_ms, found.get(path, one.good_ms))
            path = os.path.dirname(path)
    return found


# what a press makes of the selection


def tick(selection: Selection, path: bytes) -> Selection:
    """The tick was pressed: take it; pressed again, leave it be."""
    if not Marker(selection).mark_of(path).taken:
        freed = _without(selection, path, include=False)
        return freed if Marker(freed).mark_of(path).taken else freed.including(path)
    left = _without(selection, path, exclude=False)
    return _leaving(left, path) if left == selection or Marker(left).mark_of(path).taken else left


def cross(selection: Selection, path: bytes) -> Selection:
    """The cross was pressed: leave it out, with all it holds; pressed again, no more."""
    mark = Marker(selection).mark_of(path)
    if mark is Mark.EXCLUDED:
        return _without(selection, path, include=False)
    if mark is Mark.LEFT:
        return selection.including(path)
    return _leaving(selection, path)


def _leaving(selection: Selection, path: bytes) -> Selection:
    """Without what was included at and below a path, and the path left out."""
    below = joined(path, b"")
    kept = [rule for rule in selection.include if rule != path and not rule.startswith(below)]
    return Selection.of(kept, (*selection.exclude, escaped_pattern(path)))


def _without(selection: Selection, path: bytes, *, include: bool = True, exclude: bool = True) -> Selection:
    """Without the rules for this very path."""
    rule = escaped_pattern(path)
    return Selection.of(
        (one for one in selection.include if not (include and one == path)),
        (one for one in selection.exclude if not (exclude and one in (rule, path))),
    )


def way_to(paths: Sequence[bytes], limit: int = 12) -> list[bytes]:
    """The folders to open so that these paths are seen, root first."""
    folders: set[bytes] = {ROOT}
    for path in paths[:limit]:
        while path != ROOT:
            path = os.path.dirname(path)
            folders.add(path)
    return sorted(folders)
