"""Whether what the ledger knows is still there, asked before a backup stages anything.

Reads the top of included folders and the ledger; decides by the planner's rule. Owns no memory: which disks there were
is `agent.guards`'s.
"""

from __future__ import annotations

import os

from agent import planner
from agent.errors import EmptySourceError
from agent.ledger import Ledger
from agent.scanner import IncludedRoot, Scanner
from agent.selection import components
from agent.system.paths import joined


class Presence:
    """What a scanner would find of what a ledger holds."""

    def __init__(self, scanner: Scanner, ledger: Ledger) -> None:
        self._scanner = scanner
        self._ledger = ledger

    def check_roots(self) -> None:
        """EmptySourceError for a source that looks like an unmounted disk."""
        suspicious = planner.suspicious_roots(self._scanner.included_roots(), self._had_files)
        if suspicious:
            raise EmptySourceError(planner.refusal_sentence(suspicious))

    def _had_files(self, root: IncludedRoot) -> bool:
        parent = self._scanner.path_id(b"/" + b"/".join(components(root.path)[:-1]))
        return self._ledger.has_files_below(parent, root.path_id)

    def count(self, path: bytes) -> tuple[int, int]:
        """How many names the ledger knows in a folder, and how many of them are there."""
        known = self._ledger.children(self._scanner.path_id(path))
        try:
            names = os.listdir(path)
        except OSError:
            names = []
        there = {self._scanner.path_id(joined(path, name)) for name in names}
        return len(known), len(there.intersection(known))
