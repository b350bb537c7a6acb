"""Every path inside a repository folder. No other module joins a path of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PACK_NAME: Final = re.compile(r"([0-9]{8})\.pack")


def pack_name(number: int) -> str:
    """The file name of a pack, as reports show it."""
    return f"{number:08d}.pack"


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of one repository."""

    folder: Path

    @property
    def lock(self) -> Path:
        """Empty file; its flock marks the one writer."""
        return self.folder / "writer.lock"

    @property
    def catalog(self) -> Path:
        """The SQLite index; `rebuild` makes it anew from the packs."""
        return self.folder / "catalog.sqlite"

    @property
    def catalog_journal(self) -> Path:
        """SQLite's rollback journal, empty between transactions."""
        return self.folder / "catalog.sqlite-journal"

    @property
    def packs(self) -> Path:
        """The folder of packs."""
        return self.folder / "packs"

    def pack(self, number: int) -> Path:
        """The file of pack `number`, 1 and up."""
        return self.packs / pack_name(number)

    def pack_numbers(self) -> list[int]:
        """The packs that exist on disk, ascending; files of other names are not looked at."""
        found = (_PACK_NAME.fullmatch(path.name) for path in self.packs.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    @property
    def nursery(self) -> Path:
        """Where a new repository is made before it is renamed into its place."""
        return self.folder.with_name(self.folder.name + ".new")
