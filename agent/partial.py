"""A run that looks only where marks say: what it must look at besides, and how much of the snapshot it left alone.

Owns the three things that a partial run must not get wrong. It is allowed only on top of a complete snapshot of this
installation under today's selection, for marks say nothing about anything older. A folder that is not the one the
ledger knows is walked wholly. And a hard link changes under all of its names while only one of them is told of: the
others are looked at by name once the walk is over. Writes nothing; asks the ledger and the scanner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent import planner
from agent.enrolling import Enrolled
from agent.ledger import Ledger
from agent.marks import EVERYTHING, MarkedTree, Marks, troubled
from agent.planner import Decision
from agent.scanner import Found, Listing
from agent.staging import Known
from transport.names import PathId
from transport.tree import FileType


def marks_to_follow(marks: Marks | None, ledger: Ledger, machine: Enrolled) -> MarkedTree:
    """Where the run is to look: EVERYTHING unless the marks say all that happened since the ledger's head.

    What the run before could not read is looked at again: else its warning would end with the next quiet run.
    """
    head, settings = ledger.head(), machine.settings
    if marks is None or head is None:
        return EVERYTHING
    record = head.decoded()
    trusted = (
        record.complete
        and record.selection == settings.selection.digest()
        and record.installation == settings.installation
    )
    return MarkedTree.of(marks.and_also(troubled(machine.home))) if trusted else EVERYTHING


class Coverage:
    """What one run has met. `everything`: it walks all, and the rest is nothing."""

    def __init__(self, ledger: Ledger, *, everything: bool) -> None:
        self._ledger = ledger
        self.everything = everything
        self.rest_files, self.rest_bytes = (0, 0) if everything else ledger.file_totals()
        """Files of the ledger that were not looked at: they stay as they are."""
        self._inodes: set[int] = set()
        self._linked: set[PathId] = set()
        """Names of files with several that were looked at by name, or in a folder."""
        self._listed: set[PathId] = set()

    def familiar(self, found: Found) -> bool:
        """Whether the ledger has this very folder: what is below it changed only where marks say so."""
        known = self._ledger.entry(found.parent_id, found.path_id)
        return known is not None and known.type == FileType.FOLDER and known.ino == found.ino

    def known(self, listing: Listing) -> Mapping[PathId, Known]:
        """What the ledger has of that which the listing speaks of."""
        if not listing.some:
            if not self.everything:
                self._listed.add(listing.path_id)
            return self._ledger.children(listing.path_id)
        entries = (self._ledger.entry(listing.path_id, child.path_id) for child in listing.children)
        return {known.path_id: known for known in entries if known is not None}

    def met(self, known: Mapping[PathId, Known], decisions: Iterable[Decision]) -> None:
        """A folder was looked at, and this is what becomes of it."""
        if self.everything:
            return
        self._off(known.values())
        for decision in decisions:
            match decision:
                case planner.Unchanged():
                    self._note(decision.found, decision.known, changed=False)
                case planner.MetadataOnly():
                    self._note(decision.found, decision.known, changed=True)
                case planner.Read():
                    self._note(decision.found, decision.base, changed=True)
                case planner.Gone() | planner.Emptied() | planner.Kept():
                    gone = [decision.known]
                    if decision.known.type == FileType.FOLDER:
                        below = list(self._ledger.descendants(decision.known.path_id))
                        self._off(below)
                        gone += below
                    for one in gone:
                        self._note(None, one, changed=not isinstance(decision, planner.Kept))

    def _off(self, known: Iterable[Known]) -> None:
        for one in known:
            if one.type == FileType.FILE:
                self.rest_files -= 1
                self.rest_bytes -= one.size

    def _note(self, found: Found | None, known: Known | None, *, changed: bool) -> None:
        # A file that has a second name now may be known to the ledger as one with a single name: inodes tell.
        for one in (found, known):
            if one is not None and one.link_group:
                self._linked.add(one.path_id)
                if changed and one.ino:
                    self._inodes.add(one.ino)

    def other_names(self) -> Iterator[tuple[bytes, PathId, list[bytes]]]:
        """Folder, its id and names in it that stand for files which changed under another name; none twice."""
        while self._inodes:
            inodes, self._inodes = self._inodes, set()
            folders: dict[PathId, tuple[bytes, list[bytes]]] = {}
            for known, path in self._ledger.names_of(inodes):
                if known.path_id not in self._linked and known.parent_id not in self._listed:
                    self._linked.add(known.path_id)
                    folder = path[: -len(known.name) - 1] or b"/"
                    folders.setdefault(known.parent_id, (folder, []))[1].append(known.name)
            for path_id, (folder, names) in folders.items():
                yield folder, path_id, names
