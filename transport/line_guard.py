"""The lines behind a listening socket: what each holds of our memory, and an end for those that hold too much.

ZeroMQ counts messages, not bytes, and a message is invisible until its last part is here: a peer with a valid key that
sends one endless message of many parts takes as much memory as it likes (measured: 600 MB in two seconds), and so
does one that asks and never reads. The kernel knows better: Linux counts what TCP received and what the other side
acknowledged (tcp(7), TCP_INFO). Held against what was delivered to us and what we sent, the difference is what
ZeroMQ holds. A line beyond its bound is shut at the socket; its peer sees a broken connection and may come again.

Knows file descriptors and numbers, not ZeroMQ. One thread only. On another system than Linux it counts and shuts
nothing.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

log = logging.getLogger("pilulier.lines")

INCOMING_LIMIT: Final = 40 << 20
"""Of one line, arrived and not delivered: an agent has no more than its credit (32 MiB) and one message under way."""
INCOMING_POOL: Final = 96 << 20
"""Of all lines together; beyond it the largest are shut."""
OUTGOING_LIMIT: Final = 48 << 20
"""Of one machine, sent and not taken: a restore's window has at most half of this under way, a sample two thirds."""
OUTGOING_POOL: Final = 128 << 20
"""Of all lines together; beyond it the largest are shut."""
SILENT_S: Final = 20.0
"""A line that has not said a whole message by then is shut: whoever connects has something to say."""
UNSPOKEN_BYTES: Final = 256 << 10
"""Of a line that has not said a whole message: nobody can be told to answer for it yet, and a greeting is short."""
UNSPOKEN_LINES: Final = 256
"""Lines that have not said a whole message; beyond it the oldest are shut, so that a new one always has its chance."""
LINES_PER_OWNER: Final = 16
"""Of one machine; twice what it may use, so that one that is over is told why."""
LINES_LIMIT: Final = 4096
"""Lines of one listening socket; further ones are shut at once (36 KiB each, measured)."""
_SMALL: Final = 4 << 20
_TICK_S: Final = 0.1
_LINES_PER_TICK: Final = 512
"""With more lines the looks at all of them are rarer: each costs some microseconds a line."""
_LINUX: Final = sys.platform == "linux"
_COUNTS = struct.Struct("=QQ")
_COUNTS_AT: Final = 120
"""tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info (linux/tcp.h, since Linux 4.1)."""


@dataclass(slots=True)
class _Line:
    """One accepted connection. Byte counts are of the wire, handshake left out."""

    since: float
    owner: str = ""
    route: bytes = b""
    delivered: int = 0
    sent: int = 0
    received: int = 0
    taken: int = 0

    @property
    def incoming(self) -> int:
        return self.received - self.delivered

    @property
    def outgoing(self) -> int:
        return self.sent - self.taken


