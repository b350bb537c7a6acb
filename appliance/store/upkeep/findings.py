"""What a check or a scrub finds, and the moment it looks from. Knows nothing of how anything is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from appliance.store.catalog import Catalog, PackRow, State

ERROR_LIMIT: Final = 1000
"""A report stops growing here; the first findings say enough."""


@dataclass(frozen=True, slots=True)
class CheckError:
    """One finding. `pack` is a file name, or "catalog" with offset 0; `kind` the record kind or what was compared."""

    pack: str
    offset: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class DamagedSpot:
    """Bytes of a pack that do not read well, from `offset` to `end`; `kind` as their head says, if it can be read."""

    pack: int
    generation: int
    offset: int
    end: int
    kind: str
    detail: str


@dataclass(slots=True)
class Findings:
    """A growing report."""

    errors: list[CheckError] = field(default_factory=list)

    def report(self, pack: str, offset: int, kind: str, detail: str) -> None:
        """Add one."""
        if len(self.errors) < ERROR_LIMIT:
            self.errors.append(CheckError(pack, offset, kind, detail))

    def catalog(self, kind: str, detail: str) -> None:
        """Add one about the catalog itself."""
        self.report("catalog", 0, kind, detail)


@dataclass(frozen=True, slots=True)
class View:
    """How things stood when the check began: what a writer adds later is not looked for."""

    state: State
    packs: dict[int, PackRow]
    held: tuple[int, ...]
    """Snapshots, ascending."""
    retired: frozenset[int]

    @classmethod
    def of(cls, catalog: Catalog) -> View:
        """Read in one moment."""
        with moment(catalog):
            state, packs = catalog.state(), catalog.packs()
            rows = catalog.connection.execute("SELECT number, retired FROM snapshot ORDER BY number").fetchall()
        held = tuple(number for number, retired in rows if not retired)
        return cls(state, packs, held, frozenset(number for number, retired in rows if retired))


@contextmanager
def moment(catalog: Catalog) -> Iterator[None]:
    """Several statements see the same state. Short work only: a reader's lock holds up the writer's commit."""
    catalog.connection.execute("BEGIN")
    try:
        yield
    finally:
        catalog.connection.execute("ROLLBACK")
