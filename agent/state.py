"""state.json: what the last run did, for `status` and for whoever looks without disturbing a running backup."""

from __future__ import annotations

import contextlib
import os

import msgspec

from agent.errors import BusyError
from agent.settings import AgentHome, exclusive


class LastRun(msgspec.Struct, frozen=True):
    """The last finished backup; zeros before the first. `running`: one is going on now.

    `began_ms` is of that backup, `walked_ms` of the last one that looked at everything; `error` and its code are of the
    last one that failed, at `error_at_ms`, empty once one succeeded since.
    """

    snapshot: int = 0
    at_ms: int = 0
    state: str = ""
    warnings: int = 0
    running: bool = False
    began_ms: int = 0
    walked_ms: int = 0
    files: int = 0
    error: str = ""
    error_code: str = ""
    error_at_ms: int = 0


def write_state(home: AgentHome, run: LastRun) -> None:
    """Replace state.json; failing to is not worth failing a backup for."""
    temporary = home.state.with_name("state.json.new")
    with contextlib.suppress(OSError):
        temporary.write_bytes(msgspec.json.encode(run))
        os.replace(temporary, home.state)


def write_failure(home: AgentHome, error: str, code: str, now_ms: int) -> None:
    """Note that a backup failed; the last finished one stays known."""
    run = read_last(home)
    write_state(home, msgspec.structs.replace(run, error=error, error_code=code, error_at_ms=now_ms))


def read_last(home: AgentHome) -> LastRun:
    """What the last run left behind, without a look at whether one is going on."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.structs.replace(msgspec.json.decode(home.state.read_bytes(), type=LastRun), running=False)
    return LastRun()


def read_failure(home: AgentHome) -> str:
    """The code of the last failure; empty where a backup succeeded since, or none failed."""
    return read_last(home).error_code


def last_files(home: AgentHome) -> int:
    """How many files the last complete backup had; 0 where none is known."""
    return read_last(home).files


def last_good(home: AgentHome) -> float:
    """When the last complete backup that looked at everything began, seconds since 1970; 0 where none did."""
    return read_last(home).walked_ms / 1000


def last_walk_ms(home: AgentHome) -> int:
    """The same in milliseconds."""
    return read_last(home).walked_ms


def read_state(home: AgentHome) -> LastRun:
    """The last run; the zeros where there is none or it cannot be read."""
    run = read_last(home)
    running = False
    try:
        with exclusive(home, "status"):
            pass
    except BusyError:
        running = True
    return msgspec.structs.replace(run, running=running)
