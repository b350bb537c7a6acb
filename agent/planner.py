"""Decides, folder by folder, what a backup does with each path. Pure: no disk, no clock, no key.

Takes what the scanner found and what the ledger knows, gives a decision with its reason for every path of either;
carrying them out has no choices left. Gone means absent from a folder that was listed without error: what could
not be looked at keeps its previous version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from agent.scanner import Found, IncludedRoot, Listing, RootState
from agent.selection import shown
from agent.staging import Known
from transport.names import PathId
from transport.tree import FileType

SETTLED_NS: Final = 50_000_000
DELTA_MINIMUM_BYTES: Final = 64 * 1024

NEW: Final = "new"
CHANGED: Final = "size or time changed"
STATUS_CHANGED: Final = "status changed, content perhaps not"
UNSETTLED: Final = "changed while it was last read"
TYPE_CHANGED: Final = "became another kind of thing"
METADATA_CHANGED: Final = "metadata changed"
LINKS_CHANGED: Final = "hard links changed"
ABSENT: Final = "no longer there"
UNLISTED: Final = "its folder could not be read"
UNSEEN: Final = "it could not be looked at"


class Unchanged(msgspec.Struct, frozen=True, gc=False):
    """Nothing to do. `refresh`: the ledger was rebuilt and does not know ctime and inode yet (Ledger.refresh)."""

    found: Found
    known: Known
    refresh: bool = False
    reason: str = "unchanged"


class MetadataOnly(msgspec.Struct, frozen=True, gc=False):
    """Send an entry, no content: folders, symbolic links, and files whose content is proved the same (`known`
    then gives version and MAC)."""

    found: Found
    known: Known | None
    reason: str


class Read(msgspec.Struct, frozen=True, gc=False):
    """Read the file. `base` is its previous version, if it had one."""

    found: Found
    base: Known | None
    reason: str
    probably_same: bool
    """Size, mtime and inode are as before: compare the MAC before sending anything."""
    delta: bool
    """Large enough and with a signature at hand: a delta may be tried."""


class Emptied(msgspec.Struct, frozen=True, gc=False):
    """A folder gave way to something that is none: all below it is gone; its own path has a decision beside this."""

    known: Known
    reason: str = TYPE_CHANGED


class Gone(msgspec.Struct, frozen=True, gc=False):
    """The path is gone, with all below it where it was a folder."""

    known: Known
    reason: str


class Kept(msgspec.Struct, frozen=True, gc=False):
    """The previous version stays, stale; so does all below it."""

    known: Known
    reason: str


Decision = Unchanged | MetadataOnly | Read | Emptied | Gone | Kept

_FILE: Final = FileType.FILE
_FOLDER: Final = FileType.FOLDER


def is_settled(ctime_ns: int, read_began_ns: int) -> bool:
    """Whether equal status later will mean equal content, given the ctime seen before the read and when it began.

    The kernel stamps changes with a clock that ticks in jiffies (up to 10 ms): a file that changed, was read and
    changed again within one tick shows the same ctime both times. So a ctime within 50 ms of the read, or after
    it, proves nothing, and the file is read once more by the next backup.
    """
    return ctime_ns < read_began_ns - SETTLED_NS


def plan_folder(
    listing: Listing, known: Mapping[PathId, Known], *, delta_minimum_bytes: int = DELTA_MINIMUM_BYTES
) -> list[Decision]:
    """Decisions for the children of one folder: those found, in their order, then those only the ledger knows."""
    decisions: list[Decision] = []
    add = decisions.append
    matched = 0
    for found in listing.children:
        before = known.get(found.path_id)
        if before is None:
            add(Read(found, None, NEW, False, False) if found.type is _FILE else MetadataOnly(found, None, NEW))
            continue
        matched += 1
        if before.type != found.type:
            if before.type == _FOLDER:
                add(Emptied(before))
            if found.type is _FILE:
                add(Read(found, None, TYPE_CHANGED, False, False))
            else:
                add(MetadataOnly(found, before, TYPE_CHANGED))
        elif found.type is _FILE:
            add(_plan_file(found, before, delta_minimum_bytes))
        else:
            add(_plan_other(found, before))
    if matched < len(known):
        listed = {found.path_id for found in listing.children}
        for path_id, before in known.items():
            if path_id in listed:
                continue
            if listing.error is not None:
                add(Kept(before, UNLISTED))
            elif path_id in listing.unsure:
                add(Kept(before, UNSEEN))
            else:
                add(Gone(before, ABSENT))
    return decisions


def _plan_file(found: Found, before: Known, delta_minimum_bytes: int) -> Decision:
    same_content = found.size == before.size and found.mtime_ns == before.mtime_ns and found.ino == before.ino
    if same_content and found.ctime_ns == before.ctime_ns and before.settled:
        if found.link_group != before.link_group:
            return MetadataOnly(found, before, LINKS_CHANGED)
        if found.mode == before.mode and found.uid == before.uid and found.gid == before.gid:
            return Unchanged(found, before)
    if same_content:
        reason = UNSETTLED if found.ctime_ns == before.ctime_ns else STATUS_CHANGED
    else:
        # A rebuilt ledger knows no inode numbers: equal size and time is then all there is to go by.
        same_content = before.ino == 0 and found.size == before.size and found.mtime_ns == before.mtime_ns
        reason = STATUS_CHANGED if same_content else CHANGED
    delta = before.has_signature and found.size >= delta_minimum_bytes
    return Read(found, before, reason, same_content, delta)


def _plan_other(found: Found, before: Known) -> Decision:
    """Folders and symbolic links; ctime is compared as well, since only it tells of changed ACLs and attributes."""
    same = (
        found.mtime_ns == before.mtime_ns
        and found.mode == before.mode
        and found.uid == before.uid
        and found.gid == before.gid
        and found.target == before.target
    )
    if same and before.ctime_ns == 0:
        return Unchanged(found, before, refresh=True)
    if same and found.ctime_ns == before.ctime_ns:
        return Unchanged(found, before)
    return MetadataOnly(found, before, METADATA_CHANGED)


def suspicious_roots(
    roots: Iterable[IncludedRoot], had_files: Callable[[IncludedRoot], bool]
) -> list[IncludedRoot]:
    """Included paths that are missing or empty although the ledger has files there; to be refused unless the
    person says `--allow-empty`. `had_files` is asked only for those."""
    return [root for root in roots if root.state in (RootState.MISSING, RootState.EMPTY) and had_files(root)]


def refusal_sentence(roots: Iterable[IncludedRoot]) -> str:
    """What to tell about suspicious roots."""
    told = ", ".join(f"{shown(root.path)} {root.reason}" for root in roots)
    return (
        f"{told}, but the last snapshot has files there: is a disk not mounted? "
        "If they were really deleted, run backup --allow-empty"
    )
