"""A way through a SOCKS5 proxy (RFC 1928; user and password: RFC 1929): one connection, reached at an address of ours.

*Why not libzmq's own ZMQ_SOCKS_PROXY?* **Because it ends the process.** libzmq 4.3.5 aborts (`Bad file descriptor
(src/epoll.cpp:86)`) whenever the proxy is not there, refuses, does not know the user or hangs up before the connection
stands (measured, each of them); a service that runs for months must get an error instead. So the way is made here, and
ZeroMQ connects to this end of it on 127.0.0.1. What passes is CURVE from end to end: whoever else on this machine
connects first sees no more than the network does, and takes the way away, no more.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Final

from transport.errors import UnreachableError
from transport.line_pacing import Proxy, pace

_PIECE: Final = 1 << 18
_NO_PASSWORD, _PASSWORD, _NO_METHOD = 0, 2, 255
_REFUSALS: Final = {
    1: "it failed",
    2: "its rules do not allow this connection",
    3: "it cannot reach that network",
    4: "it cannot reach that host",
    5: "the appliance refused the connection",
    6: "the connection took too long",
    7: "it does not make connections",
    8: "it does not know this kind of address",
}


class Tunnel:
    """Open it with the address of the far end; `address` is what to connect to. Close it with the connection."""

    def __init__(self, proxy: Proxy, target: str, timeout_s: float) -> None:
        """UnreachableError, with what the proxy said, where there is no way through it to `tcp://host:port`."""
        self._proxy = proxy
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        deadline = time.monotonic() + timeout_s
        self._far = self._reach(deadline)
        try:
            self._negotiate(host.strip("[]"), int(port))
            self._far.settimeout(None)
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        except (OSError, EOFError) as error:
            self._far.close()
            raise UnreachableError(f"the proxy {proxy.address} does not speak SOCKS5 as it should: {error}") from None
        except BaseException:
            self._far.close()
            raise
        self._near: socket.socket | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, name="tunnel", daemon=True).start()

    def pace(self, bytes_per_s: float | None) -> None:
        """As `line_pacing.pace`, for the line to the proxy."""
        with self._lock:
            if not self._closed:
                pace(self._far.fileno(), bytes_per_s)

    def close(self) -> None:
        """End both connections."""
        with self._lock:
            self._closed = True
            for line in (self._listener, self._far, self._near):
                if line is not None:
                    with contextlib.suppress(OSError):  # not connected any more, or a listener
                        line.shutdown(socket.SHUT_RDWR)
                    line.close()

    # making the way

    def _reach(self, deadline: float) -> socket.socket:
        host, _, port = self._proxy.address.rpartition(":")
        left_s = max(0.1, deadline - time.monotonic())
        try:
            line = socket.create_connection((host.strip("[]"), int(port)), left_s)
        except OSError as error:
            reason = error.strerror or "it took too long"
            raise UnreachableError(f"the proxy {self._proxy.address} cannot be reached: {reason}") from None
        line.settimeout(max(0.1, deadline - time.monotonic()))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def _negotiate(self, host: str, port: int) -> None:
        named = self._proxy.user
        methods = bytes([_NO_PASSWORD, _PASSWORD] if named else [_NO_PASSWORD])
        self._far.sendall(bytes([5, len(methods)]) + methods)
        version, method = self._read(2)
        if version != 5:
            raise EOFError("it speaks something else")
        if method == _NO_METHOD:
            wants = "accepts neither this user nor none" if named else "wants a user and a password"
            raise UnreachableError(f"the proxy {self._proxy.address} {wants}: pilulier-agent network --proxy-user …")
        if method == _PASSWORD and named:
            user, password = named.encode(), self._proxy.password.encode()
            self._far.sendall(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
            if self._read(2)[1]:
                raise UnreachableError(f"the proxy {self._proxy.address} does not accept the user or the password")
        elif method != _NO_PASSWORD:
            raise EOFError("it chose a method that was not offered")
        self._far.sendall(b"\x05\x01\0" + _encoded(host) + struct.pack(">H", port))
        version, answer, _, kind = self._read(4)
        if version != 5 or kind not in (1, 3, 4):
            raise EOFError("its answer is damaged")
        self._read({1: 4, 3: 0, 4: 16}[kind] or self._read(1)[0])
        self._read(2)
        if answer:
            reason = _REFUSALS.get(answer, f"for its reason {answer}")
            raise UnreachableError(f"the proxy {self._proxy.address} does not connect to {host}:{port}: {reason}")

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._far.recv(count - len(data))
            if not more:
                raise EOFError("it hung up")
            data += more
        return data

    # carrying

    def _run(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        with self._lock:
            self._listener.close()
            if self._closed:
                near.close()
                return
            self._near = near
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._carry, args=(self._far, near), name="tunnel-back", daemon=True)
        back.start()
        self._carry(near, self._far)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        """Carry bytes one way until either side ends; then both end, as one connection would."""
        piece = memoryview(bytearray(_PIECE))
        with contextlib.suppress(OSError):
            while count := source.recv_into(piece):
                target.sendall(piece[:count])
        for line in (source, target):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


def _encoded(host: str) -> bytes:
    """A host as SOCKS has it: an address, or a name that the proxy looks up."""
    for family, kind in ((socket.AF_INET, b"\1"), (socket.AF_INET6, b"\4")):
        with contextlib.suppress(OSError):
            return kind + socket.inet_pton(family, host)
    name = host.encode("idna")
    return b"\3" + bytes([len(name)]) + name
