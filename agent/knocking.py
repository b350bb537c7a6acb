"""How one process of the agent tells the running service that something changed: a knock on a loopback port.

A datagram without meaning: whoever sends it, all that follows is a look at the settings. So the service sleeps without
asking the disk whether a file changed, and works the same on every system. The port stands in service.json; a knock
that finds nobody is lost, which is right where nobody runs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agent.errors import BusyError
from agent.settings import AgentHome, exclusive

_HOST: Final = "127.0.0.1"
_TOGETHER_S: Final = 0.05
"""What comes within it is one knock: whoever hammers at the door causes no more than twenty looks a second."""


class Door(msgspec.Struct, frozen=True):
    """Where a service listens; written by it alone."""

    pid: int
    port: Annotated[int, Meta(ge=1, le=65535)]


class Doorstep:
    """The service's side. `wait` belongs to one thread; `knock` may come from any, and from a signal handler."""

    def __init__(self, home: AgentHome) -> None:
        self._home = home
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_HOST, 0))
        self._own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._own.setblocking(False)
        self._address = self._socket.getsockname()
        new = home.service.with_name(home.service.name + ".new")
        new.write_bytes(msgspec.json.encode(Door(os.getpid(), self._address[1])))
        os.replace(new, home.service)

    def wait(self, seconds: float) -> bool:
        """Sleep until someone knocks, `seconds` at most; whether someone did. Knocks that came together are one."""
        self._socket.settimeout(max(0.001, seconds))
        try:
            self._socket.recv(16)
        except TimeoutError:
            return False
        except OSError:
            return True  # the system's word about an earlier datagram: look, and wait again
        time.sleep(_TOGETHER_S)
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                self._socket.recv(16)
        return True

    def knock(self) -> None:
        """Wake whoever waits."""
        with contextlib.suppress(OSError):
            self._own.sendto(b"!", self._address)

    def close(self) -> None:
        """Nobody listens any more."""
        with contextlib.suppress(OSError):
            self._home.service.unlink()
        self._socket.close()
        self._own.close()


def knock(home: AgentHome) -> None:
    """Tell this home's service, if one runs, that its settings changed."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        door = msgspec.json.decode(home.service.read_bytes(), type=Door)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"!", (_HOST, door.port))


def service_runs(home: AgentHome) -> bool:
    """Whether a service of this home is running."""
    if not home.service_lock.exists():
        return False
    try:
        with exclusive(home, "status", lock=home.service_lock):
            return False
    except BusyError:
        return True
