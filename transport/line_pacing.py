"""What stands between a connection and its line: a SOCKS5 proxy to go through, and a pace for what goes out.

The pace is the kernel's (tcp(7), SO_MAX_PACING_RATE): a message of 1 MiB leaves evenly instead of in one burst that
holds up whoever else shares the line. Linux alone has it; elsewhere only the average is kept, by whoever sends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from dataclasses import dataclass
from typing import Final

_SO_MAX_PACING_RATE: Final = 47
_UNLIMITED: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Proxy:
    """A SOCKS5 proxy: `host:port`, and who asks it (RFC 1928, 1929). The repr shows no password."""

    address: str
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.address!r}, {self.user!r})"


def pace(descriptor: int, bytes_per_s: float | None) -> bool:
    """Let a connection's socket send at most so much; None for as much as there is. Whether the system does that."""
    if not sys.platform.startswith("linux"):
        return False
    rate = _UNLIMITED if bytes_per_s is None else min(_UNLIMITED - 1, max(1, int(bytes_per_s)))
    with contextlib.suppress(OSError):  # the connection has ended, and its descriptor with it
        with socket.socket(fileno=os.dup(descriptor)) as line:
            line.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate.to_bytes(4, sys.byteorder))
        return True
    return False
