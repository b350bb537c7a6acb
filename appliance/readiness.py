"""What systemd is told: ready, stopping, alive (sd_notify(3)). Silent where nobody listens.

The sign of life comes from the loop that does the work, so that one that hangs is started again; it is sent four
times within the time that systemd waits for it (WATCHDOG_USEC), and costs nothing between.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

_SHARE: Final = 4


def notify(line: str) -> None:
    """Tell the service manager, if there is one; a manager that does not listen is no error of ours."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # An address that begins with @ is one of Linux' abstract names.
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.send(line.encode())


class Pulse:
    """Signs of life of one loop: `beat` as often as it likes."""

    def __init__(self, *, of: int | None = None) -> None:
        """`of`: the process that systemd knows, where the loop works in a child of it (NotifyAccess=all)."""
        wait_us = os.environ.get("WATCHDOG_USEC", "")
        pid = str(os.getpid() if of is None else of)
        meant = os.environ.get("WATCHDOG_PID", pid) == pid
        self._every_s = int(wait_us) / 1e6 / _SHARE if wait_us.isdigit() and meant else 0.0
        self._last = 0.0

    @property
    def every_s(self) -> float:
        """How often a sign is sent; 0 where none is wanted."""
        return self._every_s

    def beat(self) -> None:
        """The loop has come around once more."""
        if not self._every_s:
            return
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            notify("WATCHDOG=1")
