"""The order in which a restore wants its files: as listed, or the folders first that were used last. Pure.

Segments are fetched in the order in which files first need them and opened once each whatever that order is, so a
restore that begins with what people work on costs no segment twice; a segment that holds parts of older files as well
gives them those at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transport.snapshot_reader import Node
from transport.tree import FileType


def recent_first(nodes: Sequence[Node]) -> list[Node]:
    """Folders and all else as listed, then files: folder by folder, by the newest file directly in each."""
    files = [node for node in nodes if node.type == FileType.FILE]
    newest: dict[int, int] = {}
    for node in files:
        folder = id(node.parent)
        newest[folder] = max(newest.get(folder, node.mtime_ns), node.mtime_ns)
    # Equally recent folders stay apart: a batch is a folder, so that it is whole at once.
    files.sort(key=lambda node: (-newest[id(node.parent)], id(node.parent), -node.mtime_ns))
    return [*_others(nodes), *files]


def _others(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.type != FileType.FILE]
