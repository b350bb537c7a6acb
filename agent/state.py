"""state.json: what the last run did, for `status` and for whoever looks without disturbing a running backup."""

from __future__ import annotations

import contextlib
import os

import msgspec

from agent.errors import BusyError
from agent.settings import AgentHome, exclusive


class LastRun(msgspec.Struct, frozen=True):
    """The last finished backup; zeros before the first. `running`: one is going on now."""

    snapshot: int = 0
    at_ms: int = 0
    state: str = ""
    warnings: int = 0
    running: bool = False


def write_state(home: AgentHome, run: LastRun) -> None:
    """Replace state.json; failing to is not worth failing a backup for."""
    temporary = home.state.with_name("state.json.new")
    with contextlib.suppress(OSError):
        temporary.write_bytes(msgspec.json.encode(run))
        os.replace(temporary, home.state)


def read_state(home: AgentHome) -> LastRun:
    """The last run; the zeros where there is none or it cannot be read."""
    run = LastRun()
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        run = msgspec.json.decode(home.state.read_bytes(), type=LastRun)
    running = False
    try:
        with exclusive(home, "status"):
            pass
    except BusyError:
        running = True
    return msgspec.structs.replace(run, running=running)
