"""A small SOCKS5 server on 127.0.0.1 (RFC 1928, and RFC 1929 where it wants a password): CONNECT only, nothing else.

Knows what it was asked for and what it carried, so that a test can say that a connection went through it. Threads, all
joined at the end; a request of any other kind is refused as the RFC says.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Seen:
    """What went through."""

    targets: list[tuple[str, int]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    refused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class SocksServer:
    """Serves until the `with` ends; `users` (name to password) makes it ask for one."""

    def __init__(self, users: dict[str, str] | None = None) -> None:
        self._users = users or {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._lines: list[socket.socket] = []
        self._lock = threading.Lock()
        self.seen = Seen()

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> SocksServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def cut(self) -> None:
        """End every connection that goes through now."""
        with self._lock:
            lines, self._lines = self._lines, []
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, line)

    def _spawn(self, what: object, *given: object) -> None:
        thread = threading.Thread(target=what, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, line: socket.socket) -> None:
        with line:
            try:
                target = self._negotiate(line)
            except (OSError, EOFError):
                return
            if target is None:
                self.seen.refused += 1
                return
            with target:
                with self._lock:
                    self._lines += [line, target]
                back = threading.Thread(target=self._carry, args=(target, line, "bytes_down"), daemon=True)
                back.start()
                self._carry(line, target, "bytes_up")
                back.join()

    def _negotiate(self, line: socket.socket) -> socket.socket | None:
        version, count = _read(line, 2)
        methods = _read(line, count)
        method = 2 if self._users else 0
        if version != 5 or method not in methods:
            line.sendall(b"\x05\xff")
            return None
        line.sendall(bytes([5, method]))
        if self._users:
            _, length = _read(line, 2)
            user = _read(line, length).decode()
            password = _read(line, _read(line, 1)[0]).decode()
            good = self._users.get(user) == password
            line.sendall(b"\x01" + (b"\0" if good else b"\1"))
            if not good:
                return None
            self.seen.users.append(user)
        _, command, _, kind = _read(line, 4)
        if kind == 1:
            host = socket.inet_ntop(socket.AF_INET, _read(line, 4))
        elif kind == 4:
            host = socket.inet_ntop(socket.AF_INET6, _read(line, 16))
        else:
            host = _read(line, _read(line, 1)[0]).decode()
        (port,) = struct.unpack(">H", _read(line, 2))
        self.seen.targets.append((host, port))
        answer = b"\x05%c\0\x01" + bytes(6)
        if command != 1:
            line.sendall(answer % 7)
            return None
        try:
            target = socket.create_connection((host, port), 10)
        except OSError:
            line.sendall(answer % 5)
            return None
        line.sendall(answer % 0)
        return target

    def _carry(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
                with self._lock:
                    setattr(self.seen, counter, getattr(self.seen, counter) + len(piece))
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def _read(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
