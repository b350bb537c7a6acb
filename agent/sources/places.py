"""Where databases stand in a snapshot: files of a folder that no disk has, /.pilulier/databases.

What a file holds is seen on its name, so that a machine which knows none of the sources can put it back.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from agent.sources.configured import Source
from agent.system.paths import joined
from transport.names import PathId
from transport.snapshot_reader import Node, Selection

TOP: Final = b".pilulier"
FOLDER: Final = b"databases"
SUFFIXES: Final = {"sqlite": ".sqlite", "postgresql": ".postgresql.sql", "mariadb": ".mariadb.sql"}
"""By kind."""


def kind_of(source: Source) -> str:
    """`sqlite`, `postgresql` or `mariadb`."""
    return str(source.__struct_config__.tag)


def file_name(source: Source) -> str:
    """The name of its file in the folder."""
    return source.name + SUFFIXES[kind_of(source)]


def top_path() -> bytes:
    """The path of what is Pilulier's own, as the scanner of this system writes it."""
    return joined(b"/", TOP)


def folder_path() -> bytes:
    """The folder's path in a snapshot."""
    return joined(top_path(), FOLDER)


def dump_named(nodes: list[Node], name: str) -> tuple[Node, str] | None:
    """The file of this source among those of the folder, and its kind."""
    for node in nodes:
        for kind, suffix in SUFFIXES.items():
            if node.name in (name.encode() + suffix.encode(), name.encode()) and node.name.endswith(suffix.encode()):
                return node, kind
    return None


def apart(selection: Selection) -> tuple[Selection, list[Node]]:
    """A selection without what stands on no disk, and the files that were in it."""
    inside: set[PathId] = set()
    dumps: list[Node] = []
    kept: list[list[Node]] = []
    for nodes in (selection.ancestors, selection.nodes):
        kept.append([])
        for node in nodes:
            is_top = node.parent is None and node.name == TOP
            if not is_top and (node.parent is None or node.parent.path_id not in inside):
                kept[-1].append(node)
            elif node.is_folder:
                inside.add(node.path_id)
            else:
                dumps.append(node)
    ancestors, wanted = kept
    return dataclasses.replace(selection, nodes=wanted, ancestors=ancestors), dumps
