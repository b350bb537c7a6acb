"""The tree that live and staged entries make together, and its digests: only what changes is computed.

Owns the walk from touched folders up to the root; the digest itself is `transport.tree.folder_digest`, so that
agent and appliance cannot disagree about it. Reads through the two callables it is given, writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from agent.staging import ChildRow, Staging
from transport.names import ROOT, Digest, PathId
from transport.tree import Child, EntryKind, folder_digest

_FILE: Final = int(EntryKind.FILE)
_FOLDER: Final = int(EntryKind.FOLDER)


class ChangedFolder(msgspec.Struct, frozen=True, gc=False):
    """A folder whose digest is another one afterwards."""

    parent_id: PathId
    digest: Digest


@dataclass(frozen=True, slots=True)
class TreeAfter:
    """A tree: its root digest, its number of entries, the bytes of its files, and the folders that change to it."""

    root: Digest
    entry_count: int
    bytes_source: int
    changed: dict[PathId, ChangedFolder]
    """Without the root, whose digest is `root`."""


def tree_after(
    staging: Staging,
    live: TreeAfter,
    parent_of: Callable[[PathId], PathId | None],
    live_children: Callable[[PathId], list[ChildRow]],
) -> TreeAfter:
    """The tree after the staged rows. `parent_of` knows live folders only; `live_children` is in path id order.

    ValueError where a staged entry has no living parent folder, or lives on under a folder that died.
    """
    if staging.count == 0:
        return TreeAfter(live.root, live.entry_count, live.bytes_source, {})
    return _Overlay(staging, live, parent_of, live_children).run()


class _Overlay:
    def __init__(
        self,
        staging: Staging,
        live: TreeAfter,
        parent_of: Callable[[PathId], PathId | None],
        live_children: Callable[[PathId], list[ChildRow]],
    ) -> None:
        staging.index()
        self._staging = staging
        self._parent_of = parent_of
        self._live_children = live_children
        self._entries = live.entry_count
        self._bytes = live.bytes_source
        self._new = staging.folders()
        self._changed: dict[PathId, ChangedFolder] = {}

    def run(self) -> TreeAfter:
        parents = self._living_parents()
        # Children before parents, by counting down (Kahn): folders may be nested deeper than Python's stack.
        waiting = Counter(parents.values())
        ready = [folder for folder in parents if folder not in waiting]
        if ROOT not in waiting:
            ready.append(ROOT)
        root: Digest | None = None
        while ready:
            folder = ready.pop()
            digest = self._digest(folder)
            if folder == ROOT:
                root = digest
                continue
            parent = parents[folder]
            self._changed[folder] = ChangedFolder(parent, digest)
            waiting[parent] -= 1
            if not waiting[parent]:
                ready.append(parent)
        if root is None or len(self._changed) != len(parents):
            raise ValueError("the folders do not hang together: some are inside each other")
        return TreeAfter(root, self._entries, self._bytes, self._changed)

    def _living_parents(self) -> dict[PathId, PathId]:
        """Every folder to compute, ROOT excepted, with its parent."""
        if ROOT in self._new:
            raise ValueError("an entry has the path id of the root")
        parents: dict[PathId, PathId] = {}
        ended: set[PathId] = set()
        todo = [*self._staging.touched(), *self._new]
        while todo:
            folder = todo.pop()
            if folder == ROOT or folder in parents or folder in ended:
                continue
            parent = self._parent(folder)
            if parent is None:
                ended.add(folder)
                if self._overlaid(folder):
                    raise ValueError(f"entries live in {folder.hex()}, which is no living folder")
            else:
                parents[folder] = parent
                todo.append(parent)
        for folder, parent in parents.items():
            if parent != ROOT and parent not in parents:
                raise ValueError(f"folder {folder.hex()} lives in {parent.hex()}, which is no living folder")
        return parents

    def _parent(self, folder: PathId) -> PathId | None:
        """Its parent if it is a folder afterwards."""
        parent = self._new.get(folder)
        if parent is None:
            parent = self._parent_of(folder)
            if parent is not None and self._staging.last(parent, folder) is not None:
                return None  # staged, and not as a living folder
        return parent

    def _overlaid(self, folder: PathId) -> dict[PathId, ChildRow]:
        rows = {row.path_id: row for row in self._live_children(folder)}
        for row in self._staging.children(folder):
            if row.dead:
                rows.pop(row.path_id, None)
            else:
                rows[row.path_id] = row
        return rows

    def _digest(self, folder: PathId) -> Digest:
        rows = {row.path_id: row for row in self._live_children(folder)}
        folders = [row.path_id for row in rows.values() if row.kind == _FOLDER]
        for row in self._staging.children(folder):
            old = rows.get(row.path_id)
            if old is not None:
                self._count(old, -1)
            if row.dead:
                rows.pop(row.path_id, None)
            else:
                self._count(row, 1)
                rows[row.path_id] = row
        for path_id in folders:
            after = rows.get(path_id)
            if after is None or after.kind != _FOLDER:
                self._count_dead_below(path_id)
        changed = self._changed
        children: list[Child] = []
        for row in rows.values():
            digest = None
            if row.kind == _FOLDER:
                anew = changed.get(row.path_id)
                digest = anew.digest if anew is not None else row.digest
                if digest is None:
                    raise ValueError(f"folder {row.path_id.hex()} has no digest")
            children.append(Child(row.path_id, row.token, digest))
        return folder_digest(children)

    def _count(self, row: ChildRow, by: int) -> None:
        self._entries += by
        if row.kind == _FILE:
            self._bytes += by * row.size

    def _count_dead_below(self, folder: PathId) -> None:
        """Take everything below a dead folder out of the totals; each of it must have been staged as dead."""
        pending = [folder]
        while pending:
            at = pending.pop()
            if self._overlaid(at):
                raise ValueError(f"folder {at.hex()} died, entries in it did not")
            for row in self._live_children(at):
                self._count(row, -1)
                if row.kind == _FOLDER:
                    pending.append(row.path_id)
