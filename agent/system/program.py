"""How this very program is started again: as an installed package, from a folder or an archive, or as one file.

A build of one file (`make agent-bundle`) is its own interpreter: it takes commands, not modules. Its children find what
the first process unpacked, so that a backup by schedule unpacks nothing again.
"""

from __future__ import annotations

import sys
from pathlib import Path


def this_program() -> list[str]:
    """The words before the arguments of `pilulier-agent`."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    place = str(Path(__file__).resolve().parents[2])
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from agent.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, place]
