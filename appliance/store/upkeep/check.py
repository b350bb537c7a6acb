"""Checking a repository without a key and without mending anything: packs, catalog, chain, trees, extents.

`check_packs` reads packs, `check_history` the catalog's own history; here they are put together, and a report is made.
Everything reads in short statements, so it can run beside a writer and beside a prune: what a finding stands on is
read at one moment, or looked at again. Knows neither sessions nor messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.store.catalog import Catalog, select_in
from appliance.store.layout import Layout
from appliance.store.pages import unpack_extents
from appliance.store.upkeep.check_history import HistoryChecker
from appliance.store.upkeep.check_packs import PackChecker
from appliance.store.upkeep.findings import CheckError, DamagedSpot, Findings, View
from transport.extents import Extent
from transport.names import ID_BYTES, ZERO_SEGMENT

__all__ = ["CheckError", "CheckReport", "check_repository", "live_bytes"]

_ROWS: Final = 500
_PAGE_ROWS: Final = 64
"""A hostile page may be 900 KiB long."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. `bytes_read` counts bytes of packs."""

    ok: bool
    records_checked: int
    bytes_read: int
    errors: list[CheckError]
    mended: int = 0
    """Damaged records that nothing needs any more; no errors."""
    damage: list[DamagedSpot] = field(default_factory=list)
    """Where packs do not read well and nothing is mended: what a scrub would note."""


def check_repository(layout: Layout, catalog: Catalog, *, read_data: bool) -> CheckReport:
    """Everything that can be checked without a key; with `read_data`, the checksum of every segment too."""
    findings, view = Findings(), View.of(catalog)
    packs = PackChecker(layout, catalog, view, findings, read_data=read_data)
    for number in view.packs:
        packs.pack(number)
    packs.finish()
    history = HistoryChecker(catalog, view, findings)
    history.chain(packs.commits)
    history.trees()
    history.versions()
    return CheckReport(
        not findings.errors, packs.records, packs.bytes_read, findings.errors, packs.mended, packs.damage
    )


def live_bytes(catalog: Catalog) -> int:
    """Sealed bytes of the segments that a held version names or that a session still leases: what no sweep forgets."""
    top = catalog.state().leased_segment
    live: set[int] = set()
    for portion in _extent_portions(catalog):
        named = {segment for segment, _, _ in portion if segment != ZERO_SEGMENT}
        rows = select_in(catalog.connection, "SELECT number FROM segment WHERE id IN ({})", named)
        live.update(row[0] for row in rows)
    total = 0
    for number, length in catalog.connection.execute("SELECT number, length FROM segment"):
        if number > top or number in live:
            total += length - ID_BYTES
    return total


def _extent_portions(catalog: Catalog) -> Iterator[list[Extent]]:
    """All extents of inline versions and of pages, in portions, each from one short statement."""
    for _, rows in _chunks(catalog, "SELECT id, body FROM version WHERE span = 0 AND id > ? ORDER BY id", b""):
        yield [extent for row in rows for extent in unpack_extents(row[1])]
    statement = "SELECT number, extents FROM page WHERE number > ? ORDER BY number"
    for _, rows in _chunks(catalog, statement, 0, _PAGE_ROWS):
        yield [extent for row in rows for extent in unpack_extents(row[1])]


def _chunks(
    catalog: Catalog, statement: str, first: Any, limit: int = _ROWS
) -> Iterator[tuple[Any, list[tuple[Any, ...]]]]:
    """Rows in portions, going on after the first column of the last row: (that value, rows)."""
    after = first
    while rows := catalog.connection.execute(f"{statement} LIMIT {limit}", (after,)).fetchall():
        after = rows[-1][0]
        yield after, rows
