"""How much there is to back up, counted beside a backup for the time that is left: a walk of its own, about 1 % of a
first backup. Touches no content, no ledger, no key."""

from __future__ import annotations

import os
import threading

from agent.enrolling import Enrolled
from agent.report import Figures
from agent.scanner import Scanner
from transport.tree import FileType


class Counting:
    """A thread that corrects what the figures expect, where that is wanted. `stop` it with the run."""

    def __init__(self, machine: Enrolled, figures: Figures, *, wanted: bool) -> None:
        home, keys = os.fsencode(machine.home.path), machine.sealer().keys
        self._scanner = Scanner(machine.settings.selection, keys, home=home, count_only=True)
        self._figures = figures
        self._wanted = wanted
        self._stopped = False

    def start(self) -> None:
        """Begin."""
        if self._wanted:
            threading.Thread(target=self._count, name="counting", daemon=True).start()

    def stop(self) -> None:
        """Nobody wants to know any more."""
        self._stopped = True

    def _count(self) -> None:
        files = size = 0
        for listing in self._scanner.scan():
            for found in listing.children:
                if found.type is FileType.FILE:
                    files += 1
                    size += found.size
            if self._stopped:
                return
        self._figures.expected_files, self._figures.expected_bytes = files, size
