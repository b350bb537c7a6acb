"""One backup as a process of its own: a service that runs for months keeps none of a backup's memory.

Owns starting, watching and ending the child. It is the command `backup` of this very program, so a run by hand and one
by schedule are the same; the lock of the home keeps two of them apart, whoever started them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import Final

from agent import journal
from agent.scheduler import Ending, Why
from agent.settings import AgentHome
from agent.state import read_failure
from agent.system.program import this_program

log = logging.getLogger("pilulier.service")

END_S: Final = 20.0
"""A child that was told to end and has not by then is killed: what it sent is kept all the same. Service managers give
the whole service half a minute."""
_STDERR_LIMIT: Final = 4000
_ENDINGS: Final = {0: Ending.DONE, 3: Ending.DONE, 5: Ending.UNREACHABLE}


def command(home: AgentHome, why: str) -> list[str]:
    """How the child is started; where it is to look only, in part, stands in the home."""
    marked = ["--only-marked"] if why == Why.CONTINUOUS else []
    return [*this_program(), "--home", str(home.path), "--json", "backup", "--started-by", why, *marked]


class BackupProcess:
    """A child under way. `poll` tells how it ended; `told` is called, from a thread, when it has."""

    def __init__(self, home: AgentHome, why: str, told: Callable[[], None]) -> None:
        self._home = home
        self._stopped = False
        # Files, not pipes: a list of many warnings must not wait for someone who reads it.
        self._stderr, self._stdout = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command(home, why), stdin=subprocess.DEVNULL, stdout=self._stdout, stderr=self._stderr
        )
        self._told = told
        threading.Thread(target=self._watch, name="backup-watch", daemon=True).start()

    def _watch(self) -> None:
        self._process.wait()
        self._told()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def poll(self) -> Ending | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        ending = self._ending(code)
        words = self._words()
        if ending is Ending.DONE:
            log.info("backup done: %s", self._figures() or "nothing said")
        else:
            log.warning("backup %s (exit code %d): %s", ending, code, words or "nothing said")
        if ending is Ending.FAILED and code not in range(6):  # it could not say so itself
            journal.keep(self._home, "error", "backup", f"Backup failed: its process was ended from outside ({code})")
        self._stderr.close()
        self._stdout.close()
        return ending

    def _ending(self, code: int) -> Ending:
        if self._stopped and code not in (0, 3):
            return Ending.STOPPED
        if code == 4 and read_failure(self._home) == "busy":
            return Ending.BUSY
        return _ENDINGS.get(code, Ending.FAILED)

    def _words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, self._stderr.tell() - _STDERR_LIMIT))
            lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
            return " ".join(lines[-3:])
        return ""

    def _figures(self) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._stdout.seek(0)
            said = json.load(self._stdout)
            return (
                f"snapshot {said['snapshot']}, {said['files_total']} files, {said['bytes_sent']} bytes sent, "
                f"{len(said['warnings'])} warnings"
            )
        return ""

    def stop(self) -> None:
        """End it: asked first, killed after `END_S`. Nothing that was acknowledged is lost."""
        self._stopped = True
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
