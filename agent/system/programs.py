"""Running other people's programs: no shell, a process group of their own, an end in any case, bounded output.

Owns starting, waiting and killing by the id of the group that was started here. A group is killed only while its
leader has not been reaped, so that its id cannot have passed to anybody else. The Windows half (one process, no group,
no other user) is written from the documentation of `subprocess` and was not run here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from agent.system import namespaces
from transport.errors import UsageError

TimeoutExpired = subprocess.TimeoutExpired

GRACE_S: Final = 5.0
"""Between the asking and the killing."""
OUTPUT_BYTES: Final = 16 * 1024
"""Of a program's words, the last ones."""
_LOOK_S: Final = 0.02
_DRAIN_S: Final = 1.0
_POSIX: Final = sys.platform != "win32"


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended: `code` is negative where a signal ended it."""

    code: int
    timed_out: bool
    output: bytes
    """The last of what it said."""
    seconds: float

    @property
    def well(self) -> bool:
        """Exit code 0, in time."""
        return self.code == 0 and not self.timed_out


class Tail:
    """Drains a pipe in a thread and keeps the last bytes, so that nobody waits for a reader."""

    def __init__(self, pipe: IO[bytes], limit: int = OUTPUT_BYTES) -> None:
        self._pipe = pipe
        self._limit = limit
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="draining", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while piece := os.read(self._pipe.fileno(), 1 << 16):
                with self._lock:
                    self._kept += piece
                    del self._kept[: -self._limit]

    def take(self) -> bytes:
        """What was kept, once the program has ended. A grandchild that lives on may hold the pipe: nobody waits."""
        self._thread.join(_DRAIN_S)
        with self._lock:
            return bytes(self._kept)


def identity(run_as: str) -> dict[str, Any]:
    """What Popen needs to start a program as another user; UsageError where there is no such user or no right."""
    if not run_as:
        return {}
    if sys.platform == "win32":
        raise UsageError("on Windows a program cannot be run as another user from here: leave --run-as out")
    import pwd

    try:
        entry = pwd.getpwnam(run_as)
    except KeyError:
        raise UsageError(f"there is no user {run_as!r} on this machine") from None
    if os.geteuid() == entry.pw_uid:
        return {}
    if os.geteuid() != 0:
        raise UsageError(f"only root can run a program as {run_as!r}: this agent runs as another user")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(run_as, entry.pw_gid)}


def environment(run_as: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The agent's own, with the home of the other user, and `extra` on top."""
    result = dict(os.environ)
    if run_as and sys.platform != "win32":
        import pwd

        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(run_as)
            result |= {"HOME": entry.pw_dir, "USER": run_as, "LOGNAME": run_as}
    return result | dict(extra)


def start(
    argv: Sequence[str],
    *,
    run_as: str = "",
    extra: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session and group of its own, in `/`; OSError where it cannot be started."""
    return namespaces.outside(
        lambda: subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            cwd="/" if _POSIX else None,
            env=environment(run_as, extra or {}),
            start_new_session=_POSIX,
            umask=0o077 if _POSIX else -1,
            pass_fds=tuple(pass_fds),
            **identity(run_as),
        )
    )


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    run_as: str = "",
    extra: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    limit: int = OUTPUT_BYTES,
    apart: bool = False,
    grace_s: float = GRACE_S,
    pass_fds: Sequence[int] = (),
) -> Ended:
    """Run a program to its end, at most `timeout_s` and `grace_s` long; OSError where it cannot be started.

    `output` is what it said on both streams, on stdout alone where `apart` and it ended well. Whatever interrupts the
    wait kills the program first.
    """
    began = time.monotonic()
    process = start(
        argv,
        run_as=run_as,
        extra=extra,
        stdin=subprocess.DEVNULL if stdin is None else stdin.fileno(),
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        pass_fds=pass_fds,
    )
    assert process.stdout is not None
    words, errors = Tail(process.stdout, limit), Tail(process.stderr) if process.stderr is not None else None
    timed_out = False
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        kill(process, grace_s)
    except BaseException:
        kill(process, grace_s)
        raise
    output = words.take()
    complaint = errors.take() if errors is not None else b""
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    well = process.returncode == 0 and not timed_out
    return Ended(
        process.returncode, timed_out, output if well or not apart else complaint, time.monotonic() - began
    )


def kill(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """End a program that was started here, with all of its group: asked first, killed after `grace_s`."""
    if process.returncode is not None:
        return
    if sys.platform == "win32":
        process.terminate()
        process.wait()
        return
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while not _ended(process) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    _signal(process, signal.SIGKILL)  # whoever of the group did not go with its leader, too
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the leader has ended, without reaping it: as long as it is a zombie, its group's id is its own."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    return False
