"""Every path inside a repository folder. No other module joins a path of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_PACK_NAME: Final = re.compile(r"([0-9]{8})(?:-([1-9][0-9]*))?\.pack")
UNFINISHED: Final = ".new"
"""How the name of a file ends while it is being written."""


def pack_name(number: int, generation: int = 0) -> str:
    """The file name of a pack, as reports show it; `generation` counts how often it was compacted."""
    return f"{number:08d}-{generation}.pack" if generation else f"{number:08d}.pack"


class PackFile(NamedTuple):
    """One file of the folder of packs: (number, generation)."""

    number: int
    generation: int

    @property
    def name(self) -> str:
        """Its file name."""
        return pack_name(self.number, self.generation)


def pack_files_among(names: Iterable[str]) -> list[PackFile]:
    """Those of the names that are packs', ascending."""
    found = (_PACK_NAME.fullmatch(name) for name in names)
    return sorted(PackFile(int(match.group(1)), int(match.group(2) or 0)) for match in found if match)


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of one repository."""

    folder: Path

    @property
    def lock(self) -> Path:
        """Empty file; its flock marks the one writer."""
        return self.folder / "writer.lock"

    @property
    def queue(self) -> Path:
        """Empty file; its flock marks who writes next."""
        return self.folder / "writer.queue"

    @property
    def maintenance(self) -> Path:
        """Empty file; its flock marks the one process that prunes, scrubs or rebuilds."""
        return self.folder / "maintenance.lock"

    @property
    def catalog(self) -> Path:
        """The SQLite index; `rebuild` makes it anew from the packs."""
        return self.folder / "catalog.sqlite"

    @property
    def catalog_journal(self) -> Path:
        """SQLite's rollback journal, empty between transactions."""
        return self.folder / "catalog.sqlite-journal"

    @property
    def catalog_rebuilt(self) -> Path:
        """A catalog that is being made anew."""
        return self.unfinished(self.catalog)

    @property
    def catalog_old(self) -> Path:
        """The catalog that a rebuilt one replaced."""
        return self.folder / "catalog.sqlite.old"

    def journal_of(self, catalog: Path) -> Path:
        """SQLite's rollback journal of a catalog anywhere."""
        return catalog.with_name(catalog.name + "-journal")

    @property
    def packs(self) -> Path:
        """The folder of packs."""
        return self.folder / "packs"

    def pack(self, number: int, generation: int = 0) -> Path:
        """The file of pack `number`, 1 and up, in the generation that the catalog names."""
        return self.packs / pack_name(number, generation)

    def unfinished(self, path: Path) -> Path:
        """What a file is called while it is being written."""
        return path.with_name(path.name + UNFINISHED)

    def pack_files(self) -> list[PackFile]:
        """The packs that exist on disk, all generations, ascending; files of other names are not looked at."""
        return pack_files_among(os.listdir(self.packs))

    def pack_numbers(self) -> list[int]:
        """The packs that exist on disk in any generation, ascending."""
        return sorted({file.number for file in self.pack_files()})

    def names_of_packs(self) -> frozenset[str]:
        """Every name in the folder of packs, not looked at any closer: cheap with thousands of them."""
        return frozenset(os.listdir(self.packs))

    @property
    def nursery(self) -> Path:
        """Where a new repository is made before it is renamed into its place."""
        return self.folder.with_name(self.folder.name + ".new")
