"""How this very program is started again: as an installed package, from a folder or an archive, or as one file.

A build of one file (`make agent-bundle`) is its own interpreter: it takes commands, not modules. Its children find what
the first process unpacked, so that a backup by schedule unpacks nothing again.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def this_program() -> list[str]:
    """The words before the arguments of `pilulier-agent`."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    place = str(Path(__file__).resolve().parents[2])
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from agent.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, place]


def program_words() -> list[str]:
    """How another program starts `pilulier-agent`: the script beside this interpreter where there is one."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    script = Path(sys.executable).with_name("pilulier-agent")
    return [str(script)] if script.exists() else [sys.executable, "-P", "-m", "agent.cli"]


def keep_what_was_unpacked() -> None:
    """Hold on to the files of a build of one file, for as long as this process lives; nothing where it is none.

    A service runs for months, and what lies in /tmp for ten days is swept away. systemd-tmpfiles leaves alone a folder
    that somebody holds a lock on (seen with `--clean`), with all that is in it.
    """
    unpacked = getattr(sys, "_MEIPASS", None)
    if unpacked is None or sys.platform == "win32":
        return
    import fcntl

    with contextlib.suppress(OSError):  # the handle stays open: with it the lock would go
        fcntl.flock(os.open(unpacked, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)
