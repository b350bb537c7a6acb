"""Who sits before this machine: the person behind a command that runs with an administrator's rights."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def home_of_the_person() -> Path:
    """The home folder of whoever asked, as far as the system tells; else this process's own."""
    if sys.platform != "win32":
        import pwd

        with contextlib.suppress(KeyError, ValueError):
            if "SUDO_USER" in os.environ:
                return Path(pwd.getpwnam(os.environ["SUDO_USER"]).pw_dir)
            if "PKEXEC_UID" in os.environ:
                return Path(pwd.getpwuid(int(os.environ["PKEXEC_UID"])).pw_dir)
    return Path.home()