class LineGuard:
    """Watches the lines of one listening socket. `port` says where it listens (0: not yet)."""

    def __init__(
        self, port: Callable[[], int], *, incoming_limit: int = INCOMING_LIMIT, lines_limit: int = LINES_LIMIT
    ) -> None:
        self._port = port
        self._incoming_limit = incoming_limit
        self._lines_limit = lines_limit
        self._lines: dict[int, _Line] = {}
        self._fds: dict[bytes, int] = {}
        self._ticked = 0.0
        self._logged = 0.0
        self._unlogged = 0
        self.shut_count = 0

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, fd: int) -> bool:
        return fd in self._lines

    def accepted(self, fd: int) -> None:
        """A connection was accepted."""
        self.closed(fd)
        if len(self._lines) >= self._lines_limit:
            self._shut(fd, "too many connections")
            return
        self._lines[fd] = _Line(time.monotonic())
        unspoken = [other for other, line in self._lines.items() if not line.route]
        for other in unspoken[:-UNSPOKEN_LINES]:  # in the order in which they came
            self._shut(other, "too many connections that say nothing")

    def closed(self, fd: int) -> None:
        """A connection has ended."""
        line = self._lines.pop(fd, None)
        if line is not None:
            self._fds.pop(line.route, None)

    def arrived(self, fd: int, route: bytes, owner: str, wire_bytes: int) -> None:
        """A whole message of `wire_bytes` was delivered from the peer at `route`, whom the channel knows as `owner`."""
        line = self._lines.get(fd)
        if line is None or (line.route and line.route != route):
            return  # the tail of a line whose descriptor is in use again already
        if not line.route:
            line.route, line.owner = route, owner
            self._fds[route] = fd
            if owner and sum(other.owner == owner for other in self._lines.values()) > LINES_PER_OWNER:
                self._shut(fd, f"more than {LINES_PER_OWNER} connections of one machine")
        line.delivered += wire_bytes

    def sent(self, route: bytes, wire_bytes: int) -> None:
        """A message was handed over for the peer at `route`."""
        line = self._lines.get(self._fds.get(route, -1))
        if line is not None:
            line.sent += wire_bytes

    def taken(self, route: bytes) -> int | None:
        """Bytes that the kernel of the peer at `route` has acknowledged until now; None where nobody can say."""
        fd = self._fds.get(route, -1)
        if not _LINUX or fd not in self._lines:
            return None
        self._measure(fd)
        line = self._lines.get(fd)
        return None if line is None else line.taken

    def shut(self, route: bytes, why: str) -> None:
        """End the line of the peer at `route`."""
        fd = self._fds.get(route)
        if fd is not None:
            self._shut(fd, why)

    def sweep(self, *, drained: bool) -> None:
        """Look at every line, a few times a second at most; `drained` where nothing more waits to be delivered."""
        now = time.monotonic()
        tick_s = _TICK_S * max(1.0, len(self._lines) / _LINES_PER_TICK)
        late = now - self._ticked > 5 * tick_s
        if not _LINUX or now - self._ticked < tick_s or not (drained or late):
            return
        self._ticked = now
        for fd in list(self._lines):
            self._measure(fd)
        for fd, line in list(self._lines.items()):
            if line.incoming > (self._incoming_limit if line.route else min(UNSPOKEN_BYTES, self._incoming_limit)):
                self._shut(fd, f"{line.incoming} bytes of one message")
            elif drained and not line.route and now - line.since > SILENT_S:
                self._shut(fd, f"not a word in {SILENT_S:.0f} s")
        self._bound_incoming()
        self._bound_outgoing()

    def _bound_incoming(self) -> None:
        owners: dict[str, int] = {}
        for line in self._lines.values():
            owners[line.owner] = owners.get(line.owner, 0) + max(0, line.incoming)
        total = sum(owners.values())
        for fd, line in sorted(self._lines.items(), key=lambda item: -item[1].incoming):
            greedy = line.owner and owners[line.owner] > self._incoming_limit
            if line.incoming <= 0 or not (greedy or (total > INCOMING_POOL and line.incoming >= _SMALL)):
                continue
            owners[line.owner] -= line.incoming
            total -= line.incoming
            self._shut(fd, f"{line.incoming} of too many unfinished bytes")

    def _bound_outgoing(self) -> None:
        owners: dict[str, int] = {}
        for line in self._lines.values():
            owners[line.owner] = owners.get(line.owner, 0) + max(0, line.outgoing)
        total = sum(owners.values())
        for fd, line in sorted(self._lines.items(), key=lambda item: -item[1].outgoing):
            greedy = owners[line.owner] > OUTGOING_LIMIT
            if line.outgoing <= 0 or not (greedy or (total > OUTGOING_POOL and line.outgoing >= _SMALL)):
                continue
            owners[line.owner] -= line.outgoing
            total -= line.outgoing
            self._shut(fd, f"{line.outgoing} bytes of answers were not taken")

    def _measure(self, fd: int) -> None:
        """Ask the kernel; a descriptor that is no line of ours any more is forgotten."""
        line = self._lines[fd]
        try:
            with self._borrowed(fd) as sock:
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _COUNTS_AT + _COUNTS.size)
            line.taken, line.received = _COUNTS.unpack_from(info, _COUNTS_AT)
        except (OSError, struct.error):
            self.closed(fd)

    @contextlib.contextmanager
    def _borrowed(self, fd: int) -> Iterator[socket.socket]:
        """ZeroMQ's own descriptor as a socket, never closed here; OSError where it is no line of this port any more."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        try:
            if sock.getsockname()[1:2] != (self._port(),):
                raise OSError("another socket by now")
            yield sock
        finally:
            sock.detach()

    def _shut(self, fd: int, why: str) -> None:
        line = self._lines.get(fd)
        with contextlib.suppress(OSError), self._borrowed(fd) as sock:  # it may have ended by itself
            sock.shutdown(socket.SHUT_RDWR)
        self.closed(fd)
        self.shut_count += 1
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged > 1.0:  # whoever provokes this must not fill the log
            owner = line.owner if line is not None and line.owner else "a stranger"
            log.warning("connection of %s shut: %s (%d shut since the last such line)", owner, why, self._unlogged)
            self._logged, self._unlogged = now, 0


def wire_bytes(*frame_lengths: int) -> int:
    """What frames of these lengths take on a CURVE line: ZMTP flags and length (RFC 23), CurveZMQ's 33 (RFC 26)."""
    return sum(length + 33 + (2 if length + 33 <= 255 else 9) for length in frame_lengths)
