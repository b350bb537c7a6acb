"""What goes wrong between and under the programs: cut and slow connections, small disks, waiting for a moment.

Owns a TCP proxy on 127.0.0.1 and small file systems of their own; both are context managers that leave nothing
behind. Knows nothing of what flows through them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

_CHUNK_BYTES = 32 << 10
_POLL_S = 0.005


def wait_until(happened: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Poll until `happened`, `timeout_s` at most; AssertionError that says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(_POLL_S)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder that may be changing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(path, name)).st_size
    return total


class TcpProxy:
    """Passes connections on to `tcp://host:port`; counts, slows and cuts them. A context manager.

    `sent_bytes` went to the appliance and `received_bytes` came back, over all connections. `bytes_s` bounds each
    direction of each connection; 0 is no bound.
    """

    def __init__(self, target: str, bytes_s: int = 0) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes_s = bytes_s
        self.sent_bytes = 0
        self.received_bytes = 0
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> TcpProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(5)

    def cut(self) -> None:
        """Break every connection that is open now, as a router that restarts does; new ones are taken."""
        with self._lock:
            broken, self._open = self._open, set()
        for sock in broken:
            _end(sock)

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                _end(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._open.update((client, server))
                self.connections += 1
            for source, sink, upwards in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(source, sink, upwards), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            while data := source.recv(_CHUNK_BYTES):
                sink.sendall(data)
                with self._lock:
                    if upwards:
                        self.sent_bytes += len(data)
                    else:
                        self.received_bytes += len(data)
                if self.bytes_s:
                    time.sleep(len(data) / self.bytes_s)
        except OSError:
            pass
        self._finish(source, sink)

    def _finish(self, source: socket.socket, sink: socket.socket) -> None:
        _end(source)
        _end(sink)
        with self._lock:
            self._open -= {source, sink}


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


class SmallDisk:
    """A file system of a given size at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size_bytes: int) -> None:
        """Give it another size."""
        _mount("-o", f"remount,size={size_bytes}", str(self.folder))

    def fill(self, leave_bytes: int) -> None:
        """Take up room in one file until only about `leave_bytes` are free."""
        with open(self.folder / "filler", "ab") as file:
            while (free := shutil.disk_usage(self.folder).free) > leave_bytes:
                file.write(bytes(min(1 << 20, free - leave_bytes)))
                file.flush()


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        pytest.skip(f"mount does not work here: {done.stderr.strip()}")


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A tmpfs at `folder`, unmounted at the end; skips the test where mounting is not allowed."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system of its own needs root and mount(8)")
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size_bytes},mode=0755", "none", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a process that a failed test left behind must not keep the mount for ever.
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, timeout=20)
