"""Parts of the service that run as processes of their own: started, watched, started again when they die, stopped.

Rules: a part that dies is started again after a pause that doubles, and the log says so; it never takes the service
down. A part holds the reading end of a pipe whose other end only this process has: when this process is gone, however
it went, the part ends itself (`end_with_the_service`). Each part leads a session of its own, so that a Ctrl-C at a
terminal reaches it through us alone. A part says that it is ready with one line on stdout; all else it has to say goes
to stderr, which it shares with the service. Knows no part by name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

READY_LINE: Final = '{"event":"ready"}'
"""What a part prints on stdout, alone on its line, once it does its work."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
CALM_S: Final = 60.0
"""A part that ran for so long before it died begins with the first pause again."""
STOP_S: Final = 6.0
"""What parts get between SIGTERM and SIGKILL: the service as a whole stops within ten seconds."""

log = logging.getLogger("pilulier.parts")


@dataclass(frozen=True, slots=True)
class Part:
    """One process to run: a name for the log, its command line, and what its environment has beside ours."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def own_command(home: Path, *words: str) -> tuple[str, ...]:
    """The command line of `pilulier --home HOME WORDS…` under this interpreter, whether it is installed or not."""
    # -P: what lies in the working directory is not ours to import.
    return (sys.executable, "-P", "-m", "appliance.cli", "--home", str(home), *words)


class Parts:
    """A context manager: started on entering, stopped on leaving. Its methods belong to the thread that made it."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
        stop_s: float = STOP_S,
    ) -> None:
        self._stop_s = stop_s
        self._watches = [_Watch(part, first_pause_s, longest_pause_s) for part in parts]

    def __enter__(self) -> Parts:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin all; returns at once."""
        for watch in self._watches:
            watch.begin()

    def wait_ready(self, timeout_s: float, names: Collection[str] | None = None) -> list[str]:
        """Wait until every part (or those of `names`) has said that it is ready; the names of all that have not."""
        deadline = time.monotonic() + timeout_s
        for watch in self._watches:
            if names is None or watch.part.name in names:
                watch.ready.wait(max(0.0, deadline - time.monotonic()))
        return [watch.part.name for watch in self._watches if not watch.ready.is_set()]

    def ask_to_stop(self) -> None:
        """Send SIGTERM to all and start none again; returns at once. Not for signal handlers: it takes locks."""
        for watch in self._watches:
            watch.ask_to_stop()

    def stop(self) -> list[str]:
        """End all; the names of those that had to be killed because they did not end in time."""
        self.ask_to_stop()
        deadline = time.monotonic() + self._stop_s
        return [watch.part.name for watch in self._watches if not watch.end(deadline)]


class _Watch:
    """One part and the thread that stays with it."""

    def __init__(self, part: Part, first_pause_s: float, longest_pause_s: float) -> None:
        self.part = part
        self.ready = threading.Event()
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"part {part.name}", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        # No lock needed: `_once` looks again after it has started a process.
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:
            process.send_signal(number)

    def end(self, deadline: float) -> bool:
        """Whether it ended before the deadline; it has ended either way."""
        if not self._thread.is_alive():
            return True
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if not self._thread.is_alive():
            return True
        process = self._process
        if process is not None and process.returncode is None:
            log.warning("%s did not end in time and is killed", self.part.name)
            with contextlib.suppress(ProcessLookupError):
                # The session is its own, so the group holds it and what it started, nothing else.
                os.killpg(process.pid, signal.SIGKILL)
        self._thread.join(2.0)
        return False

    def _run(self) -> None:
        pause_s = self._first_pause_s
        while not self._stopping.is_set():
            began = time.monotonic()
            how = self._once()
            if self._stopping.is_set():
                return
            pause_s = self._first_pause_s if time.monotonic() - began >= CALM_S else pause_s
            log.error("%s %s; it is started again in %.0f s", self.part.name, how, pause_s)
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, self._longest_pause_s)

    def _once(self) -> str:
        """Run the part to its end; how it ended, for the log."""
        try:
            process = subprocess.Popen(
                self.part.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                env={**os.environ, **self.part.environment},
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be started ({error.strerror})"
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        assert process.stdout is not None and process.stdin is not None
        # In a thread of its own: what the part has started may keep stdout open for longer than the part lives.
        listener = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
        listener.start()
        with process.stdin:
            code = process.wait()
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _listen(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if line.strip() == READY_LINE and not self.ready.is_set():
                    log.info("%s is ready", self.part.name)
                    self.ready.set()


def say_ready(stream: IO[str]) -> None:
    """For a part: tell the service that started it (or whoever reads) that it does its work."""
    stream.write(READY_LINE + "\n")
    stream.flush()


def end_with_the_service(end: Callable[[], None], descriptor: int = 0) -> None:
    """For a part: call `end` from a thread once the pipe that the service holds, stdin, is closed.

    Does nothing where stdin is no pipe: under systemd or at a terminal others see to it.
    """
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return
    except OSError:
        return

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 4096):
                pass
        end()

    threading.Thread(target=watch, name="end with the service", daemon=True).start()
